from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser

import msgspec
import pytest

from ibft.artifacts.report import read_report
from ibft.cli.tables import print_comparison
from ibft.errors import UserError
from ibft.pages.compare import compare
from ibft.run.folder import RunFolder
from ibft.run.recipe import dump_recipe, load_recipe
from ibft.run.sections import GenerateConfig, ReportConfig
from ibft.stages.report import render, report

MakeRun = Callable[..., RunFolder]
TALLIES = {"base": [0] * 12, "ft": [5, 0] * 6, "ib": [5, 0] * 6}
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with attributes, text of the `pre` elements, and whether the tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.pres: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "pre":
            self.pres.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "pre":
            self.pres[-1] += data

    def attributes(self, *tags: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag in tags]


def read(run: RunFolder) -> str:
    report(run.recipe, run)
    return (run.path / "report" / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def full_page(full_run: RunFolder) -> str:
    return read(full_run)


@pytest.mark.parametrize(
    "hostile",
    [
        "</pre><script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "\"><svg onload='alert(1)'>",
        "{{ 7 * 7 }}{% raw %}",
        "&lt;b&gt; \u202e <!-- ]]> -->",
    ],
)
def test_a_hostile_completion_stays_text(make_run: MakeRun, hostile: str) -> None:
    page = Page(read(make_run(TALLIES, completion=hostile + "\n")))
    assert not page.attributes("script")
    assert not page.attributes("img")
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert f"{hostile}\n    # base, sample 0\n" in page.pres


def test_the_page_loads_nothing(full_page: str) -> None:
    page = Page(full_page)
    assert page.open == []
    assert not page.attributes("script", "link", "iframe", "object", "embed", "base", "form")
    for _, attributes in page.tags:
        for name in ("src", "srcset", "href", "xlink:href", "action", "data", "poster"):
            assert (attributes.get(name) or "#").startswith("#") or attributes[name] == "audit.html"
    assert all(target.startswith("#") for target in re.findall(r"url\(\s*['\"]?([^)]*)\)", full_page))
    assert "@import" not in full_page
    [policy] = [meta["content"] for meta in page.attributes("meta") if "http-equiv" in meta]
    assert (policy or "").startswith("default-src 'none'")


def test_the_page_is_accessible(full_page: str) -> None:
    page = Page(full_page)
    charts = page.attributes("svg")
    assert len(charts) == 17
    assert all(chart["role"] == "img" and chart["aria-label"] for chart in charts)
    assert all(header.get("scope") in ("col", "row") for header in page.attributes("th"))
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    ids = [attributes["id"] for tag, attributes in page.tags if "id" in attributes and tag not in ("path", "clippath")]
    assert len(ids) == len(set(ids))
    targets = [link["href"] or "" for link in page.attributes("a")]
    assert {target[1:] for target in targets if target != "audit.html"} <= set(ids)
    labels = [attributes["aria-labelledby"] for _, attributes in page.tags if "aria-labelledby" in attributes]
    assert set(labels) <= set(ids)


def test_the_verdict_comes_first(full_page: str) -> None:
    body = full_page[full_page.index("<main>") :]
    assert body.index("Ship ft or ib: these data do not separate them.") < body.index("<table>")


def test_every_k_is_shown_and_an_undefined_one_with_its_reason(full_page: str) -> None:
    for label in ("Pass@1", "Pass@5", "Pass@5<sup>(5)</sup>", "Pass@10", "Pass@10<sup>(10)</sup>"):
        assert f'<th scope="row">{label}</th>' in full_page
    row = full_page[full_page.index('<th scope="row">Pass@10</th>') :].split("</tr>")[0]
    assert "undefined" in row
    assert "fewer than 10 samples" in row
    assert "%" not in row


def test_all_stages_are_shown(full_page: str) -> None:
    for text in (
        "KL to the prior",
        "Active units",
        "Learning rate",
        "181,240",
        "Min-20% Prob",
        "Yes: 23.2% of the training data",
        "<strong>How sure:</strong> a training example",
        'href="audit.html"',
    ):
        assert text in full_page
    assert "training data after ib (median 1.70)" in section(full_page, "scan")
    assert "Training of ft: 213 longer than 200 tokens" in full_page
    assert "Scan, training data: 213 longer than 200 tokens" in full_page
    assert "bootstrap_resamples: 1000" in full_page  # the resolved recipe


@pytest.fixture(scope="module")
def nine_page(nine_run: RunFolder) -> str:
    return read(nine_run)


def section(page: str, name: str) -> str:
    return page[page.index(f'<section aria-labelledby="{name}">') :].split("</section>")[0]


def test_alarms_stand_at_the_head_of_the_training_in_the_notes_and_in_the_json(nine_run: RunFolder) -> None:
    page = read(nine_run)
    training = section(page, "training")
    boxes = re.findall(r'<div class="alarm">.*?</div>', training, re.DOTALL)
    assert [re.findall(r"</span> (\w+)</strong>", box) for box in boxes] == [["Overload"], ["Collapse"]]
    assert all("▲</span> ib</span>" in box and "Remedy: " in box for box in boxes)
    assert training.index('<div class="alarm">') < training.index("<table") < training.index("<svg")
    notes = page[: page.index("<table")]
    assert "<li>ib: overload from step 1 to " in notes
    assert "<li>ib: collapse from step " in notes
    written = msgspec.json.decode((nine_run.path / "report" / "report.json").read_bytes())
    assert list(written["alarms"]) == ["ib"]
    assert [alarm["kind"] for alarm in written["alarms"]["ib"]] == ["overload", "collapse"]


def test_an_arm_whose_summary_knows_no_alarms_has_none(make_run: MakeRun) -> None:
    run = make_run(TALLIES, with_training=True)
    (run.path / "train" / "ib" / "summary.json").write_text('{"steps": 120}')
    assert '<div class="alarm">' not in read(run)


def test_the_gauges_have_their_own_heading_limits_and_set_point(nine_page: str, full_page: str) -> None:
    training = section(nine_page, "training")
    head, gauges = training.split("<h3>Does the bottleneck work?</h3>")
    gauges, more = gauges.split("<details>")
    titles = re.findall(r'aria-label="(.*?) over optimizer step', gauges)
    assert [title.split(" (")[0] for title in titles] == [
        "KL to the prior",
        "Gradient into the LoRA: bottleneck / CE",
        "Active units",
        "Accuracy of the decoded code",
    ]
    assert head.count("<svg") == 4
    assert more.count("<svg") == 5
    ratio = gauges[gauges.index("Gradient into") :].split("</svg>")[0]
    assert len(re.findall(r"stroke-dasharray: [^;]*; stroke-dashoffset: 0; stroke: var\(--muted\)", ratio)) == 2
    thin = r"stroke: var\(--series-4\); stroke-width: 0.8"  # ib-controlled is the fourth arm
    kl = gauges.split("</svg>")[0]
    assert re.search(thin, kl)
    assert not re.search(thin, section(full_page, "training"))


def test_many_arms_have_a_row_each_and_their_pairs_are_sorted(nine_page: str, nine_run: RunFolder) -> None:
    page = Page(nine_page)
    assert page.open == []
    arms = nine_run.recipe.arms
    main, training = re.findall(r'<table class="arms">.*?</table>', nine_page, re.DOTALL)
    for table, names in ((main, arms), (training, arms[1:])):
        assert re.findall(r'<tr><th scope="row">.*?</span> ([\w-]+)</span></th>', table) == list(names)
        widths = [row.count("<td") + row.count("<th") for row in table.split("<tr>")[1:]]
        assert len(set(widths)) == 1
    classes = re.findall(r'class="arm (arm-\d+)"', main)
    assert len(set(classes)) == len(arms) == 10
    assert all(f".{name} > span" in nine_page for name in classes)
    shown, others = section(nine_page, "metrics").split("<summary>The other 36 pairs</summary>")
    pairs = re.findall(r'<th scope="row">([\w-]+) − ([\w-]+)</th>', shown)
    assert len(pairs) == 9
    assert len(set.intersection(*map(set, pairs))) == 1
    assert len(re.findall(r'<th scope="row">[\w-]+ − [\w-]+</th>', others)) == 36
    assert "corrected for 45 pairs after Holm" in nine_page


def test_a_reason_that_many_arms_share_is_said_once(make_run: MakeRun, nine_run: RunFolder) -> None:
    names = nine_run.recipe.arms[1:]
    run = make_run({name: [3] for name in names}, k=(1, 10), objectives=nine_run.recipe.objective)
    [table] = re.findall(r'<table class="arms">.*?</table>', read(run), re.DOTALL)
    assert table.count("fewer than 10 samples") == 2  # Pass@10 and Pass@10^(10)
    assert table.count('<td rowspan="9">') == 2
    rows = table.split("<tr>")[2:]
    assert [row.count("<td") for row in rows] == [rows[1].count("<td") + 2, *[rows[1].count("<td")] * 8]


def test_the_terminal_shows_many_arms_whole(
    nine_run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    comparison = compare(nine_run.recipe, nine_run)
    print_comparison(comparison)
    table = capsys.readouterr().out.split("All arms alike: ")[0]
    assert [line.split()[0] for line in table.splitlines()[1:]] == list(nine_run.recipe.arms)
    assert "…" not in table
    # Arms that do not differ in anything still have their lines.
    arms = [msgspec.structs.replace(comparison.arms[0], name=f"arm-{i}") for i in range(6)]
    print_comparison(msgspec.structs.replace(comparison, arms=arms))
    table = capsys.readouterr().out.split("All arms alike: ")[0]
    assert [line.split()[0] for line in table.splitlines() if line.strip()] == [arm.name for arm in arms]


def test_missing_stages_are_said_to_be_missing(make_run: MakeRun) -> None:
    page = read(make_run(TALLIES))
    assert "No arm of this run has been trained here" in page
    assert "The training data has not been scanned in this run" in page


def test_the_charts_are_files_for_papers_and_the_audit_is_beside(full_page: str, full_run: RunFolder) -> None:
    figures = full_run.path / "report" / "figures"
    names = {path.stem for path in figures.iterdir()}
    assert {"metrics", "consistency", "loss", "ib-kl_per_token", "densities", "aurocs"} <= names
    for name in names:
        assert (figures / f"{name}.svg").read_text(encoding="utf-8").startswith("<svg")
        assert (figures / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "<title>fake: does the model" in (full_run.path / "report" / "audit.html").read_text(encoding="utf-8")


def test_a_scan_of_an_older_version_is_named_and_has_no_audit(make_run: MakeRun) -> None:
    run = make_run(TALLIES)
    folder = run.path / "scan"
    folder.mkdir()
    (folder / "scores.jsonl").write_text('{"id": "a", "subset": "train", "num_tokens": 3, "min_k_prob": 1.0}\n')
    subset = {"num_examples": 2, "num_scored": 1, "median_min_k_prob": 2.4, "median_mean_nll": None}
    summary = {"k_percent": 20.0, "subsets": {"train": subset}, "skipped": {"train": {"too long": 1}}}
    (folder / "summary.json").write_bytes(msgspec.json.encode(summary | {"auroc_mean_nll": None}))
    page = read(run)
    assert "made by an older version" in section(page, "scan")
    assert "Scan, training data: 1 too long" in page
    assert not (run.path / "report" / "audit.html").exists()


def test_a_summary_with_missing_keys_and_logs_without_known_metrics_are_tolerated(make_run: MakeRun) -> None:
    run = make_run(TALLIES, with_training=True, with_scan=True)
    for path in (run.path / "scan" / "summary.json", run.path / "train" / "ft" / "summary.json"):
        path.write_text("{}")
    for arm in ("ft", "ib"):
        (run.path / "train" / arm / "log.jsonl").write_text('{"step": 1, "metrics": {"epoch": 0.1, "loss": null}}\n')
    assert "no metric that is drawn here" in read(run)


def test_the_training_table_has_what_held_out_data_decided(make_run: MakeRun) -> None:
    run = make_run(TALLIES, with_training=True)
    assert "held-out" not in section(read(run), "training")
    path = run.path / "train" / "ft" / "summary.json"
    summary = msgspec.json.decode(path.read_bytes())
    held_out = {"examples": 40, "tokens": 900, "best_step": 1080, "best_loss": 0.98765, "kept_step": 1120}
    path.write_bytes(msgspec.json.encode(summary | {"held_out": held_out}))
    table = section(read(run), "training").split("</table>")[0]
    rows = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in table.split("<tr")[1:]]
    assert rows[-2:] == [
        ["Step of the weights", "1,120", "–"],
        ["Lowest held-out cross-entropy", "0.9877 nats per token, after step 1,080", "–"],
    ]


def test_the_remedy_of_a_damaged_training_summary_keeps_the_weights(make_run: MakeRun) -> None:
    run = make_run(TALLIES, with_training=True)
    path = run.path / "train" / "ft" / "summary.json"
    path.write_text("{")
    with pytest.raises(UserError, match=r"train/ft/summary\.json: .* Remove this file alone: the weights beside it"):
        read(run)
    path.unlink()
    assert "Optimizer steps" in read(run)


@pytest.mark.slow
def test_the_same_run_gives_the_same_page_in_any_process(make_run: MakeRun) -> None:
    run = make_run(TALLIES, with_training=True, with_scan=True)
    path = run.path / "recipe.yaml"
    path.write_text(dump_recipe(run.recipe))
    report(load_recipe(path), run)
    page = (run.path / "report" / "report.html").read_text(encoding="utf-8")
    code = (
        "import sys; from ibft.run.recipe import load_recipe; from ibft.stages.report import report; "
        "from ibft.run.folder import RunFolder; recipe = load_recipe(sys.argv[1]); report(recipe, RunFolder(recipe))"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=True)
    assert (run.path / "report" / "report.html").read_text(encoding="utf-8") == page


def test_report_json_holds_the_comparison(make_run: MakeRun) -> None:
    run = make_run(TALLIES)
    comparison = report(run.recipe, run)
    assert read_report(run.path / "report") == comparison


def test_contested_problems_come_first_and_their_number_is_limited(make_run: MakeRun) -> None:
    run = make_run({"base": [0, 0, 5, 0], "ft": [0, 5, 5, 5], "ib": [0, 5, 5, 0]})
    order = re.findall(r"<summary><strong>([^<]*)</strong>", read(run))
    assert order == ["demo/1", "demo/3", "demo/0", "demo/2"]
    recipe = msgspec.structs.replace(run.recipe, report=ReportConfig(k=(1,), max_shown_samples=3))
    page = render(compare(recipe, run), recipe, run).html
    assert re.findall(r"<summary><strong>([^<]*)</strong>", page) == ["demo/1", "demo/3", "demo/0"]


def test_a_huge_completion_is_cut_and_said_to_be(make_run: MakeRun) -> None:
    page = read(make_run({"base": [0], "ft": [5]}, completion="x" * 50_000))
    assert len(page) < 200_000
    assert "more characters are in judge/base/results.jsonl" in page


def test_a_recipe_that_changed_since_is_named_as_stale(make_run: MakeRun) -> None:
    run = make_run(TALLIES)
    recipe = msgspec.structs.replace(run.recipe, generate=GenerateConfig(num_samples=5, temperature=0.8))
    page = render(compare(recipe, run), recipe, run).html
    assert "generate/ft was made with generate.temperature = 0.2; the recipe now says 0.8." in page
    assert "Stale:" not in read(run)


def test_reporting_loads_no_gpu_stack_and_draws_nothing_on_import() -> None:
    code = "import sys, ibft.stages.report; print(*sys.modules)"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    )
    assert not loaded & {"torch", "transformers", "trl", "peft", "datasets", "matplotlib", "numpy", "jinja2"}
