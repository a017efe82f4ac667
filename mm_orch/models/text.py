"""Text to token ids and back, on the tokenizers library alone."""

from __future__ import annotations

import codecs
import re
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.errors import InvalidValueError, ModelStoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from tokenizers import Tokenizer

_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
# A run of tokens that make no whole character is given out as it is after so many.
_MAX_HELD_TOKENS = 16


class TextCodec:
    """A model's tokeniser. Safe to use from several threads."""

    def __init__(self, directory: Path, tokenizer: Tokenizer) -> None:
        self._directory = directory
        self._tokenizer = tokenizer
        special = [t for t in tokenizer.get_added_tokens_decoder().values() if t.special]
        self.special_texts = tuple(sorted((t.content for t in special), key=len, reverse=True))

    @classmethod
    def from_directory(cls, directory: Path) -> TextCodec:
        """Read tokenizer.json.

        Raises:
            ModelStoreError: it is missing or damaged.
        """
        return cls(directory, _load(directory))

    def encode_text(self, text: str) -> list[int]:
        """Tokenise a raw prompt as the model's authors do.

        Special tokens in it are special, and a beginning-of-text token is put first where the
        model has one.

        Raises:
            InvalidValueError: the text holds half of a surrogate pair.
        """
        return self._encode(self._tokenizer, text, add_special_tokens=True)

    def encode_rendered(self, text: str) -> list[int]:
        """Tokenise what a chat template has rendered; raises as encode_text."""
        return self._encode(self._tokenizer, text, add_special_tokens=False)

    def encode_literal(self, text: str) -> list[int]:
        """Tokenise so that nothing in the text becomes a special token; raises as encode_text."""
        return self._encode(self._literal_tokenizer, text, add_special_tokens=False)

    def decode(self, token_ids: Iterable[int]) -> str:
        """Return the text of these tokens, without special tokens."""
        return self._tokenizer.decode(list(token_ids), skip_special_tokens=True)

    def token_text(self, token_id: int) -> str:
        """Return one token's text; bytes that are no whole character are replaced."""
        return self.token_bytes(token_id).decode("utf-8", errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes that one token stands for; none for an id without a token."""
        token = self._tokenizer.id_to_token(token_id)
        if token is None:
            return b""
        if self.is_byte_level:
            return _from_byte_level(token)
        if match := _BYTE_TOKEN.fullmatch(token):
            return bytes([int(match[1], 16)])
        return token.replace("\u2581", " ").encode()

    def find_token(self, text: str) -> int | None:
        """Return the id of the token that is spelled so, or None."""
        token_id: int | None = self._tokenizer.token_to_id(text)
        return token_id

    def is_special(self, token_id: int) -> bool:
        """Whether the token marks structure instead of standing for text."""
        return token_id in self._special_ids

    def ends_with(self, token_ids: Sequence[int], text: str) -> bool:
        """Whether the tokens' text, special tokens included, ends with ``text``, blanks aside."""
        # A token is at least a byte, or it does not show.
        last = b"".join(map(self.token_bytes, token_ids[-2 * len(text.encode()) :]))
        return last.rstrip().endswith(text.encode())

    @cached_property
    def is_byte_level(self) -> bool:
        """Whether each token stands for bytes of its own, whatever stands beside it."""
        return type(self._tokenizer.decoder).__name__ == "ByteLevel"

    @cached_property
    def longest_token_bytes(self) -> int:
        """Bytes of the longest text that one token can stand for."""
        tokens = self._tokenizer.get_vocab()
        if self.is_byte_level:
            # One character of the vocabulary stands for one byte.
            return max(map(len, tokens))
        return max(len(token.encode()) for token in tokens)

    @cached_property
    def _special_ids(self) -> frozenset[int]:
        added = self._tokenizer.get_added_tokens_decoder()
        return frozenset(token_id for token_id, token in added.items() if token.special)

    @cached_property
    def _literal_tokenizer(self) -> Tokenizer:
        # A second one, because the switch is a property of the whole tokeniser. Rarely needed.
        tokenizer = _load(self._directory)
        tokenizer.encode_special_tokens = True
        return tokenizer

    def _encode(self, tokenizer: Tokenizer, text: str, *, add_special_tokens: bool) -> list[int]:
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise InvalidValueError(
                f"The text holds half of a surrogate pair at character {error.start}, which is"
                " no character."
            ) from error
        return tokenizer.encode(text, add_special_tokens=add_special_tokens).ids


class IncrementalDecoder:
    """Makes whole characters of tokens that come one by one.

    What the pushes and the final flush return is, put together, the decoding of all tokens.

    Args:
        codec: the model's tokeniser.
        shown: special tokens that are shown all the same, by their spelling.
    """

    def __init__(self, codec: TextCodec, shown: Sequence[str] = ()) -> None:
        self._codec = codec
        self._decoder = _make_decoder(codec)
        marks = {mark: codec.find_token(mark) for mark in shown}
        self._shown_by_id = {
            token_id: mark
            for mark, token_id in marks.items()
            if token_id is not None and codec.is_special(token_id)
        }

    def push(self, token_ids: Sequence[int]) -> str:
        """Take tokens; return the characters that are complete now."""
        return "".join(self._push(token_id) for token_id in token_ids)

    def _push(self, token_id: int) -> str:
        mark = self._shown_by_id.get(token_id)
        if mark is None:
            return self._decoder.push(token_id)
        # What follows a mark is a text of its own.
        before, self._decoder = self._decoder.flush(), _make_decoder(self._codec)
        return before + mark

    def flush(self) -> str:
        """Return what is left; bytes that never became a character are replaced."""
        return self._decoder.flush()


class _Decoder(Protocol):
    def push(self, token_id: int) -> str: ...

    def flush(self) -> str: ...


def _make_decoder(codec: TextCodec) -> _Decoder:
    return _ByteDecoder(codec) if codec.is_byte_level else _WindowDecoder(codec)


class _ByteDecoder:
    """For tokens that stand for bytes: exact, and constant work a token."""

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        if self._codec.is_special(token_id):
            return ""
        return self._utf8.decode(self._codec.token_bytes(token_id))

    def flush(self) -> str:
        return self._utf8.decode(b"", final=True)


class _WindowDecoder:
    """For tokens whose text depends on their neighbours: decodes the last few again.

    tokens   . . . [ prefix ... read ) ... newest
                     shown already     new: the difference of the two decodings
    """

    def __init__(self, codec: TextCodec) -> None:
        self._codec = codec
        self._token_ids: list[int] = []
        self._num_read = 0

    def push(self, token_id: int) -> str:
        self._token_ids.append(token_id)
        new = self._find_new()
        is_held_long = len(self._token_ids) - self._num_read > _MAX_HELD_TOKENS
        if not new or (new.endswith("\ufffd") and not is_held_long):
            return ""
        self._token_ids = self._token_ids[self._num_read :]
        self._num_read = len(self._token_ids)
        return new

    def flush(self) -> str:
        new = self._find_new()
        self._num_read = len(self._token_ids)
        return new

    def _find_new(self) -> str:
        shown = self._codec.decode(self._token_ids[: self._num_read])
        return self._codec.decode(self._token_ids)[len(shown) :]


def _load(directory: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises a bare Exception for any fault
        raise ModelStoreError(
            f"{path} cannot be read: {error}.", remedy="Remove the model and pull it again."
        ) from error
    # Some files cut and fill texts as their authors' training did.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _byte_level_alphabet() -> dict[str, int]:
    """Map each character of byte-level vocabularies to its byte (GPT-2, bytes_to_unicode)."""
    visible = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in visible]
    alphabet = {chr(byte): byte for byte in visible}
    return alphabet | {chr(0x100 + index): byte for index, byte in enumerate(hidden)}


_BYTE_BY_CHARACTER = _byte_level_alphabet()


def _from_byte_level(token: str) -> bytes:
    try:
        return bytes(_BYTE_BY_CHARACTER[character] for character in token)
    except KeyError:
        # An added token: written as it is.
        return token.encode()
