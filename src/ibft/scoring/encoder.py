"""Examples into tokens, with everything else that a row has before a model has seen it."""

from __future__ import annotations

import contextlib
import random
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ibft.artifacts.rows import Score, Subset, TrainingPair
from ibft.data.code import prompt_text
from ibft.data.fingerprint import fingerprint
from ibft.data.skipped import SkippedRow
from ibft.data.subsets import NumberedExamples, origin
from ibft.data.tokens import reason_to_skip, texts_of, unusable
from ibft.data.training import Example
from ibft.errors import PromptError, RowError, UserError
from ibft.text.encoding import TextCodec
from ibft.text.examples import EncodedExample, encode_pair
from ibft.text.limits import EmbeddingCheck, ModelLimits

if TYPE_CHECKING:
    from torch.utils.data import DataLoader

__all__ = [
    "Block",
    "EncodedBlock",
    "Encoder",
    "ScanExample",
    "draw_scorable",
    "encode_blocks",
    "explaining_killed_workers",
    "text_of",
]

Region = Literal["response", "all"]


class Block(NamedTuple):
    """Numbered examples of one subset that are scored together; `number` counts the subset's blocks."""

    subset: Subset
    number: int
    items: list[tuple[int, Example]]


class ScanExample(NamedTuple):
    """One example in tokens, (T,) of them.

    `start` is the first token that is scored, `prompt_length` the first of the response. `row` has what is known of the
    example before the model has seen it, `num_zlib_bytes` is the size of the scored text as zlib compresses it, and
    `reference` the same text in the tokens of a reference model (None without one, or where that one cannot score it).
    """

    input_ids: list[int]
    start: int
    prompt_length: int
    row: Score
    num_zlib_bytes: int
    reference: ScanExample | None = None

    @property
    def response(self) -> slice:
        """Which of the scored tokens are the response's."""
        return slice(self.prompt_length - self.start, None)


class EncodedBlock(NamedTuple):
    """A block of which each example is in tokens, or has a row with the reason why it has no scores."""

    subset: Subset
    number: int
    examples: list[ScanExample]
    unscored: list[Score]


class Encoder:
    """Cuts examples into the tokens that training has, and collects what else a score needs to know about them.

    The response is the tokens that lie wholly in it: one that spans the border with the prompt belongs to the prompt.

    Args:
        codec: the model's border between text and tokens.
        limits: of the model; examples that are longer than its context have no scores.
        max_tokens: examples that are longer than this have none either, prompt and end token included.
        region: score the tokens of the response, or all.
        reference: the encoder of a reference model.
        skips_refused: examples that the template refuses, or with tokens that the model lacks, have no scores; else
            they are an error.
    """

    def __init__(
        self,
        codec: TextCodec,
        limits: ModelLimits,
        *,
        max_tokens: int | None = None,
        region: Region = "response",
        reference: Encoder | None = None,
        skips_refused: bool = False,
    ) -> None:
        self.tokenizer = codec.tokenizer
        self._codec, self._is_whole = codec, region == "all"
        self._max_tokens = min(limits.num_positions, limits.num_positions if max_tokens is None else max_tokens)
        self._embedding = EmbeddingCheck(codec.tokenizer, limits.num_embeddings)
        self._reference, self._skips_refused = reference, skips_refused

    def reason(self, pair: TrainingPair) -> str | None:
        """Return the reason why a pair has no scores; None where it has some.

        Raises:
            UserError: the template refuses the prompt; names the example.
        """
        encoded = self._encode(pair)
        return encoded if isinstance(encoded, str) else None

    def encode(self, subset: Subset, index: int, example: Example) -> ScanExample | Score:
        """Return the example in tokens, or its row with the reason why it has no scores.

        Raises:
            UserError: the template refuses the prompt, or the model has no embedding for a token; names the example.
        """
        pair = example.pair
        encoded = self._encode(pair)
        if isinstance(encoded, str):
            return Score(id=pair.id, subset=subset, index=index, reason=encoded)
        input_ids = encoded.input_ids[: encoded.response.stop]  # the end token is the recipe's and not the data's
        file, tags = origin(example)
        row = Score(id=pair.id, subset=subset, index=index, file=file, tags=tags, fingerprint=fingerprint(pair))
        first, (begin, end) = encoded.response.start, encoded.completion
        text = encoded.text[0 if self._is_whole else begin : end]
        reference = None if self._reference is None else self._reference.encode(subset, index, example)
        return ScanExample(
            input_ids,
            1 if self._is_whole else first,  # nothing predicts the very first token
            first,
            row,
            len(zlib.compress(text.encode())),
            reference if isinstance(reference, ScanExample) else None,
        )

    def _encode(self, pair: TrainingPair) -> EncodedExample | str:
        """Return the whole text in tokens, or the reason why it has no scores."""
        if reason := unusable(pair):
            return reason
        try:
            encoded = encode_pair(self._codec, pair)
            if reason := reason_to_skip(pair, encoded.completion[0], len(encoded.input_ids), self._max_tokens):
                return reason
            self._embedding.check(pair.id, "".join(texts_of(pair)), encoded.input_ids[: encoded.response.stop])
        except (PromptError, RowError) as error:
            if not self._skips_refused:
                raise
            return SkippedRow.of(pair.id, error).reason
        num_tokens = encoded.response.stop - encoded.response.start
        return "response of one token" if num_tokens < 2 else encoded


def draw_scorable(
    examples: NumberedExamples, encoder: Encoder, limit: int, seed: int
) -> tuple[NumberedExamples, dict[str, int]]:
    """Draw at most `limit` of the examples that can be scored, over the whole data, in its order.

    This cuts all of the data into tokens once.

    Returns:
        The drawn examples, and how many others cannot be scored, by reason.
    """
    usable, reasons = [], Counter[str]()
    for index, example in examples:
        if (reason := encoder.reason(example.pair)) is None:
            usable.append(index)
        else:
            reasons[reason] += 1
    return examples.only(random.Random(seed).sample(usable, min(limit, len(usable)))), dict(reasons)


def text_of(pair: TrainingPair, region: Region) -> str:
    """Return the text that the model was scored on: the blind classifier reads the same."""
    return pair.completion if region == "response" else f"{prompt_text(pair)}\n{pair.completion}"


def encode_blocks(blocks: Iterable[Block], encoder: Encoder, num_workers: int = 0) -> Iterator[EncodedBlock]:
    """Yield the blocks in tokens, in their order; with workers, some blocks ahead of the caller.

    Args:
        blocks: read in this process, which sends them to the workers.
        encoder: copied to each worker.
        num_workers: processes that encode, a block at a time; 0 encodes in this one.

    Raises:
        UserError: as `Encoder.encode`.
        RuntimeError: a worker was killed.
    """
    from torch import Generator
    from torch.utils.data import DataLoader

    loader: DataLoader[Any] = DataLoader(
        _Encoding(encoder),  # type: ignore[arg-type]  # for PyTorch anything with __getitem__ is a data set
        sampler=blocks,
        batch_size=None,
        collate_fn=_unchanged,  # type: ignore[arg-type]  # PyTorch's own would rebuild every list of tokens
        num_workers=num_workers,
        generator=Generator(),  # otherwise it draws from PyTorch's own, and a scan changes what is random after it
        # A process that has used a GPU, or that has threads, cannot be forked.
        multiprocessing_context="spawn" if num_workers else None,
    )
    for encoded in loader:
        if isinstance(encoded, UserError):
            raise encoded
        yield encoded


class _Encoding:
    """A PyTorch data set whose indices are blocks and whose items are these blocks in tokens."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __getitem__(self, block: Block) -> EncodedBlock | UserError:
        try:
            encoded = [self._encoder.encode(block.subset, index, example) for index, example in block.items]
        except UserError as error:
            return error  # raised in a worker, its message would contain the worker's traceback
        examples = [example for example in encoded if isinstance(example, ScanExample)]
        unscored = [row for row in encoded if isinstance(row, Score)]
        return EncodedBlock(block.subset, block.number, examples, unscored)


def _unchanged(encoded: EncodedBlock | UserError) -> EncodedBlock | UserError:
    return encoded


@contextlib.contextmanager
def explaining_killed_workers() -> Iterator[None]:
    """Say what to do if a worker was killed, which PyTorch may notice anywhere in this process's work.

    Raises:
        UserError: in place of PyTorch's error.
    """
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "scan: a process that cuts examples into tokens was killed, perhaps for want of memory. Run again with "
            "more memory or fewer processes: what is scored is kept."
        ) from None
