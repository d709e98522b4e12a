"""The verb that sets finished runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ibft.cli.program import PATH, main
from ibft.cli.terminal import figures_table, open_console

if TYPE_CHECKING:
    from ibft.artifacts.run_comparison import RunComparison, SeedDifference

__all__ = ["compare"]


@main.command()
@click.argument("runs", type=PATH, nargs=-1, required=True)
@click.option("--metric", default="pass@1", show_default=True, help="pass@K or pass@K^(M), such as pass@10^(5).")
@click.option("--arms", default="", metavar="ARM,ARM", help="Only these. Default: all that were judged.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
def compare(runs: tuple[Path, ...], metric: str, arms: str, as_json: bool) -> None:
    """Compare finished RUNS (runs/NAME ...): their arms, settings and seeds, and what is better for sure.

    Runs that differ in their seed alone are repetitions, and intervals are then about other seeds, too.
    """
    from ibft.artifacts.json_lines import pretty_json
    from ibft.stages.compare import compare_runs

    comparison = compare_runs(runs, metric=metric, arms=[arm for arm in arms.split(",") if arm])
    if as_json:
        click.echo(pretty_json(comparison).decode(), nl=False)
    else:
        _print(comparison)


def _print(comparison: RunComparison) -> None:
    console = open_console()
    table = figures_table("condition", "seeds", comparison.metric, "each seed")
    for condition in comparison.conditions:
        each = ", ".join(f"{value:.1%}" for value in condition.by_seed.values())
        table.add_row(condition.name, str(len(condition.by_seed)), f"{condition.mean:.1%}", each)
    console.print(table)
    console.print()
    for difference in comparison.differences:
        console.print(_sentence(difference))
        for line in _advice(difference):
            console.print(f"  {line}", style="dim")
    for reason in comparison.undefined:
        console.print(f"Not compared: {reason}.")
    if comparison.left_out:
        task_id, reason = next(iter(comparison.left_out.items()))
        console.print(f"Left out: {len(comparison.left_out)} problems, the first is {task_id} ({reason}).")
    seeds = [difference.num_seeds for difference in comparison.differences]
    if min(seeds, default=0) == 1:
        console.print("With one seed nothing is said about other seeds: train with three or more.")
    elif min(seeds, default=0) == 2:
        console.print("With two seeds intervals are wide (Student's quantile is 12.7): train with three or more.")


def _sentence(difference: SeedDifference) -> str:
    low, high = (f"{100 * end:+.1f}".replace("-", "−") for end in difference.interval)
    interval = f"{100 * difference.confidence:.4g}% CI {low} to {high}"
    verdict = "better" if difference.is_separated else "not told apart"
    seeds = "1 seed" if difference.num_seeds == 1 else f"{difference.num_seeds} seeds"
    return (
        f"{difference.better} − {difference.other}: {100 * difference.value:+.1f} points ({interval}, "
        f"p {difference.p_adjusted:.3g}, {seeds}, {difference.num_problems} problems): {verdict}"
    )


def _advice(difference: SeedDifference) -> list[str]:
    if difference.is_separated or not difference.shares:
        return []
    shares = ", ".join(f"{name} {share:.0%}" for name, share in difference.shares.items())
    detectable = 100 * (difference.minimum_detectable or 0)
    lines = [f"Of its variance: {shares}. Such data separate {detectable:.1f} points in 4 of 5 studies."]
    wanted = [f"{number} {name}" for name, number in difference.needed.items() if number is not None]
    if wanted:
        lines.append(f"If the difference stays, {' or '.join(wanted)} would decide it.")
    else:
        lines.append(
            "If the difference stays, no twentyfold number of seeds, problems or samples alone would decide it."
        )
    return lines
