"""Print the tables of the verbs on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ibft.cli.terminal import figures_table, open_console, with_detail

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from ibft.artifacts.gauges import Gauges
    from ibft.artifacts.hollow import Hollow
    from ibft.artifacts.metrics import Metrics
    from ibft.artifacts.recall import RecallSummary
    from ibft.artifacts.report import Comparison, Elicitation
    from ibft.artifacts.scan import ScanSummary
    from ibft.comparison.diff import Diff
    from ibft.pages.after_training import AfterTraining
    from ibft.pages.barrier_means import Means

__all__ = [
    "print_after_training",
    "print_audit",
    "print_barrier",
    "print_comparison",
    "print_diff",
    "print_gauges",
    "print_hollow",
    "print_metrics",
]

_NUM_COLUMNS = 3
"""Of the barrier experiment: worlds, Pass@1, Pass@10^(10)."""


def print_audit(summary: ScanSummary, page: Path) -> None:
    """Print the verdict, the scores beside the blind classifier, what to do, and where the page is."""
    from ibft.pages.audit_rows import key_figures, score_rows
    from ibft.pages.evidence import skipped_in_scan

    console = open_console()
    if (verdict := summary.verdict) is not None:
        console.print(verdict.headline, style="bold")
        for sentence in verdict.sentences:
            console.print(sentence)
    if rows := score_rows(summary):
        table = figures_table("score", "AUROC, 95% interval", "above blind", "better")
        for row in rows:
            cells = [with_detail(cell.text, cell.detail) for cell in (row.auroc, row.above_blind)]
            table.add_row(row.label, *cells, row.beats_blind)
        console.print()
        console.print(table)
    console.print()
    for figure in key_figures(summary):
        console.print(f"{figure.label}: {figure.text} ({figure.detail})")
    # Counted where people look: 38 of 40 rows were once left out as too long, and the terminal said nothing.
    for sentence in skipped_in_scan(summary):
        console.print(f"Without scores, {sentence}")
    if summary.recall is not None:
        _print_recall(console, summary.recall)
    if verdict is not None and verdict.remedy:
        console.print(f"\nWhat to do: {verdict.remedy}")
    console.print(f"\nAudit: {page}", soft_wrap=True)  # a path that is broken into lines cannot be copied


def print_after_training(after: AfterTraining) -> None:
    """Print what each arm memorized of its training data, by the scores that people look at first, and what is open."""
    console = open_console()
    rows = [row for row in after.members if row.is_main]
    if rows:
        beside = [f"minus {after.reference}"] if after.reference else []
        table = figures_table("after training", "AUROC before", "after", "found at 1% false", *beside)
        for row in rows:
            cells = [row.before, row.after, row.true_positives, *([row.against] if beside else [])]
            table.add_row(f"{row.arm}: {row.label}", *(with_detail(cell.text, cell.detail) for cell in cells))
        console.print()
        console.print(table)
    for words in after.words:
        strength, exact = words.extraction_strength, words.exact_memorization
        console.print(f"{words.label}: extraction strength {strength.text}, exact memorization {exact.text}")
    for note in after.notes:
        console.print(note)


def _print_recall(console: Console, recall: RecallSummary) -> None:
    """Print which segment of a prompt alone recalls the answer, and what that means."""
    from ibft.pages.recall import recall_rows

    console.print(f"\nWhat recalls the answer? {recall.headline}")
    if rows := recall_rows(recall):
        table = figures_table("segment alone", "of", "training data", "control set", "difference", "shortcut")
        for row in rows:
            cells = [with_detail(cell.text, cell.detail) for cell in (row.train, row.control, row.difference)]
            table.add_row(row.kind, row.counts, *cells, row.is_shortcut)
        console.print(table)
    for sentence in recall.sentences:
        console.print(sentence)


def print_comparison(comparison: Comparison) -> None:
    """Print the report's table and its verdict."""
    from rich.table import Table

    from ibft.pages.compare import MAX_COLUMNS, comparison_rows
    from ibft.pages.verdict import costs

    # Before the figures, which then say little.
    for arm in comparison.arms:
        if arm.hollow:
            print_hollow(arm.name, arm.hollow)
    console, table = open_console(), Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows, names = comparison_rows(comparison), [arm.name for arm in comparison.arms]
    is_wide = len(names) > MAX_COLUMNS
    # A terminal is narrow: each of many arms has a row, and what is the same for all is printed below.
    shared = [row for row in rows if is_wide and len(set(row.cells)) == 1]
    rows = [row for row in rows if row not in shared]
    texts = [[with_detail(cell.text, cell.detail) for cell in row.cells] for row in rows]
    labels = [row.label for row in rows]
    if is_wide:
        names, labels, texts = labels, names, [[row[arm] for row in texts] for arm in range(len(names))]
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name)
    for label, cells in zip(labels, texts, strict=True):
        table.add_row(label, *cells)
    console.print(table)
    if comparison.elicitation is not None:
        _print_asked(console, comparison.elicitation)
    if shared:
        said = [f"{row.label}: {row.cells[0].text} {row.cells[0].detail}".strip() for row in shared]
        console.print(f"All arms alike: {'; '.join(said)}.")
    cost = costs(comparison.forgetting) if comparison.forgetting else ""
    for line in (comparison.headline, comparison.verdict, cost, comparison.advice, *comparison.notes):
        if line:
            console.print(f"\n{line}")


def _print_asked(console: Console, elicitation: Elicitation) -> None:
    """Print what the base solves in each format, and each arm in its own."""
    from rich.table import Table

    from ibft.pages.compare import asked_rows

    rows, table = asked_rows(elicitation), Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("asked greedily", no_wrap=True)
    for row in rows:
        table.add_column(row.label)
    for place, asked in enumerate(elicitation.asked):
        cells = (row.cells[place] for row in rows)
        name = f"{asked.arm}, {asked.format.replace('_', ' ')}"
        table.add_row(name, *(with_detail(cell.text, cell.detail) for cell in cells))
    console.print()
    console.print(table)


def print_hollow(name: str, hollow: Hollow) -> None:
    """Print what must not be missed: most samples of an arm or a file hold no program."""
    _print_alarm(f"HOLLOW RUN: {name}", hollow.message)


def print_unjudged(name: str, reason: str) -> None:
    """Print why no sample of an arm or a file could be judged."""
    _print_alarm(f"NOTHING COULD BE JUDGED: {name}", f"{reason[0].upper()}{reason[1:]}")


def _print_alarm(title: str, message: str) -> None:
    from rich.panel import Panel
    from rich.text import Text

    open_console().print(Panel(Text(f"{message}."), title=title, title_align="left", border_style="bold red"))


def print_metrics(metrics: Metrics) -> None:
    """Print Pass@k and Pass@k^(k); the values of every m between are in metrics.json."""
    from rich.table import Column, Table

    from ibft.statistics.pass_at_k import metric_name

    table = Table("metric", Column("value", justify="right"), "95% interval", box=None, pad_edge=False)
    for k in metrics.k:
        # For k = 1 the two are one.
        for name in dict.fromkeys((metric_name(k), metric_name(k, k))):
            metric = metrics.metrics[name]
            if metric.value is None or metric.ci95 is None:
                table.add_row(name, "undefined", metric.reason)
            else:
                table.add_row(name, f"{metric.value:.1%}", f"{metric.ci95[0]:.1%} to {metric.ci95[1]:.1%}")
    # What papers on Verilog call the syntax pass rate.
    for name, value in metrics.readings.get("syntax", {}).items():
        if value < 1 and name == metric_name(metrics.k[0]):
            table.add_row(f"{name} of compiling", f"{value:.1%}", "")
    console = open_console()
    console.print(table)
    console.print(f"{metrics.num_samples} samples of {metrics.num_problems} problems; sandbox: {metrics.sandbox}")
    console.print(", ".join(f"{count} {status}" for status, count in metrics.statuses.items()))
    for note in metrics.notes:
        console.print(f"Note: {note}")


def print_diff(diff: Diff) -> None:
    """Print the comparison of two files of results, and the problems that changed."""
    table = figures_table("metric", "A", "B", "B - A", "95% interval", "better in A : B", "p", "told apart?")
    for metric in diff.metrics:
        if metric.a is None or metric.b is None or metric.difference is None or metric.ci95 is None:
            table.add_row(metric.name, "undefined", metric.reason)
            continue
        table.add_row(
            metric.name,
            f"{metric.a:.1%}",
            f"{metric.b:.1%}",
            f"{100 * metric.difference:+.1f}",
            f"{100 * metric.ci95[0]:+.1f} to {100 * metric.ci95[1]:+.1f}",
            f"{metric.num_a_better} : {metric.num_b_better}",
            f"{metric.p_value:.3g}",
            "yes" if metric.is_separated else "no",
        )
    console = open_console()
    console.print(table)
    console.print(f"{diff.num_problems} problems. p: exact sign-flip test (McNemar's, with one sample per problem).")
    detectable = diff.metrics[0].minimum_detectable
    if detectable is not None:
        console.print(f"Such data separate {100 * detectable:.1f} points of {diff.metrics[0].name} in 4 of 5 runs.")
    for word, changed in (("improved", diff.improved), ("worsened", diff.worsened)):
        if changed:
            shown = ", ".join(
                f"{row.task_id} ({row.num_correct_a}/{row.num_samples_a} to {row.num_correct_b}/{row.num_samples_b})"
                for row in changed[:10]
            )
            console.print(f"{len(changed)} {word}: {shown}{', …' if len(changed) > 10 else ''}")
    for task_id, reason in list(diff.left_out.items())[:10]:
        console.print(f"Left out: {task_id}: {reason}")
    for note in diff.notes:
        console.print(f"Note: {note}")


def print_barrier(means: Means) -> None:
    """Print the means of the barrier experiment that fit a terminal; the page has all."""
    from ibft.pages.barrier import table_rows, table_titles

    table = figures_table("condition", *table_titles(means)[:_NUM_COLUMNS])
    for row in table_rows(means):
        table.add_row(row.label, *(with_detail(text, detail) for text, detail in row.cells[:_NUM_COLUMNS]))
    open_console().print(table)


def print_gauges(gauges: Gauges) -> None:
    """Print what a model can do in a world, what it obeys, and what it recites at each dose."""
    console = open_console()
    skills = {"unseen compositions": gauges.unseen, "the same, dev": gauges.dev, "training data": gauges.seen}
    skills |= {f"general, depth {depth}": skill for depth, skill in gauges.general.items()}
    table = figures_table("skill", "Pass@1", "Pass@10", "Pass@10^(10)")
    for name, skill in skills.items():
        table.add_row(name, *map(_chance, (skill.pass_at_1, skill.pass_at_10, skill.all_of_10)))
    console.print(table)
    console.print(
        "\nThe chance of the repeated body by what is given, and what is obeyed where cue and docstring differ:"
    )
    given = ("cue", "docstring", "its start", "data's prompt")
    table = figures_table("repeated", "examples", *given, "obeys docstring", "obeys cue")
    for kind, rows in (("", gauges.recitation), ("canaries, ", gauges.canaries)):
        for row in rows:
            conflict = (row.obeys_docstring, row.obeys_cue)
            chances = (row.from_cue, row.from_docstring, row.from_prefix, row.seen, *conflict)
            times = "1 time" if row.repetitions == 1 else f"{row.repetitions} times"
            table.add_row(f"{kind}{times}", str(row.num_examples), *map(_chance, chances))
    console.print(table)


def _chance(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
