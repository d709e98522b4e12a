"""The generate stage: n answers to each problem, from one arm.

generate/<arm>/samples.jsonl     in the benchmark's order, then by index
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from ibft import progress
from ibft.data.problems import load_problems
from ibft.errors import UserError
from ibft.generation.draw import Ask, LocalSource, ServerSource, Source, Wanted, draw
from ibft.identity import generate_inputs, weights_identity
from ibft.models import load_arm, load_tokenizer, weights_folder
from ibft.recipe import BASE_ARM, Recipe
from ibft.resolution import resolve
from ibft.rows import Problem, RowWriter, Sample, read_rows, write_rows
from ibft.runs import RunFolder
from ibft.text.answers import Form
from ibft.text.encoding import TextCodec, codec_of

__all__ = ["asks_of", "codec_for", "generate", "source_of"]


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
            Wanted(problem.task_id, index)
            for problem in problems
            for index in range(recipe.generate.num_samples)
            if (problem.task_id, index) not in done
        ]
        if wanted:
            codec = codec_for(recipe)
            asks, source = asks_of(recipe, codec, problems), source_of(recipe, run, arm, codec)
            with RowWriter(path) as writer, progress.task(f"Sampling {arm}", total, total - len(wanted)) as task:
                start, num_tokens = time.monotonic(), 0
                for samples in draw(source, asks, wanted, recipe.generate, recipe.seed):
                    writer.write(samples)
                    num_tokens += sum(sample.num_tokens or 0 for sample in samples)
                    task.advance(len(samples), note=f"{num_tokens / (time.monotonic() - start):.0f} tokens/s")
        order = {problem.task_id: place for place, problem in enumerate(problems)}
        samples = list(read_rows(path, Sample))
        samples.sort(key=lambda row: (order[row.task_id], row.index or 0))
        write_rows(path, samples)


def _drawn(path: Path) -> set[tuple[str, int | None]]:
    return {(row.task_id, row.index) for row in read_rows(path, Sample)} if path.exists() else set()


def codec_for(recipe: Recipe) -> TextCodec:
    """Return the border between text and tokens of the recipe's model and template.

    Raises:
        UserError: its tokenizer cannot be loaded, or has no chat template or end token, which the recipe needs.
    """
    try:
        tokenizer = load_tokenizer(recipe.model)
    except UserError as error:
        if recipe.generate.backend == "server":
            raise UserError(f"generate.backend is server, and prompts are cut into tokens here: {error}") from None
        raise
    return codec_of(recipe.prompt, tokenizer)


def asks_of(recipe: Recipe, codec: TextCodec, problems: Sequence[Problem]) -> list[Ask]:
    """Return the problems as the recipe's template asks them."""
    form: Form = "chat" if recipe.prompt.template == "chat" else "completion"
    return [Ask(problem, codec.render(problem.prompt, problem.task_id), form) for problem in problems]


def source_of(recipe: Recipe, run: RunFolder, arm: str, codec: TextCodec) -> Source:
    """Return where an arm's answers come from: its weights, loaded here, or a server.

    Raises:
        UserError: the weights cannot be loaded, or the recipe does not say how the server calls the arm.
    """
    if recipe.generate.backend == "server":
        return ServerSource(codec, recipe.generate, arm)
    return LocalSource(load_arm(recipe, run, arm), codec, recipe.generate)
