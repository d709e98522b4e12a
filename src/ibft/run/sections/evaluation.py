"""The sections of a recipe about problems, answers, their judging and the report."""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from msgspec import Meta

from ibft.settings import Count, NonNegative, Positive, Section

__all__ = [
    "FORMATS",
    "EvaluateConfig",
    "Format",
    "GenerateConfig",
    "JudgeConfig",
    "ProblemsConfig",
    "ReportConfig",
    "ServerConfig",
]


class ProblemsConfig(Section, frozen=True):
    """The benchmark: `humaneval`, `mbpp:PATH`, `evalplus:PATH`, `livecodebench:PATH[?since=DATE&until=DATE]`,
    `apps:PATH`, `codeforces:PATH`, `verilog-eval:PATH`, or a problem file of your own.

    `limit` keeps the first problems (docs/problems.md), so that a short run is not a choice of easy ones. `tasks` keeps
    those whose ids match (`HumanEval/1*`).
    """

    source: str = "humaneval"
    tasks: tuple[str, ...] = ()
    limit: Count | None = None


class EvaluateConfig(ProblemsConfig, frozen=True):
    """The problems that a model answers while it is trained, and how: by default one greedy answer each."""

    num_samples: Count = 1
    temperature: NonNegative = 0.0
    max_new_tokens: Count = 512


class ServerConfig(Section, frozen=True):
    """An OpenAI-compatible completions endpoint (vLLM, SGLang, `transformers serve`).

    `models` maps an arm to the name under which the server serves it; an arm that is missing there is
    asked for as `model`. The key is read from the environment variable `api_key_env`. `prompt` is sent as `tokens` or
    as `text`; `auto` asks the server once whether it takes tokens (vLLM and SGLang do), which keep the border between
    prompt and answer exactly.
    """

    url: str = "http://127.0.0.1:8000/v1"
    model: str = ""
    models: dict[str, str] = {}
    prompt: Literal["auto", "text", "tokens"] = "auto"
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: Count = 16
    max_retries: Annotated[int, Meta(ge=0)] = 5
    timeout_s: Positive = 600.0


Format = Literal["plain", "instruction", "chat", "chat_begun", "examples"]
"""The formats in which a model can be asked (`generation.formats`)."""
FORMATS: tuple[Format, ...] = get_args(Format)


class GenerateConfig(Section, frozen=True):
    """The sampling of answers. `temperature: 0` is greedy decoding.

    `max_new_tokens` counts the tokens behind the prompt; an answer is also cut where prompt and answer together are as
    long as the model's context.

    `elicit`: the formats in which the base model is asked besides, with one greedy sample per problem and format, so
    that a gain over it is not one of format; those that do not apply to the model are left out. Each arm is asked in
    its own format in the same way. An empty list leaves all of that out.
    """

    num_samples: Count = 20
    temperature: NonNegative = 0.2
    top_p: Annotated[float, Meta(gt=0, le=1)] = 1.0
    max_new_tokens: Count = 512
    batch_size: Count = 32
    stop: tuple[str, ...] = ()
    elicit: tuple[Format, ...] = FORMATS
    backend: Literal["local", "server"] = "local"
    server: ServerConfig = ServerConfig()


class JudgeConfig(Section, frozen=True):
    """The execution of answers. `workers: null` uses every core this process may use.

    `timeout_s` is CPU time, ten times as much for Verilog; a sample may also use ten times what its reference needs.
    `packages` are installed Python packages that programs may import (NumPy always is). `threads` lets programs start
    threads and processes, where a cgroup bounds them.
    `sandbox: auto` is the strongest level that works here, and fails where none does. `cache` keeps verdicts on disk.
    """

    workers: Count | None = None
    timeout_s: Positive = 3.0
    memory_mib: Count = 2048
    packages: tuple[str, ...] = ()
    threads: bool = False
    sandbox: Literal["auto", "bubblewrap", "landlock", "none"] = "auto"
    cache: bool = True


class ReportConfig(Section, frozen=True):
    """The metrics that the report shows: Pass@k for each `k`, and Pass@k^(m) for m = k unless `m` names others."""

    k: tuple[Count, ...] = (1, 5, 10)
    bootstrap_resamples: Count = 10_000
    max_shown_samples: Count = 20
