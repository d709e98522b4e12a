"""docs/architecture.md: its file map is what the modules say of themselves, its layers are those that are checked."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import tomllib

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "ibft"
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- file map: IBFT_RECORD=1 pytest tests/test_architecture.py -->\n", "<!-- end -->\n"


def first_sentence(path: Path) -> str:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return re.split(r"(?<=\.)\s", text.split("\n\n")[0].replace("\n", " "))[0]


def file_map() -> str:
    lines = []
    for room in sorted(path.parent for path in PACKAGE.rglob("__init__.py")):
        name = str(room.relative_to(PACKAGE))
        title = "ibft" if name == "." else name
        lines += [f"\n**`{title}/`** {first_sentence(room / '__init__.py')}\n"]
        for path in sorted(room.glob("*.py")):
            if path.name not in ("__init__.py", "__main__.py"):
                lines.append(f"- `{path.name}`: {first_sentence(path).rstrip('.')}")
    return "\n".join(lines).strip() + "\n"


def test_the_file_map_is_what_the_modules_say() -> None:
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    found, _, after = rest.partition(END)
    if os.environ.get("IBFT_RECORD"):
        PAGE.write_text(before + BEGIN + file_map() + END + after, encoding="utf-8")
        return
    assert found == file_map()


def test_every_room_has_its_place_in_the_picture() -> None:
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    [layers] = [one["layers"] for one in config["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]
    [picture] = re.findall(r"```text\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)[:1]
    drawn = [set(re.split(r" \| ", line.split("  ")[0])) for line in picture.splitlines()]
    assert drawn == [set(row.split(" | ")) for row in layers]
