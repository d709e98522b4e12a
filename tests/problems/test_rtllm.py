from pathlib import Path

import pytest

from ibft.artifacts.rows import File
from ibft.errors import UserError
from ibft.problems.loading import load_problems

REFERENCE = """module half (input x, output y); assign y = x; endmodule
module verified_gate (input a, output b); half verified_half (a, b); endmodule
"""
FILES = {
    "testbench.v": "module main; reg a; wire b; clock c (a); gate #(.W(1)) dut (.a(a), .b(b)); endmodule\n"
    "module clock (output x); endmodule\n",
    "design_description.txt": "Write a gate.\r\n\r\nModule name:\r\n    gate\r\n",
    "verified_gate.v": REFERENCE,
    "expected.dat": "01\n",
}


def write(folder: Path, changes: dict[str, str | None] | None = None) -> None:
    folder.mkdir(parents=True)
    for name, text in (FILES | (changes or {})).items():
        if text is not None:
            (folder / name).write_text(text, newline="")


def test_a_folder_is_a_problem(tmp_path: Path) -> None:
    write(tmp_path / "Memory" / "gate")
    write(tmp_path / "Control" / "Counter" / "other gate")
    (tmp_path / "_chatgpt4" / "t1").mkdir(parents=True)
    (tmp_path / "_chatgpt4" / "t1" / "gate.v").write_text("module gate; endmodule")
    other, problem = load_problems(f"rtllm:{tmp_path}")
    assert (other.task_id, problem.task_id) == ("other gate", "gate")
    assert problem.entry_point == "gate"
    assert problem.prompt == "Write a gate.\n\nModule name:\n    gate\n"
    assert problem.tests == FILES["testbench.v"]
    assert problem.canonical_solution == REFERENCE.replace("verified_gate", "gate")
    assert problem.files == (File("expected.dat", "01\n"),)
    assert (problem.language, problem.warnings_fail) == ("verilog", False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"testbench.v": None}, r"has no testbench\.v below it"),
        ({"verified_gate.v": None}, r"has no verified_\*\.v"),
        ({"design_description.txt": None}, r"design_description\.txt: cannot be read"),
        ({"testbench.v": "module main; endmodule"}, "instantiates no module"),
    ],
)
def test_folders_that_are_none(tmp_path: Path, changes: dict[str, str | None], message: str) -> None:
    write(tmp_path / "gate", changes)
    with pytest.raises(UserError, match=message):
        load_problems(f"rtllm:{tmp_path}")
