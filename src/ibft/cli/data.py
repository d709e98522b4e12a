"""The verbs that work on data alone, without a model and without a recipe: leakage, duplicates, prune, canary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ibft import progress
from ibft.cli.judging import SOURCES
from ibft.cli.program import PATH, main
from ibft.cli.terminal import figures_table, open_console
from ibft.errors import UserError

if TYPE_CHECKING:
    from ibft.curation.decontaminate import LeakageSummary
    from ibft.curation.prune import PruneRecord

__all__ = ["canary", "duplicates", "leakage", "prune"]

_FOLDER = click.Path(path_type=Path, file_okay=False)
_BY = "Which score: min_k, min_k_plus_plus, nll, or any name in the scan's table."
_FILE = click.Path(path_type=Path, dir_okay=False)


def _data_command(function: Callable[..., None]) -> Callable[..., None]:
    """Add the arguments of every verb that reads training data."""
    split = click.option("--split", default="train", show_default=True, help="Split of a hub data set.")
    return click.argument("data")(split(function))


# The defaults of `ibft.curation` as numbers, here and below: it is imported by the verbs, so that the help is fast.
@main.command()
@_data_command
@click.option(
    "--problems",
    "benchmarks",
    multiple=True,
    required=True,
    metavar="SOURCE",
    help=f"{SOURCES} May be repeated.",
)
@click.option("--out", type=_FOLDER, default=Path("leakage"), show_default=True, help="Folder for what is found.")
@click.option(
    "--overlap",
    default=0.5,
    show_default=True,
    help="Share of a text's 10-word sequences from which it counts as contained.",
)
@click.option(
    "--similarity", default=0.7, show_default=True, help="Jaccard similarity from which code counts as contained."
)
def leakage(data: str, split: str, benchmarks: tuple[str, ...], out: Path, overlap: float, similarity: float) -> None:
    """Find benchmark problems in the training DATA, and write both without what they share.

    DATA is a .jsonl, .json or .parquet file, a hub data set, or functions:PACKAGE.
    """
    from ibft.curation.decontaminate import find_leakage

    progress.enable()
    _print_leakage(find_leakage(data, split, benchmarks, out, overlap=overlap, similarity=similarity), out)


def _print_leakage(summary: LeakageSummary, out: Path) -> None:
    table = figures_table("benchmark", "problems", "leaked", "words", "equal code", "near code", "examples")
    for benchmark in summary.benchmarks:
        kinds = (benchmark.num_by_kind[kind] for kind in ("words", "code", "near"))
        figures = (benchmark.num_problems, len(benchmark.leaked), *kinds, benchmark.num_examples)
        table.add_row(_short(benchmark.source), *map(str, figures))
    console = open_console()
    console.print(table)
    console.print(f"{summary.num_leaking} of {summary.num_examples} examples contain a problem.")
    for benchmark in summary.benchmarks:
        name = _short(benchmark.source)
        if benchmark.num_short:
            console.print(
                f"{name}: {benchmark.num_short} solutions are missing, or so short that they would not be found with "
                "other names in them."
            )
        if benchmark.num_short_descriptions:
            console.print(
                f"{name}: {benchmark.num_short_descriptions} descriptions have too few words of their own to be found "
                "by (12, except for what more than two problems share)."
            )
    console.print(
        f"\nWrote {out / 'leakage.jsonl'} (what matches), train_clean.jsonl and the clean problems beside it."
    )


def _short(source: str) -> str:
    """Return a benchmark's name without the folders of its path, for a narrow terminal."""
    kind, colon, path = source.partition(":")
    return f"{kind}{colon}{Path(path).name}" if path else Path(source).name


@main.command()
@_data_command
@click.option("--out", type=_FOLDER, help="Folder for duplicates.jsonl and duplicates.json.")
@click.option("--similarity", default=0.7, show_default=True, help="Jaccard similarity of near-duplicates.")
def duplicates(data: str, split: str, out: Path | None, similarity: float) -> None:
    """Count the examples of DATA whose answer was there before: exact, equal as code, or nearly equal."""
    from ibft.curation.duplicates import find_duplicates

    progress.enable()
    summary = find_duplicates(data, split, similarity, out)
    words = {"exact": "exact copies", "code": "equal except for names and layout", "near": "nearly equal"}
    total = sum(summary.num_duplicates.values())
    click.echo(f"{total} of {summary.num_examples} examples repeat an earlier one:")
    for kind, count in summary.num_duplicates.items():
        click.echo(f"{count:>8}  {words[kind]}")
    if out is not None:
        click.echo(f"Wrote {out / 'duplicates.jsonl'}")


@main.command()
@_data_command
@click.option("--scores", type=PATH, required=True, help="Folder of a run that scanned this data, or its scan/.")
@click.option("--by", help=f"{_BY}  [default: the scan's headline score]")
@click.option("--drop", default="10%", show_default=True, help="Share of the scored examples, or a number.")
@click.option(
    "--control",
    type=click.Choice(["none", "random", "length-matched", "duplicates"]),
    default="none",
    show_default=True,
    help="Drop as many others instead.",
)
@click.option("--seed", default=0, show_default=True, help="Random seed of the controls.")
@click.option("--out", type=_FILE, required=True, help="The pruned data, .jsonl; the record is beside it as .json.")
def prune(**options: Any) -> None:
    """Write DATA without its most memorized examples, or without as many others as a control."""
    from ibft.curation.prune import prune as prune_data

    progress.enable()
    _print_pruned(prune_data(options.pop("data"), options.pop("split"), **options), options["out"])


def _print_pruned(record: PruneRecord, out: Path) -> None:
    click.echo(f"Dropped {record.num_dropped} of {record.num_examples} examples.")
    for name, lengths in record.lengths.items():
        # Without a control the most memorized ones are those that were dropped.
        if lengths is not None and (name != "most memorized" or record.control != "none"):
            low, _, median, _, high = lengths.quantiles
            click.echo(
                f"  {name:<14} {lengths.num_examples:>8} examples, scored tokens: "
                f"mean {lengths.mean:.1f}, median {median:g} (5% to 95%: {low:g} to {high:g})"
            )
    for note in record.notes:
        click.echo(f"Note: {note}")
    click.echo(f"Wrote {out} and {out.with_suffix('.json')}")


@main.group()
def canary() -> None:
    """Plant canaries in training data, and check whether a model remembers them."""


@canary.command()
@_data_command
@click.option("--out", type=_FILE, required=True, help="The data with canaries, .jsonl; their list is beside it.")
@click.option("--count", default=50, show_default=True, help="Canaries for each number of repetitions.")
@click.option("--repeats", default="1,4,16", show_default=True, metavar="N,N", help="How often each is planted.")
@click.option("--seed", default=0, show_default=True, help="Random seed of their text and their places.")
@click.option("--language", type=click.Choice(["python", "verilog"]), default="python", show_default=True)
def plant(**options: Any) -> None:
    """Write DATA with canaries among it, and as many twins that are held out."""
    from ibft.curation.canaries import plant_canaries

    progress.enable()
    text = options.pop("repeats")
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise UserError(f"--repeats {text}: expected whole numbers with commas between them, such as 1,4,16.")
    canaries = plant_canaries(
        options.pop("data"), options.pop("split"), repeats=[int(part) for part in parts], **options
    )
    num_planted = sum(canary.repeats > 0 for canary in canaries)
    num_rows = sum(canary.repeats for canary in canaries)
    out: Path = options["out"]
    click.echo(
        f"Planted {num_planted} canaries in {num_rows} rows of {out}; {len(canaries) - num_planted} are held out. "
        f"Keep {out.parent / 'canaries.jsonl'}: `ibft canary check` needs it."
    )


@canary.command()
@click.argument("canaries", type=PATH)
@click.option(
    "--scores",
    type=PATH,
    multiple=True,
    required=True,
    help="Run or scan folder, or file of scores, of planted and held-out canaries. May be repeated.",
)
@click.option("--by", default="nll", show_default=True, help=_BY)
@click.option("--seed", default=0, show_default=True, help="Random seed of the bootstrap.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
def check(canaries: Path, scores: tuple[Path, ...], by: str, seed: int, as_json: bool) -> None:
    """Say how well a model's scores separate planted canaries from held-out ones, by how often they were planted."""
    from ibft.curation.canaries import check_canaries

    checked = check_canaries(canaries, scores, by, seed)
    if as_json:
        from ibft.artifacts.json_lines import pretty_json

        click.echo(pretty_json(checked), nl=False)
        return
    table = figures_table("planted", "canaries", "AUROC", "95% interval", "mean exposure", "below all held-out")
    for row in checked.remembered:
        interval = f"{row.ci95.low:.3f} to {row.ci95.high:.3f}"
        exposure = f"{row.mean_exposure:.2f} bits"
        table.add_row(
            f"{row.repeats}×", str(row.num_canaries), f"{row.auroc:.3f}", interval, exposure, str(row.num_extreme)
        )
    console = open_console()
    console.print(table)
    console.print(
        f"{checked.num_held_out} held-out canaries. Without memorization: AUROC 0.5, exposure "
        f"{checked.exposure_by_chance:.2f} bits; at most {checked.exposure_at_most:.2f} bits with this many held out.",
    )
    if checked.num_unscored:
        console.print(f"Note: {checked.num_unscored} canaries have no score.")
