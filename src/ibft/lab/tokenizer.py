"""The tokenizer of a planted world: its pieces as tokens, so that every text is cut in one way and comes back whole."""

from __future__ import annotations

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ibft.worlds.library import Library
from ibft.worlds.vocabulary import PIECES, vocabulary

__all__ = ["make_tokenizer"]

_SPECIAL = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def make_tokenizer(library: Library) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose tokens are the pieces of the library's texts, with a start and an end token."""
    tokens = [*_SPECIAL.values(), *vocabulary(library)]
    ids = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=_SPECIAL["unk_token"]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    start = _SPECIAL["bos_token"]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A", pair=f"{start} $A $B", special_tokens=[(start, ids[start])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        padding_side="left",
        **_SPECIAL,
    )
