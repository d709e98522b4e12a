"""The service's routes. Bodies are read by msgspec (`schema.py`, `sandbox_fusion.py`), up to a number of bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

import msgspec
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import StreamingResponse

import ibft
from ibft.artifacts.rows import Problem, Sample
from ibft.execution.api import jobs_of
from ibft.execution.completing import complete
from ibft.execution.languages import LANGUAGES
from ibft.execution.outcome import Job, Outcome
from ibft.execution.service.access import Access
from ibft.execution.service.desk import Desk
from ibft.execution.service.sandbox_fusion import ProgramRunner, RunCodeRequest, SubmitRequest, as_eval_result
from ibft.execution.service.schema import Done, Health, JobsRequest, JudgeRequest, JudgeResponse
from ibft.text.answers import extract_sample

__all__ = ["create_app"]

Body = TypeVar("Body")

_HEARTBEAT_S = 5.0


def create_app(desk: Desk, token: str | None) -> FastAPI:
    """Return the service as an ASGI application, which starts and ends the desk's pool.

    Args:
        desk: does the work.
        token: needed for every route but `/health`; without one, see `Access`.
    """
    programs = ProgramRunner(desk.pool.level, desk.pool.num_workers)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with desk.pool, contextlib.closing(programs):
            yield

    app = FastAPI(title="ibft judge", version=ibft.__version__, lifespan=lifespan, openapi_url=None)
    allowed = [Depends(Access(token))]

    @app.get("/health")
    async def health() -> Response:
        pool = desk.pool
        return _json(Health(status="ok", version=ibft.__version__, sandbox=pool.level, workers=pool.num_workers))

    @app.get("/metrics", dependencies=allowed)
    async def metrics() -> Response:
        return Response(desk.metrics(), media_type="text/plain; version=0.0.4")

    @app.post("/judge", dependencies=allowed)
    async def judge(request: Request) -> Response:
        return _json(await _unless_gone(request, _judge(desk, await _read(desk, request, JudgeRequest))))

    @app.post("/jobs", dependencies=allowed)
    async def jobs(request: Request) -> Response:
        body = await _read(desk, request, JobsRequest)
        lines = _job_lines(desk, _jobs(desk, body))
        return StreamingResponse(await _begun(lines), media_type="application/x-ndjson")

    @app.post("/run_code", dependencies=allowed)
    async def run_code(request: Request) -> Response:
        body = await _read(desk, request, RunCodeRequest)
        desk.limits.require(body.limits())
        with desk.room(1, full_status=504):  # the only status after which verl's client tries again
            answer = await _unless_gone(request, programs.run(body))
        desk.counts["programs", answer.status] += 1
        return _json(answer)

    @app.post("/submit", dependencies=allowed)
    async def submit(request: Request) -> Response:
        body = await _read(desk, request, SubmitRequest)
        problem = desk.known(body.dataset, str(body.id))
        answer = await _unless_gone(request, _judge(desk, JudgeRequest(answers=[body.completion], problem=problem)))
        sample = extract_sample(Sample(task_id=problem.task_id, completion=body.completion), problem)
        code = LANGUAGES[problem.language].source(problem, sample)
        return _json(as_eval_result(body, code, problem.tests, answer.outcomes[0]))

    return app


async def _judge(desk: Desk, body: JudgeRequest) -> JudgeResponse:
    """Run a problem's reference, then the answers."""
    problem = _completed(body.problem) if body.problem else desk.known(body.dataset, body.task_id)
    with desk.room(len(body.answers)):
        reference = await desk.reference(problem)
        limits = body.limits or desk.settings.limits(problem, reference)
        desk.limits.require(limits)
        # In a thread: to find the programs in many long answers takes a while, in which others want to be heard.
        outcomes: dict[int, Outcome] = {}
        pairs, references = [(problem, answer) for answer in body.answers], {problem.task_id: reference}
        jobs = await asyncio.to_thread(lambda: dict(jobs_of(pairs, references, limits, desk.settings, outcomes)))
        outcomes.update(zip(jobs, await desk.outcomes([*jobs.values()]), strict=True))
        return JudgeResponse(outcomes=[outcomes[position] for position in sorted(outcomes)], reference=reference)


def _completed(problem: Problem) -> Problem:
    _require_language(problem.language)
    try:
        return complete(problem)
    except ValueError as error:
        raise HTTPException(422, f"problem: {error}") from None


def _jobs(desk: Desk, body: JobsRequest) -> list[Job]:
    """Return a request's jobs, all of which are allowed here."""
    jobs = []
    for job in body.jobs:
        if not 0 <= job.problem < len(body.problems):
            raise HTTPException(422, f"jobs: there is no problem {job.problem}")
        problem = body.problems[job.problem]
        _require_language(problem.language)
        desk.limits.require(job.limits)
        jobs.append(Job(problem=problem, limits=job.limits, sample=job.sample, reference=job.reference))
    return jobs


async def _job_lines(desk: Desk, jobs: list[Job]) -> AsyncIterator[bytes]:
    """Yield a line for each verdict, and an empty one wherever nothing has come for some time."""
    with desk.room(len(jobs)):
        yield b"\n"  # taken on
        async with contextlib.aclosing(desk.verdicts(jobs)) as verdicts:
            following = asyncio.ensure_future(anext(verdicts, None))
            try:
                while True:
                    done, _ = await asyncio.wait([following], timeout=_HEARTBEAT_S)
                    if not done:
                        yield b"\n"
                        continue
                    if (found := following.result()) is None:
                        return
                    position, verdict = found
                    kind = {"outcome" if isinstance(verdict, Outcome) else "reference": verdict}
                    yield msgspec.json.encode(Done(position=position, **kind)) + b"\n"  # type: ignore[arg-type]
                    following = asyncio.ensure_future(anext(verdicts, None))
            finally:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError, StopAsyncIteration):
                    await following


async def _begun(lines: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Return the lines after the first, which is awaited: a refusal comes before the answer's status is sent."""
    await anext(lines)
    return lines


async def _unless_gone(request: Request, work: Any) -> Any:
    """Await work, and end it when nobody waits for it any more."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait([task], timeout=1.0))[0]:
            if await request.is_disconnected():
                raise HTTPException(499, "the client is gone")
        return task.result()
    finally:
        task.cancel()


async def _read(desk: Desk, request: Request, kind: type[Body]) -> Body:
    """Read a body, by no more bytes than are allowed.

    Raises:
        HTTPException: 413 if it is larger; 422 if it is not what it should be, in words.
    """
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > desk.limits.max_body_bytes:
            raise HTTPException(413, f"the request has more than {desk.limits.max_body_bytes} bytes")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HTTPException(422, str(error)) from None


def _require_language(language: str) -> None:
    if language not in LANGUAGES:
        raise HTTPException(422, f"language {language!r} is not known; there are {', '.join(LANGUAGES.names())}")


def _json(content: object) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
