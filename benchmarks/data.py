"""How fast rows are read: a million rows of JSON Lines through reading and the detection of their shape.

    python benchmarks/data.py [--rows 1000000]

prints for each shape rows per second (one process, CPU time) and the peak memory at a tenth and at the end of the file.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from ibft.data.training import stream_training
from ibft.run.sections import DataConfig

CODE = "def scale(values, factor):\n    return [value * factor for value in values]\n" * 4
TURNS = [("system", "You write Python."), ("user", "Scale a list."), ("assistant", CODE)]
SHAPES: dict[str, dict[str, Any]] = {
    "prompt + completion": {"prompt": "Scale a list.", "completion": CODE, "category": "lists", "tests": ["a", "b"]},
    "messages": {"messages": [{"role": role, "content": text} for role, text in TURNS]},
    "conversations": {"conversations": [{"from": role, "value": text} for role, text in TURNS]},
    "text": {"text": CODE},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    num_rows = parser.parse_args().rows
    for name, row in SHAPES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "data.jsonl"
            with path.open("w") as file:
                for number in range(num_rows):
                    file.write(json.dumps({"id": number, **row}) + "\n")
            start, early = time.process_time(), 0
            for number, _ in enumerate(stream_training(DataConfig(train=str(path)))):
                if number == num_rows // 10:
                    early = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            seconds = time.process_time() - start
            late = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            print(f"{name}: {num_rows / seconds:,.0f} rows/s, {early / 1024:.0f} MiB early, {late / 1024:.0f} MiB late")


if __name__ == "__main__":
    main()
