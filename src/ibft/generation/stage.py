"""The generate stage: n answers to each problem, from one arm.

generate/<arm>/samples.jsonl     in the benchmark's order, then by index
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ibft import progress
from ibft.data.problems import load_problems
from ibft.data.prompts import render_prompt
from ibft.data.tokenize import tokenize_prompt
from ibft.generation.extract import cut, to_sample
from ibft.generation.local import Generated, Request, generate_batches, sample_seed
from ibft.generation.server import Answer, Question, ask_server
from ibft.identity import generate_inputs, weights_identity
from ibft.models import load_arm, load_tokenizer, weights_folder
from ibft.recipe import BASE_ARM, Recipe
from ibft.resolution import resolve
from ibft.rows import Problem, RowWriter, Sample, read_rows, write_rows
from ibft.runs import RunFolder

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
    upstream = weights = None
    if arm != BASE_ARM:
        upstream = run.record(f"train/{arm}").identity
        weights = weights_identity(weights_folder(recipe, run, arm))
    recipe = resolve(recipe)
    stage = run.stage(f"generate/{arm}", generate_inputs(recipe, problems, upstream, weights))
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

    def has_ended(key: tuple[str, int], token_ids: list[int]) -> bool:
        text, problem = _text(tokenizer, token_ids), problems[key[0]]
        if recipe.prompt.template == "chat":
            return any(string in text for string in config.stop)
        return len(cut(text, problem.prompt, problem.language, config.stop)) < len(text)

    def sample(answer: Generated, index: int) -> Sample:
        return to_sample(
            problems[answer.key[0]],
            _text(tokenizer, answer.token_ids),
            is_chat=recipe.prompt.template == "chat",
            stop=config.stop,
            index=index,
            finish_reason=answer.finish_reason,
            num_tokens=answer.num_tokens,
        )

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
        has_ended=has_ended,
    ):
        # Greedy answers of one problem are all the same: one is drawn and stands for each.
        yield [
            sample(answer, index)
            for answer in batch
            for index in (indices[answer.key[0]] if greedy else [answer.key[1]])
        ]


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
    is_chat = recipe.prompt.template == "chat"
    # Only the chat template has to be known here: the other templates are the same text for every model.
    tokenizer = load_tokenizer(recipe.model) if is_chat else None
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
        return to_sample(
            problems[answer.key[0]],
            answer.text,
            is_chat=is_chat,
            stop=recipe.generate.stop,
            index=answer.key[1],
            finish_reason=answer.finish_reason,
            num_tokens=answer.num_tokens,
        )

    for answers in ask_server(questions, recipe.generate, arm):
        yield [sample(answer) for answer in answers]
