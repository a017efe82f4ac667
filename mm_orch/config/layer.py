"""The settings that one origin gives, with the faults met on reading them."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from mm_orch.config.conversion import from_text
from mm_orch.config.keys import (
    ANY_MODEL,
    MODELS,
    SERVER,
    SERVER_SPELLING,
    dotted,
    find_key,
    keys_by_path,
    sections_by_path,
)
from mm_orch.config.setting import Setting, printable, shown_setting
from mm_orch.core.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mm_orch.config.keys import Path

_MIN_SIMILARITY = 0.7


class Layer:
    """Collects what the file, the environment or the command line sets."""

    def __init__(self) -> None:
        self.settings: dict[Path, Setting] = {}
        self.faults: list[Fault] = []

    def add(self, written: Path, value: object, *, origin: str, detail: str = "") -> None:
        """Take a value for a key; text is converted to the key's type.

        An unknown key, and two spellings of one key that disagree, are faults.
        """
        path = canonical(written)
        key = find_key(path)
        if key is None:
            self.refuse_unknown(written, value, place=f"{origin} {detail}".rstrip())
            return
        if isinstance(value, str):
            value = from_text(value, key.kind)
        setting = Setting(
            path=path, written=printable(dotted(written)), value=value, origin=origin, detail=detail
        )
        earlier = self.settings.setdefault(path, setting)
        if earlier is not setting and earlier.value != value:
            self._refuse_contradiction(earlier, setting)

    def refuse_unknown(self, written: Path, value: object, *, place: str) -> None:
        """State a fault for a key that does not exist."""
        section = printable(dotted(written[:-1])) or "the configuration"
        self.faults.append(
            Fault(
                key=printable(dotted(written)),
                value=shown_setting(written, value),
                problem=f"is not an option of {section}",
                origin=place,
                suggestion=nearest_key(written),
            )
        )

    def refuse(self, written: Path, value: object, problem: str, *, place: str) -> None:
        """State a fault for a value that cannot be read."""
        shown = shown_setting(canonical(written), value)
        self.faults.append(Fault(printable(dotted(written)), shown, problem, place))

    def _refuse_contradiction(self, first: Setting, second: Setting) -> None:
        other = f"{first.written} = {shown_setting(first.path, first.value)} ({first.place})"
        self.faults.append(
            Fault(
                key=second.written,
                value=shown_setting(second.path, second.value),
                problem=f"sets the same option as {other} to another value; keep one",
                origin=second.place,
            )
        )


def canonical(path: Path) -> Path:
    """Return the path under which the schema has a key."""
    if path[:2] == SERVER_SPELLING:
        return (*SERVER, *path[2:])
    return path


def nearest(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that is most like the word, or None when none other is like it."""
    by_folded = {choice.lower(): choice for choice in choices if choice != word}
    matches = difflib.get_close_matches(word.lower(), by_folded, n=1, cutoff=_MIN_SIMILARITY)
    return by_folded[matches[0]] if matches else None


def nearest_key(written: Path) -> str | None:
    """Return the key that was probably meant: of the same section first, then of any."""
    parent = canonical(written[:-1])
    is_model = len(parent) == 2 and parent[0] == MODELS  # noqa: PLR2004 - a model's path
    model = sections_by_path().get((MODELS, ANY_MODEL) if is_model else parent)
    if model is not None and (found := nearest(written[-1], model.model_fields)):
        return dotted((*written[:-1], found))
    same_name = [
        path for path in keys_by_path() if path[-1] == written[-1] and ANY_MODEL not in path
    ]
    if same_name:
        return dotted(same_name[0])
    return nearest(
        dotted(written), (dotted(path) for path in keys_by_path() if ANY_MODEL not in path)
    )
