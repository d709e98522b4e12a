"""Sampling through an OpenAI-compatible server: vLLM, SGLang, `transformers serve`, or a cluster behind one address.

Every prompt goes to `/v1/completions`, the chat template included: one code path, and no second template on the
server's side. Where the server takes tokens (vLLM and SGLang do), it gets the tokens that training shows; else their
text (`sent`). One request per sample, each with its own seed, because not every server knows `n`.

An answer that does not begin with what was taken off its prompt's end is asked for again from the whole prompt, which
then ends where the tokenizer would not cut: no sample is put together from parts that do not fit.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from ibft.errors import PromptError, UserError
from ibft.generation.ask import Wanted, Written
from ibft.generation.sent import Sent
from ibft.run.sections import GenerateConfig, ServerConfig

if TYPE_CHECKING:
    from openai import AsyncOpenAI
    from openai.types import Completion

__all__ = ["Question", "Server", "served_name"]

# What reading an answer raises that is not a completion of the OpenAI API.
_NOT_A_COMPLETION = (AttributeError, IndexError, TypeError, ValueError)


class Question(NamedTuple):
    """One sample to ask for.

    wanted: which sample.
    sent: the prompt.
    whole: the whole prompt, for when an answer does not begin with `sent.healed`.
    seed: random seed of the sample.
    """

    wanted: Wanted
    sent: Sent
    whole: Sent
    seed: int


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


class Server:
    """A server, asked for one arm.

    Args:
        config: the recipe's `generate` section.
        arm: which model is asked for.
        ends: tokens that end an answer besides the tokenizer's end token, and their texts.

    Raises:
        UserError: the recipe does not say under which name the server serves this arm.
    """

    def __init__(self, config: GenerateConfig, arm: str, ends: dict[int, str] | None = None) -> None:
        self._config, self._ends = config, ends or {}
        self._model = served_name(config.server, arm)

    def takes_tokens(self, input_ids: Sequence[int]) -> bool:
        """Decide whether to send tokens, by `generate.server.prompt`.

        `auto` asks for one token behind these. A server takes tokens if it answers, and counts as many in the prompt
        where it says how many it read; one that refuses them or answers something else gets text.

        Raises:
            UserError: the server cannot be reached.
        """
        if self._config.server.prompt != "auto":
            return self._config.server.prompt == "tokens"
        return asyncio.run(self._tries_tokens(list(input_ids)))

    async def _tries_tokens(self, input_ids: list[int]) -> bool:
        async with self._client() as client:
            import openai  # after `_client`, which says what to install where it is missing

            try:
                completion = await self._create(client, input_ids, max_tokens=1, seed=0)
                usage = completion.usage
                # 0: a server that does not count. Another number: it read the list as something else than tokens.
                return isinstance(completion.choices[0].text, str) and (
                    usage is None or usage.prompt_tokens in (0, len(input_ids))
                )
            except openai.APIConnectionError as error:
                raise self._error(error) from None
            except (openai.OpenAIError, *_NOT_A_COMPLETION):
                return False

    def ask(self, questions: Sequence[Question]) -> Iterator[list[Written]]:
        """Ask the questions, `server.concurrency` at a time; yield the answers in groups of four times that many.

        Connection failures, time-outs, and answers 408, 409, 429 and 5xx are retried `server.max_retries` times with
        growing pauses (by the `openai` package).

        Raises:
            UserError: the server cannot be reached, does not know the model, refuses the request, or gives no answer.
        """
        group = 4 * self._config.server.concurrency
        for start in range(0, len(questions), group):
            yield asyncio.run(self._ask_all(questions[start : start + group]))

    def _client(self) -> AsyncOpenAI:
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise UserError("generate.backend is server: it needs `pip install 'ibft[server]'`.") from None
        server = self._config.server
        key = os.environ.get(server.api_key_env) or "none"  # local servers need none, the client insists on a word
        return AsyncOpenAI(base_url=server.url, api_key=key, max_retries=server.max_retries, timeout=server.timeout_s)

    async def _ask_all(self, questions: Sequence[Question]) -> list[Written]:
        limit = asyncio.Semaphore(self._config.server.concurrency)
        async with self._client() as client:
            tasks = [asyncio.ensure_future(self._ask(client, limit, question)) for question in questions]
            try:
                return list(await asyncio.gather(*tasks))
            except BaseException:
                # The others would be retried for minutes, and their client is closed below them.
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                raise

    async def _ask(self, client: AsyncOpenAI, limit: asyncio.Semaphore, question: Question) -> Written:
        async with limit:
            written, healed = await self._answer(client, question, question.sent), question.sent.healed
            if written.text.startswith(healed):
                return written._replace(text=written.text.removeprefix(healed))
            return (await self._answer(client, question, question.whole))._replace(is_of_whole=True)

    async def _answer(self, client: AsyncOpenAI, question: Question, sent: Sent) -> Written:
        import openai

        max_tokens = self._config.max_new_tokens + sent.num_healed
        try:
            completion = await self._create(client, sent.prompt, max_tokens=max_tokens, seed=question.seed)
            choice = completion.choices[0]
            if not isinstance(choice.text, str):
                raise TypeError
        except (openai.OpenAIError, *_NOT_A_COMPLETION) as error:
            raise self._error(error) from None
        num_tokens = completion.usage.completion_tokens if completion.usage else 0
        return Written(question.wanted, choice.text, choice.finish_reason or "stop", num_tokens)

    async def _create(self, client: AsyncOpenAI, prompt: str | list[int], *, max_tokens: int, seed: int) -> Completion:
        """Send one request. Of the ends, a server that takes tokens gets the tokens, any other gets the texts."""
        stop, extra = list(self._config.stop), {}
        if self._ends and isinstance(prompt, str):
            stop += self._ends.values()
        elif self._ends:
            extra = {"stop_token_ids": sorted(self._ends)}
        return await client.completions.create(
            model=self._model,
            prompt=prompt,
            max_tokens=max_tokens,
            temperature=self._config.temperature,
            top_p=self._config.top_p,
            seed=seed & 0x7FFFFFFF,  # some servers hold it in 32 bits
            stop=stop or None,
            extra_body=extra or None,
        )

    def _error(self, error: Exception) -> UserError:
        """Return what went wrong in one sentence."""
        import openai

        url = self._config.server.url
        if isinstance(error, openai.APITimeoutError):
            limit = self._config.server.timeout_s
            return UserError(f"{url}: no answer within {limit} s. Raise generate.server.timeout_s.")
        if isinstance(error, openai.APIConnectionError):
            return UserError(f"{url}: cannot be reached ({error.__cause__ or error}). Is the server running?")
        if isinstance(error, openai.APIStatusError):
            detail = " ".join(error.response.text.split())[:200]
            hint = "Does it serve this model?" if error.status_code in (400, 404) else "See the server's log."
            # 400 is how servers say that the model cannot take this prompt: one format's may be too long for it.
            kind = PromptError if error.status_code == 400 else UserError
            return kind(f"{url}: refused {self._model!r} with status {error.status_code} ({detail}). {hint}")
        return UserError(f"{url}: the answer is not a completion of the OpenAI API. Check generate.server.url.")
