"""The generate stage: n answers to each problem, from one arm.

generate/<arm>/samples.jsonl     in the benchmark's order, then by index
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ibft import progress
from ibft.data.problems import load_problems
from ibft.data.prompts import render_prompt
from ibft.data.tokenize import tokenize_prompt
from ibft.generation.local import Generated, Request, generate_batches, sample_seed
from ibft.generation.server import Answer, Question, ask_server
from ibft.models import load_arm, load_tokenizer
from ibft.recipe import BASE_ARM, Recipe
from ibft.rows import Problem, RowWriter, Sample, read_rows, write_rows
from ibft.runs import RunFolder
from ibft.text.answers import Form, extract, has_ended

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["generate"]


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """One sample still to be drawn."""

    problem: Problem
    index: int


def generate(recipe: Recipe, run: RunFolder, arm: str) -> None:
    """Sample one arm's answers; an interrupted run's samples are kept and only the missing ones are drawn.

    Raises:
        UserError: model, adapter, problems or server are not to be had; says which.
    """
    problems = load_problems(recipe.problems.source, recipe.problems.limit, recipe.problems.tasks)
    asked = [{"task_id": problem.task_id, "prompt": problem.prompt} for problem in problems]
    sampling = msgspec.to_builtins(recipe.generate)
    sampling.pop("batch_size")  # decides the speed alone
    inputs = {"model": recipe.model, "prompt": recipe.prompt, "problems": asked, "generate": sampling}
    upstream = None if arm == BASE_ARM else run.record(f"train/{arm}").identity
    stage = run.stage(f"generate/{arm}", {**inputs, "seed": recipe.seed, "train": upstream})
    if stage.is_complete:
        return
    with stage.work() as folder:
        path = folder / "samples.jsonl"
        done = _drawn(path)
        total = len(problems) * recipe.generate.num_samples
        wanted = [
            _Wanted(problem, index)
            for problem in problems
            for index in range(recipe.generate.num_samples)
            if (problem.task_id, index) not in done
        ]
        if wanted:
            draw = _from_server if recipe.generate.backend == "server" else _from_model
            with RowWriter(path) as writer, progress.task(f"Sampling {arm}", total, total - len(wanted)) as task:
                start, num_tokens = time.monotonic(), 0
                for samples in draw(recipe, run, arm, wanted):
                    writer.write(samples)
                    num_tokens += sum(sample.num_tokens or 0 for sample in samples)
                    task.advance(len(samples), note=f"{num_tokens / (time.monotonic() - start):.0f} tokens/s")
        order = {problem.task_id: place for place, problem in enumerate(problems)}
        samples = list(read_rows(path, Sample))
        samples.sort(key=lambda row: (order[row.task_id], row.index or 0))
        write_rows(path, samples)


def _drawn(path: Path) -> set[tuple[str, int | None]]:
    return {(row.task_id, row.index) for row in read_rows(path, Sample)} if path.exists() else set()


def _from_model(recipe: Recipe, run: RunFolder, arm: str, wanted: Sequence[_Wanted]) -> Iterator[list[Sample]]:
    config, tokenizer = recipe.generate, load_tokenizer(recipe.model)
    model = load_arm(recipe, run, arm)
    problems = {item.problem.task_id: item.problem for item in wanted}
    prompt_ids = {
        task_id: tuple(tokenize_prompt(problem.prompt, tokenizer, recipe.prompt))
        for task_id, problem in problems.items()
    }
    greedy = config.temperature == 0
    asked = _first_of_each(wanted) if greedy else wanted
    requests = [
        Request((task_id, item.index), prompt_ids[task_id], sample_seed(recipe.seed, task_id, item.index))
        for item in asked
        for task_id in [item.problem.task_id]
    ]

    def is_complete(key: tuple[str, int], token_ids: list[int]) -> bool:
        return has_ended(_text(tokenizer, token_ids), problems[key[0]], form=_form(recipe), stop=config.stop)

    def sample(answer: Generated, index: int) -> Sample:
        text = _text(tokenizer, answer.token_ids)
        return _sample(recipe, problems[answer.key[0]], text, index, answer.finish_reason, answer.num_tokens)

    indices: dict[str, list[int]] = {}
    for item in wanted:
        indices.setdefault(item.problem.task_id, []).append(item.index)
    for batch in generate_batches(
        model,
        requests,
        batch_size=config.batch_size,
        max_new_tokens=config.max_new_tokens,
        temperature=config.temperature,
        top_p=config.top_p,
        end_ids=_end_ids(model, tokenizer),
        has_ended=is_complete,
    ):
        # Greedy answers of one problem are all the same: one is drawn and stands for each.
        yield [
            sample(answer, index)
            for answer in batch
            for index in (indices[answer.key[0]] if greedy else [answer.key[1]])
        ]


def _form(recipe: Recipe) -> Form:
    return "chat" if recipe.prompt.template == "chat" else "completion"


def _sample(
    recipe: Recipe, problem: Problem, text: str, index: int, finish_reason: str, num_tokens: int | None
) -> Sample:
    """The answer that a model's text holds, with the text itself where that is not the same."""
    answer = extract(text, problem, form=_form(recipe), stop=recipe.generate.stop)
    if answer.completion is not None and len(answer.completion) < len(text):
        finish_reason = "stop"  # complete before the limit: what came after is not part of it
    return Sample(
        task_id=problem.task_id,
        completion=answer.completion,
        solution=answer.solution,
        index=index,
        finish_reason=finish_reason,
        num_tokens=num_tokens,
        raw=text if answer.text != text else None,
    )


def _end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    ids = model.generation_config.eos_token_id if model.generation_config else None
    listed = ids if isinstance(ids, list) else [ids]
    return frozenset(token for token in [*listed, tokenizer.eos_token_id] if token is not None)


def _text(tokenizer: PreTrainedTokenizerBase, token_ids: list[int]) -> str:
    return str(tokenizer.decode(token_ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _first_of_each(wanted: Iterable[_Wanted]) -> list[_Wanted]:
    return list({item.problem.task_id: item for item in reversed(list(wanted))}.values())[::-1]


def _from_server(recipe: Recipe, run: RunFolder, arm: str, wanted: Sequence[_Wanted]) -> Iterator[list[Sample]]:
    """Ask a server, which is told the arm by the name it serves it under; no weights are loaded here."""
    # Only the chat template has to be known here: the other templates are the same text for every model.
    tokenizer = load_tokenizer(recipe.model) if recipe.prompt.template == "chat" else None
    problems = {item.problem.task_id: item.problem for item in wanted}
    prompts = {
        task_id: render_prompt(problem.prompt, recipe.prompt.template, tokenizer)
        for task_id, problem in problems.items()
    }
    questions = [
        Question((task_id, item.index), prompts[task_id], sample_seed(recipe.seed, task_id, item.index))
        for item in wanted
        for task_id in [item.problem.task_id]
    ]

    def sample(answer: Answer) -> Sample:
        task_id, index = answer.key
        return _sample(recipe, problems[task_id], answer.text, index, answer.finish_reason, answer.num_tokens)

    for answers in ask_server(questions, recipe.generate, arm):
        yield [sample(answer) for answer in answers]
