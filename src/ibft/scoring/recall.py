"""What recalls the answer: the share of it that each segment of a prompt alone recovers.

For an example with segments k, by forward passes of one model over the same answer behind different prompts:

    T_k = clip((nll(all foreign) - nll(only k own)) / (nll(all foreign) - nll(all own)), 0, 1)

A segment is foreign where its parts are another example's (`data.foreign`). 1: the segment alone recalls the answer, as
if the rest of the prompt were not there; 0: without the rest it is worth nothing. Where a name that says little has a
large share, the model knows the answer by that name: a shortcut around the question. Two segments that each suffice
have large shares both; where only the two together suffice, neither has.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from ibft.artifacts.recall import MIN_NATS
from ibft.artifacts.rows import TrainingPair
from ibft.data.foreign import Donors
from ibft.data.segments import SegmentedPrompt, exchanged, segmented
from ibft.data.training import Example
from ibft.scoring.encoder import Encoder, ScanExample
from ibft.scoring.forward import Forward

__all__ = ["SILENT", "Recall", "recall", "recalled_shares"]

SILENT = f"the prompt tells less than {MIN_NATS:g} nat"
"""Why an example has no shares though all was measured."""
_BLOCK = 32
"""Examples whose prompts are held as tokens at a time: ten each at most."""


class Recall(NamedTuple):
    """What recalls one example's answer.

    `shares`: kind of segment to T, in [0, 1]; empty where `reason` says why there is none. `nll_own`, `nll_foreign` and
    `nll_alone`: nats, of the same `num_tokens` of the answer, behind the prompt, behind one of which every part that
    could be exchanged is foreign, and by kind of segment, behind one of which that alone is not; NaN and empty where
    they were not measured.
    """

    shares: dict[str, float]
    nll_own: float = np.nan
    nll_foreign: float = np.nan
    nll_alone: Mapping[str, float] = MappingProxyType({})
    num_tokens: int = 0
    reason: str | None = None


def recalled_shares(nll_own: float, nll_foreign: float, nll_alone: Mapping[str, float]) -> dict[str, float] | None:
    """Return T of each segment; None where the prompt tells less than `MIN_NATS`, so that a share is undefined.

    Args:
        nll_own: nats of the answer behind its own prompt.
        nll_foreign: behind one of which all is foreign.
        nll_alone: segment to the nats behind a prompt of which it alone is the example's own.
    """
    told = nll_foreign - nll_own
    if not told >= MIN_NATS:
        return None
    return {kind: min(max((nll_foreign - nll) / told, 0.0), 1.0) for kind, nll in nll_alone.items()}


def recall(
    forward: Forward,
    encoder: Encoder,
    pairs: Sequence[TrainingPair],
    *,
    donors: Sequence[TrainingPair] = (),
    seed: int = 0,
    advance: Callable[[int], None] = lambda num: None,
) -> list[Recall]:
    """Return what recalls the answers of some examples: at most (segments + 2) forward passes for each.

    An answer has the same tokens behind every prompt: those that the tokenizer cuts in the same way behind all of them,
    counted from the end. That leaves out the first of an answer where it is joined with what stands before it.

    Args:
        forward: the model.
        encoder: cuts examples into its tokens; whatever its region, the answer alone is scored.
        pairs: N examples.
        donors: the examples whose prompts lend the foreign parts; none: the `pairs` themselves.
        seed: random seed of what is lent.
        advance: called with the number of examples that were scored since the last call.

    Returns:
        One for each pair, in their order.

    Raises:
        UserError: as `Encoder.encode` and `Forward.begin`.
    """
    lending = Donors(donors or pairs, seed)
    found = []
    for first in range(0, len(pairs), _BLOCK):
        views = [_views(pair, lending, encoder) for pair in pairs[first : first + _BLOCK]]
        nlls = _nlls(forward, [view for view in views if isinstance(view, _Views)])
        found += [Recall({}, reason=view) if isinstance(view, str) else _recall(view, nlls) for view in views]
        advance(len(views))
    return found


@dataclasses.dataclass(frozen=True)
class _Views:
    """One answer behind several prompts, each in tokens once: its own is the first, the foreign one the second.

    `alone` has the place of each segment's; `num_tokens` of the answer are scored.
    """

    encoded: list[ScanExample]
    alone: dict[str, int]
    num_tokens: int


def _views(pair: TrainingPair, donors: Donors, encoder: Encoder) -> _Views | str:
    """Return the example behind its own prompt, behind a foreign one, and behind one for each segment; else why not."""
    if reason := encoder.reason(pair):
        return reason
    prompt = segmented(pair)
    lent = donors.lend(pair, prompt)
    distinct, alone = [pair, exchanged(pair, prompt, lent)], {}
    for kind, parts in _askable(prompt, lent).items():
        view = exchanged(pair, prompt, {number: text for number, text in lent.items() if number not in parts})
        if view not in distinct:  # two segments of the same parts cost one pass
            distinct.append(view)
        alone[kind] = distinct.index(view)
    if not alone:
        return "no segments to exchange"
    encoded = [encoder.encode("train", 0, Example(view, None)) for view in distinct]
    if reasons := [row.reason for row in encoded if not isinstance(row, ScanExample)]:
        return f"behind a foreign prompt: {reasons[0]}"
    examples = [example for example in encoded if isinstance(example, ScanExample)]
    num_tokens = _num_common([example.input_ids[example.prompt_length :] for example in examples])
    if 2 * num_tokens < len(examples[0].input_ids) - examples[0].prompt_length:
        return "cut into other tokens behind foreign prompts"
    starts = [len(example.input_ids) - num_tokens for example in examples]
    scored = [example._replace(start=start) for example, start in zip(examples, starts, strict=True)]
    return _Views(scored, alone, num_tokens)


def _askable(prompt: SegmentedPrompt, lent: Mapping[int, str]) -> dict[str, tuple[int, ...]]:
    """Return the segments of which some part is exchanged, and outside of which some part is."""
    exchangeable = set(lent)
    return {
        segment.kind: segment.parts
        for segment in prompt.segments
        if exchangeable.intersection(segment.parts) and exchangeable.difference(segment.parts)
    }


def _num_common(tokens: Sequence[Sequence[int]]) -> int:
    """Return how many tokens all end with."""
    count = 0
    for column in zip(*map(reversed, tokens), strict=False):
        if len(set(column)) > 1:
            break
        count += 1
    return count


def _nlls(forward: Forward, views: Sequence[_Views]) -> dict[int, float]:
    """Return the nats of the answer in each view, by the `id` of the view."""
    nlls = {}
    for batch, pending in forward.begin([example for view in views for example in view.encoded]):
        for example, stats in zip(batch, pending.collect(), strict=True):
            nlls[id(example)] = float(-stats.log_prob.sum())
    return nlls


def _recall(views: _Views, nlls: Mapping[int, float]) -> Recall:
    own, foreign, *others = (nlls[id(view)] for view in views.encoded)
    if not np.isfinite([own, foreign, *others]).all():
        return Recall({}, reason="without finite probabilities")
    alone = {kind: others[place - 2] for kind, place in views.alone.items()}
    shares = recalled_shares(own, foreign, alone)
    reason = None if shares is not None else SILENT
    return Recall(shares or {}, own, foreign, alone, views.num_tokens, reason)
