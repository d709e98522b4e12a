"""The ports of a Verilog module, and how a test bench connects them: through no other can a design reach it. Pure."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

from ibft.text.answers.verilog_modules import defined_modules
from ibft.text.answers.verilog_tokens import KEYWORDS, Token, tokenize

__all__ = ["Instance", "closing", "find_foreign_port", "instances", "value_at"]

_DIRECTIONS = frozenset({"input", "output", "inout"})
_AFTER_NAME = frozenset({",", ")", ";", "=", "["})
_SUBROUTINES = {"task": "endtask", "function": "endfunction"}


class Instance(NamedTuple):
    """An instance of a module: how its ports are connected is seen at the first of them."""

    module: str
    name: str
    connection: Literal["names", "order", "wildcard"]


@functools.lru_cache(maxsize=1024)
def instances(text: str) -> tuple[Instance, ...]:
    """Return the instances in Verilog text."""
    tokens = list(tokenize(text))
    found = []
    for number, token in enumerate(tokens):
        if token.kind not in ("name", "escaped") or token.value in KEYWORDS:
            continue
        place = number + 1
        if value_at(tokens, place) == "#" and value_at(tokens, place + 1) == "(":
            place = closing(tokens, place + 1) + 1
        is_named = place < len(tokens) and tokens[place].kind in ("name", "escaped")
        if is_named and tokens[place].value not in KEYWORDS and value_at(tokens, place + 1) == "(":
            found.append(Instance(token.value, tokens[place].value, _connection(tokens, place + 1)))
    return tuple(found)


def find_foreign_port(source: str, reference: str, entry_point: str, tests: str) -> str:
    """Return which port of a design could reach into the test bench, as the end of a sentence; "" if none could.

    An input of the reference must be no output, by which wires of the test bench would be driven; and where all ports
    are connected by the wildcard `.*`, each must be one of the reference's, or it would read what has its name there.
    """
    connection = next((known.connection for known in instances(tests) if known.module == entry_point), "names")
    expected = _ports(reference, entry_point)
    in_order = list(expected.values())
    for number, (name, direction) in enumerate(_ports(source, entry_point).items()):
        if connection == "wildcard" and name not in expected:
            return f"has a port {name}, which the reference has not"
        other = in_order[number] if connection == "order" and number < len(in_order) else expected.get(name)
        if other == "input" and direction != "input":
            return f"has the input {name} as {direction}"
    return ""


@functools.lru_cache(maxsize=1024)
def _ports(source: str, entry_point: str) -> dict[str, str]:
    """Return the directions of a module's ports by name, in the order of its header; "" where one has none."""
    modules, _ = defined_modules(source)
    module = next((module for module in modules if module.name == entry_point), None)
    if module is None:
        return {}
    tokens = [token for token in tokenize(source) if module.start <= token.start < module.end]
    header_end = next((number for number, token in enumerate(tokens) if token.value == ";"), len(tokens))
    ports: dict[str, str] = {}
    direction, depth, end = "", 0, ""
    for number, token in enumerate(tokens):
        is_inside = number > header_end
        if end or (is_inside and token.value in _SUBROUTINES):
            end = "" if token.value == end else end or _SUBROUTINES[token.value]
        elif token.value in _DIRECTIONS:
            direction = token.value
        elif token.value == ";":
            direction = ""
        elif token.value in ("[", "]", "{", "}"):
            depth += (token.value in "[{") - (token.value in "]}")
        elif depth == 0 and number > 1 and _is_port(tokens, number) and (direction or not is_inside):
            ports[token.value] = direction or ports.get(token.value, "")
    return ports


def _is_port(tokens: Sequence[Token], number: int) -> bool:
    token, before = tokens[number], tokens[number - 1].value
    is_name = token.kind in ("name", "escaped") and token.value not in KEYWORDS
    return is_name and before not in ("=", ".", "parameter") and value_at(tokens, number + 1) in _AFTER_NAME


def value_at(tokens: Sequence[Token], number: int) -> str:
    """Return a token's value, "" behind the last."""
    return tokens[number].value if number < len(tokens) else ""


def closing(tokens: Sequence[Token], number: int) -> int:
    """Return the number of the parenthesis that closes the one at `number`; the last token's where none does."""
    depth = 0
    for place in range(number, len(tokens)):
        depth += (tokens[place].value == "(") - (tokens[place].value == ")")
        if depth == 0:
            return place
    return len(tokens) - 1


def _connection(tokens: Sequence[Token], number: int) -> Literal["names", "order", "wildcard"]:
    inside = [token.value for token in tokens[number + 1 : closing(tokens, number)]]
    if (".", "*") in itertools.pairwise(inside):
        return "wildcard"
    return "names" if inside[:1] == ["."] else "order"
