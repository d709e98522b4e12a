"""The messages of the service: the bodies of requests and answers, as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from ibft.artifacts.rows import Problem, Sample
from ibft.execution.outcome import Outcome, Reference
from ibft.execution.sandbox import Limits

__all__ = ["Done", "Health", "JobsRequest", "JudgeRequest", "JudgeResponse", "RemoteJob"]


class JudgeRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /judge`: answers to one problem, given whole or as the `task_id` of a benchmark that the service knows."""

    answers: list[str]
    problem: Problem | None = None
    task_id: str = ""
    dataset: str = ""
    limits: Limits | None = None


class JudgeResponse(msgspec.Struct, kw_only=True):
    """The verdict on each answer, in their order, and that on the problem's own solution."""

    outcomes: list[Outcome]
    reference: Reference


class RemoteJob(msgspec.Struct, kw_only=True):
    """A job whose problem is given by its place among the request's `problems`."""

    problem: int
    limits: Limits
    sample: Sample | None = None
    reference: Reference | None = None


class JobsRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """`POST /jobs`: a pool's jobs."""

    problems: list[Problem]
    jobs: list[RemoteJob]


class Done(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A line of the answer to `/jobs`: the verdict on the job at this position, as soon as it is there."""

    position: int
    outcome: Outcome | None = None
    reference: Reference | None = None


class Health(msgspec.Struct, kw_only=True):
    """`GET /health`."""

    status: Literal["ok"]
    version: str
    sandbox: str
    workers: int
