"""A file of samples judged into a folder: the references, then the samples, then the metrics.

results.jsonl           one rows.Result per sample, in the order of the samples
metrics.json            artifacts.metrics.Metrics
results.partial.jsonl   while it runs: the results so far, so that an interrupted run resumes from there
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from ibft.artifacts.json_lines import write_atomically
from ibft.artifacts.metrics import Metrics
from ibft.execution.cache import VerdictCache, default_cache_path
from ibft.execution.pool import PoolLike, open_pool
from ibft.execution.references import run_references
from ibft.execution.run import judge_samples
from ibft.execution.settings import Judging
from ibft.execution.summary import summarize_results

__all__ = ["judge_into"]

_UNJUDGED = "infrastructure_error"


def judge_into(folder: Path, judging: Judging, title: str, *, pool: PoolLike | None = None) -> Metrics:
    """Judge the samples without a result in the folder, and write results and metrics there.

    A sample that the sandbox failed on is tried again each time; other metrics of complete results need no judging.

    Args:
        folder: exists; may hold other files, and results of the same judging.
        judging: the samples, and how they are judged.
        title: of the progress bar.
        pool: judges them; by default those that the settings name, for as long as there is something to judge.
    """
    results, partial = folder / "results.jsonl", folder / "results.partial.jsonl"
    known = None
    with contextlib.suppress(FileNotFoundError, msgspec.MsgspecError):  # damaged or of another version: made again
        known = Metrics.from_json((folder / "metrics.json").read_bytes())
    if known is not None and results.exists() and not partial.exists() and not known.statuses.get(_UNJUDGED):
        excluded = known.excluded
    else:
        (folder / "metrics.json").unlink(missing_ok=True)  # or a kill would leave metrics beside other results
        known = None
        excluded = _judge(folder, judging, title, pool)
    if known is not None and (known.k, known.seed, known.bootstrap_resamples) == judging.metric_settings:
        return known
    metrics = summarize_results(results, judging, excluded)
    write_atomically(folder / "metrics.json", metrics.to_json())
    return metrics


def _judge(folder: Path, judging: Judging, title: str, pool: PoolLike | None) -> dict[str, str]:
    """Write `results.jsonl`; return the problems whose reference does not pass, with the reason."""
    settings = judging.settings
    with contextlib.ExitStack() as cleanup:
        config = settings.config
        pool = pool or cleanup.enter_context(open_pool(config.workers, settings.level, config.ray))
        path = default_cache_path() if config.cache else None
        cache = cleanup.enter_context(VerdictCache(path))
        references = run_references(judging.problems, pool, cache, settings)
        judge_samples(judging, references, pool, cache, folder, title)
    return {task_id: reference.message for task_id, reference in references.items() if not reference.passed}
