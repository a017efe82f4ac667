"""Finds calls of functions in a model's text, while it comes in pieces.

text ... <tool_call> {"name": "f", "arguments": { ... } } </tool_call> ... text
 seek      between     object                value     tail   between     seek
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.core.tools import ToolCallDelta
from mm_orch.models.stop import overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mm_orch.models.tool_formats import ToolFormat

_HEAD = re.compile(r'\{\s*"name"\s*:\s*"([^"\\]*)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
_ARGUMENT_KEYS = ("arguments", "parameters")


@dataclass(slots=True)
class Found:
    """What a piece of text brought."""

    text: str = ""
    calls: list[ToolCallDelta] = field(default_factory=list)


class ObjectScanner:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._is_in_string = False
        self._is_escaped = False

    def find_end(self, text: str) -> int | None:
        """Take the next piece; return how many of its characters belong to the object.

        None where all do and more are to come.
        """
        for position, character in enumerate(text):
            if self._is_in_string:
                is_end = character == '"' and not self._is_escaped
                self._is_escaped = character == "\\" and not self._is_escaped
                self._is_in_string = not is_end
            elif character == '"':
                self._is_in_string = True
            elif character in "{[":
                self._depth += 1
            elif character in "}]":
                self._depth -= 1
                if self._depth == 0:
                    return position + 1
        return None


class ToolCallReader:
    """Takes text; gives what is no call, and the calls.

    Args:
        form: how the model writes calls.
        names: of the functions that may be called.
        is_guided: the text is kept to the format, so that arguments can be passed on as they
            come; else a call is told of when it is complete and right, and is text when not.
        is_single: calls after the first are passed over.
    """

    def __init__(
        self, form: ToolFormat, names: Collection[str], *, is_guided: bool, is_single: bool
    ) -> None:
        self.num_calls = 0
        self._form = form
        self._names = names
        self._is_guided = is_guided
        self._is_single = is_single
        # What stands around calls and says nothing.
        marks = (form.trigger, form.begin.strip(), form.end.strip(), "[", "]", ",", ";")
        self._noise = tuple(mark for mark in marks if mark)
        self._state: Callable[[Found], bool] = self._seek if form.trigger else self._begin
        self._held = ""
        self._mark = ""
        self._scanner = ObjectScanner()
        self._num_scanned = 0

    @property
    def num_held(self) -> int:
        """Characters that were taken and told of to nobody yet."""
        return len(self._held)

    def push(self, text: str) -> Found:
        """Take text; return what it brings."""
        self._held += text
        found = Found()
        while self._state(found):
            pass
        return found

    def flush(self) -> Found:
        """Return what is held back, once nothing follows: what turned out to be no call."""
        states = {self._seek, self._begin, self._pass, self._take_object}
        if self._is_guided:
            # A call that was cut before its name was known is no text either.
            states.discard(self._take_object)
        # Between calls, a mark is left where none has followed it.
        is_text = self._state in states or (bool(self._mark) and not self._is_guided)
        text = self._mark + self._held if is_text else ""
        self._held = self._mark = ""
        return Found(text)

    # Each state takes what it can of the held text; it returns whether another has its turn.

    def _seek(self, found: Found) -> bool:
        before, mark, after = self._held.partition(self._form.trigger)
        if not mark:
            before = before[: len(before) - overlap(before, self._form.trigger)]
        # Blanks before a call are no text.
        text = before.rstrip()
        found.text += text
        if mark:
            self._held, self._mark, self._state = after, mark, self._between
            return True
        self._held = self._held[len(text) :]
        return False

    def _begin(self, found: Found) -> bool:
        del found
        text = self._held.lstrip()
        if not text:
            return False
        self._state = self._take_object if text.startswith("{") else self._pass
        return True

    def _pass(self, found: Found) -> bool:
        found.text += self._held
        self._held = ""
        return False

    def _drop(self, found: Found) -> bool:
        del found
        self._held = ""
        return False

    def _between(self, found: Found) -> bool:
        self._held = self._held.lstrip()
        if self._held.startswith("{"):
            self._state = self._take_object
            return True
        for mark in self._noise:
            if self._held.startswith(mark):
                self._held = self._held.removeprefix(mark)
                # A new call may be told from text again.
                self._mark = mark if mark == self._form.trigger else self._mark
                return True
        if not self._held or any(mark.startswith(self._held) for mark in self._noise):
            return False
        self._go_on_as_text(found)
        return True

    def _take_object(self, found: Found) -> bool:
        return self._stream_object(found) if self._is_guided else self._read_object(found)

    def _stream_object(self, found: Found) -> bool:
        head = _HEAD.match(self._held)
        if head is None:
            return False
        found.calls.append(self._start_call(head[1]))
        self._held, self._mark = self._held[head.end() :], ""
        self._scanner = ObjectScanner()
        self._state = self._stream_value
        return True

    def _stream_value(self, found: Found) -> bool:
        end = self._scanner.find_end(self._held)
        piece, self._held = self._held[:end], "" if end is None else self._held[end:]
        if piece:
            found.calls.append(ToolCallDelta(index=self.num_calls - 1, arguments=piece))
        if end is None:
            return False
        self._state = self._end_object
        return True

    def _end_object(self, found: Found) -> bool:
        del found
        self._held = self._held.lstrip()
        if not self._held:
            return False
        self._held = self._held.removeprefix("}")
        self._state = self._after_call
        return True

    def _read_object(self, found: Found) -> bool:
        end = self._scanner.find_end(self._held[self._num_scanned :])
        if end is None:
            self._num_scanned = len(self._held)
            return False
        size = self._num_scanned + end
        raw, self._held = self._held[:size], self._held[size:]
        self._scanner, self._num_scanned = ObjectScanner(), 0
        call = self._understand(raw)
        if call is None:
            self._go_on_as_text(found, raw)
            return True
        name, arguments = call
        found.calls += [
            self._start_call(name),
            ToolCallDelta(index=self.num_calls - 1, arguments=arguments),
        ]
        self._mark, self._state = "", self._after_call
        return True

    def _understand(self, raw: str) -> tuple[str, str] | None:
        """Return name and arguments of a call, or None where it is none."""
        try:
            content = json.loads(raw)
        except (ValueError, RecursionError):
            return None
        name = content.get("name")
        arguments = next((content[key] for key in _ARGUMENT_KEYS if key in content), None)
        if name not in self._names or not isinstance(arguments, dict):
            return None
        return name, json.dumps(arguments, ensure_ascii=False)

    def _after_call(self, found: Found) -> bool:
        del found
        self._state = self._drop if self._is_single else self._between
        return True

    def _go_on_as_text(self, found: Found, raw: str = "") -> None:
        # Whatever it is, it is what the model said.
        found.text += self._mark + raw
        self._mark = ""
        self._state = self._seek if self._form.trigger else self._pass

    def _start_call(self, name: str) -> ToolCallDelta:
        self.num_calls += 1
        return ToolCallDelta(index=self.num_calls - 1, id=self._form.make_id(), name=name)
