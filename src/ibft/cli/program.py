"""The program that the verbs belong to: what it does with errors and interruptions."""

from __future__ import annotations

from typing import Any

import click

import ibft
from ibft.errors import UserError

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

    from ibft.run.folder import is_main_process

    if not is_main_process():
        time.sleep(10)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(ibft.__version__)
def main() -> None:
    """Audit memorization, fine-tune, judge by execution, and report which model to ship."""
