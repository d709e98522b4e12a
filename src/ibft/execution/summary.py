"""From results to `metrics.json`: the figures, and the notes that a reader of them needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ibft.artifacts.hollow import Hollow, find_hollow, is_hollow
from ibft.artifacts.json_lines import read_rows
from ibft.artifacts.metrics import Metrics, curves, means, summarize
from ibft.artifacts.rows import Result
from ibft.artifacts.samples import SampleFile
from ibft.artifacts.tally import Tally, tally
from ibft.execution.languages import LANGUAGES
from ibft.execution.settings import Judging, tool_versions
from ibft.statistics.pass_at_k import Count
from ibft.text.answers import is_chat

__all__ = ["summarize_results"]

_MAX_NAMED = 10


def summarize_results(results: Path, judging: Judging, excluded: Mapping[str, str]) -> Metrics:
    """Return the metrics of a file of results.

    Args:
        results: `results.jsonl`, one row for each of the samples, in their order.
        judging: the samples, and how they were judged. The metrics are undefined where a problem has no samples.
        excluded: the task ids whose own reference does not pass, with the reason.
    """
    problems, samples, wanted = judging.problems, judging.samples, judging.metric_settings
    counted = tally(read_rows(results, Result))
    judged = [problem for problem in problems if problem.task_id not in excluded]
    counts = [counted.counts.get(problem.task_id, Count(0, 0)) for problem in judged]
    reason = None
    if failures := counted.statuses["infrastructure_error"]:
        reason = (
            f"{failures} of {counted.num_samples} samples could not be judged; run the same command to try them again"
        )
    figures = summarize(counts, wanted.k, num_resamples=wanted.bootstrap_resamples, seed=wanted.seed, reason=reason)
    languages = sorted({problem.language for problem in problems})
    hollow = _hollow(results, counted, samples, judging.are_raw)
    return Metrics(
        num_problems=len(judged),
        num_samples=counted.num_samples - counted.statuses["excluded"],
        metrics=figures,
        curves=curves(figures, wanted.k),
        statuses=dict(counted.statuses.most_common()),
        problems=judging.source,
        sandbox=judging.settings.level,
        tool_versions={tool: version for name in languages for tool, version in tool_versions(name).items()},
        k=wanted.k,
        seed=wanted.seed,
        bootstrap_resamples=wanted.bootstrap_resamples,
        excluded=dict(excluded),
        num_weak=counted.num_weak,
        num_extracted=counted.num_extracted,
        num_warned=counted.num_warned,
        readings=_readings(counted, [problem.task_id for problem in judged], wanted.k) if reason is None else {},
        hollow=hollow,
        notes=[
            *([hollow.message] if hollow else []),
            *(warning for name in languages for warning in LANGUAGES[name].warnings()),
            *_notes(counts, excluded, counted, samples.num_left_out),
        ],
    )


def _readings(counted: Tally, task_ids: Sequence[str], k: Sequence[int]) -> dict[str, dict[str, float]]:
    names = list(counted.readings) if counted.num_warned else ["syntax"]
    by_name = {name: [counted.readings[name].get(task_id, Count(0, 0)) for task_id in task_ids] for name in names}
    return {name: means(counts, k) for name, counts in by_name.items()}


def _hollow(results: Path, counted: Tally, samples: SampleFile, are_raw: bool) -> Hollow | None:
    if not is_hollow(counted.statuses):  # only a hollow run needs its samples read again
        return None
    num_cut = num_marked = 0
    for sample, result in zip(samples.stored(), read_rows(results, Result), strict=True):
        if result.status in ("no_code", "syntax_error"):
            are_raw = are_raw or sample.raw is not None
            num_cut += sample.finish_reason == "length"
            num_marked += is_chat(sample.raw or sample.text)
    return find_hollow(counted.statuses, num_cut=num_cut, num_marked=num_marked, are_extracted=are_raw)


def _notes(counts: Sequence[Count], excluded: Mapping[str, str], counted: Tally, num_left_out: int) -> list[str]:
    notes = []
    if excluded:
        named = ", ".join(list(excluded)[:_MAX_NAMED]) + (", …" if len(excluded) > _MAX_NAMED else "")
        notes.append(
            f"{len(excluded)} problems are excluded, since their own reference solutions do not pass here: {named}"
        )
    if counted.num_weak:
        notes.append(
            f"{counted.num_weak} samples were judged with the tests inside the candidate's interpreter, which is weaker"
        )
    if counted.num_warned:
        notes.append(
            f"{counted.num_warned} samples are right but for a warning of the compiler; metrics.json has the figures "
            "if all of these or none had passed (readings)"
        )
    if counted.num_extracted:
        notes.append(
            f"{counted.num_extracted} samples were raw answers, of which only the program was judged (--extract none "
            "judges them as they stand)"
        )
    if num_left_out:
        notes.append(f"{num_left_out} samples of other tasks were left out")
    sizes = [count.num_samples for count in counts]
    if sizes and min(sizes) != max(sizes):
        notes.append(f"problems have from {min(sizes)} to {max(sizes)} samples each")
    for word, same in (
        ("no sample passed", all(count.num_correct == 0 for count in counts)),
        ("every sample passed", all(count.num_correct == count.num_samples for count in counts)),
    ):
        if sizes and min(sizes) > 0 and same:  # with a problem unjudged there are no intervals
            bound = min(1.0, 3 / len(counts))
            notes.append(
                f"{word}, so the bootstrap intervals have no width, which is not certainty: of such problems up to "
                f"{bound:.0%} may be otherwise (rule of three, 95%)"
            )
    return notes
