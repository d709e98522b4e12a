from pathlib import Path
from typing import Any

import pytest
import torch

from ibft.generation.local import Generated, Request, generate_batches, sample_seed
from ibft.models import load_model
from ibft.recipe import ModelConfig

PROMPTS = [tuple(range(5, 5 + length)) for length in (3, 9, 4, 12)]


@pytest.fixture(scope="module")
def model(tiny_model_folder: Path) -> Any:
    return load_model(ModelConfig(name=str(tiny_model_folder), dtype="float32", device="cpu"))


def never(key: tuple[str, int], token_ids: list[int]) -> bool:
    return False


def run(
    model: Any, num_samples: int = 1, prompts: Any = PROMPTS, seed: int = 0, **options: Any
) -> dict[tuple[str, int], Generated]:
    requests = [
        Request((str(row), index), prompt, sample_seed(seed, str(row), index))
        for row, prompt in enumerate(prompts)
        for index in range(num_samples)
    ]
    defaults: dict[str, Any] = {
        "batch_size": 8,
        "max_new_tokens": 12,
        "temperature": 1.0,
        "top_p": 1.0,
        "end_ids": frozenset(),
        "has_ended": never,
    }
    batches = generate_batches(model, requests, **{**defaults, **options})
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
