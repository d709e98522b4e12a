"""The command line: one verb a stage, and nothing else. Everything heavy is imported by the verb that needs it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

import ibft
from ibft.errors import UserError

if TYPE_CHECKING:
    from ibft.judging.diff import Diff
    from ibft.metrics.summary import Metrics
    from ibft.recipe import JudgeConfig, Recipe
    from ibft.report.compare import Comparison
    from ibft.runs import RunFolder

__all__ = ["main"]


class _Commands(click.Group):
    """Prints a `UserError` as one sentence and exits with code 2; anything else keeps its traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            _wait_for_the_main_process()
            click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
            click.echo(str(error), err=True)
            ctx.exit(2)
        except KeyboardInterrupt:
            _wait_for_the_main_process()
            click.echo("Interrupted. The same command goes on from what is complete.", err=True)
            ctx.exit(130)


def _wait_for_the_main_process() -> None:
    """Where a launcher started several processes, let the main one speak first.

    What went wrong in all of them is said once: the launcher ends the others as soon as one has failed. What went
    wrong in another process alone is said by it, a moment later.
    """
    import time

    from ibft.runs import is_main_process

    if not is_main_process():
        time.sleep(10)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(ibft.__version__)
def main() -> None:
    """Audit memorization, fine-tune, judge by execution, and report which model to ship."""


def _recipe_command(function: Callable[..., None]) -> Callable[..., None]:
    """The arguments that every verb on a recipe takes."""
    for decorator in (
        click.option("--overwrite", is_flag=True, help="Make stages again that were made from a different recipe."),
        click.option("--full", is_flag=True, help="Evaluate all problems (drops problems.limit)."),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override one recipe key."),
        click.argument("recipe", type=click.Path(path_type=Path)),
    ):
        function = decorator(function)
    return function


def _open_run(
    recipe: Path, overrides: tuple[str, ...], full: bool, overwrite: bool
) -> AbstractContextManager[RunFolder]:
    from ibft import progress
    from ibft.recipe import load_recipe
    from ibft.runs import RunFolder, is_main_process, num_processes

    if num_processes() > 1 and (verb := click.get_current_context().info_name) != "train":
        raise UserError(
            f"ibft {verb} was started in {num_processes()} processes: only `ibft train` works in several. Train with "
            f"the launcher, then run `ibft {verb}` without it."
        )
    if is_main_process():
        progress.enable()
    resolved = load_recipe(recipe, overrides, full=full)
    # Only a recipe with a gpu: section has to ask, and asking loads PyTorch.
    if resolved.gpu and _gpu_is_used(resolved):
        resolved = load_recipe(recipe, overrides, full=full, use_gpu_overrides=True)
    return RunFolder(resolved, overwrite=overwrite).open()


def _gpu_is_used(recipe: Recipe) -> bool:
    from ibft.models import has_gpu

    return recipe.model.device.startswith("cuda") or (recipe.model.device == "auto" and has_gpu())


@main.command()
@_recipe_command
def run(**options: Any) -> None:
    """Run every stage of RECIPE that is not complete yet, then report."""
    with _open_run(**options) as folder:
        _check(folder)
        _scan(folder)
        _train(folder)
        _generate(folder)
        _judge(folder)
        _report(folder)


@main.command()
@_recipe_command
def scan(**options: Any) -> None:
    """Measure how predictable the training data already is to the base model."""
    with _open_run(**options) as folder:
        _scan(folder)


@main.command()
@_recipe_command
def train(**options: Any) -> None:
    """Fine-tune the base model, once for each objective of the recipe."""
    with _open_run(**options) as folder:
        _check(folder)
        _train(folder)
        _warn(folder)


@main.command()
@_recipe_command
def generate(**options: Any) -> None:
    """Sample answers to the benchmark's problems from every arm."""
    with _open_run(**options) as folder:
        _generate(folder)


class _JudgeGroup(click.Group):
    """`ibft judge ...` itself judges, and has subcommands besides: what is none of their names is judged."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or args[0] not in (*self.commands, *ctx.help_option_names):
            args = ["run", *args]
        elif args[0] in ctx.help_option_names:
            args = ["run", "--help"]
        return super().parse_args(ctx, args)


@main.group(cls=_JudgeGroup)
def judge() -> None:
    """Run the generated code of a RECIPE's arms, or of --samples from any other tool. See also: judge diff."""


def _sandbox_options(function: Callable[..., None]) -> Callable[..., None]:
    """How programs are run, wherever they are."""
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
    ):
        function = decorator(function)
    return function


_SOURCES = "humaneval, mbpp:PATH, evalplus:PATH, verilog-eval:PATH, or a problem file."


@judge.command("run")
@click.argument("recipe", type=click.Path(path_type=Path), required=False)
@click.option("--problems", metavar="SOURCE", help=_SOURCES)
@_sandbox_options
@click.option("--samples", type=click.Path(path_type=Path), help="Samples of any tool, .jsonl or .jsonl.gz.")
@click.option("--out", type=click.Path(path_type=Path), help="Folder for results.jsonl and metrics.json.")
@click.option("--k", default="1,5,10", show_default=True, metavar="K,K", help="Which Pass@k to compute.")
@click.option("--timeout", "timeout_s", type=float, default=3.0, show_default=True, help="CPU seconds a sample.")
@click.option("--for-evalplus", is_flag=True, help="Also write eval_results.json, which EvalPlus's tools read.")
@click.option("--no-cache", is_flag=True, help="Judge again what was judged before.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="With RECIPE: override one key.")
@click.option("--full", is_flag=True, help="With RECIPE: evaluate all problems.")
@click.option("--overwrite", is_flag=True, help="With RECIPE: judge again what another recipe judged.")
def judge_run(
    recipe: Path | None,
    problems: str | None,
    samples: Path | None,
    out: Path | None,
    k: str,
    tasks: tuple[str, ...],
    for_evalplus: bool,
    overrides: tuple[str, ...],
    full: bool,
    overwrite: bool,
    **options: Any,
) -> None:
    """Run the generated code: of a RECIPE's arms, or of --samples from any other tool.

    `ibft judge diff A B` compares two files of results.
    """
    if recipe is not None:
        if problems or samples or out or tasks:
            raise UserError("judge takes a RECIPE, or --problems, --samples and --out: not both.")
        _refuse_options_of_samples(recipe)
        with _open_run(recipe, overrides, full, overwrite) as folder:
            _judge(folder)
        return
    if problems is None or samples is None or out is None:
        raise UserError("judge needs a RECIPE, or all of --problems, --samples and --out. See `ibft judge --help`.")
    from ibft import progress
    from ibft.judging.stage import judge_file

    progress.enable()
    config = _judge_config(**options)
    metrics = judge_file(problems, samples, out, config, _counts(k), tasks=tasks, for_evalplus=for_evalplus)
    _print_metrics(metrics)
    click.echo(f"\nWrote {out / 'results.jsonl'} and {out / 'metrics.json'}")


@judge.command()
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--k", default="1", show_default=True, metavar="K,K", help="Which Pass@k to compare.")
@click.option("--json", "as_json", is_flag=True, help="Everything, for programs.")
def diff(a: Path, b: Path, k: str, as_json: bool) -> None:
    """Compare two result files problem by problem: what changed from A to B, and is it more than chance?"""
    from ibft.judging.diff import diff_results

    found = diff_results(a, b, _counts(k))
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        _print_diff(found)


def _refuse_options_of_samples(recipe: Path) -> None:
    """With a recipe, how to judge stands in the recipe: an option that does nothing would mislead."""
    context = click.get_current_context()
    for name in ("workers", "sandbox", "k", "timeout_s", "no_cache", "for_evalplus"):
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UserError(
                f"--{name.removesuffix('_s').replace('_', '-')} goes with --samples. With a RECIPE, set it in "
                f"{recipe}, under judge: (or report.k), or for once with --set judge.KEY=VALUE."
            )


def _judge_config(*, no_cache: bool = False, timeout_s: float = 3.0, **options: Any) -> JudgeConfig:
    from ibft.recipe import JudgeConfig

    if not 0 < timeout_s < 86_400:
        raise UserError(f"--timeout {timeout_s:g}: give the CPU seconds a sample may use, above 0 and below a day.")
    return JudgeConfig(cache=not no_cache, timeout_s=timeout_s, **options)


def _counts(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
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
    from ibft import progress
    from ibft.judging.stage import check_problems

    progress.enable()
    references = check_problems(source, _judge_config(**options), tasks)
    broken = {task_id: one for task_id, one in references.items() if not one.passed}
    for task_id, one in broken.items():
        click.echo(f"{task_id}: {one.message}")
    num_weak = sum(one.is_weak for one in references.values())
    click.echo(
        f"{len(references) - len(broken)} of {len(references)} problems can be judged, {num_weak} of them inside."
    )
    if broken:
        raise SystemExit(1)


@main.command()
@_recipe_command
def report(**options: Any) -> None:
    """Compare the judged arms on one HTML page."""
    with _open_run(**options) as folder:
        _report(folder)


@main.command()
@click.argument("path", type=click.Path(path_type=Path), default=Path("recipe.yaml"))
def init(path: Path) -> None:
    """Write a commented starter recipe to PATH (default: recipe.yaml)."""
    if path.exists():
        raise UserError(f"{path} exists already. Name another file, or remove it first.")
    from importlib.resources import files

    from ibft.rows import write_atomically

    write_atomically(path, files("ibft").joinpath("starter.yaml").read_bytes())
    click.echo(f"Wrote {path}. Edit its data: and problems: sections, then `ibft run {path}`.")


@main.command()
def doctor() -> None:
    """Say what this machine has, and what is missing for what."""
    from rich.console import Console
    from rich.table import Table

    from ibft.doctor import check_machine

    table = Table("", "What", "Found", "Needed for", box=None, pad_edge=False)
    for check in check_machine():
        table.add_row("[green]✓[/]" if check.found else "[yellow]–[/]", check.what, check.detail, check.needed_for)
    Console().print(table)


def _check(folder: RunFolder) -> None:
    from ibft.training.stage import check_objectives

    _quiet_libraries()
    check_objectives(folder.recipe)


def _scan(folder: RunFolder) -> None:
    from ibft.memorization.stage import scan

    _quiet_libraries()
    scan(folder.recipe, folder)


def _train(folder: RunFolder) -> None:
    from ibft.training.stage import train

    _quiet_libraries()
    for objective in folder.recipe.objective:
        train(folder.recipe, folder, objective)


def _warn(folder: RunFolder) -> None:
    """Say what alarms the arms have that was not said while they were trained: just now, or by an earlier command."""
    from ibft import progress
    from ibft.metrics.alarms import alarm_title
    from ibft.report.evidence import read_alarms

    for arm, alarms in read_alarms(folder.recipe, folder).items():
        for alarm in alarms:
            progress.warn(alarm_title(arm, alarm), alarm.message)


def _generate(folder: RunFolder) -> None:
    from ibft.generation.stage import generate

    _quiet_libraries()
    for arm in folder.recipe.arms:
        generate(folder.recipe, folder, arm)


def _judge(folder: RunFolder) -> None:
    from ibft.judging.stage import judge

    for arm in folder.recipe.arms:
        judge(folder.recipe, folder, arm)


def _report(folder: RunFolder) -> None:
    from ibft.report.stage import report

    _print_comparison(report(folder.recipe, folder))
    click.echo(f"\nReport: {folder.path / 'report' / 'report.html'}")


def _print_comparison(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table

    from ibft.report.compare import MAX_COLUMNS, comparison_rows

    console, table = Console(), Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    rows, names = comparison_rows(comparison), [arm.name for arm in comparison.arms]
    is_wide = len(names) > MAX_COLUMNS
    # With many arms, each has a row, and what is the same for all is said below: a terminal is narrow.
    shared = [row for row in rows if is_wide and len(set(row.cells)) == 1]
    rows = [row for row in rows if row not in shared]
    texts = [[f"{cell.text} [dim]{cell.detail}[/dim]" for cell in row.cells] for row in rows]
    labels = [row.label for row in rows]
    if is_wide:
        names, labels, texts = labels, names, [[row[arm] for row in texts] for arm in range(len(names))]
    table.add_column("", no_wrap=True)
    for name in names:
        table.add_column(name)
    for label, cells in zip(labels, texts, strict=True):
        table.add_row(label, *cells)
    console.print(table)
    if shared:
        said = [f"{row.label}: {row.cells[0].text} {row.cells[0].detail}".strip() for row in shared]
        console.print(f"All arms alike: {'; '.join(said)}.", highlight=False)
    for line in (comparison.headline, comparison.verdict, comparison.advice, *comparison.notes):
        if line:
            console.print(f"\n{line}", highlight=False)


def _print_metrics(metrics: Metrics) -> None:
    """Pass@k and Pass@k^(k) in the terminal; the values of every m between are in metrics.json."""
    from rich.console import Console
    from rich.table import Table

    from ibft.metrics.pass_at_k import metric_name

    table = Table(box=None, pad_edge=False)
    for title, justify in (("metric", "left"), ("value", "right"), ("95% interval", "left")):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]
    for k in metrics.k:
        for name in dict.fromkeys((metric_name(k), metric_name(k, k))):
            metric = metrics.metrics[name]
            if metric.value is None or metric.ci95 is None:
                table.add_row(name, "undefined", metric.reason)
            else:
                table.add_row(name, f"{metric.value:.1%}", f"{metric.ci95[0]:.1%} to {metric.ci95[1]:.1%}")
    console = Console()
    console.print(table)
    console.print(f"{metrics.num_samples} samples of {metrics.num_problems} problems; sandbox: {metrics.sandbox}")
    console.print(", ".join(f"{count} {status}" for status, count in metrics.statuses.items()))
    for note in metrics.notes:
        console.print(f"Note: {note}")


def _print_diff(found: Diff) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("metric", "A", "B", "B - A", "95% interval", "better in A : B", "p"):
        table.add_column(title, justify="left" if title == "metric" else "right")
    for metric in found.metrics:
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
        )
    console = Console()
    console.print(table)
    console.print(f"{found.num_problems} problems. p: exact sign test (McNemar's, with one sample a problem).")
    for word, changed in (("improved", found.improved), ("worsened", found.worsened)):
        if changed:
            shown = ", ".join(
                f"{one.task_id} ({one.num_correct_a}/{one.num_samples_a} to {one.num_correct_b}/{one.num_samples_b})"
                for one in changed[:10]
            )
            console.print(f"{len(changed)} {word}: {shown}{', …' if len(changed) > 10 else ''}", highlight=False)
    for task_id, reason in list(found.left_out.items())[:10]:
        console.print(f"Left out: {task_id}: {reason}", highlight=False)
    for note in found.notes:
        console.print(f"Note: {note}")


def _quiet_libraries() -> None:
    """Keep the libraries' own bars and advice off the terminal: our bars and errors say what a user needs."""
    import logging
    import os
    import warnings

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # TRL and the hub would send usage data
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        import datasets
        import transformers
    except ImportError as error:
        raise UserError(
            f"{error.name} is not installed: this stage needs it. Run `pip install 'ibft[train]'`."
        ) from None
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    datasets.disable_progress_bars()
    logging.getLogger("torch.distributed").setLevel(logging.ERROR)


if __name__ == "__main__":
    main()
