"""The examples of a scan: streamed, drawn, and cut into tokens with what else a score needs to know of them."""

from __future__ import annotations

import datetime
import hashlib
import itertools
import random
import zlib
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ibft.data.prompts import render_prompt
from ibft.data.renaming import rename_identifiers
from ibft.data.tokenize import reason_to_skip
from ibft.data.training import Example, stream_examples
from ibft.errors import UserError
from ibft.memorization.code import code_of, code_tokens, prompt_text
from ibft.memorization.syntax import forced_tokens
from ibft.recipe import Recipe
from ibft.rows import Pair, Subset

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["ScanExample", "Source", "fingerprint", "origin", "text_of", "tokenize_example"]

RENAMED = "renamed"
"""`data.control`: the training data itself under other names."""


class ScanExample(NamedTuple):
    """One example in tokens, (T,) of them.

    `start` is the first token that is scored, `prompt_length` the first of the response; `forced` says of each scored
    token whether syntax forces it, and is None for a tokenizer that does not tell where its tokens stand.
    """

    input_ids: list[int]
    start: int
    prompt_length: int
    forced: list[bool] | None
    num_zlib_bytes: int


class Source:
    """One subset's examples, drawn and numbered: each pass over them gives the same ones, and holds one at a time.

    Args:
        recipe: `data` and `scan.max_examples` say which.
        subset: the training data or the control set.
        tokenizer: with `scan.max_examples`, the draw is among the examples that can be scored, so that there are as
            many; that takes a pass over the tokens of all.
    """

    def __init__(self, recipe: Recipe, subset: Subset, tokenizer: PreTrainedTokenizerBase) -> None:
        self._data, self._seed, self.subset = recipe.data, recipe.seed, subset
        limit = recipe.scan.max_examples
        self._drawn: Collection[int] | None = None
        if limit is None:
            self._count = sum(1 for _ in self._all())
            return
        usable = [
            index
            for index, example in enumerate(self._all())
            if reason_for_no_scores(example.pair, tokenizer, recipe) is None
        ]
        self._drawn = set(random.Random(recipe.seed).sample(usable, min(limit, len(usable))))
        self._count = len(self._drawn)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, Example]]:
        """The drawn examples with their places in the whole data."""
        for index, example in enumerate(self._all()):
            if self._drawn is None or index in self._drawn:
                yield index, example

    def _all(self) -> Iterator[Example]:
        data = self._data
        if self.subset == "train":
            return itertools.islice(stream_examples(data.train, data.split), data.max_examples)
        assert data.control is not None
        if data.control == RENAMED:
            return itertools.islice(self._renamed(), data.max_control_examples)
        examples = stream_examples(data.control, data.control_split)
        if data.control_after is not None:
            examples = _after(examples, data.control_after)
        return itertools.islice(examples, data.max_control_examples)

    def _renamed(self) -> Iterator[Example]:
        for example in stream_examples(self._data.train, self._data.split):
            if (pair := rename_identifiers(example.pair, self._seed)) is not None:
                yield Example(pair, example.row)


def _after(examples: Iterator[Example], day: str) -> Iterator[Example]:
    limit = _date(day, "data.control_after")
    for example in examples:
        value = example.row.get("date") if isinstance(example.row, Mapping) else None
        if value is None:
            raise UserError(
                f"data.control_after is {day}, and the example {example.pair.id} has no field `date`. Give each row "
                "one, or leave control_after out."
            )
        if _date(value, f"the date of {example.pair.id}") > limit:
            yield example


def _date(value: Any, what: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(str(value)[:10])
    except ValueError:
        raise UserError(f"{what} is {value!r}: expected a day such as 2025-01-31.") from None


def reason_for_no_scores(pair: Pair, tokenizer: PreTrainedTokenizerBase, recipe: Recipe) -> str | None:
    """Why an example cannot be scored; None if it can."""
    _, (of_prompt, of_response) = _encode(pair, tokenizer, recipe, tells_places=False)
    return _reason(pair, of_prompt, of_response, recipe)


def tokenize_example(
    pair: Pair, tokenizer: PreTrainedTokenizerBase, recipe: Recipe
) -> tuple[ScanExample | None, str | None]:
    """The example in tokens, or the reason why it has no scores.

    The tokens are those of training but for the end token, which is the recipe's and not the data's.
    """
    tells_places = bool(tokenizer.is_fast)
    prompt, (of_prompt, of_response) = _encode(pair, tokenizer, recipe, tells_places)
    if reason := _reason(pair, of_prompt, of_response, recipe):
        return None, reason
    num_prompt, is_whole = len(of_prompt["input_ids"]), recipe.scan.region == "all"
    forced = None
    if tells_places:
        forced = forced_tokens(pair.completion, of_response["offset_mapping"], context=prompt)
        if is_whole:
            forced = forced_tokens(prompt, of_prompt["offset_mapping"])[1:] + forced
    text = prompt + pair.completion if is_whole else pair.completion
    return ScanExample(
        input_ids=[*of_prompt["input_ids"], *of_response["input_ids"]],
        start=1 if is_whole else num_prompt,  # nothing predicts the very first token
        prompt_length=num_prompt,
        forced=forced,
        num_zlib_bytes=len(zlib.compress(text.encode(errors="surrogatepass"))),
    ), None


def _encode(pair: Pair, tokenizer: PreTrainedTokenizerBase, recipe: Recipe, tells_places: bool) -> tuple[str, Any]:
    """The prompt's text, and what the tokenizer makes of it and of the response, each by itself as in training."""
    prompt = render_prompt(pair.prompt, recipe.prompt.template, tokenizer)
    options = {"add_special_tokens": False, "return_offsets_mapping": tells_places}
    return prompt, (tokenizer(prompt, **options), tokenizer(pair.completion, **options))


def _reason(pair: Pair, of_prompt: Any, of_response: Any, recipe: Recipe) -> str | None:
    num_prompt, num_response = len(of_prompt["input_ids"]), len(of_response["input_ids"])
    num_trained = num_prompt + num_response + recipe.prompt.end_of_text
    reason = reason_to_skip(pair, num_prompt, num_trained, recipe.data.max_tokens)
    return reason or ("response of one token" if num_response < 2 else None)


def fingerprint(pair: Pair) -> str:
    """Equal for examples whose code is equal but for layout and comments; 64 bits in hexadecimal digits."""
    digest = hashlib.sha256()
    for code in code_of(prompt_text(pair), pair.completion):
        digest.update("\0".join(code_tokens(code)).encode(errors="surrogatepass"))
    return digest.hexdigest()[:16]


def origin(example: Example) -> tuple[str | None, tuple[str, ...]]:
    """The file that an example is from, and its tags, where the source says so.

    Fields `file` or `path`, and `tags`, `category` or `source`; functions of installed code have their file in the id.
    """
    row: Mapping[str, Any] = example.row if isinstance(example.row, Mapping) else {}
    file = row.get("file") or row.get("path")
    if file is None and example.pair.id.count(":") >= 2 and ".py:" in example.pair.id:
        file = example.pair.id.partition(":")[0]
    tags = row.get("tags") or [row[name] for name in ("category", "source") if row.get(name)]
    return (None if file is None else str(file)), tuple(map(str, [tags] if isinstance(tags, str) else tags))


def text_of(pair: Pair, region: str) -> str:
    """What a classifier that never sees the model reads: the text that the model was scored on."""
    return pair.completion if region == "response" else f"{prompt_text(pair)}\n{pair.completion}"
