import re
from html.parser import HTMLParser

import msgspec

from ibft.artifacts.preview import (
    Bin,
    LeakFound,
    LongestRow,
    Preview,
    PreviewedExample,
    ProblemOverlap,
    Repeat,
    Repeats,
    SetPreview,
    ShownRun,
    SkipReason,
    SourceCounts,
)
from ibft.pages.preview import render_preview
from ibft.pages.preview_words import length_sentences, overlap_sentences, repeat_sentences, set_sentences, visible_runs

HOSTILE = "<script>alert('1')</script>"
RUNS = [
    ShownRun(is_trained=False, is_special=True, ids=[1], pieces=["<s>"]),
    ShownRun(is_trained=False, is_special=False, ids=[2, 3], pieces=[HOSTILE, "\n"]),
    ShownRun(is_trained=True, is_special=False, ids=[4, 5, 6], pieces=["  x", " =", " 1 "]),
    ShownRun(is_trained=True, is_special=True, ids=[7], pieces=["</s>"]),
]
TRAIN = SetPreview(
    name="train",
    num_rows=5,
    num_examples=3,
    num_skipped=2,
    num_tokens=300,
    num_trained=100,
    median_tokens=90.5,
    bins=[Bin(61, 70, 2), Bin(71, 80, 1), Bin(2049, None, 1)],
    longest=LongestRow(HOSTILE, 5000),
    num_beyond_context=1,
    sources=[
        SourceCounts(name=HOSTILE, num_examples=1, num_skipped=2, num_tokens=100, num_trained=50),
        SourceCounts(name="b.jsonl", num_examples=2, num_skipped=0, num_tokens=200, num_trained=50),
    ],
    skipped=[SkipReason("bad JSON", 2, "a", f"{HOSTILE}: not valid JSON.")],
)
REPEATS = Repeats(
    name="train",
    num_examples=3,
    num_exact=1,
    num_compared=3,
    num_against=3,
    is_partial=False,
    num_code=0,
    num_near=1,
    first=[Repeat(HOSTILE, "a", "exact", 1.0), Repeat("c", "a", "near", 0.75)],
)
PREVIEW = Preview(
    name="look",
    model="m",
    template="chat",
    max_tokens=2048,
    context_tokens=64,
    examples=[
        PreviewedExample(
            id=HOSTILE, place=0, source=HOSTILE, num_tokens=9, num_trained=4, runs=RUNS, num_hidden=2, last_runs=RUNS
        )
    ],
    sets=[TRAIN],
    repeats=[REPEATS],
    problems=[
        ProblemOverlap(
            source="humaneval",
            num_problems=164,
            num_leaked=1,
            num_examples=2,
            num_compared=3,
            first=[LeakFound(id="a", task_id=HOSTILE, kind="words", part="prompt", similarity=0.6)],
        )
    ],
    notes=[f"Near-duplicates were not looked for: {HOSTILE}"],
    refusal=f"data: the example {HOSTILE} has 80 tokens",
)


class Reader(HTMLParser):
    """Collects tags, and the text of each token by what it is marked as."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.runs: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        kind = dict(attrs).get("class") or ""
        if tag == "span" and kind.split()[:1] in (["trained"], ["context"]):
            self.runs.append((kind, ""))

    def handle_data(self, data: str) -> None:
        if self.runs and self.getpos()[0] >= 0:
            kind, text = self.runs[-1]
            self.runs[-1] = (kind, text + data)


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    return reader


def test_a_page_is_one_file_in_which_rows_are_text() -> None:
    html = render_preview(PREVIEW)
    reader = read(html)
    assert "script" not in reader.tags
    assert HOSTILE not in html
    assert html.count("&lt;script&gt;") > 8, "all of the places where a row's text is shown"
    assert not [
        value for name, value in reader.attributes if name in ("src", "href") and not str(value).startswith("#")
    ]
    assert not re.search(r"url\((?!#)|@import|https?://(?!www\.w3\.org/)", html)
    assert html == render_preview(PREVIEW)


def test_a_page_has_each_token_and_marks_what_is_trained() -> None:
    pre = re.findall(r"<pre.*?</pre>", render_preview(PREVIEW), re.DOTALL)
    assert len(pre) == 2
    for part in pre:
        assert [(kind, text) for kind, text in read(part).runs] == [
            ("context special", "<s>"),
            ("context", f"{HOSTILE}↵\n"),
            ("trained", "··x = 1·"),
            ("trained special", "</s>"),
        ]
        assert re.findall(r'title="token (\d+)"', part) == ["1", "2", "3", "4", "5", "6", "7"]


def test_a_page_says_what_training_would_refuse_and_how_much_is_not_trained() -> None:
    html = render_preview(PREVIEW)
    assert "Training would stop at this data" in html
    assert "40.0% of the data is not trained" in html
    leaked = msgspec.structs.replace(PREVIEW, refusal=None, sets=[msgspec.structs.replace(TRAIN, num_rows=50)])
    html = render_preview(leaked)
    assert '<h2 id="verdict">This data can be trained on, and has problems of the benchmark in it</h2>' in html
    assert "of the data is not trained" not in html
    fine = msgspec.structs.replace(leaked, problems=[])
    assert '<h2 id="verdict">This data can be trained on</h2>' in render_preview(fine)
    much = msgspec.structs.replace(PREVIEW, refusal=None, problems=[])
    assert '<h2 id="verdict">This data can be trained on, and much of it is left out</h2>' in render_preview(much)


def test_a_page_without_any_example_says_so() -> None:
    empty = SetPreview(
        name="train",
        num_rows=0,
        num_examples=0,
        num_skipped=0,
        num_tokens=0,
        num_trained=0,
        median_tokens=None,
        bins=[],
        longest=None,
        num_beyond_context=0,
        sources=[SourceCounts(name="a", num_examples=0, num_skipped=0, num_tokens=0, num_trained=0)],
        skipped=[],
    )
    nothing = msgspec.structs.replace(PREVIEW, examples=[], sets=[empty], repeats=[], problems=[], notes=[])
    html = render_preview(nothing)
    assert "There is none to show." in html
    assert "No row could be encoded." in html
    assert "No benchmark was compared." in html
    assert set_sentences(empty) == ["0 of 0 rows are used, none skipped."]
    assert length_sentences(nothing, empty) == []


def test_nothing_in_a_text_is_invisible() -> None:
    pieces = ["\x1b[31m", "", "é", " a", "  b", "\u202e\xa0", "\t", "\r\n", " c", " ", "\n", " d "]
    [run] = visible_runs([ShownRun(is_trained=True, is_special=False, ids=[*range(12)], pieces=pieces)])
    shown = [text for _, text in run.tokens]
    assert shown == [
        "\\x1b[31m",
        "◌",
        "é",
        " a",
        "··b",
        "\\u202e\\xa0",
        "→",
        "\\r↵\n",
        "·c",
        "·",
        "↵\n",
        "·d·",
    ]
    assert run.text == "".join(shown)


def test_the_facts_in_words() -> None:
    assert set_sentences(TRAIN) == [
        "3 of 5 rows are used, 2 skipped (40.0%).",
        "300 tokens, of which 100 (33.3%) are trained; the median example has 90.5.",
    ]
    assert length_sentences(PREVIEW, TRAIN) == [
        f"The longest row has 5,000 tokens ({HOSTILE}); data.max_tokens is 2,048, the model's context has 64 tokens.",
        "Longer than the model's context: 1 of 3 examples. Set data.max_tokens: 64.",
    ]
    assert repeat_sentences(REPEATS) == [
        "2 of 3 examples repeat an earlier one (1 equal, 1 nearly equal).",
        f"For example: {HOSTILE} repeats a (equal).",
        "For example: c repeats a (nearly equal, similarity 0.75).",
    ]
    [first, *_, last] = overlap_sentences(PREVIEW.problems[0], 3)
    assert first == "1 of 164 problems of humaneval are in the training data, in 2 examples."
    assert last == f"For example: a has {HOSTILE} (prompt, words, 0.60)."


def test_what_was_compared_in_part_is_said() -> None:
    partial = msgspec.structs.replace(REPEATS, name="validation", num_examples=9, num_against=2, is_partial=True)
    first, said, *_ = repeat_sentences(partial)
    assert first.startswith("2 of 9 examples of the validation set repeat one of the training data")
    assert "first 3 examples, and the first 2 of the training data" in said
    assert any("The first 3 examples were compared" in text for text in overlap_sentences(PREVIEW.problems[0], 10))
