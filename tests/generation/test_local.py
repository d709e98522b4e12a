from pathlib import Path
from typing import Any

import pytest
import torch

from ibft.generation.local import Generated, Request, Sampling, generate_batches, sample_seed
from ibft.models.loading import load_model, load_tokenizer
from ibft.run.sections import ModelConfig
from ibft.text.healing import Vocabulary

PROMPTS = [tuple(range(5, 5 + length)) for length in (3, 9, 4, 12)]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Any:
    return load_model(ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"))


@pytest.fixture(scope="module")
def vocabulary(tiny_model_folder: Path) -> Vocabulary:
    return Vocabulary(load_tokenizer(ModelConfig(name=str(tiny_model_folder))))


def never(key: tuple[str, int], token_ids: list[int]) -> bool:
    return False


def run(
    model: Any,
    num_samples: int = 1,
    prompts: Any = PROMPTS,
    seed: int = 0,
    healed: bytes = b"",
    vocabulary: Any = None,
    batch_size: int = 8,
    has_ended: Any = never,
    **options: Any,
) -> dict[tuple[str, int], Generated]:
    requests = [
        Request((str(row), index), prompt, sample_seed(seed, str(row), index), healed)
        for row, prompt in enumerate(prompts)
        for index in range(num_samples)
    ]
    defaults: dict[str, Any] = {"max_new_tokens": 12, "temperature": 1.0, "top_p": 1.0, "end_ids": frozenset()}
    sampling = Sampling(**{**defaults, **options})
    batches = generate_batches(model, requests, sampling, vocabulary, batch_size=batch_size, has_ended=has_ended)
    return {answer.key: answer for batch in batches for answer in batch}


def test_greedy_decoding_equals_generate_token_for_token(model: Any) -> None:
    answers = run(model, temperature=0)
    for row, prompt in enumerate(PROMPTS):
        expected = model.generate(
            torch.tensor([prompt]), max_new_tokens=12, do_sample=False, eos_token_id=None, pad_token_id=0
        )
        assert answers[str(row), 0].token_ids == expected[0, len(prompt) :].tolist()
        assert answers[str(row), 0].finish_reason == "length"


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_a_sample_does_not_depend_on_its_batch(model: Any, batch_size: int) -> None:
    assert run(model, 3, batch_size=batch_size) == run(model, 3)


def test_dropping_finished_rows_changes_nothing(model: Any) -> None:
    ends = frozenset(range(0, 320, 7))
    free = run(model, 3)
    for key, answer in run(model, 3, end_ids=ends).items():
        tokens = free[key].token_ids
        end = next((place for place, token in enumerate(tokens) if token in ends), None)
        assert answer.token_ids == (tokens if end is None else tokens[:end])
        assert answer.finish_reason == ("length" if end is None else "stop")
        assert answer.num_tokens == (len(tokens) if end is None else end + 1)


def test_the_caller_can_end_an_answer(model: Any) -> None:
    answers = run(model, 2, has_ended=lambda key, token_ids: key == ("0", 1))
    assert (answers["0", 1].num_tokens, answers["0", 1].finish_reason) == (8, "stop")
    assert answers["0", 0].num_tokens == 12


def test_samples_differ_and_seeds_matter(model: Any) -> None:
    answers = run(model, 2)
    assert answers["0", 0].token_ids != answers["0", 1].token_ids
    assert run(model, 1, seed=1)["0", 0].token_ids != answers["0", 0].token_ids
    assert sample_seed(0, "a", 1) != sample_seed(0, "a", 2) != sample_seed(1, "a", 2)


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.6)])
def test_first_tokens_follow_the_models_distribution(model: Any, temperature: float, top_p: float) -> None:
    count = 2000
    options = {"temperature": temperature, "top_p": top_p, "max_new_tokens": 1, "batch_size": count}
    first = torch.tensor([a.token_ids[0] for a in run(model, count, prompts=PROMPTS[:1], **options).values()])
    with torch.no_grad():
        logits = model(torch.tensor([PROMPTS[0]])).logits[0, -1].double()
    probs = torch.softmax(logits / temperature, dim=0)
    ordered, order = probs.sort(descending=True)
    kept = order[: int((ordered.cumsum(0) < top_p).sum()) + 1] if top_p < 1 else order
    expected = torch.zeros_like(probs)
    expected[kept] = probs[kept] / probs[kept].sum()
    observed = torch.bincount(first, minlength=len(probs)).double() / count
    assert set(first.tolist()) <= set(kept.tolist())
    # Chi-square over the tokens expected at least five times, the rest as one bin: far below 1 in 10,000.
    often = expected * count >= 5
    bins = [(observed[often], expected[often]), (observed[~often].sum()[None], expected[~often].sum()[None])]
    chi_square = sum(float((count * (o - e) ** 2 / e.clamp(min=1e-12)).sum()) for o, e in bins if float(e.sum()) > 1e-9)
    degrees = int(often.sum())
    assert chi_square < degrees + 4 * (2 * degrees) ** 0.5 + 8


def test_a_gpu_that_is_too_small_gets_smaller_batches(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(model, 2)
    forward = model.forward

    def small(input_ids: torch.Tensor, **arguments: Any) -> Any:
        if len(input_ids) > 2:
            raise torch.OutOfMemoryError
        return forward(input_ids=input_ids, **arguments)

    monkeypatch.setattr(model, "forward", small)
    assert run(model, 2) == expected


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_answer_begins_with_what_was_taken_off_its_prompt(
    model: Any, vocabulary: Vocabulary, temperature: float
) -> None:
    healed = b"return a +\n"
    for answer in run(model, 3, healed=healed, vocabulary=vocabulary, temperature=temperature).values():
        written = [vocabulary.bytes_of(token) or b"" for token in answer.token_ids]
        assert b"".join(written).startswith(healed)
        ends = [sum(map(len, written[: place + 1])) for place in range(len(written))]
        assert answer.num_tokens == sum(end > len(healed) for end in ends) == 12


def test_a_healed_row_takes_the_likeliest_token_that_agrees(model: Any, vocabulary: Vocabulary) -> None:
    """By a loop without batches or cache."""
    prompt, rest = list(PROMPTS[1]), b"item in it"
    expected: list[int] = []
    for _ in range(20):
        with torch.no_grad():
            logits = model(torch.tensor([prompt + expected])).logits[0, -1]
        texts = [vocabulary.bytes_of(token) or b"" for token in range(len(logits))]
        agree = torch.tensor([bool(text) and (text.startswith(rest) or rest.startswith(text)) for text in texts])
        expected.append(int((logits.masked_fill(~agree, -torch.inf) if rest else logits).argmax()))
        rest = rest[len(texts[expected[-1]]) :]
    answer = run(model, healed=b"item in it", vocabulary=vocabulary, temperature=0)["1", 0]
    assert answer.token_ids == expected[: len(answer.token_ids)]
    assert len(answer.token_ids) > 12  # those that only repeat the prompt do not count


def test_no_end_token_is_taken_before_the_prompt_is_written_again(model: Any, vocabulary: Vocabulary) -> None:
    healed = b"\n"
    newline = next(token for token in range(320) if vocabulary.bytes_of(token) == healed)
    answers = run(model, 2, healed=healed, vocabulary=vocabulary, end_ids=frozenset({newline}))
    assert all(answer.token_ids[0] != newline and answer.num_tokens > 0 for answer in answers.values())


def test_rows_with_and_without_healing_share_a_batch(model: Any, vocabulary: Vocabulary) -> None:
    plain = Request(("plain", 0), PROMPTS[0], 1)
    healed = Request(("healed", 0), PROMPTS[0], 1, b"return")
    sampling = Sampling(12, 1.0, 1.0, frozenset())

    def drawn(*requests: Request) -> dict[str, list[int]]:
        batches = generate_batches(model, requests, sampling, vocabulary, batch_size=8, has_ended=never)
        return {answer.key[0]: answer.token_ids for batch in batches for answer in batch}

    assert drawn(plain, healed) == {**drawn(plain), **drawn(healed)}


def test_prompt_and_answer_end_with_the_context(model: Any) -> None:
    answers = run(model, max_length=15)
    for row, prompt in enumerate(PROMPTS):
        answer = answers[str(row), 0]
        assert len(prompt) + len(answer.token_ids) == min(15, len(prompt) + 12)
        assert answer.finish_reason == "length"
