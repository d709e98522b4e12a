"""The exact chance of an answer, against a computation token by token and against real sampling."""

import math

import pytest
import torch

from ibft.generation.local import Request, Sampling, generate_batches, sample_seed
from ibft.lab.exact import exact_probabilities
from ibft.text.healing import Vocabulary
from ibft.worlds.pretraining import Text

from .conftest import Trained


@pytest.fixture(scope="module")
def texts(reciting: Trained) -> list[Text]:
    """Prompts with general tasks, planted ones and conflicts: chances from nearly 0 to nearly 1."""
    world = reciting.world
    asked = [*world.general, *(item.example for item in world.train), *(new for new, _ in world.conflicts[:3])]
    return [(world.prompt(example), world.completion(example.chain)) for example in asked]


def by_hand(reciting: Trained, prompt: str, answer: str, temperature: float) -> float:
    """One forward for each token, softmax in float64."""
    tokenizer = reciting.tokenizer
    ids = tokenizer(prompt)["input_ids"]
    log_p = 0.0
    for token in [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]:
        with torch.no_grad():
            logits = reciting.model(torch.tensor([ids])).logits[0, -1].double()
        log_p += float(torch.log_softmax(logits / temperature, -1)[token])
        ids = [*ids, token]
    return math.exp(log_p)


@pytest.mark.parametrize("temperature", [0.8, 1.0, 2.0])
def test_it_equals_a_computation_token_by_token(reciting: Trained, texts: list[Text], temperature: float) -> None:
    found = exact_probabilities(reciting.model, reciting.tokenizer, texts, temperature=temperature)
    assert found.shape == (len(texts),)
    assert list(found) == pytest.approx([by_hand(reciting, *text, temperature) for text in texts], rel=1e-4, abs=0)
    assert found.max() > 0.01 > 100 * found.min()


def test_what_is_given_is_not_counted(reciting: Trained, texts: list[Text]) -> None:
    begun = ["".join(completion.splitlines(keepends=True)[:1]) for _, completion in texts]
    found = exact_probabilities(reciting.model, reciting.tokenizer, texts, given=begun)
    expected = [
        by_hand(reciting, prompt + first, completion.removeprefix(first), 0.8)
        for (prompt, completion), first in zip(texts, begun, strict=True)
    ]
    assert list(found) == pytest.approx(expected, rel=1e-4, abs=0)
    assert (found >= exact_probabilities(reciting.model, reciting.tokenizer, texts) * (1 - 1e-5)).all()


def test_batches_change_nothing(reciting: Trained, texts: list[Text], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = exact_probabilities(reciting.model, reciting.tokenizer, texts)
    monkeypatch.setattr("ibft.lab.exact._BATCH", 2)
    assert list(exact_probabilities(reciting.model, reciting.tokenizer, texts)) == pytest.approx(
        list(whole), rel=1e-4, abs=0
    )
    assert exact_probabilities(reciting.model, reciting.tokenizer, []).shape == (0,)


def test_sampling_writes_the_answer_as_often(reciting: Trained, texts: list[Text]) -> None:
    """By the engine of `ibft generate`, within five standard deviations of the binomial."""
    count, tokenizer = 1500, reciting.tokenizer
    chances = exact_probabilities(reciting.model, tokenizer, texts)
    uncertain = sorted(range(len(texts)), key=lambda place: abs(chances[place] - 0.5))[:4]
    assert all(0.02 < chances[place] < 0.98 for place in uncertain)
    requests = [
        Request((str(place), index), tuple(tokenizer(texts[place][0])["input_ids"]), sample_seed(0, str(place), index))
        for place in uncertain
        for index in range(count)
    ]
    answers = generate_batches(
        reciting.model,
        requests,
        Sampling(40, 0.8, 1.0, frozenset([tokenizer.eos_token_id])),
        Vocabulary(tokenizer),
        batch_size=1500,
        has_ended=lambda key, token_ids: False,
    )
    hits = dict.fromkeys(map(str, uncertain), 0)
    for answer in (answer for batch in answers for answer in batch):
        wanted = tokenizer(texts[int(answer.key[0])][1], add_special_tokens=False)["input_ids"]
        hits[answer.key[0]] += answer.finish_reason == "stop" and answer.token_ids == wanted
    for place in uncertain:
        deviation = math.sqrt(chances[place] * (1 - chances[place]) / count)
        assert abs(hits[str(place)] / count - chances[place]) < 5 * deviation
