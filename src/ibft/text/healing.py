"""Token healing: which tokens may come next while the model writes again what was taken off its prompt.

A prompt ends where a person ends it, which may be inside of what the tokenizer makes one token of ("\n" and the
indentation of the next line). So generation starts a little earlier, and each token up to the end of the prompt must
agree with its characters: it is a beginning of them, or begins with all of them.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Sequence
from functools import cache, cached_property
from typing import TYPE_CHECKING

from ibft.text.rendered import control_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["Vocabulary"]

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Vocabulary:
    """The bytes of every token of a tokenizer.

    Args:
        tokenizer: byte-level (GPT-2's family) or SentencePiece-like; of any other the bytes are not known.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer
        self._cache: dict[bytes, list[int]] = {}
        backend = getattr(tokenizer, "backend_tokenizer", None)
        decoder = json.loads(backend.to_str())["decoder"] if backend is not None else None
        kinds = _kinds(decoder)
        self._is_byte_level = "ByteLevel" in kinds
        self._is_sentencepiece = not self._is_byte_level and bool({"Metaspace", "Replace"} & kinds)

    @property
    def is_known(self) -> bool:
        """Decide whether the bytes of the tokens are known, so that a prompt can be healed."""
        return self._is_byte_level or self._is_sentencepiece

    def bytes_of(self, token_id: int) -> bytes | None:
        """Return a token's bytes; None for a control token and an id that is not a token."""
        return self._table[token_id] if 0 <= token_id < len(self._table) else None

    def is_barrier(self, token_id: int) -> bool:
        """Return whether no continuation changes this token and those before it: it is matched before any others."""
        return token_id in self._barriers

    @cached_property
    def _barriers(self) -> frozenset[int]:
        # A token that another one begins with may still become that other.
        added = self._tokenizer.added_tokens_decoder
        contents = sorted({token.content for token in added.values()})
        extended = {content for content, after in itertools.pairwise(contents) if after.startswith(content)}
        return frozenset(place for place, token in added.items() if token.content not in extended)

    def text_of(self, token_ids: Sequence[int]) -> str | None:
        """Return the tokens' text; None where they begin or end inside of a character."""
        parts = [self.bytes_of(token) for token in token_ids]
        assert None not in parts, "a control token has no text"
        try:
            return b"".join(filter(None, parts)).decode()
        except UnicodeDecodeError:
            return None

    def allowed(self, rest: bytes) -> list[int]:
        """Return the tokens that may come next where the text has to continue with `rest`.

        Args:
            rest: what is left to be written of the prompt, at least one byte.
        """
        if rest not in self._cache:
            candidates = self._by_first_byte.get(rest[0], [])
            self._cache[rest] = [
                place for place, value in candidates if value.startswith(rest) or rest.startswith(value)
            ]
        return self._cache[rest]

    @cached_property
    def _table(self) -> list[bytes | None]:
        control = control_ids(self._tokenizer)
        names = self._tokenizer.convert_ids_to_tokens(list(range(len(self._tokenizer))))
        added = self._tokenizer.added_tokens_decoder
        return [
            None if place in control or name is None else self._bytes(name, is_added=place in added)
            for place, name in enumerate(names)
        ]

    def _bytes(self, name: str, *, is_added: bool) -> bytes | None:
        if self._is_byte_level:
            if is_added:  # stored as its text
                return name.encode()
            table = _byte_level_table()
            # A token with other letters is stored as its text, as the ByteLevel decoder reads it.
            return bytes(table[letter] for letter in name) if all(letter in table for letter in name) else name.encode()
        if match := _BYTE.fullmatch(name):
            return bytes([int(match.group(1), 16)])
        return name.replace("▁", " ").encode()

    @cached_property
    def _by_first_byte(self) -> dict[int, list[tuple[int, bytes]]]:
        table: dict[int, list[tuple[int, bytes]]] = {}
        for place, value in enumerate(self._table):
            if value:
                table.setdefault(value[0], []).append((place, value))
        return table


def _kinds(decoder: dict[str, object] | None) -> set[str]:
    if decoder is None:
        return set()
    parts = decoder.get("decoders") or [decoder]
    return {str(part["type"]) for part in parts}  # type: ignore[attr-defined]


@cache
def _byte_level_table() -> dict[str, int]:
    """Return the byte of each letter of a byte-level vocabulary (GPT-2's: printable bytes stand for themselves)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    table = {chr(byte): byte for byte in printable}
    others = [byte for byte in range(256) if byte not in set(printable)]
    return table | {chr(256 + place): byte for place, byte in enumerate(others)}
