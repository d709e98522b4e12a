"""A test program's syntax tree, with what is known of its names: scopes, functions, loops."""

from __future__ import annotations

import ast
import collections
import functools

__all__ = ["CHANGES", "Scopes", "name_of", "parameters_of", "place_of"]

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_FUNCTIONS = (*_DEFINITIONS, ast.Lambda)
_LOOPS = (ast.For, ast.AsyncFor, ast.While, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
CHANGES = (ast.Store, ast.Del)


class Scopes:
    """The nodes of a test program and of its setup, which is taken for a part of it.

    `nodes`: all of them; `parents`: the node around each; `functions`: the tests' own, if they have one definition and
    no decorator; `defined`: how often each name is bound; `uses`: where names are used, by scope and name.
    """

    def __init__(self, tests: ast.Module, setup: ast.Module) -> None:
        self._tests = tests
        self.parents: dict[ast.AST, ast.AST] = {}
        self.nodes = [*ast.walk(setup), *ast.walk(tests)]
        for node in self.nodes:
            for child in ast.iter_child_nodes(node):
                self.parents[child] = node
        definitions = [node for node in self.parents if isinstance(node, (*_DEFINITIONS, ast.ClassDef))]
        self.defined = collections.Counter(node.name for node in definitions)
        self.defined.update(node.arg for node in self.parents if isinstance(node, ast.arg))
        self.defined.update(
            node.id for node in self.parents if isinstance(node, ast.Name) and isinstance(node.ctx, CHANGES)
        )
        self.functions = {
            node.name: node
            for node in (*setup.body, *tests.body)
            if isinstance(node, ast.FunctionDef) and self.defined[node.name] == 1 and not node.decorator_list
        }
        self.uses: dict[tuple[ast.AST, str], list[ast.Name]] = {}
        for node in self.parents:
            if isinstance(node, ast.Name):
                self.uses.setdefault((self.scope(node), node.id), []).append(node)
        declarations = (node.names for node in self.parents if isinstance(node, (ast.Global, ast.Nonlocal)))
        self._declared = {name for names_ in declarations for name in names_}

    def is_local(self, node: ast.AST, name: str) -> bool:
        """Decide whether a name is used in the scope around a node alone, and in no function within it or outside."""
        scope = self.scope(node)
        if name in self._declared or self._is_of_class(node):
            return False
        return not any(other == name and self._is_within(inner, scope) for inner, other in self.uses)

    def _is_of_class(self, node: ast.AST) -> bool:
        """Decide whether a statement is one of a class's body, whose names are attributes."""
        outer = self.parents.get(node)
        while outer is not None and not isinstance(outer, (ast.ClassDef, *_FUNCTIONS)):
            outer = self.parents.get(outer)
        return isinstance(outer, ast.ClassDef)

    def _is_within(self, inner: ast.AST, scope: ast.AST) -> bool:
        while inner is not self._tests:
            inner = self.scope(inner)
            if inner is scope:
                return True
        return False

    def loop_of(self, binding: ast.AST) -> ast.AST:
        """Return the loop that a binding is the head of."""
        return self.parents[binding] if isinstance(binding, ast.comprehension) else binding

    def loops(self, node: ast.AST) -> list[ast.AST]:
        """Return the loops around a node within its function, the innermost first."""
        loops: list[ast.AST] = []
        if isinstance(node, ast.comprehension):
            node = self.parents[node]
        inner = node
        while (outer := self.parents.get(inner)) is not None and not isinstance(outer, _FUNCTIONS):
            is_evaluated_once = isinstance(outer, (ast.For, ast.AsyncFor)) and outer.iter is inner
            if isinstance(outer, _LOOPS) and not is_evaluated_once:
                loops.append(outer)
            inner = outer
        return loops

    def callee(self, call: ast.Call) -> ast.FunctionDef | None:
        """Return the function that is called, if it is one of `functions`."""
        return self.functions.get(call.func.id) if isinstance(call.func, ast.Name) else None

    def parameter(self, call: ast.Call, argument: ast.AST) -> str | None:
        """Return the name under which a function of the tests' own gets an argument; None for another's, or `*args`."""
        function = self.callee(call)
        if function is None or argument not in call.args:
            return None
        place = call.args.index(argument)
        parameters = [*function.args.posonlyargs, *function.args.args]
        if place >= len(parameters) or any(isinstance(node, ast.Starred) for node in call.args[: place + 1]):
            return None
        return parameters[place].arg

    def scope(self, node: ast.AST) -> ast.AST:
        """Return the function around a node, or the whole program; setup and tests are one."""
        while (outer := self.parents.get(node)) is not None:
            # A default value is evaluated outside of its function.
            if isinstance(outer, _FUNCTIONS) and not isinstance(node, ast.arguments):
                return outer
            node = outer
        return self._tests


@functools.lru_cache(maxsize=256)
def parameters_of(function: ast.AST) -> set[str]:
    """Return the names of a function's parameters."""
    assert isinstance(function, _FUNCTIONS)
    return {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}


def name_of(function: ast.AST) -> str:
    """Return the last part of a function's name: `array` for `np.array`."""
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def place_of(node: ast.expr | ast.stmt) -> tuple[int, int]:
    """Return the line and column at which a node begins."""
    return node.lineno, node.col_offset
