"""The verb that serves other programs: judging over HTTP."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import click

from ibft.cli.judging import SOURCES
from ibft.cli.program import PATH, main
from ibft.errors import UserError

__all__ = ["serve"]

_SECONDS = click.FloatRange(0, 86_400, min_open=True)


@main.group()
def serve() -> None:
    """Serve other programs over HTTP."""


@serve.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Anything but this machine needs a token.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True)
@click.option("--token-file", type=PATH, help="A file with the token that requests must have. Default: IBFT_TOKEN.")
@click.option("--problems", multiple=True, metavar="SOURCE", help=f"Problems that requests can name: {SOURCES}")
@click.option("--sandbox", type=click.Choice(["auto", "bubblewrap", "landlock"]), default="auto", show_default=True)
@click.option("--workers", type=click.IntRange(min=1), help="Programs run at once. Default: the usable cores.")
@click.option("--timeout", "timeout_s", type=_SECONDS, default=3.0, show_default=True, help="CPU seconds per sample.")
@click.option("--max-jobs", type=click.IntRange(min=1), default=4096, show_default=True, help="Then 503: try later.")
def judge(
    host: str, port: int, token_file: Path | None, problems: tuple[str, ...], max_jobs: int, **options: Any
) -> None:
    """Judge answers that other programs send, also in the format of SandboxFusion."""
    import os

    from ibft.execution.pool import Pool
    from ibft.execution.settings import resolve_settings
    from ibft.problems.loading import load_problems
    from ibft.run.sections import JudgeConfig

    try:
        import uvicorn

        from ibft.execution.service.access import read_token
        from ibft.execution.service.app import create_app
        from ibft.execution.service.desk import Desk, ServiceLimits
    except ImportError as error:
        raise UserError(f"serve: {error.name} is not installed. Install it with `pip install 'ibft[serve]'`.") from None

    token = read_token(host, token_file, os.environ.get("IBFT_TOKEN"))
    settings = resolve_settings(JudgeConfig(**options))
    known = {_name(source): {problem.task_id: problem for problem in load_problems(source)} for source in problems}
    desk = Desk(Pool(settings.num_workers, settings.level), settings, known, ServiceLimits(max_jobs=max_jobs))
    with _listener(host, port) as listener:
        address = f"http://{host}:{listener.getsockname()[1]}"
        click.echo(f"Judging on {address} in {settings.num_workers} workers; sandbox: {settings.level}", err=True)
        config = uvicorn.Config(create_app(desk, token), log_level="warning", timeout_graceful_shutdown=5)
        uvicorn.Server(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UserError(f"serve: cannot listen on {host}:{port} ({error.strerror}). Choose another --port.") from None


def _name(source: str) -> str:
    """Return the name of a data set: `evalplus` for `evalplus:PATH`, `mine` for `folder/mine.jsonl`."""
    benchmark, _, path = source.partition(":")
    return benchmark if path else Path(source).name.partition(".")[0]
