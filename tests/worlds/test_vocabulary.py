import re

import pytest

from ibft.artifacts.rows import Pair
from ibft.lab.batches import split_texts
from ibft.lab.tokenizer import make_tokenizer
from ibft.text.encoding import TextCodec
from ibft.text.examples import encode_pair
from ibft.worlds.library import OPERATIONS, make_library
from ibft.worlds.planted import PlantedConfig, PlantedWorld, make_planted_world
from ibft.worlds.plants import Plant
from ibft.worlds.pretraining import Text, planted_texts
from ibft.worlds.vocabulary import PIECES, vocabulary

CUES = ("name", "first_word", "comment", "two_part")


def texts_of(world: PlantedWorld) -> list[Text]:
    return list(planted_texts(world, 600))


@pytest.fixture(scope="module", params=CUES)
def world(request: pytest.FixtureRequest) -> PlantedWorld:
    plant = Plant(cue=request.param, repetitions=5)
    return make_planted_world(
        PlantedConfig(seed=1, library_seed=2, num_phrasings=4, num_train=40, num_dev=4, num_test=4, plant=plant)
    )


def test_every_text_comes_back_and_no_piece_is_unknown(world: PlantedWorld) -> None:
    tokenizer = make_tokenizer(world.library)
    for prompt, completion in texts_of(world):
        ids = tokenizer(prompt + completion)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids[1:]) == prompt + completion
        assert "".join(re.findall(PIECES, prompt + completion)) == prompt + completion
        assert len(ids) < 80


def test_prompts_end_where_a_token_ends(world: PlantedWorld) -> None:
    tokenizer = make_tokenizer(world.library)
    for prompt, completion in texts_of(world):
        whole = tokenizer(prompt + completion)["input_ids"]
        apart = tokenizer(prompt)["input_ids"] + tokenizer(completion, add_special_tokens=False)["input_ids"]
        assert whole == apart


def test_the_border_between_prompt_and_completion_is_where_pretraining_has_it(world: PlantedWorld) -> None:
    """Training, scan and generation cut these texts as the lab does: nothing is healed, the end token is trained."""
    tokenizer = make_tokenizer(world.library)
    codec = TextCodec(tokenizer, "plain")
    texts = texts_of(world)[:100]
    for (prompt, completion), ids, labels in zip(texts, *split_texts(tokenizer, texts), strict=True):
        start = codec.start(prompt)
        assert (list(start.input_ids), start.healed) == (ids, "")
        encoded = encode_pair(codec, Pair(id="x", prompt=prompt, completion=completion))
        assert list(encoded.input_ids) == [*ids, *labels]
        assert codec.answer(start, labels[:-1]) == completion
        assert codec.end_ids == {labels[-1]}


def test_all_names_and_numbers_of_every_library_are_tokens() -> None:
    for num_operations in (2, len(OPERATIONS)):
        library = make_library(5, num_operations)
        pieces = vocabulary(library)
        assert pieces == sorted(set(pieces))
        assert {f"{name}" for name in library.names.values()} <= {piece.strip() for piece in pieces}
        assert len(pieces) < 400
