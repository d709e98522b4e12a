"""A benchmark of another package: questions and answers, one pair per line, separated by a tab."""

from __future__ import annotations

from pathlib import Path

from ibft.artifacts.rows import Problem


def load_riddles(path: Path) -> list[Problem]:
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [
        Problem(
            task_id=f"Riddles/{number}",
            prompt=f"# {question}\ndef answer():\n",
            tests=f"assert answer() == {answer}\n",
            entry_point="answer",
            canonical_solution=f"    return {answer}\n",
        )
        for number, (question, answer) in enumerate(rows)
    ]
