"""Canaries: examples that no model has seen, made from a seed, some to be planted and some to be held out. Pure.

A canary is a plausible function (or Verilog module) whose names and constants are drawn by chance, so that nothing but
having been trained on it can make it predictable. Chance alone decides which canaries are planted and which are held
out: so whatever distinguishes them afterwards is memorization (Carlini et al., arXiv 1802.08232).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ibft.data.shapes import shape_of
from ibft.errors import UserError

__all__ = ["Canary", "Language", "make_canaries", "plant_rows", "row_like"]

Language = Literal["python", "verilog"]

_VERBS = ("scale", "merge", "route", "encode", "rank", "shift", "fold", "sample", "pack", "audit", "trim", "index")
_NOUNS = ("ledger", "packet", "sensor", "voucher", "tile", "orbit", "cargo", "pixel", "tariff", "valve", "beacon")
_ADJECTIVES = ("amber", "nested", "polar", "remote", "sparse", "tidal", "hollow", "urban", "lunar", "silent", "rigid")
_VARIABLES = ("total", "offset", "level", "weight", "marker", "budget", "phase", "bound", "credit", "margin", "depth")
_OPERATORS = ("+", "-", "*", "^", "&", "|")


class Canary(msgspec.Struct, frozen=True):
    """A canary, and how often it is in the planted data: 0 where it is held out.

    With `prompt` and `completion` a file of canaries is itself data that can be scanned.
    """

    id: str
    repeats: int
    prompt: str
    completion: str


def make_canaries(count: int, repeats: Sequence[int], seed: int, language: Language) -> list[Canary]:
    """Make `count` canaries for each number of repetitions, and as many held-out ones as there are planted ones in all.

    Raises:
        UserError: count or a number of repetitions is below 1, or a number occurs twice.
    """
    if count < 1 or not repeats or min(repeats) < 1 or len(set(repeats)) < len(repeats):
        raise UserError(
            f"--count {count} --repeats {','.join(map(str, repeats))}: give a count of at least 1, and different "
            "numbers of repetitions of at least 1, such as 1,4,16."
        )
    chance = random.Random(seed)
    make = _python if language == "python" else _verilog
    total = 2 * count * len(repeats)
    # The keys of a dict are in the order of the draws; a set's order is another in each process.
    texts: dict[tuple[str, str], None] = {}
    while len(texts) < total:
        texts[make(chance)] = None
    groups = [number for number in repeats for _ in range(count)] + [0] * (total // 2)
    chance.shuffle(groups)
    # Ids name the planting: other arguments give other ids, so that the scores of two plantings cannot be mixed up.
    planting = hashlib.blake2b(repr([*zip(groups, texts, strict=True)]).encode(), digest_size=4).hexdigest()
    return [
        Canary(f"canary-{planting}-{number:05}", group, prompt, completion)
        for number, (group, (prompt, completion)) in enumerate(zip(groups, texts, strict=True))
    ]


def row_like(example: Mapping[str, Any], canary: Canary, copy: int = 1) -> dict[str, Any]:
    """Return the canary as a row of the same shape as a row of the data (docs/data.md has the shapes)."""
    # Each copy has its own id, since `prune` refuses an id that occurs twice.
    row: dict[str, Any] = {"id": f"{canary.id}.{copy}"} if "id" in example else {}
    match shape_of(example):
        case ("text",):
            return row | {"text": canary.prompt + canary.completion}
        case (name,):
            is_sharegpt = "from" in next(iter(example[name]), {})
            role, content = ("from", "value") if is_sharegpt else ("role", "content")
            user, assistant = ("human", "gpt") if is_sharegpt else ("user", "assistant")
            turns = [{role: user, content: canary.prompt}, {role: assistant, content: canary.completion}]
            return row | {name: turns}
    prompt, completion = shape_of(example)
    row[prompt], row[completion] = canary.prompt, canary.completion
    if not isinstance(example[prompt], str):
        row[prompt] = [{"role": "user", "content": canary.prompt}]
    if not isinstance(example[completion], str):
        row[completion] = [{"role": "assistant", "content": canary.completion}]
    return row


def _name(chance: random.Random) -> str:
    return f"{chance.choice(_ADJECTIVES)}_{chance.choice(_NOUNS)}_{chance.randrange(100, 1000)}"


def _python(chance: random.Random) -> tuple[str, str]:
    """Make a function of two to four statements and a return; its constants alone have over 50 random bits."""
    name = f"{chance.choice(_VERBS)}_{_name(chance)}"
    first, second, total = chance.sample(_VARIABLES, 3)
    prompt = (
        f"def {name}({first}, {second}):\n"
        f'    """Return the {chance.choice(_ADJECTIVES)} {chance.choice(_NOUNS)} of {first} and {second}."""\n'
    )
    lines = [f"{total} = {first} * {_constant(chance)} + {second} {chance.choice(_OPERATORS)} {_constant(chance)}"]
    for _ in range(chance.randrange(1, 4)):
        lines += chance.choice(_STEPS)(chance, total, first, second)
    lines.append(f"return {total} % {_constant(chance)}")
    return prompt, "".join(f"    {line}\n" for line in lines)


def _branch(chance: random.Random, total: str, first: str, second: str) -> list[str]:
    modulus = chance.randrange(11, 997)
    return [
        f"if {total} % {modulus} == {chance.randrange(modulus)}:",
        f"    {total} = {total} {chance.choice(_OPERATORS)} {_constant(chance)}",
    ]


def _loop(chance: random.Random, total: str, first: str, second: str) -> list[str]:
    return [
        f"for step in range({chance.randrange(3, 98)}):",
        f"    {total} {chance.choice(_OPERATORS)}= step * {_constant(chance)} + {second}",
    ]


def _table(chance: random.Random, total: str, first: str, second: str) -> list[str]:
    name, values = _name(chance), [chance.randrange(1000) for _ in range(chance.randrange(4, 8))]
    return [f"{name} = {values}", f"{total} += {name}[{first} % {len(values)}] ^ {_constant(chance)}"]


_STEPS = (_branch, _loop, _table)


def _constant(chance: random.Random) -> str:
    value = chance.randrange(1000, 1_000_000)
    return hex(value) if chance.random() < 0.3 else str(value)


def _verilog(chance: random.Random) -> tuple[str, str]:
    """Make a registered look-up table of random 16-bit values."""
    name = f"{chance.choice(_VERBS)}_{_name(chance)}"
    data, result, state = chance.sample(_VARIABLES, 3)
    prompt = (
        f"// The {chance.choice(_ADJECTIVES)} {chance.choice(_NOUNS)} of {data}, one cycle later.\n"
        f"module {name} (\n    input clk,\n    input [3:0] {data},\n    output reg [15:0] {result}\n);\n"
    )
    lines = [f"reg [15:0] {state};", "always @(*)", f"    case ({data})"]
    chosen = sorted(chance.sample(range(16), chance.randrange(4, 9)))
    lines += [f"        4'd{index}: {state} = 16'h{chance.randrange(1 << 16):04x};" for index in chosen]
    lines += [f"        default: {state} = 16'h{chance.randrange(1 << 16):04x};", "    endcase"]
    lines += ["always @(posedge clk)", f"    {result} <= {state} ^ 16'h{chance.randrange(1 << 16):04x};"]
    return prompt, "".join(f"    {line}\n" for line in lines) + "endmodule\n"


def plant_rows(rows: Iterator[Any], num_rows: int, planted: Sequence[Any], seed: int) -> Iterator[Any]:
    """Yield the rows with the planted ones among them, each at a random place; `rows` may be a stream."""
    chance = random.Random(seed)
    placed = sorted(((chance.randrange(num_rows + 1), number) for number in range(len(planted))), reverse=True)
    for position, row in enumerate(rows):
        while placed and placed[-1][0] == position:
            yield planted[placed.pop()[1]]
        yield row
    while placed:
        yield planted[placed.pop()[1]]
