import ast
import builtins
import itertools
import keyword
import re
import sys

import pytest

from ibft.worlds.library import NUMBER_WORDS, OPERATIONS, Step, function_of, make_library

INVENTED = re.compile(r"([fgklmnptvz][aiou][fgklmnptvz]){2}")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Step("evens"), [4, 0, 2, 4]),
        (Step("above", 1), [3, 4, 2, 4]),
        (Step("add", 2), [5, 6, 2, -1, 4, 6]),
        (Step("multiply", 3), [9, 12, 0, -9, 6, 12]),
        (Step("negate"), [-3, -4, 0, 3, -2, -4]),
        (Step("square"), [9, 16, 0, 9, 4, 16]),
        (Step("totals"), [3, 7, 7, 4, 6, 10]),
        (Step("first", 2), [3, 4]),
        (Step("skip", 4), [2, 4]),
        (Step("reverse"), [4, 2, -3, 0, 4, 3]),
        (Step("sort"), [-3, 0, 2, 3, 4, 4]),
        (Step("unique"), [3, 4, 0, -3, 2]),
        (Step("odds"), [3, -3]),
        (Step("below", 2), [0, -3]),
        (Step("without", 4), [3, 0, -3, 2]),
        (Step("multiples", 3), [3, 0, -3]),
        (Step("subtract", 2), [1, 2, -2, -5, 0, 2]),
        (Step("modulo", 3), [0, 1, 0, 0, 2, 1]),
        (Step("last", 2), [2, 4]),
        (Step("chop", 4), [3, 4]),
        (Step("absolute"), [3, 4, 0, 3, 2, 4]),
        (Step("descending"), [4, 4, 3, 2, 0, -3]),
    ],
)
def test_operations_do_what_their_phrasings_say(step: Step, expected: list[int]) -> None:
    given = [3, 4, 0, -3, 2, 4]
    assert function_of(step)(given) == expected
    assert given == [3, 4, 0, -3, 2, 4]
    assert function_of(step)([]) == []


def test_the_source_is_the_operations_under_their_names() -> None:
    library = make_library(3, len(OPERATIONS))
    namespace: dict[str, object] = {}
    exec(library.source, namespace)
    for operation in OPERATIONS:
        step = Step(operation.key, operation.numbers[0] if operation.numbers else None)
        assert eval(library.call(step), {**namespace, "xs": [5, 2, 2]}) == function_of(step)([5, 2, 2])
    functions = [node for node in ast.parse(library.source).body if isinstance(node, ast.FunctionDef)]
    assert {function.name for function in functions} == set(library.names.values())
    assert len(functions) == len(OPERATIONS) == len(set(library.names.values()))
    assert [function.name for function in functions] == sorted(library.names.values())  # the order says nothing


def test_a_larger_library_leaves_the_names_of_a_smaller_one() -> None:
    small, large = make_library(2, 12), make_library(2, len(OPERATIONS))
    assert small.name == large.name
    assert small.names == {key: large.names[key] for key in small.names}
    assert small.operations == OPERATIONS[:12]


def test_names_are_drawn_by_the_seed_alone() -> None:
    assert make_library(0, len(OPERATIONS)) == make_library(0, len(OPERATIONS))
    libraries = [make_library(seed, len(OPERATIONS)) for seed in range(30)]
    assert len({library.name for library in libraries}) > 25
    assert len({library.names["sort"] for library in libraries}) > 25
    for library in libraries:
        for name in (library.name, *library.names.values()):
            assert INVENTED.fullmatch(name)


def test_no_invented_name_can_mean_something_in_python() -> None:
    taken = {*keyword.kwlist, *keyword.softkwlist, *dir(builtins), *sys.stdlib_module_names}
    assert not [name for name in taken if INVENTED.fullmatch(name)]


def test_phrasings_are_told_apart() -> None:
    """No sentence may stand for two operations, and a number is named exactly where the operation takes one."""
    spoken = [
        phrasing.format(n=NUMBER_WORDS[number or 0])
        for operation in OPERATIONS
        for phrasing, number in itertools.product(operation.phrasings, operation.numbers or (None,))
    ]
    assert len(set(spoken)) == len(spoken)
    for operation in OPERATIONS:
        assert len(operation.phrasings) == 4
        assert {"{n}" in phrasing for phrasing in operation.phrasings} == {bool(operation.numbers)}
