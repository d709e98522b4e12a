"""Sampling through an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, or a cluster behind one address.

Every prompt is sent to `/v1/completions` as the text that training used (`render_prompt`), the chat template
included: one code path, and no second template on the server's side. One request a sample, each with its own
seed, because not every server knows `n`. A server whose tokenizer adds a start token by itself shows the model
one token more than training did.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ibft.errors import UserError
from ibft.recipe import GenerateConfig, ServerConfig

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Answer", "Question", "ask_server", "served_name"]


class Question(NamedTuple):
    """One sample to ask for."""

    key: tuple[str, int]
    prompt: str
    seed: int


class Answer(NamedTuple):
    """What the server said; `num_tokens` as it counted them."""

    key: tuple[str, int]
    text: str
    finish_reason: str
    num_tokens: int


def ask_server(questions: Sequence[Question], config: GenerateConfig, arm: str) -> Iterator[list[Answer]]:
    """Ask the questions, `server.concurrency` at a time; yield the answers in groups of four times that many.

    Connection failures, time-outs, and answers 408, 409, 429 and 5xx are retried `server.max_retries` times with
    growing pauses (by the `openai` package).

    Raises:
        UserError: the server cannot be reached, does not know the model, refuses the request, or gives no answer.
    """
    model = served_name(config.server, arm)
    group = 4 * config.server.concurrency
    for start in range(0, len(questions), group):
        yield asyncio.run(_ask_all(questions[start : start + group], config, model))


def served_name(config: ServerConfig, arm: str) -> str:
    """Return the name under which the server serves an arm.

    Raises:
        UserError: the recipe names none.
    """
    name = config.models.get(arm, config.model)
    if not name:
        raise UserError(
            f"generate.server: no model name for the arm {arm!r}. Set generate.server.models.{arm} to the name "
            "under which the server serves it (or generate.server.model for all arms)."
        )
    return name


async def _ask_all(questions: Sequence[Question], config: GenerateConfig, model: str) -> list[Answer]:
    try:
        from openai import AsyncOpenAI
    except ImportError:
        raise UserError("generate.backend is server: it needs `pip install 'ibft[server]'`.") from None
    server = config.server
    limit = asyncio.Semaphore(server.concurrency)
    key = os.environ.get(server.api_key_env) or "none"  # local servers need none, the client insists on a word
    async with AsyncOpenAI(
        base_url=server.url, api_key=key, max_retries=server.max_retries, timeout=server.timeout_s
    ) as client:
        tasks = [asyncio.ensure_future(_ask(client, limit, question, config, model)) for question in questions]
        try:
            return list(await asyncio.gather(*tasks))
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise


async def _ask(
    client: AsyncOpenAI, limit: asyncio.Semaphore, question: Question, config: GenerateConfig, model: str
) -> Answer:
    import openai

    url = config.server.url
    try:
        async with limit:
            completion = await client.completions.create(
                model=model,
                prompt=question.prompt,
                max_tokens=config.max_new_tokens,
                temperature=config.temperature,
                top_p=config.top_p,
                seed=question.seed & 0x7FFFFFFF,  # some servers hold it in 32 bits
                stop=list(config.stop) or None,
            )
        choice = completion.choices[0]
        text = choice.text
        if not isinstance(text, str):
            raise TypeError
    except openai.APITimeoutError:
        raise UserError(
            f"{url}: no answer within {config.server.timeout_s} s. Raise generate.server.timeout_s."
        ) from None
    except openai.APIConnectionError as error:
        raise UserError(f"{url}: cannot be reached ({error.__cause__ or error}). Is the server running?") from None
    except openai.APIStatusError as error:
        detail = " ".join(error.response.text.split())[:200]
        hint = "Does it serve this model?" if error.status_code in (400, 404) else "See the server's log."
        raise UserError(f"{url}: refused {model!r} with status {error.status_code} ({detail}). {hint}") from None
    except (openai.OpenAIError, AttributeError, IndexError, TypeError, ValueError):
        raise UserError(
            f"{url}: the answer is not a completion of the OpenAI API. Check generate.server.url."
        ) from None
    num_tokens = completion.usage.completion_tokens if completion.usage else 0
    return Answer(question.key, text, choice.finish_reason or "stop", num_tokens)
