"""Takes in one streamed answer of an OpenAI-compatible server, cheaply.

The load generator shares its processor with what it measures, so this reads no more of an event
than it needs. OpenAI's servers put an event on one line; events of several lines are not read.
"""

from __future__ import annotations

from typing import Any

import msgspec

_DATA = b"data:"
_END = b"[DONE]"


class _Delta(msgspec.Struct):
    content: str | None = None


class _Choice(msgspec.Struct):
    text: str | None = None
    delta: _Delta | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: Any = None


_decoder = msgspec.json.Decoder(_Chunk)


class StreamReader:
    """One answer, as it comes.

    Attributes:
        pieces_s: the clock at each piece of text.
        is_cache_told: the server states how many tokens came from its cache.
        error: what the server said went wrong, or what is wrong with what it sent.
        is_turned_away: the server has too much to do.
        retry_after_s: when it says to ask again; None where it says nothing.
        is_complete: the end was announced.
    """

    def __init__(self) -> None:
        self.pieces_s: list[float] = []
        self.num_prompt_tokens = 0
        self.num_output_tokens = 0
        self.num_cached_tokens = 0
        self.is_cache_told = False
        self.error: str | None = None
        self.is_turned_away = False
        self.retry_after_s: int | None = None
        self.is_complete = False
        self._texts: list[str] = []
        self._rest = b""

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    def feed(self, data: bytes, now_s: float) -> None:
        """Take bytes of the body that arrived at this time."""
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        for line in lines:
            if line.startswith(_DATA):
                self._take(line[len(_DATA) :].strip(), now_s)

    def _take(self, event: bytes, now_s: float) -> None:
        if event == _END:
            self.is_complete = True
            return
        try:
            chunk = _decoder.decode(event)
        except msgspec.MsgspecError as fault:
            self.error = f"an event cannot be read: {fault}"
            return
        if chunk.error is not None:
            self.error = f"the stream broke off: {chunk.error}"
        for choice in chunk.choices:
            text = choice.text or (choice.delta.content if choice.delta else None)
            if text:
                self.pieces_s.append(now_s)
                self._texts.append(text)
        if chunk.usage is not None:
            self._note(chunk.usage)

    def _note(self, usage: _Usage) -> None:
        self.num_prompt_tokens = usage.prompt_tokens
        self.num_output_tokens = usage.completion_tokens
        details = usage.prompt_tokens_details
        told = details.cached_tokens if details else None
        self.is_cache_told = told is not None
        self.num_cached_tokens = told or 0
