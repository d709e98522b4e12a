"""C++ problems of both kinds, for the tests of the language and the attacks on it."""

from __future__ import annotations

from ibft.artifacts.rows import Case, Problem

# Not <bits/stdc++.h>, as MultiPL-E's have: that takes the compiler a second.
_HEADERS = ("assert.h", "algorithm", "cmath", "optional", "string", "vector")
HEAD = "".join(f"#include <{name}>\n" for name in _HEADERS)

ADD = Problem(
    task_id="add", prompt="Read two numbers and print their sum.", tests="", language="cpp",
    io=(Case("1 2\n", "3\n"), Case("50 60\n", "110\n")),
)  # fmt: skip
RIGHT_ADD = (
    "#include <iostream>\nusing namespace std;\nint main() { int a, b; cin >> a >> b; cout << a + b << endl; }\n"
)


def function(head: str, checks: str, *, solution: str | None = None, prompt: str = HEAD) -> Problem:
    """A problem in MultiPL-E's form; `checks` are the lines of the tests' `main`."""
    name = head.partition("(")[0].split()[-1]
    tests = f"}}\nint main() {{\n    auto candidate = {name};\n{checks}\n}}\n"
    return Problem(
        task_id=name, prompt=f"{prompt}{head} {{\n", tests=tests, entry_point=name, language="cpp",
        canonical_solution=solution,
    )  # fmt: skip


DOUBLE = function(
    "std::vector<long> doubled(std::vector<long> numbers)",
    "    assert(candidate((std::vector<long>({1, 2}))) == (std::vector<long>({2, 4})));\n"
    "    assert(candidate((std::vector<long>())) == (std::vector<long>()));",
)
RIGHT_DOUBLE = "    for (auto& number : numbers) number *= 2;\n    return numbers;\n}\n"

# A type that does not cross: answer and tests are one program.
WEAK = function(
    "Number twice(Number number)",
    "    assert(candidate(Number{2}).value == 4);",
    prompt=f"{HEAD}struct Number {{ long value; }};\n",
)
RIGHT_WEAK = "    return Number{2 * number.value};\n}\n"
