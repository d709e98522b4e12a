"""Where an attack is run: a sandbox amid baits, and an honest sample that is judged afterwards."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from types import TracebackType

from hostile.baits import Baits, descendants, left_behind
from ibft.artifacts.rows import Problem
from ibft.execution.isolation import Level
from ibft.execution.languages.python import PYTHON
from ibft.execution.outcome import Outcome
from ibft.execution.python_run import run_python
from ibft.execution.python_tests import Prepared
from ibft.execution.sandbox import Limits, Sandbox, SandboxError

__all__ = ["PRELUDE", "TESTS", "Arena", "Attack", "Report", "prepared"]

TESTS = "assert f(2) == 4\nassert f(3) == 6\n"
_SHORT = Limits(cpu_s=0.15, wall_s=0.4, memory_mib=512)  # for programs that are meant to meet a limit
_PATIENT = Limits(cpu_s=0.5, wall_s=5, memory_mib=512)  # for the others, however busy the machine is
_ROOMY = Limits(cpu_s=5, wall_s=10, memory_mib=512)
PRELUDE = "def effect(what): raise RuntimeError('EFFECT ' + str(what))\n"
# What a sample can see of the state in which it is run: the same before and after every attack.
_HONEST = """
import builtins, json, math, os, random, resource, signal, sys, threading, time
def state():
    # The limits are set from outside, a moment after the start; the one on files comes last.
    deadline = time.monotonic() + 2
    while resource.getrlimit(resource.RLIMIT_FSIZE)[1] < 0 and time.monotonic() < deadline:
        time.sleep(0.001)
    names = (os.listdir('.'), os.path.realpath('.').split('/')[-1], sorted(set(os.environ) - {'LC_CTYPE'}))
    numbers = (random.random(), os.umask(0o77), threading.active_count(), len('abc'), math.sqrt(4), json.dumps([1]))
    limits = [resource.getrlimit(kind) for kind in (resource.RLIMIT_CPU, resource.RLIMIT_AS, resource.RLIMIT_FSIZE)]
    signals = [signal.getsignal(kind) for kind in (signal.SIGPROF, signal.SIGXCPU, signal.SIGTERM, signal.SIGINT)]
    open('own', 'w').write('x' * 1000)
    known = (len(sys.modules), sorted(vars(builtins))[:5], sys.getrecursionlimit())
    return repr((names, numbers, limits, signals, known))
def f(x): return 2 * x
"""


@dataclass(frozen=True)
class Attack:
    """One hostile program. `@NAME@` in its source stands for a bait (`Baits.fill_in`).

    No program computes the right answers unless `may_pass` is set, so any other pass is a false one. A program that
    gets what it must not have calls `effect`, or leaves its trace on a bait.

    Attributes:
        family: what is attacked.
        name: what is tried, in words.
        source: the program; may call `effect(what)`.
        tests: the tests it is judged by.
        may_pass: it answers rightly, and attacks something else.
        passes_inside: it passes where its tests run in its own interpreter.
        opened_by: the defenses of which each, left out alone at level landlock, lets it succeed.
        before: an honest program that is judged first, in the same sandbox.
        with_numpy: whether NumPy is there.
        statuses: the verdicts that are right; any but a pass, if empty.
    """

    family: str
    name: str
    source: str
    tests: str = TESTS
    may_pass: bool = False
    passes_inside: bool = False
    opened_by: tuple[str, ...] = ()
    before: str = ""
    with_numpy: bool = False
    statuses: frozenset[str] = frozenset()

    def __str__(self) -> str:
        return f"{self.family}: {self.name}".replace(" ", "_")


@dataclass(frozen=True)
class Report:
    """What an attack achieved: nothing, where the judge `stood`."""

    status: str
    message: str
    is_false_pass: bool
    is_wrong_status: bool
    effects: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    after: str = ""
    seconds: float = 0.0

    @property
    def stood(self) -> bool:
        """No false pass, the right verdict, no effect, nothing left, and the next sample judged rightly."""
        return not (self.is_false_pass or self.is_wrong_status or self.effects or self.left or self.after)


def prepared(tests: str, setup: str = "") -> Prepared:
    """Tests of a function f, ready to run."""
    return PYTHON.prepare(Problem(task_id="t", prompt="", tests=tests, setup=setup, entry_point="f"))


class Arena:
    """A sandbox amid baits. Several attacks can be run in it, one after another.

    Args:
        level: of the sandbox.
        without: defenses to leave out.
    """

    def __init__(self, level: Level, without: Iterable[str] = ()) -> None:
        self._level, self._without = level, frozenset(without)
        self._sandboxes: dict[bool, Sandbox] = {}
        self._state: dict[bool, str] = {}

    def __enter__(self) -> Arena:
        self.baits = Baits()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.baits.close()

    def sandbox(self, with_numpy: bool = False) -> Sandbox:
        """The arena's sandbox, running."""
        if with_numpy not in self._sandboxes:
            made = Sandbox(self._level, packages=["numpy"] if with_numpy else (), without=self._without)
            self._sandboxes[with_numpy] = self.baits.enter_context(made)
        self._sandboxes[with_numpy].start()
        return self._sandboxes[with_numpy]

    def run(self, attack: Attack, *, inside: bool = False) -> Report:
        """Let an attack have its try, then look around and judge an honest sample."""
        start = time.monotonic()
        sandbox = self.sandbox(attack.with_numpy)
        if attack.with_numpy not in self._state:
            self._state[attack.with_numpy] = _honest_state(sandbox)
        if attack.before:
            run_python(prepared(TESTS), attack.before, sandbox, _ROOMY)
        baits, processes = self.baits.look(), {*descendants()}
        limits = _SHORT if attack.statuses & {"timeout_cpu", "timeout_wall"} else _PATIENT
        source = PRELUDE + self.baits.fill_in(attack.source)
        try:
            outcome = run_python(prepared(attack.tests), source, sandbox, limits, inside=inside).outcome
        except SandboxError as error:
            outcome = Outcome(status="infrastructure_error", message=str(error))
        effects = [*self.baits.effects(baits), *self._told(outcome.message)]
        is_down = outcome.status == "infrastructure_error"
        return Report(
            status=outcome.status,
            message=outcome.message,
            is_false_pass=outcome.status == "passed" and not attack.may_pass,
            is_wrong_status=bool(attack.statuses) and outcome.status not in attack.statuses,
            effects=effects,
            left=[] if is_down else left_behind({*processes, self.baits.victim.pid}),
            after=f"the sandbox ended: {outcome.message}" if is_down else self._judge_honest(attack.with_numpy),
            seconds=time.monotonic() - start,
        )

    def _told(self, message: str) -> list[str]:
        told = ["a secret was read"] if self.baits.token in message else []
        return told + ([message.partition("EFFECT ")[2]] if "EFFECT " in message else [])

    def _judge_honest(self, with_numpy: bool) -> str:
        """What is wrong with the judgement of an honest sample; "" if nothing is."""
        setup = f"expected_state = {self._state[with_numpy]!r}\n"
        tests = prepared(f"{TESTS}assert state() == expected_state, state()\n", setup)
        try:
            outcome = run_python(tests, _HONEST, self.sandbox(with_numpy), _ROOMY).outcome
        except SandboxError as error:
            return f"the next sample: {error}"
        return "" if outcome.status == "passed" else f"the next sample: {outcome.message}"


def _honest_state(sandbox: Sandbox) -> str:
    """The state that an honest sample sees."""
    tests = prepared("seen.append(state())\n", "seen = []\n")
    run_python(tests, _HONEST, sandbox, _ROOMY)
    return str(tests.namespace["seen"][0])
