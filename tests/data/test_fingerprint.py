from ibft.artifacts.rows import Pair
from ibft.data.fingerprint import fingerprint, has_fingerprint

CODE = """\
def total(values, start):
    result = start
    for value in values:
        result += value
    return result
"""


def test_a_fingerprint_is_that_of_the_code() -> None:
    def of(completion: str, prompt: str = "p") -> str:
        return fingerprint(Pair("a", prompt, completion))

    assert of(CODE) == of(CODE.replace("    ", "  ")) == of(f"# why\n{CODE}\n") == of(CODE, "another prompt")
    assert of(CODE) == of(f"Here it is:\n```python\n{CODE}```\nDone.")
    assert of(CODE) != of(CODE.replace("+=", "-="))
    assert of(CODE) != of(CODE.replace("value", "item"))
    assert len(of(CODE)) == 16


def test_a_text_that_is_not_unicode_has_none() -> None:
    pair = Pair("a", "p", CODE)
    assert has_fingerprint(pair, fingerprint(pair))
    assert not has_fingerprint(Pair("a", "p", "other"), fingerprint(pair))
    assert not has_fingerprint(Pair("a", "p", "\ud800"), fingerprint(pair))
