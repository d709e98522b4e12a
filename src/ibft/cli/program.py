"""The program that the verbs belong to: what it does with errors and interruptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import ibft
from ibft.errors import UserError
from ibft.run.steps import STEPS

__all__ = ["PATH", "Verbs", "main"]

PATH = click.Path(path_type=Path)
"""The type of an argument that names a file or folder."""

_GROUPS = {
    "Pipeline": ("run", *(step.name for step in STEPS)),
    "Data": ("preview", "problems", "leakage", "duplicates", "prune", "canary"),
    "Models": ("compare", "export", "scale"),
    "Start": ("init", "world", "doctor", "serve"),
}
"""The verbs as the help shows them; the pipeline's in their order."""


class Verbs(click.Group):
    """A group whose list of verbs has the whole first sentence of each: Click's own list cuts it to fit on one line."""

    def sections(self) -> dict[str, tuple[str, ...]]:
        """Return the titles, each with the verbs under it."""
        return {"Commands": tuple(name for name, verb in self.commands.items() if not verb.hidden)}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a list of verbs for each section."""
        for title, names in self.sections().items():
            with formatter.section(title):
                # Click's own limit of 45 characters cuts most sentences.
                formatter.write_dl([(name, self.commands[name].get_short_help_str(limit=200)) for name in names])


class _Program(Verbs):
    """Prints a `UserError` as one sentence and exits with code 2; anything else keeps its traceback."""

    group_class = Verbs  # of `judge`, `problems` and `canary`, whose lists are then whole as well

    def sections(self) -> dict[str, tuple[str, ...]]:
        return _GROUPS

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            _wait_for_the_main_process()
            click.secho("Error: ", fg="red", bold=True, nl=False, err=True)
            click.echo(str(error), err=True)
            ctx.exit(2)  # as Click does where it refuses an argument
        except KeyboardInterrupt:
            _wait_for_the_main_process()
            click.echo("Interrupted. The same command resumes from what is complete.", err=True)
            ctx.exit(130)  # as a shell reports SIGINT


def _wait_for_the_main_process() -> None:
    """Let the main process speak first where a launcher started several."""
    import time

    from ibft.run.processes import is_main_process

    # The launcher ends the others as soon as one has failed: what went wrong in all of them is then printed once. What
    # went wrong in another process alone is printed by it, after the pause.
    if not is_main_process():
        time.sleep(10)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(ibft.__version__)
def main() -> None:
    """Audit memorization, fine-tune, judge by execution, and report which model to ship."""
