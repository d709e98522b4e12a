"""The verb for a look at the data before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibft.cli.program import main
from ibft.cli.recipes import read_recipe, recipe_command
from ibft.cli.terminal import figures_table, open_console, with_detail
from ibft.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from ibft.artifacts.preview import Preview, PreviewedExample, SetPreview, ShownRun

__all__ = ["preview"]

_BAR_WIDTH = 40
_LEGEND = "⟦trained⟧  «control token»  ↵ line break  · space at an edge  → tab  ◌ part of a character"


@main.command()
@recipe_command()
@click.option("-n", "num_shown", type=click.IntRange(min=0), default=5, show_default=True, help="Examples to show.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
@click.option(
    "--html", "page", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE", help="Also write it as a page."
)
def preview(recipe: Path, overrides: tuple[str, ...], num_shown: int, as_json: bool, page: Path | None) -> None:
    """Show the training data of RECIPE as it will be trained, before a GPU hour is spent.

    Examples with what of them is trained, token counts, skipped rows, duplicates, and the benchmark's problems in the
    data. Loads no weights and writes nothing into the run folder. Exits with 2 where training would refuse the data.
    """
    from ibft.artifacts.json_lines import pretty_json, write_atomically
    from ibft.pages.preview import render_preview
    from ibft.stages.preview import preview as look

    found = look(read_recipe(recipe, overrides), num_shown)
    if page is not None:
        write_atomically(page, render_preview(found))
    if as_json:
        click.echo(pretty_json(found), nl=False)
    else:
        _print(found)
        if page is not None:
            click.echo(f"\nPage: {page}")
    if found.refusal is not None:
        raise UserError(found.refusal)


def _print(found: Preview) -> None:
    from ibft.pages.preview_words import overlap_sentences, repeat_sentences

    console = open_console()
    if found.examples:
        console.print(f"{_LEGEND}\n", style="dim")
    for example in found.examples:
        _print_example(console, example, has_sources=len(found.train.sources) > 1)
    for examples in found.sets:
        _print_set(console, found, examples)
    sentences = [repeat_sentences(repeats) for repeats in found.repeats]
    sentences += [overlap_sentences(overlap, found.train.num_examples) for overlap in found.problems]
    for sentence in [*(sentence for group in sentences for sentence in group), *found.notes]:
        console.print(sentence)


def _print_example(console: Console, example: PreviewedExample, *, has_sources: bool) -> None:
    source = f", {example.source}" if has_sources else ""
    console.print(f"{example.id}: {example.num_tokens:,} tokens, {example.num_trained:,} trained{source}", style="bold")
    _print_runs(console, example.runs)
    if example.num_hidden:
        console.print(f"… {example.num_hidden:,} tokens are hidden …", style="dim")
        _print_runs(console, example.last_runs)
    console.print()


def _print_runs(console: Console, runs: Sequence[ShownRun]) -> None:
    """Print runs with marks around what is trained: a color may be missing, or not be seen."""
    from rich.text import Text

    from ibft.pages.preview_words import visible_runs

    text, was_trained = Text(), False
    for run in visible_runs(runs):
        if run.is_trained != was_trained:
            text.append("⟦" if run.is_trained else "⟧", "bold green")
        was_trained = run.is_trained
        style = "green" if run.is_trained else ""
        if run.is_special:
            for _, token in run.tokens:
                text.append(f"«{token}»", f"bold {style or 'magenta'}")
        else:
            text.append(run.text, style)
    text.append("⟧" if was_trained else "", "bold green")
    text.rstrip()  # of the last line break, which is shown
    console.print(text, overflow="fold")


def _print_set(console: Console, found: Preview, examples: SetPreview) -> None:
    from ibft.data.skipped import LOUD_SHARE
    from ibft.pages.audit_rows import percent
    from ibft.pages.preview_words import length_sentences, set_name, set_sentences

    console.print(f"{set_name(examples.name)} (prompt.template: {found.template})", style="bold")
    for sentence in (*set_sentences(examples), *length_sentences(found, examples)):
        console.print(sentence)
    if examples.name == "train" and examples.num_skipped > LOUD_SHARE * examples.num_rows:
        share = percent(examples.num_skipped / examples.num_rows)
        console.print(f"{share} OF THE DATA IS NOT TRAINED", style="bold yellow")
    if examples.skipped:
        table = figures_table("skipped because", "rows")
        table.add_column("the first of them", overflow="fold")
        for reason in examples.skipped:
            table.add_row(reason.reason, f"{reason.num_rows:,}", reason.message)
        console.print(table)
    if len(examples.sources) > 1:
        table = figures_table("source", "used", "skipped", "tokens", "trained")
        for source in examples.sources:
            used = with_detail(f"{source.num_examples:,}", percent(source.num_examples / max(1, examples.num_examples)))
            figures = (source.num_skipped, source.num_tokens, source.num_trained)
            table.add_row(source.name, used, *(f"{figure:,}" for figure in figures))
        console.print(table)
    if examples.bins:
        table = figures_table("tokens", "examples")
        table.add_column("")
        most = max(1, *(bin_.num_examples for bin_ in examples.bins))
        for bin_ in examples.bins:
            name = f"over {found.max_tokens:,}, left out"
            if bin_.end is not None:
                name = f"{bin_.start:,}" + (f" to {bin_.end:,}" if bin_.end > bin_.start else "")
            bar = "█" * -(-_BAR_WIDTH * bin_.num_examples // most)
            table.add_row(name, f"{bin_.num_examples:,}", bar)
        console.print(table)
    console.print()
