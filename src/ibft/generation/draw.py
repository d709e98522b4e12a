"""Samples of problems that are asked in any format, from a model here or from a server: what both have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from ibft import progress
from ibft.artifacts.rows import Sample
from ibft.errors import PromptError
from ibft.generation.ask import Ask, Wanted, Written
from ibft.generation.local import Request, Sampling, generate_batches, sample_seed
from ibft.generation.sent import to_send, whole_prompt
from ibft.generation.server import Question, Server
from ibft.models.loading import context_length
from ibft.run.sections import GenerateConfig
from ibft.text.answers import extract, has_ended
from ibft.text.encoding import TextCodec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LocalSource", "ServerSource", "Source", "draw"]


class Source(Protocol):
    """Where answers come from."""

    def write(self, asks: Mapping[str, Ask], wanted: Sequence[Wanted], seed: int) -> Iterator[list[Written]]:
        """Yield what was written for each wanted sample, in any order.

        Raises:
            UserError: the model cannot read a prompt, or gives no answer.
        """
        ...


def draw(
    source: Source, asks: Sequence[Ask], wanted: Sequence[Wanted], config: GenerateConfig, seed: int
) -> Iterator[list[Sample]]:
    """Yield the wanted samples, in any order.

    Args:
        source: a model or a server.
        asks: the problems, each once.
        wanted: the samples to draw of them.
        config: how to sample.
        seed: the run's.

    Raises:
        UserError: see `Source.write`.
    """
    indices: dict[str, list[int]] = {}
    for task_id, index in wanted:
        indices.setdefault(task_id, []).append(index)
    by_id = {ask.problem.task_id: ask for ask in asks if ask.problem.task_id in indices}
    is_greedy = config.temperature == 0
    # Greedy answers of one problem are all the same: one is drawn, and is the answer of each number.
    asked = [Wanted(task_id, min(places)) for task_id, places in indices.items()] if is_greedy else wanted
    for batch in source.write(by_id, asked, seed):
        yield [
            _sample(by_id[written.wanted.task_id], written, index, config.stop)
            for written in batch
            for index in (indices[written.wanted.task_id] if is_greedy else [written.wanted.number])
        ]


def _sample(ask: Ask, written: Written, index: int, stop: Sequence[str]) -> Sample:
    """Return the answer that a text holds, with the text itself where that is not the same."""
    text = ask.begun + written.text
    answer = extract(text, ask.problem, form=ask.form, stop=stop)
    # A continuation that is complete before the limit: what came after is not part of it.
    is_complete = ask.form == "completion" and answer.completion is not None and text.startswith(answer.completion)
    is_complete = is_complete and len(answer.completion or "") < len(text)
    return Sample(
        task_id=ask.problem.task_id,
        completion=answer.completion,
        solution=answer.solution,
        index=index,
        finish_reason="stop" if is_complete else written.finish_reason,
        num_tokens=written.num_tokens,
        raw=text if answer.text != text else None,
    )


class LocalSource:
    """A model on this machine."""

    def __init__(self, model: PreTrainedModel, codec: TextCodec, config: GenerateConfig) -> None:
        self._model, self._codec, self._config = model, codec, config

    def write(self, asks: Mapping[str, Ask], wanted: Sequence[Wanted], seed: int) -> Iterator[list[Written]]:
        """See `Source`."""
        codec, config = self._codec, self._config
        starts = {task_id: codec.start_of(ask.rendered) for task_id, ask in asks.items()}
        limit = context_length(self._model.config)
        for task_id, ask in asks.items():
            self._check(task_id, codec.encode(ask.rendered), limit)  # all before the first answer is drawn
        requests = []
        for item in wanted:
            start = starts[item.task_id]
            requests.append(Request(item, start.input_ids, sample_seed(seed, *item), start.healed.encode()))

        def is_complete(key: tuple[str, int], token_ids: list[int]) -> bool:
            ask, text = asks[key[0]], codec.answer(starts[key[0]], token_ids)
            return has_ended(ask.begun + text, ask.problem, form=ask.form, stop=config.stop)

        for batch in generate_batches(
            self._model,
            requests,
            Sampling(config.max_new_tokens, config.temperature, config.top_p, self._end_ids(), limit),
            codec.vocabulary,
            batch_size=config.batch_size,
            has_ended=is_complete,
        ):
            texts = [codec.answer(starts[answer.key[0]], answer.token_ids) for answer in batch]
            yield [
                Written(Wanted(*answer.key), text, answer.finish_reason, answer.num_tokens)
                for answer, text in zip(batch, texts, strict=True)
            ]

    def _end_ids(self) -> frozenset[int]:
        """Return the codec's ends and those that the model's own generation stops at."""
        ids = self._model.generation_config.eos_token_id if self._model.generation_config else None
        listed = ids if isinstance(ids, list) else [ids]  # transformers has one, several or none
        return self._codec.end_ids | frozenset(token for token in listed if token is not None)

    def _check(self, task_id: str, input_ids: Sequence[int], limit: int | None) -> None:
        """Refuse a prompt that the model cannot read.

        Raises:
            UserError: it is empty, fills the context, or has a token without a row in the embedding.
        """
        if not input_ids:
            raise PromptError(f"problems: the prompt of {task_id} is empty. Give it a text, or leave the problem out.")
        if limit is not None and len(input_ids) >= limit:
            raise PromptError(
                f"problems: the prompt of {task_id} has {len(input_ids)} tokens, the model's context holds {limit}: "
                "there is no room for an answer. Shorten the prompt, leave the problem out, or take a model with a "
                "longer context."
            )
        num_rows = self._model.get_input_embeddings().weight.shape[0]
        if (token := max(input_ids)) >= num_rows:
            name = self._codec.tokenizer.convert_ids_to_tokens(token)
            raise PromptError(
                f"problems: the prompt of {task_id} has the token {token} ({name!r}), and the model's embedding has "
                f"{num_rows} rows. Use the tokenizer that belongs to the model, or save the model with "
                f"`resize_token_embeddings({len(self._codec.tokenizer)})`."
            )


class ServerSource:
    """A server, asked for an arm by the name under which it serves it; no weights are loaded here.

    Raises:
        UserError: the recipe has no name for this arm.
    """

    def __init__(self, codec: TextCodec, config: GenerateConfig, arm: str) -> None:
        others = codec.end_ids - {codec.tokenizer.eos_token_id}
        names = dict(zip(others, codec.tokenizer.convert_ids_to_tokens(list(others)), strict=True))
        self._codec, self._server = codec, Server(config, arm, names)

    def write(self, asks: Mapping[str, Ask], wanted: Sequence[Wanted], seed: int) -> Iterator[list[Written]]:
        """See `Source`."""
        if not wanted:
            return
        codec = self._codec
        as_tokens = self._server.takes_tokens(codec.encode(asks[wanted[0].task_id].rendered))
        sent = {task_id: to_send(codec, ask.rendered, as_tokens=as_tokens) for task_id, ask in asks.items()}
        whole = {task_id: whole_prompt(codec, ask.rendered, as_tokens=as_tokens) for task_id, ask in asks.items()}
        if num_inexact := sum(not prompt.is_exact for prompt in sent.values()):
            progress.warn(
                "Prompts",
                f"{num_inexact} of {len(sent)} are read by the server as other tokens than in training: it takes text "
                "alone. Serve with vLLM or SGLang to have the same.",
            )
        questions = [
            Question(item, sent[item.task_id], whole[item.task_id], sample_seed(seed, *item)) for item in wanted
        ]
        counts: Counter[bool] = Counter()
        for answers in self._server.ask(questions):
            counts.update(answer.is_of_whole for answer in answers)
            yield answers
        if counts[True]:
            progress.warn(
                "Answers",
                f"{counts[True]} of {counts.total()} did not begin with the last characters of their prompt, and were "
                "asked for again from the whole prompt.",
            )
