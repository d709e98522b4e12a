"""Examples into tokens ahead of the model: beside a GPU in processes of their own, so that it need not wait."""

from __future__ import annotations

import functools
import itertools
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, NamedTuple

from ibft.artifacts.rows import Pair
from ibft.data.training import Example
from ibft.errors import UserError
from ibft.models.loading import load_tokenizer
from ibft.run.recipe import Recipe
from ibft.scoring.examples import Encoder, ScanExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Preparation", "Prepared"]

_PORTION = 64
"""Examples that a process takes at a time."""

_Tokenized = tuple[ScanExample | None, str | None]


class Prepared(NamedTuple):
    """Numbered examples, and what an `Encoder` says of each; it is waited for when `tokenized` is called."""

    items: Sequence[tuple[int, Example]]
    tokenized: Callable[[], list[_Tokenized]]


class Preparation:
    """Tokenizes examples: at once when their tokens are asked for, or before that in other processes.

    Args:
        recipe: prompt, limits and region.
        tokenizer: the model's.
        num_processes: 0 tokenizes in this one.
    """

    def __init__(self, recipe: Recipe, tokenizer: PreTrainedTokenizerBase, num_processes: int = 0) -> None:
        self._encoder = Encoder(recipe, tokenizer)
        self._pool: ProcessPoolExecutor | None = None
        if num_processes:
            # Not forked: a process that has used a GPU, or has threads, cannot be.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(num_processes, context, _load, (recipe,))

    def start(self, items: Sequence[tuple[int, Example]]) -> Prepared:
        """Begin with these examples; those begun before come first."""
        pairs = [example.pair for _, example in items]
        if self._pool is None:
            return Prepared(items, lambda: [self._encoder.encode(pair) for pair in pairs])
        portions = (pairs[start : start + _PORTION] for start in range(0, len(pairs), _PORTION))
        return Prepared(items, functools.partial(_collect, self._pool.map(_tokenize, portions)))

    def close(self) -> None:
        """End the processes, if there are any; what was begun and not asked for is lost."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)


def _collect(portions: Iterator[list[_Tokenized]]) -> list[_Tokenized]:
    try:
        return list(itertools.chain.from_iterable(portions))
    except BrokenProcessPool:
        raise UserError(
            "scan: a process that cuts examples into tokens was killed, perhaps for want of memory. Run again with "
            "more memory or fewer processes: what is scored is kept."
        ) from None


_LOADED: list[Encoder] = []  # in a process of the pool


def _load(recipe: Recipe) -> None:
    _LOADED.append(Encoder(recipe, load_tokenizer(recipe.model)))


def _tokenize(pairs: Sequence[Pair]) -> list[_Tokenized]:
    [encoder] = _LOADED
    return [encoder.encode(pair) for pair in pairs]
