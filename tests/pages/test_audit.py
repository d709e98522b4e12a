"""The audit page, with whatever the scan found or could not find."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ibft.artifacts.scan import ScanSummary
from ibft.artifacts.score_names import score_label
from ibft.cli.tables import print_after_training, print_audit
from ibft.errors import UserError
from ibft.pages.after_training import after_training
from ibft.pages.audit import audit
from ibft.pages.audit_rows import percent, score_rows, signed
from ibft.pages.page import prose
from ibft.pages.scan import read_scan
from ibft.run.folder import RunFolder

MakeScan = Callable[..., RunFolder]
VOID = {"meta", "br", "hr"}


class Page(HTMLParser):
    """Tags with attributes, the text, and whether the tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read(run: RunFolder) -> str:
    return audit(run.recipe, run).read_text(encoding="utf-8")


def section(page: str, name: str) -> str:
    return page[page.index(f'<section aria-labelledby="{name}">') :].split("</section>")[0] + "</section>"


def words(html: str) -> str:
    return " ".join(Page(html).text.split())


def shown(tokens: list[str], num_prompt_tokens: int) -> dict[str, Any]:
    """A row of `scan/most_memorized.jsonl`."""
    size = len(tokens) - num_prompt_tokens
    return {
        "id": "long",
        "subset": "train",
        "score": 0.1,
        "file": None,
        "tokens": tokens,
        "num_prompt_tokens": num_prompt_tokens,
        "log_probs": [-0.1] * size,
        "matched": 1,
    }


@pytest.fixture
def full(make_scan: MakeScan) -> str:
    return read(make_scan(rescanned=("ft", "ib")))


def test_the_verdict_and_what_to_do_come_first(full: str) -> None:
    verdict = full[full.index("<main>") :].split("</section>")[0]
    assert 'class="verdict yes"' in verdict
    assert "Yes: 23.2% of the training data" in verdict
    assert "<strong>How big:</strong> of 251" in verdict
    assert "<strong>What to do:</strong> Train with the bottleneck (<code>objective: ib</code>) beside" in verdict
    assert full.index('class="figures"') < full.index("<svg")


def test_the_barrier_is_defined_and_drawn_under_every_model(full: str) -> None:
    barrier = section(full, "barrier")
    assert "23.2% do (95% interval 17.3% to 29.6%): 58 of the 251 examples" in words(barrier)
    names = ("training data", "control set", "training data after ft", "training data after ib")
    label = re.findall(r'aria-label="Density of ([^"]*)"', barrier)[0]
    assert [label.count(f"{name} (median") for name in names] == [1, 1, 1, 1]
    assert "threshold 1.17" in label
    rows = re.findall(r'<tr><th scope="row">([^<]*)</th><td>([^<]*)</td><td>([^<]*)</td><td>([^<]*)</td>', barrier)
    assert rows == [
        ("control set, base model", "252", "3.12", "5%, by definition"),
        ("training data, base model", "600", "2.40", "23.2%"),
        ("training data after ft", "600", "1.20", "61.0%"),
        ("training data after ib", "600", "1.70", "41.0%"),
    ]


def test_every_score_stands_beside_the_blind_classifier(full: str) -> None:
    scores = section(full, "scores")
    rows = re.findall(r'<tr><th scope="row">(.*?)</th>.*?<td>(yes|no|–)</td></tr>', scores)
    assert [verdict for _, verdict in rows] == ["–", "yes", "yes", "yes", "yes", "yes", "no", "yes", "yes"]
    assert rows[0][0] == "Blind classifier"
    assert [name for name, _ in rows if "headline" in name] == ['Min-20% Prob <span class="badge">headline</span>']
    assert "−0.086 to +0.035" in scores
    assert "AUROC: blind classifier 0.573, Mean NLL 0.664" in scores


def test_traits_and_extraction_are_in_numbers(full: str) -> None:
    assert "File: repository/vendored/quite/a/long/path" in section(full, "traits")
    assert "2.9×<small>2.1× to 3.9×</small>" in section(full, "traits")
    extraction = words(section(full, "extraction"))
    assert "Repeated whole, greedily 5.6%3.2% to 9.5% 0.0%0.0% to 4.1%".replace(" ", "") in extraction.replace(" ", "")
    assert "Expected in 1,000 samples, once or more (temperature 1)" in extraction


def test_the_page_is_accessible_and_loads_nothing(full: str) -> None:
    page = Page(full)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "form")]
    assert all(attributes["role"] == "img" for tag, attributes in page.tags if tag == "svg")
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for tag, attributes in page.tags if "id" in attributes and tag not in ("path", "clippath")]
    assert len(ids) == len(set(ids))
    assert {attributes["href"] for tag, attributes in page.tags if tag == "a"} <= {f"#{name}" for name in ids}
    assert all(attributes.get("scope") in ("col", "row") for tag, attributes in page.tags if tag == "th")
    used = {name for _, one in page.tags for name in (one.get("class") or "").split()}
    assert {"p0", "p4", "matched", "prompt"} <= used
    assert all(f".{name} {{" in full for name in ("p0", "p1", "p2", "p3", "p4", "matched", "prompt"))


HOSTILE = ["</span></pre><script>alert(1)</script>", "<img src=x onerror=alert(1)>", "{{ 7 * 7 }}", "\"'`&lt;"]


@pytest.mark.parametrize("hostile", HOSTILE)
def test_hostile_text_stays_text(make_scan: MakeScan, hostile: str) -> None:
    run = make_scan(
        skipped={"train": {hostile: 1}},
        verdict={"barrier": "yes", "headline": hostile, "sentences": [hostile], "remedy": hostile},
    )
    example = {**shown(["def", hostile], num_prompt_tokens=1), "id": hostile, "file": hostile}
    (run.path / "scan" / "most_memorized.jsonl").write_bytes(msgspec.json.encode(example))
    page = Page(read(run))
    assert not [tag for tag, _ in page.tags if tag in ("script", "img")]
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    # In title, headline, remedy, example and list of what was skipped.
    assert page.text.count(hostile) >= 5


@pytest.mark.parametrize(
    ("sentence", "html"),
    [
        ("How sure: it is `a < b`.", "<strong>How sure:</strong> it is <code>a &lt; b</code>."),
        ("One `tick & no more", "One `tick &amp; no more"),
        ("Train (`objective: ib`), then", "Train (<code>objective: ib</code>), then"),
        ("A sentence that is much too long for a lead: it goes on.",) * 2,
    ],
)
def test_sentences_become_html(sentence: str, html: str) -> None:
    assert str(prose(sentence)) == html


def without_control(run: RunFolder) -> dict[str, Any]:
    summary = msgspec.json.decode((run.path / "scan" / "summary.json").read_bytes())
    del summary["subsets"]["control"], summary["extraction"]["control"], summary["skipped"]["control"]
    verdict = {"barrier": "unclear", "headline": "Unclear: there is no control set.", "advice": "control"}
    return summary | {"comparison": None, "barrier": None, "verdict": verdict}


def test_without_a_control_set_the_page_says_what_is_missing(make_scan: MakeScan) -> None:
    run = make_scan()
    (run.path / "scan" / "summary.json").write_bytes(msgspec.json.encode(without_control(run)))
    page = read(run)
    assert 'class="verdict unclear"' in page
    assert "There is no control set" in section(page, "barrier")
    assert "nothing to compare the training data with" in section(page, "scores")
    assert "It takes a control set" in section(page, "traits")
    assert page.count("<svg") == 1
    assert "<dd>no control set</dd>" in page


def test_a_scan_that_could_score_nothing_has_a_page(make_scan: MakeScan) -> None:
    subsets = {"train": {"num_examples": 5, "num_scored": 0, "num_tokens": 0, "num_free_tokens": 0, "medians": {}}}
    run = make_scan(num_examples=0, subsets=subsets, comparison=None, barrier=None, extraction={})
    (run.path / "scan" / "densities.json").write_text('{"label": "x", "series": {"training data": []}}')
    page = read(run)
    assert "No example could be scored." in page
    assert "No example is long enough" in page
    assert "The scan kept no example to show." in page
    assert "<svg" not in page


def test_undefined_numbers_are_dashes(make_scan: MakeScan) -> None:
    """NaN is null in JSON."""
    nothing = {"value": None, "ci95": [None, None]}
    scores = [{"name": "mean_nll", "auroc": nothing, "above_blind": nothing, "beats_blind": False}]
    comparison = {"num_pairs": 1, "num_unmatched": {}, "blind": nothing, "blind_features": "", "scores": scores}
    found = {"num_examples": 1, "share": None, "ci95": [None, None], "median_matched": None, "within": [[1, None]]}
    page = read(make_scan(comparison=comparison, extraction={"train": found}))
    assert "<td>–<small>–</small></td><td>–<small>–</small></td><td>no</td>" in section(page, "scores")
    assert "nan" not in words(page).split()
    assert page.count("<svg") == 1


def test_counts_that_an_older_version_did_not_write_are_dashes(
    make_scan: MakeScan, capsys: pytest.CaptureFixture[str]
) -> None:
    auroc = {"value": 0.6, "ci95": [0.5, 0.7]}
    run = make_scan(
        subsets={"train": {"medians": {"min_k_prob_20": 2.4}}, "control": {}},
        skipped={},
        comparison={"blind": auroc, "scores": [{"name": "min_k_prob_20", "auroc": auroc}]},
        barrier={"threshold": 1.17, "share": 0.25, "traits": [{"kind": "file", "name": "a.py"}]},
        extraction={"train": {"num_examples": 214, "share": 0.1}, "control": {}},
        rescanned=("ft",),
    )
    (run.path / "rescan" / "ft" / "summary.json").write_text('{"median_after": 1.0}')
    page = read(run)
    barrier, extraction = words(section(page, "barrier")), section(page, "extraction")
    assert "25.0% do (95% interval –)." in barrier
    assert "of all" not in barrier.lower()
    for row in ("training data, base model</th><td>–</td>", "training data after ft</th><td>–</td>", "<td>25.0%</td>"):
        assert row in section(page, "barrier")
    assert "taken over – pairs" in words(section(page, "scores"))
    assert "of the pairs" not in section(page, "scores")
    assert "File: a.py</th><td>–</td><td>–</td><td>–</td><td>–<small>–</small></td>" in section(page, "traits")
    assert "long enough</th><td>214</td><td>–</td>" in extraction
    assert "then to repeat</th><td>–, then –</td><td>–, then –</td>" in extraction
    assert 'matched">' not in page.split('<ul class="legend">')[1].split("</ul>")[1]
    scan = read_scan(run.recipe, run)
    assert scan is not None
    print_audit(scan.summary, Path("audit.html"))
    out = capsys.readouterr().out
    assert "Training examples scored: – (and – of the control set)" in out
    for text in (words(page), out):
        assert not re.search(r"\b(nan|None|0, then 0)\b", text)


def test_a_threshold_that_is_null_is_neither_written_nor_drawn(make_scan: MakeScan) -> None:
    run = make_scan(barrier={"threshold": None, "share": None, "expected_share": None})
    page = read(run)
    assert "below nan" not in page
    assert "nan" not in words(page).split()
    assert "Shaded" not in page
    label = re.findall(r'aria-label="Density of ([^"]*)"', page)[0]
    assert "threshold" not in label
    assert "nan" not in page[page.index("<svg") : page.index("</svg>")].lower()


@pytest.mark.parametrize("num_train", [12, 0])
def test_code_in_both_sets_is_counted(make_scan: MakeScan, num_train: int) -> None:
    page = read(make_scan(num_in_both={"train": num_train, "control": num_train // 4}))
    text = "Left out is code that both sets have (12 of the training data, 3 of the control set)."
    assert (text in words(section(page, "scores"))) == (num_train > 0)
    assert ("Left out is code" in page) == (num_train > 0)


def test_without_a_blind_classifier_nothing_is_said_to_beat_it(make_scan: MakeScan) -> None:
    auroc = {"value": 0.7, "ci95": [0.6, 0.8]}
    scores = [{"name": "min_k_prob_20", "auroc": auroc, "above_blind": None, "beats_blind": None}]
    page = read(make_scan(comparison={"num_pairs": 9, "num_unmatched": {}, "blind": None, "scores": scores}))
    assert "There is no blind classifier" in section(page, "scores")
    assert "better than blind" not in section(page, "scores").split("</svg>")[0]


def test_at_most_twenty_examples_and_their_long_ends_are_cut(make_scan: MakeScan) -> None:
    run = make_scan(num_examples=25)
    example = shown(["x" * 50] * 5000, num_prompt_tokens=1000)
    path = run.path / "scan" / "most_memorized.jsonl"
    path.write_bytes(msgspec.json.encode(example) + b"\n" + path.read_bytes())
    page = read(run)
    assert page.count("<details") == 20
    assert "The first 880 tokens of the prompt are hidden." in page
    assert "3,400 more tokens are hidden." in page
    assert len(page) < 400_000


def test_an_older_or_missing_scan_is_an_error_with_a_remedy(make_scan: MakeScan) -> None:
    run = make_scan(verdict=None)
    with pytest.raises(UserError, match=r"no verdict: an older version .*--overwrite"):
        audit(run.recipe, run)
    (run.path / "scan" / "summary.json").write_text("{")
    with pytest.raises(UserError, match=r"summary\.json"):
        audit(run.recipe, run)
    (run.path / "scan" / "summary.json").unlink()
    with pytest.raises(UserError, match="Run `ibft scan RECIPE` first"):
        audit(run.recipe, run)


def test_a_scan_of_an_earlier_version_is_shown(make_scan: MakeScan) -> None:
    """Which also had every score without the tokens that syntax forces, and marked those in the examples."""
    train = {"num_examples": 9, "num_scored": 9, "num_tokens": 90, "num_free_tokens": 60, "medians": {"mean_nll": 1.0}}
    auroc = {"value": 0.6, "ci95": [0.5, 0.7]}
    scores = [{"name": name, "auroc": auroc} for name in ("min_k_prob_20", "min_k_prob_20_free")]
    run = make_scan(subsets={"train": train}, comparison={"num_pairs": 9, "scores": scores})
    example = shown(["def", " f", "():", "\n"], num_prompt_tokens=2) | {"forced": [False, True]}
    (run.path / "scan" / "most_memorized.jsonl").write_bytes(msgspec.json.encode(example))
    page = read(run)
    assert "Min-20% Prob" in page
    assert "min_k_prob_20_free" in page
    assert page.count("<details") == 1


def test_only_the_arms_of_the_recipe_are_shown_and_figures_are_the_same_each_time(make_scan: MakeScan) -> None:
    run = make_scan(rescanned=("ft", "gone"))
    page, figures = read(run), run.path / "report" / "figures"
    assert "after ft" in page
    assert "gone" not in page
    before = {path.name: path.read_bytes() for path in figures.iterdir()}
    assert sorted(before) == ["aurocs.pdf", "aurocs.svg", "densities.pdf", "densities.svg"]
    assert read(run) == page
    assert {path.name: path.read_bytes() for path in figures.iterdir()} == before


def test_a_rescan_beside_another_scan_is_not_shown(make_scan: MakeScan) -> None:
    run = make_scan(rescanned=("ft",))
    assert "after ft" in read(run)
    record = msgspec.json.decode((run.path / "scan" / "stage.json").read_bytes())
    (run.path / "scan" / "stage.json").write_bytes(msgspec.json.encode(record | {"identity": "another"}))
    assert "after ft" not in read(run)


def test_the_terminal_has_the_verdict_the_scores_and_the_path(
    make_scan: MakeScan, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    run = make_scan()
    scan = read_scan(run.recipe, run)
    assert scan is not None
    print_audit(scan.summary, Path("/some/[where]/audit.html"))
    out = capsys.readouterr().out
    assert out.startswith("Yes: 23.2% of the training data")
    assert "Min-20% Prob      0.702 0.656 to 0.747  +0.129 +0.068 to +0.189     yes" in out
    assert "Repeated word for word: 5.6%" in out
    assert "What to do: Train with the bottleneck (`objective: ib`)" in out
    assert out.rstrip().endswith("Audit: /some/[where]/audit.html")
    print_audit(ScanSummary(), Path("audit.html"))
    assert capsys.readouterr().out.strip() == "Audit: audit.html"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("min_k_prob_2.5", "Min-2.5% Prob"),
        ("min_k_plus_plus_20", "Min-20%++"),
        ("zlib_ratio", "Zlib ratio"),
        ("something_new", "something_new"),
    ],
)
def test_scores_have_names_for_people(name: str, label: str) -> None:
    assert score_label(name) == label


def test_small_shares_are_not_rounded_to_none() -> None:
    assert [percent(value) for value in (0.0, 0.0004, 0.0006, 1.0, None)] == ["0.0%", "<0.1%", "0.1%", "100.0%", "–"]


def test_a_difference_that_is_rounded_to_nothing_has_no_minus() -> None:
    assert [signed(value) for value in (-0.0001, -0.0006, 0.2, None)] == ["+0.000", "−0.001", "+0.200", "–"]
    assert [signed(value, digits=2) for value in (-0.004, 0.126, float("nan"))] == ["+0.00", "+0.13", "–"]


def test_an_empty_summary_has_no_rows() -> None:
    assert score_rows(ScanSummary()) == []


def test_neither_pyarrow_nor_torch_is_loaded(make_scan: MakeScan) -> None:
    run = make_scan()
    code = (
        "import sys; sys.modules['pyarrow'] = sys.modules['torch'] = None; from ibft.run.recipe import Recipe; "
        "from ibft.pages.audit import audit; from ibft.run.folder import RunFolder; "
        "recipe = Recipe(name=sys.argv[1], output=sys.argv[2]); print(audit(recipe, RunFolder(recipe)))"
    )
    command = [sys.executable, "-c", code, run.recipe.name, run.recipe.output]
    subprocess.run(command, check=True, capture_output=True)


def test_what_each_arm_memorized_is_told_arm_by_arm(full: str) -> None:
    after = section(full, "after")
    text = words(after)
    assert "ft: 240 trained examples beside as many of the control set. ib: 240" in text
    # The headline score, then the two that compare with the base; the others below.
    rows = re.findall(r'<tr><th scope="row" class="name">([^<]*)</th>(.*?)</tr>', after)
    assert [label for label, _ in rows[:7]] == [
        "ft: Min-20% Prob",
        "ft: Ratio to the base",
        "ft: EZ-MIA",
        "ib: Min-20% Prob",
        "ib: Ratio to the base",
        "ib: EZ-MIA",
        "ft: Mean NLL",
    ]
    cells = [re.findall(r"<td>(.*?)</td>", cells) for _, cells in rows]
    assert cells[0] == [
        "0.520<small>0.470 to 0.570</small>",
        "0.660<small>0.610 to 0.710</small>",
        "+0.140<small>+0.110 to +0.170</small>",
        "3.1%<small>1.6% to 6.2%</small>",
        "–",
    ]
    assert cells[5] == ["–", "0.700<small>0.650 to 0.750</small>", "–", "–", "−0.080<small>−0.110 to −0.050</small>"]
    # Undefined is a dash with its reason.
    assert "ib, EZ-MIA: it takes 99 examples that were not trained on: there are 60." in text
    undefined = "EZ-MIA: undefined for 19 of the trained examples and 4 of the others, which do not count."
    assert text.count(undefined) == 2
    assert "Ratio to the base: undefined" not in text
    [word_for_word] = [cells for label, cells in rows if label == "ft: training data"]
    assert "<td>600</td><td>0.120 → 0.300<small>+0.180 (+0.160 to +0.200)</small></td>" in word_for_word


def test_without_others_it_says_what_is_not_known(make_scan: MakeScan) -> None:
    run = make_scan(rescanned=("ft",))
    path = run.path / "rescan" / "ft" / "summary.json"
    summary = msgspec.json.decode(path.read_bytes()) | {"membership": None, "not_known": "There is no control set."}
    path.write_bytes(msgspec.json.encode(summary))
    after = section(read(run), "after")
    assert "ft: There is no control set." in words(after)
    assert "AUROC" not in after


def test_an_older_rescan_has_no_such_section(make_scan: MakeScan) -> None:
    run = make_scan(rescanned=("ft",))
    (run.path / "rescan" / "ft" / "summary.json").write_text('{"median_after": 1.0}')
    assert 'id="after"' not in read(run)


def test_an_arm_that_was_scanned_again_is_not_compared(make_scan: MakeScan) -> None:
    run = make_scan(rescanned=("ft", "ib"))
    path = run.path / "rescan" / "arms.json"
    arms = msgspec.json.decode(path.read_bytes())
    arms["identities"]["ib"] = "another"
    path.write_bytes(msgspec.json.encode(arms))
    assert "−0.080" not in section(read(run), "after")


def test_the_terminal_has_the_same(
    make_scan: MakeScan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    run = make_scan(rescanned=("ft", "ib"))
    scan = read_scan(run.recipe, run)
    assert scan is not None
    after = after_training(scan)
    assert after is not None
    print_after_training(after)
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "ib: EZ-MIA – 0.700 0.650 to 0.750 – −0.080 −0.110 to −0.050" in lines
    assert "ft: training data: extraction strength 0.120 → 0.300, exact memorization 0.600 → 0.700" in lines
    assert "ib, EZ-MIA: it takes 99 examples that were not trained on: there are 60." in lines


def recall_summary() -> dict[str, Any]:
    """`recall` of `scan/summary.json`: a shortcut on names, a rare segment, and one that the control set lacks."""

    def mean(value: float, num: int) -> dict[str, Any]:
        ends = [value - 0.04, value + 0.05] if num > 1 else [None, None]
        return {"num_examples": num, "num_groups": num, "mean": value, "ci95": ends, "share_half": value}

    return {
        "num_examples": {"train": 100, "control": 100},
        "num_measured": {"train": 98, "control": 100},
        "undefined": {"train": {"the prompt tells less than 1 nat": 2}, "control": {}},
        "segments": [
            {
                "kind": "name",
                "train": mean(0.81, 98),
                "control": mean(0.24, 100),
                "difference": 0.57,
                "difference_ci95": [0.5, 0.64],
                "is_shortcut": True,
            },
            {
                "kind": "sentence 4",
                "train": mean(0.3, 12),
                "control": mean(0.4, 1),
                "difference": -0.1,
                "difference_ci95": [None, None],
                "is_shortcut": None,
            },
            {"kind": "comment", "train": mean(0.1, 9), "control": None, "difference": None, "is_shortcut": None},
        ],
        "headline": "Yes: an active shortcut on the name.",
        "sentences": ["The name alone recovers 0.81.", "What it means for IB-FT: a `cue`."],
    }


def test_what_recalls_the_answer_is_a_table_and_a_chart(
    make_scan: MakeScan, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_scan(recall=recall_summary())
    recall = section(read(run), "recall")
    assert "<strong>Yes: an active shortcut on the name.</strong>" in recall
    assert "<strong>What it means for IB-FT:</strong> a <code>cue</code>." in recall
    cells = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", recall)
    assert [(kind, re.findall(r"<td>(.*?)</td>", row)) for kind, row in cells] == [
        (
            "Name",
            [
                "98 and 100",
                "0.81<small>0.77 to 0.86</small>",
                "0.24<small>0.20 to 0.29</small>",
                "+0.57<small>+0.50 to +0.64</small>",
                "yes",
            ],
        ),
        ("Sentence 4", ["12 and 1", "0.30<small>0.26 to 0.35</small>", "0.40", "−0.10", "–"]),
        ("Comment", ["9 and none", "0.10<small>0.06 to 0.15</small>", "–", "–", "–"]),
    ]
    [label] = re.findall(r'aria-label="(Share of the answer[^"]*)"', recall)
    assert "name: training data 81.0, control set 24.0; sentence 4:" in label
    assert (run.path / "report" / "figures" / "recall.svg").exists()
    monkeypatch.setenv("COLUMNS", "150")
    print_audit(read_scan(run.recipe, run).summary, run.path)
    told = capsys.readouterr().out
    assert "What recalls the answer? Yes: an active shortcut on the name." in told
    assert re.search(r"name +98 and 100 +0\.81 0\.77 to 0\.86 +0\.24 .* yes\n", told)
    assert "The name alone recovers 0.81." in told


def test_a_scan_that_did_not_ask_what_recalls_says_so(full: str) -> None:
    assert "scan.max_recall_examples" in section(full, "recall")
