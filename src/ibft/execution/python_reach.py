"""How far a test program reaches when it runs outside of the candidate's process: found by reading it.

Outside, calls go through a channel that carries values. What a test can see beyond values (an argument that was changed
in place, an object that is kept and shared, identity, printed output, patched modules) it only sees in the candidate's
own interpreter. Most test programs do nothing but call a function and compare what it returns, and for these the run
outside is all that is needed. This file tells them from the others. It may err on one side only: a program that it
calls `is_whole` must not see more than values; any other is run in both places, which costs a second run.
"""

from __future__ import annotations

import ast
import builtins
from typing import NamedTuple

from ibft.execution.python_scopes import CHANGES, Scopes, name_of, parameters_of, place_of

__all__ = ["Reach", "find_reach"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_PURE_MODULES = _words(
    """__future__ abc bisect cmath collections copy dataclasses datetime decimal doctest enum fractions functools
    hashlib heapq itertools json math numbers numpy operator pytest random re statistics string textwrap typing
    unittest"""
)
_PROCESS_NAMES = _words("open input globals locals vars eval exec hash setattr delattr __import__ __builtins__")
# Of libraries, what changes or watches a process; of an exception, what stays behind in its own.
_PROCESS_ATTRIBUTES = _words(
    """seed setstate set_state mock patch MonkeyPatch getcontext setcontext localcontext errstate seterr printoptions
    set_printoptions warns deprecated_call filterwarnings getfixturevalue usefixtures assertWarns assertWarnsRegex
    assertLogs assertNoLogs __cause__ __context__ __suppress_context__ __traceback__ __notes__"""
)
_PROCESS_FIXTURES = _words(
    """capsys capsysbinary capfd capfdbinary caplog monkeypatch tmp_path tmp_path_factory tmpdir tmpdir_factory
    recwarn"""
)
# Calls whose value is a fresh object, whatever they are given; and those whose value is as fresh as what they get.
_COPYING = _words("deepcopy range str int float bool len abs round repr")
_COLLECTING = _words(
    "list tuple set dict frozenset sorted sum enumerate zip reversed deque bytearray array Counter Fraction Decimal"
)
# Calls, and methods of what the candidate returned, that look at a value and neither change nor keep it.
_LOOKING = _words(
    """abs all any approx array bool complex dict divmod enumerate float frozenset int isclose isinstance iter len
    list map max min next print repr reversed round set sorted str sum tuple type zip Counter Fraction Decimal
    deepcopy allclose array_equal isnan count index startswith endswith issubset issuperset isdisjoint"""
)
_READING_METHODS = _words(
    """all any copy count endswith get index isdigit isnan issubset items join keys lower shape size split startswith
    strip tolist upper values dtype"""
)
# Calls that cannot reach the candidate, whatever they are given.
_HARMLESS = _LOOKING | _READING_METHODS | _COPYING | _COLLECTING | vars(builtins).keys()
_PASSING = (
    *(ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Starred, ast.keyword, ast.Subscript, ast.Attribute, ast.Call),
    *(ast.List, ast.Tuple, ast.Set, ast.Dict),
)
_DISPLAYS = (ast.List, ast.Tuple, ast.Set, ast.Starred, ast.UnaryOp, ast.BinOp, ast.BoolOp, ast.IfExp, ast.keyword)


class Reach(NamedTuple):
    """What a test program may see of a candidate.

    `is_whole`: the values of its calls and nothing else, if these are of plain types; where it is not, a failure
    outside says little either. `passes_fresh`: it cannot look again at what it has passed. `keeps_results`: it may
    change what it was given, or look at it after another call, which could have changed it.
    """

    is_whole: bool
    passes_fresh: bool
    keeps_results: bool


def find_reach(tests: str, setup: str, names: frozenset[str]) -> Reach:
    """Return how far a test program reaches.

    Args:
        tests: the program.
        setup: runs before it, and may define what it uses.
        names: those that it takes from the candidate.
    """
    program = _Program(ast.parse(tests), ast.parse(setup), names)
    is_whole = not program.has_identity() and not any(map(program.is_of_a_process, program.nodes))
    passes_fresh, keeps_results = True, False
    for name in program.candidates():
        parent = program.parents[name]
        if isinstance(parent, ast.Call) and parent.func is name:
            passes_fresh = passes_fresh and all(map(program.is_fresh, [*parent.args, *parent.keywords]))
            keeps_results = keeps_results or not program.only_looks(parent)
        elif not program.hands_on(name, parent):
            is_whole = False
    return Reach(is_whole, passes_fresh, keeps_results)


class _Program(Scopes):
    """A test program's syntax tree, with what is asked about its nodes."""

    def __init__(self, tests: ast.Module, setup: ast.Module, names: frozenset[str]) -> None:
        super().__init__(tests, setup)
        self._names = names
        self._handed: set[tuple[ast.AST, str]] = set()  # parameters that are the candidate's function
        while self._hand_on():
            pass
        self._looks: dict[tuple[ast.AST, str], bool] = {}  # what functions do with their parameters
        self._reaching: dict[ast.AST, list[ast.Call]] = {}  # calls that may end in one of the candidate, by scope
        for node in self.parents:
            if isinstance(node, ast.Call) and self._may_reach(node, frozenset()):
                self._reaching.setdefault(self.scope(node), []).append(node)

    def is_of_a_process(self, node: ast.AST) -> bool:
        """Decide whether a program looks at what stays in a process: output, files, patched modules, a cause."""
        match node:
            case ast.Import(names=aliases):
                return any(
                    alias.name.partition(".")[0] not in _PURE_MODULES or alias.name == "unittest.mock"
                    for alias in aliases
                )
            case ast.ImportFrom(module=str(module), names=aliases):
                taken = {alias.name for alias in aliases}
                return (
                    module.partition(".")[0] not in _PURE_MODULES
                    or "mock" in module
                    or not taken.isdisjoint(_PROCESS_ATTRIBUTES)
                )
            case ast.Name(id=name):
                return name in _PROCESS_NAMES and name not in self.defined
            case ast.Attribute(attr=name, ctx=context, value=value):
                is_own = isinstance(context, ast.Load) or name_of(value) in ("self", "cls")
                return name in _PROCESS_ATTRIBUTES or not is_own
            case ast.arg(arg=name):
                return name in _PROCESS_FIXTURES
        return isinstance(node, (ast.AsyncFunctionDef, ast.Await))

    def has_identity(self) -> bool:
        """Decide whether any two objects are compared by identity, other than with None and the like.

        A container that holds a NaN equals another only if it is the same NaN.
        """
        return any(
            (
                isinstance(node, ast.Compare)
                and any(isinstance(operator, (ast.Is, ast.IsNot)) for operator in node.ops)
                and not any(isinstance(side, ast.Constant) for side in (node.left, *node.comparators))
            )
            or (isinstance(node, ast.Name) and node.id == "id")
            or (isinstance(node, ast.Attribute) and node.attr in ("assertIs", "assertIsNot", "nan", "NaN"))
            or (isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.lower() == "nan")
            for node in self.nodes
        )

    def candidates(self) -> list[ast.Name]:
        """Return the places at which something of the candidate's is named, in its own name or as a parameter."""
        return [node for node in self.parents if isinstance(node, ast.Name) and self._is_candidate(node)]

    def hands_on(self, name: ast.Name, parent: ast.AST) -> bool:
        """Decide whether a name is an argument of a function of the tests' own, whose body is looked at instead."""
        return isinstance(parent, ast.Call) and self.parameter(parent, name) is not None

    def is_fresh(self, node: ast.AST) -> bool:
        """Decide whether nobody can look at the value of an expression once it has been passed on."""
        match node:
            case ast.Constant() | ast.JoinedStr() | ast.Compare() | ast.operator() | ast.unaryop() | ast.boolop():
                return True
            case ast.expr_context() | None:
                return True
            case ast.Dict(keys=keys, values=values):
                return all(part is None or self.is_fresh(part) for part in (*keys, *values))
            case ast.Call(func=function, args=arguments, keywords=keywords):
                name = name_of(function)
                if name in self.defined:
                    return False
                return name in _COPYING or (name in _COLLECTING and all(map(self.is_fresh, (*arguments, *keywords))))
            case ast.Name():
                return self._is_fresh_name(node)
            case ast.BinOp(op=ast.Mult(), left=left, right=right):
                return _is_flat(left) and _is_flat(right)  # `[[0]] * 2` holds one list twice
        return isinstance(node, _DISPLAYS) and all(map(self.is_fresh, ast.iter_child_nodes(node)))

    def only_looks(self, result: ast.AST) -> bool:
        """Decide whether the value of an expression is looked at, where it stands, and neither changed nor kept.

        Kept is also what the candidate could change in a later call, before somebody looks.
        """
        node = result
        while True:
            parent = self.parents[node]
            match parent:
                case ast.Assert(test=test):
                    return test is not node or self._is_alone(result, test)
                case ast.Compare() | ast.Expr() | ast.FormattedValue():
                    return self._is_alone(result, parent)
                case ast.If() | ast.While() | ast.IfExp():
                    return parent.test is node and self._is_alone(result, parent.test)
                case ast.Attribute(attr=name) if name not in _READING_METHODS:
                    return False
                case ast.Call(func=function) if function is node and isinstance(node, ast.Call):
                    return True  # a call of the candidate's own, which is looked at for itself
                case ast.Call(func=function) if function is not node and not self._is_looking(function):
                    return self._is_alone(result, parent) and self._only_looked_at_by(parent, node)
                case ast.Assign(targets=[ast.Name(id=name)]):
                    return self._only_looks_at_name(parent, name)
                case _ if not isinstance(parent, _PASSING) or isinstance(getattr(parent, "ctx", None), CHANGES):
                    return False
            node = parent

    def _is_looking(self, function: ast.expr) -> bool:
        name = name_of(function)
        return name in _LOOKING and name not in self.defined

    def _only_looked_at_by(self, call: ast.Call, node: ast.AST) -> bool:
        if isinstance(call.func, ast.Name) and self._is_candidate(call.func):
            return True  # a copy of it is passed; `is_fresh` decides whether that matters
        function, parameter = self.callee(call), self.parameter(call, node)
        if function is None:
            return name_of(call.func).startswith("assert") and name_of(call.func) not in self.defined
        if parameter is None or function in self._reaching:
            return False
        if (function, parameter) not in self._looks:
            self._looks[function, parameter] = True  # in case that it calls itself
            uses = self.uses.get((function, parameter), [])
            looks = all(isinstance(use.ctx, ast.Load) and self.only_looks(use) for use in uses)
            self._looks[function, parameter] = looks
        return self._looks[function, parameter]

    def _only_looks_at_name(self, binding: ast.Assign, name: str) -> bool:
        scope = self.scope(binding)
        loads = [use for use in self.uses[scope, name] if isinstance(use.ctx, ast.Load)]
        if not self.is_local(binding, name):
            return False
        last = max(map(place_of, loads), default=(0, 0))
        is_kept = any(place_of(binding.value) < place_of(call) < last for call in self._reaching.get(scope, ()))
        return not is_kept and all(
            place_of(use) > place_of(binding) and self.loops(use) == self.loops(binding) and self.only_looks(use)
            for use in loads
        )

    def _is_alone(self, result: ast.AST, consumer: ast.AST) -> bool:
        """Decide whether nothing calls the candidate between a result and whoever looks at it."""
        calls = (node for node in ast.walk(consumer) if isinstance(node, ast.Call) and node is not result)
        return not any(self._may_reach(call, frozenset()) for call in calls)

    def _may_reach(self, call: ast.Call, seen: frozenset[ast.AST]) -> bool:
        """Decide whether a call may end in one of the candidate."""
        if isinstance(call.func, ast.Name) and self._is_candidate(call.func):
            return True
        function = self.callee(call)
        if function is None:
            name = name_of(call.func)
            return name in self.defined or not (name in _HARMLESS or name.startswith("assert"))
        if function in seen:
            return False
        inner = (node for node in ast.walk(function) if isinstance(node, ast.Call))
        return any(self._may_reach(node, seen | {function}) for node in inner)

    def _is_fresh_name(self, node: ast.Name) -> bool:
        """Decide whether this is the one place where a fresh value is used, and is reached once for each value."""
        scope = self.scope(node)
        uses = self.uses[scope, node.id]
        bindings = [use for use in uses if isinstance(use.ctx, ast.Store)]
        if len(uses) != 2 or len(bindings) != 1 or not self.is_local(node, node.id):
            return False
        target: ast.AST = bindings[0]
        while isinstance(self.parents[target], (ast.Tuple, ast.List)):
            target = self.parents[target]
        binding = self.parents[target]
        loops, loops_of_binding = self.loops(node), self.loops(binding)
        match binding:
            case ast.Assign(targets=[_], value=value):
                return loops == loops_of_binding and self.is_fresh(value)
            case ast.For(iter=iterated) | ast.comprehension(iter=iterated):
                return loops == [self.loop_of(binding), *loops_of_binding] and self.is_fresh(iterated)
        return False

    def _hand_on(self) -> bool:
        """Follow the candidate into the parameters of the tests' own functions; return True if that found new ones."""
        before = len(self._handed)
        for name in self.candidates():
            call = self.parents[name]
            if isinstance(call, ast.Call) and (parameter := self.parameter(call, name)) is not None:
                function = self.callee(call)
                assert function is not None
                self._handed.add((function, parameter))
        return len(self._handed) > before

    def _is_candidate(self, node: ast.Name) -> bool:
        scope = self.scope(node)
        while not isinstance(scope, ast.Module):
            if node.id in parameters_of(scope):
                return (scope, node.id) in self._handed
            scope = self.scope(scope)
        return node.id in self._names


def _is_flat(node: ast.AST) -> bool:
    """Decide whether an expression is a number, or holds nothing that could be changed within it."""
    match node:
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return all(isinstance(element, (ast.Constant, ast.UnaryOp)) for element in elements)
        case ast.BinOp(left=left, right=right):
            return _is_flat(left) and _is_flat(right)
    return isinstance(node, (ast.Constant, ast.UnaryOp))
