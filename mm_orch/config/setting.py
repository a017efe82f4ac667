"""One value that somebody set, and how values are shown to people without their secrets."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from mm_orch.config.keys import dotted, find_key

if TYPE_CHECKING:
    from mm_orch.config.keys import Path

COMMAND_LINE = "command line"
DEFAULT = "default"
MASK = "***"
_YAML_WORD = {None: "null", True: "true", False: "false"}
_MAX_SHOWN_CHARS = 100
_MAX_SHOWN_BITS = 128
_USER_IN_URL = re.compile(r"^((?:openai:)?[A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@")
_SECRET_WORDS = re.compile(r"key|secret|token|password|passwd|credential|auth", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A value for one key.

    Attributes:
        path: the key's path; a server key stands under ``monitoring`` however it was written.
        written: the key as it was written.
        value: plain Python data.
        origin: a file, a variable's name or the command line.
        detail: where in the origin, such as a line, or empty.
    """

    path: Path
    written: str
    value: object
    origin: str
    detail: str = ""

    @property
    def place(self) -> str:
        """Origin and detail together."""
        return f"{self.origin} {self.detail}".rstrip()


def shown_setting(path: Path, value: object) -> str:
    """Return the value of a key as faults show it: one line, secrets masked."""
    if value is None:
        return "null"
    key = find_key(path)
    if key is not None:
        return MASK if key.facts.is_secret else shown(value)
    # What was meant is not known: better to hide a name too many than a key.
    return MASK if path[:1] == ("api",) or _SECRET_WORDS.search(dotted(path)) else shown(value)


def shown(value: object) -> str:
    """Return any value as YAML people would write it, on one line and not too long."""
    text = _shown(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else text[: _MAX_SHOWN_CHARS - 3] + "..."


def masked_url(url: str) -> str:
    """Return scheme and host of a URL, its path hidden."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{MASK}"


def masked_user(text: str) -> str:
    """Hide user and password where the text is a URL."""
    return _USER_IN_URL.sub(rf"\1{MASK}@", text)


def printable(text: str) -> str:
    """Return the text as it is where it can be printed on a line, else with escapes."""
    return text if text.isprintable() else repr(text)[1:-1]


def _shown(value: object) -> str:
    match value:
        case None | bool():
            return _YAML_WORD[value]
        case int() if value.bit_length() > _MAX_SHOWN_BITS:
            return f"a number of {value.bit_length()} bits"
        case str():
            return repr(masked_user(value))
        case list() | tuple():
            return f"[{', '.join(_shown(entry) for entry in value)}]"
        case dict():
            entries = (f"{printable(str(key))}: {_shown(entry)}" for key, entry in value.items())
            return f"{{{', '.join(entries)}}}"
        case _:
            return str(value)
