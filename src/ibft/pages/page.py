"""The parts that the pages share: how their templates become HTML, and the figures for papers beside them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ibft.artifacts.json_lines import write_atomically
from ibft.errors import UserError
from ibft.pages.charts import THEME_CSS
from ibft.pages.figures import Chart
from ibft.run.folder import RunFolder

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

__all__ = ["Page", "duration", "load_template", "prose", "render_template", "write_page", "write_with_figures"]


_MAX_LEAD = 30  # "How sure:" is a lead; half a sentence before a colon is not


class Page(NamedTuple):
    """A page's HTML, and the charts on it, which are also written to files."""

    html: str
    charts: list[Chart]


def load_template(name: str, filters: Mapping[str, Callable[..., Any]], *, is_html: bool) -> Template:
    """Load one of this package's templates."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("ibft.pages", "."),
        # Answers of a model are on the page: without escaping they could run scripts in the reader's browser.
        autoescape=is_html,
        # A misspelled name in a template fails in the tests instead of leaving a hole in the page.
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not is_html,
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def render_template(template: str, filters: Mapping[str, Callable[..., Any]], **context: Any) -> str:
    """Render one of the pages, which all extend page.html. Equal data give equal text."""
    shared: dict[str, Callable[..., Any]] = {"prose": prose, "duration": duration}
    return load_template(template, {**filters, **shared}, is_html=True).render(theme_css=THEME_CSS, **context)


def write_page(run: RunFolder, name: str, page: Page) -> Path:
    """Write `report/NAME` of a run with its figures, as `write_with_figures`.

    Raises:
        UserError: the folder cannot be made or written.
    """
    path = run.path / "report" / name
    _make(path.parent / "figures", "Set `output:` to a folder of yours.")
    # One command at a time, so that a page and its figures are of one of them.
    with run.writing():
        write_with_figures(path, page)
    return path


def write_with_figures(path: Path, page: Page) -> None:
    """Write a page, and each of its charts beside it as `figures/CHART.svg` and `.pdf`, for papers and slides.

    Raises:
        UserError: the folder cannot be made or written.
    """
    figures = path.parent / "figures"
    _make(figures, "Name another place.")
    for chart in page.charts:
        # Names of metrics and gauges hold characters such as @, ^ and /.
        stem = re.sub(r"[^\w-]+", "-", chart.name).strip("-")
        write_atomically(figures / f"{stem}.svg", chart.drawing.svg)
        write_atomically(figures / f"{stem}.pdf", chart.drawing.pdf)
    write_atomically(path, page.html)


def _make(folder: Path, remedy: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror}). {remedy}") from None


def duration(seconds: float) -> str:
    """Return a time for people: `4 min 5 s`."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def prose(sentence: str) -> Markup:
    """Return a sentence as HTML: what is in backticks as code, and a lead of a few words ("How sure:") in bold."""
    from markupsafe import Markup, escape

    lead, colon, rest = sentence.partition(": ")
    is_lead = bool(colon) and len(lead) <= _MAX_LEAD and not set(lead) & set("`.,;(")
    parts = re.split(r"`([^`]*)`", rest if is_lead else sentence)
    body = Markup("").join(
        Markup("<code>{}</code>").format(part) if index % 2 else escape(part) for index, part in enumerate(parts)
    )
    return Markup("<strong>{}:</strong> {}").format(lead, body) if is_lead else body
