"""The page of `ibft preview`: the data as it is trained, for people who decide whether to train on it.

One file with no script and no network, light and dark, for screens and paper.
"""

from __future__ import annotations

from ibft.artifacts.preview import Preview, SetPreview
from ibft.data.skipped import LOUD_SHARE
from ibft.pages.audit_rows import number, percent
from ibft.pages.charts import Bar, draw_histogram
from ibft.pages.figures import Chart
from ibft.pages.page import render_template
from ibft.pages.preview_words import (
    length_sentences,
    overlap_sentences,
    repeat_sentences,
    set_name,
    set_sentences,
    visible_runs,
)

__all__ = ["render_preview"]

_FINE = "This data can be trained on"


def render_preview(preview: Preview) -> str:
    """Return the page. The same preview gives the same text."""
    is_loud = preview.train.num_skipped > LOUD_SHARE * preview.train.num_rows
    headline = _FINE
    if preview.refusal:
        headline = "Training would stop at this data"
    elif any(overlap.num_leaked for overlap in preview.problems):
        headline = "This data can be trained on, and has problems of the benchmark in it"
    elif is_loud:
        headline = "This data can be trained on, and much of it is left out"
    return render_template(
        "preview.html",
        {function.__name__: function for function in (number, percent, set_name, visible_runs)},
        preview=preview,
        charts=[_chart(preview, examples) for examples in preview.sets],
        sentences=[[*set_sentences(examples), *length_sentences(preview, examples)] for examples in preview.sets],
        repeats=[repeat_sentences(repeats) for repeats in preview.repeats],
        overlaps=[overlap_sentences(overlap, preview.train.num_examples) for overlap in preview.problems],
        is_loud=is_loud,
        is_fine=headline == _FINE,
        headline=headline,
    )


def _chart(preview: Preview, examples: SetPreview) -> Chart | None:
    """Draw the token counts of a set; None where no row could be encoded."""
    if not examples.bins:
        return None
    # As wide as the widest: at its true width, a bin without an end would squeeze the others.
    widest = max((bin_.end - bin_.start for bin_ in examples.bins if bin_.end is not None), default=0)
    bars = [
        Bar(bin_.start, bin_.start + widest if bin_.end is None else bin_.end, bin_.num_examples, bin_.end is None)
        for bin_ in examples.bins
    ]
    beyond = f"more than {preview.max_tokens:,} tokens, left out"
    drawing = draw_histogram(
        bars, "tokens of an example", f"Examples, {set_name(examples.name).lower()}", beyond=beyond
    )
    return Chart(f"lengths-{examples.name}", drawing, "Whole examples, prompt and end token included.")
