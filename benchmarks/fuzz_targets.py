"""What fuzz.py aims at: each target is called with dice, says how its round ended, and raises a `Finding`."""

from __future__ import annotations

import datetime
import decimal
import fractions
import gzip
import json
import math
import random
import struct
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ibft.artifacts.rows import Problem
from ibft.artifacts.samples import open_samples
from ibft.errors import UserError
from ibft.execution.inside import codec
from ibft.execution.isolation import detect_level
from ibft.execution.languages.python import PYTHON
from ibft.execution.python_run import run_python
from ibft.execution.sandbox import Limits, Sandbox
from ibft.text.answers.verilog import extract_design

DATA = Path(__file__).resolve().parent.parent.parent / "shared/data/verilog_eval"
LIMITS = Limits(cpu_s=0.5, wall_s=1, memory_mib=512)
OVERRUN_S = 1.0
# What is expected is in no corpus, so only a judge that is fooled can pass these.
SECRET = "a text that nobody guesses"
TESTS = f"assert f(2) == {SECRET!r}\nassert f([1]) == [{SECRET!r}]\nassert len(list(f(3))) == 7 and f(4).x == 12345\n"
ANSWERS = [
    '"set up"',
    '["ok",null]',
    '["ok",{"d":[["f",{"h":0}]]}]',
    '["ok",4]',
    '["ok",{"h":0}]',
    '["ok",{"i":"0x4"}]',
    '["ok",{"t":[1,{"s":[2,{"f":[3]}]}]}]',
    '["ok",{"d":[[1,2],["a",[3]]]}]',
    '["ok",{"b":"00ff"}]',
    '["ok",{"r":["0x0","0x9","0x1"]}]',
    '["ok",{"c":[1.0,2.0]}]',
    '["ok",{"D":"1.5"}]',
    '["ok",{"F":["0x1","0x3"]}]',
    '["ok",{"T":"2026-01-01T00:00:00"}]',
    '["ok",{"a":["i",[1,2]]}]',
    '["ok",{"q":[1]}]',
    '["ok",{"l":[1,null,2]}]',
    '["ok",{"E":[1,2,3]}]',
    '["syntax","no"]',
    '["raised",["KeyError","LookupError","Exception","BaseException","object"],"m","t"]',
    '["raised",["SystemExit"],"",""]',
    '["raised",["StopIteration"],"",""]',
    '["raised",["MemoryError"],"",""]',
]
TOKENS = [
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    '"',
    "null",
    "true",
    "NaN",
    "-Infinity",
    "1e999",
    "0x",
    "\\ud800",
    "h",
    "i",
    "t",
    "a",
    "ok",
    "raised",
    "-1",
    "99999999999999999999",
    "[" * 200,
    "]" * 200,
    " " * 1000,
    "\\u0000",
    "9" * 5000,
]
CANDIDATE = """
import os, select
def write(data):
    data = memoryview(data)
    while data: data = data[os.write(3, data):]
for data in {frames!r}:
    write(data)
    if select.select([3], [], [], {patience})[0] and not os.read(3, 65536): break
os._exit(0)
"""


class Finding(Exception):
    """Something that must not happen."""


def mutate(text: str, dice: random.Random, tokens: list[str]) -> str:
    for _ in range(dice.choice((0, 1, 1, 2, 5, 20))):
        start = dice.randrange(len(text) + 1)
        end = min(len(text), start + dice.choice((0, 0, 1, 3, 30)))
        piece = text[start:end]
        new = dice.choice(
            (
                "",
                dice.choice(tokens),
                chr(dice.choice((dice.randrange(128), dice.randrange(0x3000)))),
                piece * 3,
                piece[::-1],
            )
        )
        text = text[:start] + new + text[end:]
    return text


def noise(dice: random.Random) -> bytes:
    return dice.randbytes(dice.choice((0, 1, 3, 10, 1000, 50_000)))


def frame(data: bytes, dice: random.Random) -> bytes:
    size = (
        len(data) if dice.random() < 0.95 else dice.choice((0, 1, len(data) + 1, 1 << 22, (1 << 22) + 1, (1 << 32) - 1))
    )
    return struct.pack("!I", size) + data


class Channel:
    """A candidate that speaks for itself."""

    def __init__(self) -> None:
        codec.know_numpy()
        self.prepared = PYTHON.prepare(Problem(task_id="t", prompt="", tests=TESTS, entry_point="f"))
        self.honest = PYTHON.prepare(Problem(task_id="t", prompt="", tests="assert f(2) == 4\n", entry_point="f"))
        self.sandbox = Sandbox(detect_level())

    def __call__(self, dice: random.Random) -> str:
        frames = []
        for number in range(dice.randrange(1, 12)):
            answer = ANSWERS[2] if number == 0 else dice.choice([*ANSWERS, _answer(dice)])
            text = mutate(answer, dice, TOKENS) if dice.random() < 0.3 else answer
            data = text.encode("utf-8", "surrogatepass") if dice.random() < 0.95 else noise(dice)
            frames.append(frame(data, dice) if dice.random() < 0.95 else noise(dice))
        source = CANDIDATE.format(frames=frames, patience=dice.choice((0, 0.02, 0.02)))
        start = time.monotonic()
        outcome = run_python(self.prepared, source, self.sandbox, LIMITS).outcome
        if outcome.status in ("passed", "infrastructure_error"):
            raise Finding(f"{outcome} for {frames}")
        if time.monotonic() - start > LIMITS.wall_s + OVERRUN_S:
            raise Finding(f"{time.monotonic() - start:.1f} s for {frames}")
        if not outcome.message.isprintable():
            raise Finding(f"control characters: {outcome.message!r} for {frames}")
        if dice.random() < 0.05:
            after = run_python(self.honest, "def f(x): return 4\n", self.sandbox, LIMITS).outcome
            if after.status != "passed":
                raise Finding(f"the next sample: {after} after {frames}")
        return outcome.status


def _answer(dice: random.Random) -> str:
    return json.dumps(["ok", codec.encode(random_value(dice, 3))])


class _Anything:
    """Handles that stand for nothing in particular."""

    def number(self, value: Any) -> int:
        return 0

    def value(self, number: int) -> object:
        return object()

    def flattened(self) -> None:
        pass


class Reader:
    """Files that other tools might have written, and damaged ones."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.problems = [
            Problem(task_id=f"T/{number}", prompt=f"def f{number}():\n", tests="assert f()") for number in (0, 1)
        ]
        self.rows = [
            {"task_id": "T/0", "completion": "    return 1\n"},
            {"task_id": "T/1", "solution": "def f(): 'é\ud800'", "index": 3, "num_tokens": 9, "finish_reason": "stop"},
            {"task_id": "T/0", "completion": "", "other": [1, {"a": None}]},
            {"task_id": "U/9", "completion": "x"},
            {"task_id": "T/1"},
        ]
        self.other_rows: list[Any] = [
            {"task_id": 1, "completion": ["a", "b"]},
            {"doc": {"task_id": "T_0", "prompt": "p"}, "resps": [["a"]], "filtered_resps": ["pa"], "filter": "x"},
            {"custom_id": "T/1-1", "response": {"body": {"choices": [{"message": {"content": "a"}}]}}},
            {"prompt": "def f1():\n", "outputs": [{"text": "a", "finish_reason": "length"}]},
            {
                "version": 2,
                "eval": {},
                "samples": [{"id": "T/0", "output": {"choices": [{"message": {"content": "a"}}]}}],
            },
            [["def f0(): 1"], ["def f1(): 1"]],
        ]
        self.tokens = [
            *TOKENS,
            "task_id",
            "completion",
            '"T/0"',
            "\n",
            "\r\n",
            "\ufeff",
            '{"task_id":"T/0","completion":"a"}',
        ]

    def __call__(self, dice: random.Random) -> str:
        rows = [dice.choice(self.rows[:3] if dice.random() < 0.95 else self.rows) for _ in range(dice.randrange(6))]
        if dice.random() < 0.5:  # of one tool
            rows = [dice.choice(self.other_rows)] * dice.randrange(1, 3)
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        mutated = mutate(lines, dice, self.tokens) if dice.random() < 0.7 else lines
        data = mutated.encode("utf-8", "surrogatepass")
        if dice.random() < 0.05:
            data += noise(dice)
        path = self.folder / dice.choice(("s.jsonl", "s.jsonl.gz"))
        if path.suffix == ".gz":
            data = gzip.compress(data, 1)
            if dice.random() < 0.3:
                position = dice.randrange(len(data))
                data = data[:position] + dice.choice((b"", bytes([dice.randrange(256)]) + data[position + 1 :]))
        path.write_bytes(data)
        try:
            samples = open_samples(path, self.problems, "toy", dice.choice((None, {"T/1"})))
            read = [sample.text for sample in samples.read()]
        except UserError as error:
            if "\n" in str(error).strip() and len(str(error)) > 2000:
                raise Finding(f"an unreadable error: {error}") from None
            return "refused"
        if len(read) != samples.num_samples:
            raise Finding(f"{len(read)} samples, {samples.num_samples} announced: {data!r}")
        return "read"


class Extractor:
    """Completions of a real model, mutated; and short texts made long."""

    def __init__(self) -> None:
        descriptions = DATA / "samples_deepseek-coder-7b_human.jsonl.gz"
        with gzip.open(descriptions, "rt") as file:
            self.completions = [json.loads(line)["completion"] for line in file]
        self.prompt = "module top_module (\n  input a,\n  output b\n);\n"
        self.tokens = [
            "module",
            "endmodule",
            "module top_module(",
            ");",
            "```",
            "```verilog\n",
            "//",
            "/*",
            "*/",
            '"',
            "\\",
            "`define",
            "`ifdef",
            "begin",
            "end",
            "assign b = a;",
            "function",
            "endfunction",
            "package",
            "\r",
            "\0",
            "\u2028",
            "(",
        ]

    def __call__(self, dice: random.Random) -> str:
        kind = dice.random()
        if kind < 0.8:
            text = mutate(dice.choice(self.completions), dice, self.tokens)
        elif kind < 0.95:
            text = dice.choice(("", " ", "\n")).join(dice.choices(self.tokens, k=dice.choice((3, 30, 300))))
        else:
            text = (dice.choice(self.tokens) + dice.choice(("", " ", "\n", "a "))) * dice.choice((1000, 20_000))
        prompt = dice.choice((self.prompt, "", mutate(self.prompt, dice, self.tokens)))
        start = time.process_time()
        design = extract_design(text, prompt)
        took_s = time.process_time() - start
        if took_s > 0.5 + len(text) * 2e-5:
            raise Finding(f"{took_s:.1f} s for {len(text)} characters: {text[:200]!r}")
        return "no code" if design is None else design.rule


class Codec:
    """Values that a candidate could return, and data that none could send."""

    def __call__(self, dice: random.Random) -> str:
        if dice.random() < 0.5:
            value = random_value(dice, dice.randrange(5))
            found = codec.decode(json.loads(json.dumps(codec.encode(value))), _Anything())
            if not same(found, value):
                raise Finding(f"{value!r} became {found!r}")
            return "round trip"
        text = mutate(dice.choice(ANSWERS), dice, TOKENS)
        try:
            codec.decode(json.loads(text), _Anything())
        except (ValueError, RecursionError):  # CodecError is a ValueError; json's errors are, too
            return "refused"
        return "decoded"


def random_value(dice: random.Random, depth: int, *, hashable: bool = False) -> Any:
    def inner() -> Any:
        return random_value(dice, depth - 1, hashable=hashable)

    def key() -> Any:
        return random_value(dice, depth - 1, hashable=True)

    number = dice.choice((0, 1, -1, dice.getrandbits(60), -dice.getrandbits(3000), 1 << 53))
    simple: list[Callable[[], Any]] = [
        lambda: dice.choice((None, True, False, ..., math.inf, -0.0, 1e-320, "", b"")),
        lambda: number,
        lambda: dice.uniform(-1e9, 1e9),
        lambda: complex(dice.random(), -dice.random()),
        lambda: text(dice),
        lambda: dice.randbytes(dice.randrange(30)),
        lambda: range(dice.randrange(9), number, dice.choice((1, -1, 5))),
        lambda: decimal.Decimal(number).scaleb(-dice.randrange(9)),
        lambda: fractions.Fraction(number, dice.randrange(1, 99)),
        lambda: datetime.datetime(2026, 1, 1, microsecond=dice.randrange(10**6)),
        lambda: datetime.date(2026, dice.randrange(1, 13), 1),
        lambda: datetime.timedelta(seconds=dice.randrange(-(10**6), 10**6), microseconds=3),
    ]
    nested: list[Callable[[], Any]] = [
        lambda: tuple(inner() for _ in range(dice.randrange(4))),
        lambda: frozenset(key() for _ in range(dice.randrange(4))),
    ]
    if not hashable:
        nested += [
            lambda: [inner() for _ in range(dice.randrange(5))],
            lambda: {key() for _ in range(dice.randrange(4))},
            lambda: {key(): inner() for _ in range(dice.randrange(4))},
            lambda: deque(inner() for _ in range(dice.randrange(4))),
            lambda: bytearray(dice.randbytes(3)),
            lambda: slice(key(), key(), None),
        ]
    return dice.choice(nested if depth > 0 and dice.random() < 0.8 else simple)()


def text(dice: random.Random) -> str:
    """With lone surrogates, but never two that make a character: JSON joins these."""
    made = "".join(chr(dice.randrange(0x11000)) for _ in range(dice.randrange(20)))
    return made.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def same(found: Any, value: Any) -> bool:
    return (
        type(found) is type(value)
        and (found == value)
        and (not isinstance(value, (int, float)) or str(found) == str(value))
    )
