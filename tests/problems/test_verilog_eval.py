import json
from pathlib import Path

import pytest

from ibft.errors import UserError
from ibft.problems.loading import load_problems

HEADER = "module TopModule (\n  input in,\n  output out\n);"


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_problem(folder: Path, name: str, **files: str) -> None:
    for kind, text in files.items():
        stem, suffix = kind.split("_")
        (folder / f"{name}_{stem}.{suffix}").write_text(text)


REFERENCE = "\nmodule RefModule (\n  input in,\n  output out\n);\n  assign out = ~in; // RefModuleX\nendmodule\n"


def test_version_1_with_and_without_descriptions(tmp_path: Path) -> None:
    row = {"task_id": "zero", "prompt": "module top_module(output zero);\n", "canonical_solution": "x", "test": "t"}
    path = write_lines(tmp_path / "VerilogEval_Human.jsonl", row)
    [problem] = load_problems(f"verilog-eval:{path}")
    assert (problem.language, problem.prompt, problem.tests) == ("verilog", row["prompt"], "t")
    assert problem.entry_point == "top_module"
    write_lines(tmp_path / "VerilogDescription_Human.jsonl", {"task_id": "zero", "detail_description": "Two\n\nlines."})
    [problem] = load_problems(f"verilog-eval:{path}")
    assert problem.prompt == "// Two\n//\n// lines.\n" + row["prompt"]
    assert problem.description == "Two\n\nlines."


def test_version_2_specification(tmp_path: Path) -> None:
    write_problem(tmp_path, "Prob002_b", prompt_txt="Two.", ref_sv=REFERENCE, test_sv="module tb2();\nendmodule")
    prompt = "\nInvert.\n - input in\n"
    write_problem(tmp_path, "Prob001_a", prompt_txt=prompt, ref_sv=REFERENCE, test_sv="module tb();\nendmodule")
    first, second = load_problems(f"verilog-eval:{tmp_path}")
    assert (first.task_id, second.task_id) == ("Prob001_a", "Prob002_b")
    assert first.prompt == "Question:\nInvert.\n - input in\n\nAnswer:\n"
    assert first.description == "Invert.\n - input in"
    assert (first.language, first.entry_point) == ("verilog", "TopModule")
    assert first.tests == "module tb();\nendmodule\n" + REFERENCE
    assert first.canonical_solution == REFERENCE.replace("RefModule (", "TopModule (")


def test_version_2_completion_ends_with_the_header(tmp_path: Path) -> None:
    text = f"\nInvert the input.\n\nAll of it.\n\n{HEADER}\n\n"
    write_problem(tmp_path, "P", prompt_txt=text, ifc_txt=f"\n{HEADER}\n", ref_sv=REFERENCE, test_sv="")
    [problem] = load_problems(f"verilog-eval:{tmp_path}")
    assert problem.prompt == f"// Invert the input.\n//\n// All of it.\n\n{HEADER}\n"
    assert problem.description == "Invert the input.\n\nAll of it."


def test_version_2_folders_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no \*_prompt\.txt files"):
        load_problems(f"verilog-eval:{tmp_path}")
    write_problem(tmp_path, "P", prompt_txt="text", test_sv="")
    with pytest.raises(UserError, match=r"P_ref\.sv: cannot be read"):
        load_problems(f"verilog-eval:{tmp_path}")
    write_problem(tmp_path, "P", ref_sv="module other(); endmodule")
    with pytest.raises(UserError, match=r"P_ref\.sv: has no module RefModule"):
        load_problems(f"verilog-eval:{tmp_path}")
    (tmp_path / "P_ref.sv").write_bytes(b"module RefModule \xff")
    with pytest.raises(UserError, match="not UTF-8"):
        load_problems(f"verilog-eval:{tmp_path}")
