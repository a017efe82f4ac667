"""What worked at each level of load."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mm_orch.tuning.knobs import BATCH_SIZE, KNOBS
from mm_orch.tuning.load import LoadLevel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.tuning.knobs import Setting

_VERSION = 1


class TuningMemory:
    """Settings by load level; at most one a level."""

    def __init__(self) -> None:
        self._settings: dict[LoadLevel, dict[str, int]] = {}

    @property
    def settings(self) -> dict[LoadLevel, Setting]:
        """What is kept, by level."""
        return dict(self._settings)

    def replace(self, settings: Mapping[LoadLevel, Mapping[str, int]]) -> None:
        """Keep these in place of all that was kept; options that nobody tunes are left out."""
        self._settings = {
            level: {key: value for key, value in setting.items() if key in KNOBS}
            for level, setting in settings.items()
        }

    def remember(self, level: LoadLevel, setting: Setting) -> None:
        """Keep what works at this level, in place of what was kept for it."""
        self._settings[level] = dict(setting)

    def forget(self, level: LoadLevel) -> None:
        """Drop what turned out not to work at this level."""
        remembered = self._find_level(level)
        if remembered is not None:
            del self._settings[remembered]

    def find(self, level: LoadLevel) -> Setting | None:
        """Return what worked at this level.

        Where nothing is known of it exactly, at one with the same rate, else at one with as many
        requests at a time: a setting changes one of the two by itself.
        """
        remembered = self._find_level(level)
        return None if remembered is None else self._settings[remembered]

    def find_change(
        self, level: LoadLevel, setting: Setting, keys: frozenset[str], min_batch_size: int
    ) -> dict[str, int]:
        """Return what to change to come to what worked at this level; nothing where it is in force.

        Args:
            level: of the load.
            setting: in force.
            keys: that may be changed.
            min_batch_size: no batch may be smaller.
        """
        return {
            key: value
            for key, value in (self.find(level) or {}).items()
            if key in keys
            and setting.get(key, value) != value
            and (key != BATCH_SIZE or value >= min_batch_size)
        }

    def _find_level(self, level: LoadLevel) -> LoadLevel | None:
        if level in self._settings:
            return level
        same_rate = [one for one in self._settings if one.rate == level.rate]
        same = same_rate or [one for one in self._settings if one.concurrency == level.concurrency]
        return min(
            same,
            key=lambda one: abs(one.rate - level.rate) + abs(one.concurrency - level.concurrency),
            default=None,
        )

    def encode(self) -> bytes:
        """Return it as the file holds it."""
        levels = [
            {"rate": level.rate, "concurrency": level.concurrency, "setting": setting}
            for level, setting in sorted(self._settings.items())
        ]
        return json.dumps({"version": _VERSION, "levels": levels}, indent=1).encode()

    @classmethod
    def decode(cls, content: bytes) -> TuningMemory:
        """Read what :meth:`encode` wrote.

        Raises:
            ValueError: it is something else, or of another version.
        """
        memory = cls()
        try:
            document = json.loads(content)
            if document["version"] != _VERSION:
                raise ValueError(f"version {document['version']}; known: {_VERSION}")
            for level in document["levels"]:
                setting = {
                    key: int(value) for key, value in level["setting"].items() if key in KNOBS
                }
                memory.remember(LoadLevel(int(level["rate"]), int(level["concurrency"])), setting)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a tuner's memory: {type(error).__name__}: {error}") from error
        return memory
