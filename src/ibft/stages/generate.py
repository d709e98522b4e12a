"""The generate stage: n answers to each problem, from one arm.

generate/<arm>/samples.jsonl            in the benchmark's order, then by index
generate/<arm>@<format>/samples.jsonl   one greedy answer per problem in one of the formats (`formats`)
generate/<arm>@forgetting/              one greedy answer per problem of the second benchmark
"""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from ibft import progress
from ibft.artifacts.json_lines import RowWriter, read_rows, write_rows
from ibft.artifacts.rows import Conversation, Problem, Sample, TrainingPair
from ibft.data.training import stream_training
from ibft.errors import PromptError, UserError
from ibft.generation.ask import Ask, Wanted
from ibft.generation.draw import LocalSource, ServerSource, Source, draw
from ibft.generation.formats import applicable_formats, ask, draw_examples
from ibft.models.loading import load_arm, load_tokenizer, weights_folder
from ibft.problems.loading import load_benchmark
from ibft.run.folder import RunFolder
from ibft.run.recipe import BASE_ARM, FORGETTING, Recipe
from ibft.run.sections import Format, GenerateConfig
from ibft.run.stage import Stage
from ibft.stages.identity import generate_inputs, weights_identity
from ibft.stages.resolution import resolve
from ibft.text.encoding import TextCodec, codec_of

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["generate"]

_NUM_DRAWN_FROM = 1000
"""The examples before a prompt are drawn from at most this many training examples, the first: data may be a stream."""


class _Asking(NamedTuple):
    """One way of asking an arm: the stage folder of its answers, what they are made from, and how they are drawn."""

    name: str
    inputs: dict[str, Any]
    config: GenerateConfig
    codec: TextCodec
    asks: Callable[[], list[Ask]]


def generate(recipe: Recipe, run: RunFolder, arm: str) -> None:
    """Sample one arm's answers, and its greedy ones in the formats of `generate.elicit`; nothing is drawn twice.

    An interrupted run's samples are kept and only the missing ones are drawn.

    Raises:
        UserError: model, adapter, problems or server cannot be had; says which.
    """
    recipe = resolve(recipe)
    problems = load_benchmark(recipe.problems)
    load = functools.cache(functools.partial(load_arm, recipe, run, arm))  # once for all formats, if any is missing
    for asking in _askings(recipe, run, arm, problems):
        stage = run.stage(f"generate/{asking.name}", asking.inputs)
        if stage.is_complete:
            continue
        source = functools.partial(_source, asking.config, arm, asking.codec, load)
        try:
            _fill(stage, asking, source, recipe.seed)
        except PromptError as error:  # one format of several: the report names those that were not asked
            if asking.name == arm or asking.name.endswith(FORGETTING):
                raise
            progress.warn("Formats", f"{asking.name.replace('@', ' is not asked as ')}: {error}")


def _askings(recipe: Recipe, run: RunFolder, arm: str, problems: Sequence[Problem]) -> Iterator[_Asking]:
    """Yield the arm's samples first, then its greedy answers: to the second benchmark, and in each format."""
    upstream = weights = None
    if arm != BASE_ARM:
        upstream = run.record(f"train/{arm}").identity
        weights = weights_identity(weights_folder(recipe, run, arm))
    codec, trained = codec_of(recipe.prompt, load_tokenizer(recipe.model)), recipe.prompt.template
    assert trained != "auto", "it has been resolved"
    inputs = generate_inputs(recipe, problems, upstream, weights)
    yield _Asking(arm, inputs, recipe.generate, codec, lambda: _asks(problems, trained, codec))
    if (second := recipe.second) is not None:
        others = load_benchmark(second.problems)
        inputs = generate_inputs(second, others, upstream, weights)
        yield _Asking(arm + FORGETTING, inputs, second.generate, codec, lambda: _asks(others, trained, codec))
    greedy = recipe.greedy
    inputs = generate_inputs(greedy, problems, upstream, weights)
    forms = recipe.formats_of(arm)
    examples = _examples(recipe) if "examples" in forms else []
    for form in applicable_formats(bool(codec.tokenizer.chat_template), examples):
        name = recipe.asked_name(arm, form)
        if form not in forms or name == arm:
            continue
        shown = tuple(examples) if form == "examples" else ()
        # Only the codec of a chat ends an answer at the template's end of turn.
        is_chat = form in ("chat", "chat_begun") or any(isinstance(pair, Conversation) for pair in shown)
        template = "chat" if is_chat else "plain"
        other = codec_of(msgspec.structs.replace(recipe.prompt, template=template), codec.tokenizer)
        asks = functools.partial(_asks, problems, form, other, shown)
        yield _Asking(name, {**inputs, "format": form, "examples": shown}, greedy.generate, other, asks)


def _asks(
    problems: Sequence[Problem], form: Format, codec: TextCodec, examples: Sequence[TrainingPair] = ()
) -> list[Ask]:
    return [ask(problem, form, codec.chat, examples) for problem in problems]


def _examples(recipe: Recipe) -> list[TrainingPair]:
    """Draw the examples that stand before a prompt; none, and it is said, where the training data has none."""
    try:
        pairs = [row.pair for row in itertools.islice(stream_training(recipe.data, []), _NUM_DRAWN_FROM)]
    except UserError as error:
        progress.warn("Formats", f"Nobody is asked with examples: {error}")
        return []
    if not (drawn := draw_examples(pairs, recipe.seed)):
        progress.warn("Formats", "Nobody is asked with examples: the first examples of the data are all too long.")
    return drawn


def _fill(stage: Stage, asking: _Asking, source: Callable[[], Source], seed: int) -> None:
    """Draw what is missing of a stage's samples, and put them in order."""
    config = asking.config
    with stage.work() as folder:
        path = folder / "samples.jsonl"
        done = {(row.task_id, row.index) for row in read_rows(path, Sample)} if path.exists() else set()
        asks = asking.asks()
        keys = [(ask.problem.task_id, index) for ask in asks for index in range(config.num_samples)]
        wanted = [Wanted(*key) for key in keys if key not in done]
        if wanted:
            title = f"Sampling {asking.name.replace('@', ' as ')}"
            with RowWriter(path) as writer, progress.task(title, len(keys), len(keys) - len(wanted)) as task:
                start, num_tokens = time.monotonic(), 0
                for samples in draw(source(), asks, wanted, config, seed):
                    writer.write(samples)
                    num_tokens += sum(sample.num_tokens or 0 for sample in samples)
                    task.advance(len(samples), note=f"{num_tokens / (time.monotonic() - start):.0f} tokens/s")
        # They were drawn by the length of their prompts.
        order = {ask.problem.task_id: place for place, ask in enumerate(asks)}
        samples = list(read_rows(path, Sample))
        samples.sort(key=lambda row: (order[row.task_id], row.index or 0))
        write_rows(path, samples)


def _source(config: GenerateConfig, arm: str, codec: TextCodec, load: Callable[[], PreTrainedModel]) -> Source:
    """Return where an arm's answers come from: its weights, loaded by `load`, or a server.

    Raises:
        UserError: the weights cannot be loaded, or the recipe does not say how the server calls the arm.
    """
    return ServerSource(codec, config, arm) if config.backend == "server" else LocalSource(load(), codec, config)
