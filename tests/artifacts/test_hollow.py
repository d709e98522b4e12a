import pytest

from ibft.artifacts.hollow import find_hollow, is_hollow


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ({"no_code": 5, "failed": 5}, False),
        ({"no_code": 6, "failed": 5}, True),
        ({"no_code": 3, "syntax_error": 3, "passed": 5}, True),
        ({"no_code": 6, "failed": 5, "excluded": 100}, True),
        ({"no_code": 0, "passed": 4, "excluded": 4}, False),
        ({"excluded": 4}, False),
        ({}, False),
        ({"failed": 9}, False),
        ({"timeout_cpu": 5, "syntax_error": 5, "infrastructure_error": 1}, False),
    ],
)
def test_more_than_half_makes_a_run_hollow(statuses: dict[str, int], expected: bool) -> None:
    assert is_hollow(statuses) is expected
    assert (find_hollow(statuses) is not None) is expected


def test_counts() -> None:
    found = find_hollow({"no_code": 158, "syntax_error": 1, "passed": 1, "excluded": 4})
    assert found is not None
    assert (found.num_samples, found.num_empty, found.num_not_compiling) == (160, 158, 1)
    assert "159 of 160 samples hold no program (158 empty, 1 not compiling)" in found.message


@pytest.mark.parametrize(
    ("num_empty", "num_broken", "num_cut", "num_marked", "are_extracted", "cause"),
    [
        (10, 0, 0, 0, True, "the model ended at once"),
        (10, 0, 6, 6, True, "cut at the token limit"),
        (0, 10, 6, 0, True, "cut at the token limit"),
        (0, 10, 5, 6, False, "--extract auto"),
        (0, 10, 5, 6, True, "read some of them"),
        (0, 10, 0, 0, False, "another prompt template"),
    ],
)
def test_the_likely_cause(
    num_empty: int, num_broken: int, num_cut: int, num_marked: int, are_extracted: bool, cause: str
) -> None:
    statuses = {"no_code": num_empty, "syntax_error": num_broken}
    found = find_hollow(statuses, num_cut=num_cut, num_marked=num_marked, are_extracted=are_extracted)
    assert found is not None
    assert cause in found.cause
