from pathlib import Path
from typing import Any

import pytest

from ibft.generation.sent import to_send, whole_prompt
from ibft.models.loading import load_tokenizer
from ibft.run.sections import ModelConfig
from ibft.text.encoding import TextCodec


@pytest.fixture(scope="module")
def codec(knowing_folder: Path) -> TextCodec:
    return TextCodec(load_tokenizer(ModelConfig(name=str(knowing_folder))), "plain")


@pytest.mark.parametrize("as_tokens", [True, False])
def test_what_is_sent_begins_what_training_shows(codec: TextCodec, functions: Any, as_tokens: bool) -> None:
    for prompt, rest in functions.values():
        if prompt.endswith("ret"):  # no natural continuation of a word goes on with it
            continue
        sent = to_send(codec, codec.render(prompt), as_tokens=as_tokens)
        ids = sent.prompt if as_tokens else codec.tokenizer(sent.prompt)["input_ids"]
        whole = codec.encode(codec.render(prompt + rest))
        assert whole[: len(ids)] == ids
        assert sent.is_exact
        answer = codec.tokenizer.decode(whole[len(ids) :])
        if not as_tokens:  # as a server decodes them that does not know the tokens before
            assert answer == sent.healed + rest
        assert (sent.num_healed > 0) == (sent.healed != "")


def test_a_line_break_is_taken_off_where_the_tokenizer_needs_it(codec: TextCodec) -> None:
    is_sentencepiece = codec.tokenizer.bos_token is not None
    sent = {
        as_tokens: to_send(codec, codec.render("def double(total):\n"), as_tokens=as_tokens)
        for as_tokens in (True, False)
    }
    assert sent[True].healed == ("" if is_sentencepiece else "\n")
    assert sent[False].healed == "\n"
    assert sent[False].prompt == "def double(total):"


def test_a_start_token_is_sent_once(codec: TextCodec) -> None:
    """Servers add it to a text, which may have it from its chat template."""
    if codec.tokenizer.bos_token is None:
        pytest.skip("no start token")
    rendered = codec.render("def double(total):\n")._replace(
        text="<s> def double(total):\n", controls=((0, 3),), is_chat=True
    )
    ids = codec.encode(rendered)
    assert ids.count(codec.tokenizer.bos_token_id) == 1
    sent = whole_prompt(codec, rendered, as_tokens=False)
    assert codec.tokenizer(sent.prompt)["input_ids"] == ids
    assert whole_prompt(codec, rendered, as_tokens=True).prompt == ids


def test_text_like_a_control_token_cannot_be_sent_as_text(codec: TextCodec) -> None:
    rendered = codec.render(f"# {codec.tokenizer.eos_token} ends a text\n")
    assert not to_send(codec, rendered, as_tokens=False).is_exact
    assert to_send(codec, rendered, as_tokens=True).is_exact
