"""The verbs that run stages of a recipe. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ibft.cli.judging import judge_arms
from ibft.cli.program import main
from ibft.cli.recipes import open_run, recipe_command
from ibft.cli.tables import print_after_training, print_audit, print_comparison

if TYPE_CHECKING:
    from ibft.objectives.base import Objective
    from ibft.pages.scan import Scan
    from ibft.run.folder import RunFolder

__all__ = ["warn_of_alarms"]


@main.command()
@recipe_command("overwrite", "full")
@click.option("--strict", is_flag=True, help="Exit with 1 if more than half of an arm's samples hold no program.")
def run(strict: bool, **options: Any) -> None:
    """Run every stage of RECIPE that is not complete yet, then report."""
    from ibft.run.steps import STEPS

    # Opened for all of them: what any would be refused for is found out before the first begins.
    with open_run(**options, stages=[step.name for step in STEPS]) as folder:
        done = {step.name: _DO[step.name](folder) for step in STEPS}
    if done["judge"] and strict:  # an arm is hollow
        raise SystemExit(1)


@main.command()
@recipe_command("overwrite")
def scan(**options: Any) -> None:
    """Measure how predictable the training data already is to the base model.

    Ends with a verdict on the memorization barrier, here and in report/audit.html of the run folder. That needs a
    control set: `data.control` in the recipe, code that the model cannot have seen.
    """
    with open_run(**options, stages=["scan"]) as folder:
        _scan(folder)
        _audit(folder)


@main.command()
@recipe_command("overwrite", "arms")
def rescan(**options: Any) -> None:
    """Measure the scanned data again under every trained arm, and what it has memorized of its training data."""
    from ibft.pages.after_training import after_training

    with open_run(**options, stages=["rescan"]) as folder:
        _rescan(folder)
        scanned = _audit(folder)
        if scanned is not None and (after := after_training(scanned)) is not None:
            print_after_training(after)


@main.command()
@recipe_command("overwrite", "arms")
def train(**options: Any) -> None:
    """Fine-tune the base model, once for each objective of the recipe."""
    with open_run(**options, stages=["train"]) as folder:
        _train(folder)
        warn_of_alarms(folder)


@main.command()
@recipe_command("overwrite", "full", "arms")
def generate(**options: Any) -> None:
    """Sample answers to the benchmark's problems from every arm."""
    with open_run(**options, stages=["generate"]) as folder:
        _generate(folder)


@main.command()
@recipe_command("full")
def report(**options: Any) -> None:
    """Compare the judged arms on one HTML page."""
    with open_run(**options, stages=["report"]) as folder:
        _report(folder)


def _scan(folder: RunFolder) -> None:
    from ibft.stages.scan import scan

    scan(folder.recipe, folder)


def _rescan(folder: RunFolder) -> None:
    from ibft.run.processes import is_main_process
    from ibft.stages.rescan import rescan
    from ibft.stages.rescanned import compare_rescanned

    for objective in _objectives(folder):
        rescan(folder.recipe, folder, objective.arm)
    if is_main_process():
        compare_rescanned(folder.recipe, folder)


def _audit(folder: RunFolder) -> Scan | None:
    """Write and print the audit; return what it was made of, in the main process."""
    from ibft.pages.audit import audit
    from ibft.pages.scan import read_scan
    from ibft.run.processes import is_main_process

    # The processes share the scan; its page is written and shown once.
    if not is_main_process():
        return None
    page = audit(folder.recipe, folder)
    scanned = read_scan(folder.recipe, folder)
    assert scanned is not None
    print_audit(scanned.summary, page)
    return scanned


def _train(folder: RunFolder) -> None:
    from ibft.stages.train import train

    for objective in _objectives(folder):
        train(folder.recipe, folder, objective)


def _objectives(folder: RunFolder) -> list[Objective]:
    return [objective for objective in folder.recipe.objective if objective.arm in folder.arms]


def warn_of_alarms(folder: RunFolder) -> None:
    """Show the alarms of the arms that were not shown during their training: of this command, or of an earlier one."""
    from ibft import progress
    from ibft.objectives.alarms import alarm_title
    from ibft.pages.evidence import read_alarms

    for arm, alarms in read_alarms(folder.recipe, folder).items():
        for alarm in alarms if arm in folder.arms else ():
            progress.warn(alarm_title(arm, alarm), alarm.message)


def _generate(folder: RunFolder) -> None:
    from ibft.stages.generate import generate

    for arm in folder.arms:
        generate(folder.recipe, folder, arm)


def _report(folder: RunFolder) -> None:
    from ibft.stages.report import report

    print_comparison(report(folder.recipe, folder))
    click.echo(f"\nReport: {folder.path / 'report' / 'report.html'}")


_DO: dict[str, Callable[[RunFolder], Any]] = {
    "scan": _scan,
    "train": _train,
    "rescan": _rescan,
    "generate": _generate,
    "judge": judge_arms,
    "report": _report,
}
"""The work of each step from the command line; `STEPS` has the order."""
