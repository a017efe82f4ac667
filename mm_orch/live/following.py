"""Follows the configuration file: reads it again on SIGHUP, and when it has changed."""

from __future__ import annotations

import asyncio
import logging
import stat
from typing import TYPE_CHECKING

from mm_orch.config.keys import ANY_MODEL, MODELS, dotted, keys_by_path
from mm_orch.core.errors import MuAIError
from mm_orch.live.decision import live_keys, read_live, value_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Literal

    from mm_orch.config import Config, LoadedConfig
    from mm_orch.config.schema import ModelConfig
    from mm_orch.live.configuration import LiveConfiguration

logger = logging.getLogger(__name__)

_INTERVAL_S = 1.0

Signature = tuple[int, int, int, int]
"""Device, inode, time and size of a file: what a write or another file in its place changes."""


class FileFollower:
    """Brings what the file says into force, as far as it can while the server runs.

    Args:
        live: takes the values.
        loaded: with which the server was started.
        load: loads file, environment and command line again; blocks.
    """

    def __init__(
        self, live: LiveConfiguration, loaded: LoadedConfig, load: Callable[[], LoadedConfig]
    ) -> None:
        self._live = live
        self._loaded = loaded
        self._load = load
        self._turn = asyncio.Lock()

    async def reload(self, source: Literal["file", "signal"]) -> None:
        """Read everything again, and change what is live; with one fault nothing changes.

        A changed file changes the options that are changed in it. SIGHUP lets the file hold again
        for all of them, also for those that an admin or the tuner has changed since.
        """
        async with self._turn:
            try:
                await self._reload(source)
            except MuAIError as error:
                logger.error("%s, but nothing changes. %s", _WHEN[source], error)  # noqa: TRY400 - no traceback
            except Exception:  # boundary: a file never ends the server
                logger.exception("%s: it could not be brought into force", _WHEN[source])

    async def _reload(self, source: Literal["file", "signal"]) -> None:
        loaded = await asyncio.to_thread(self._load)
        fixed = list(find_fixed(self._loaded.config, loaded.config))
        if fixed:
            logger.error(
                "%s, but nothing changes, because %s cannot be changed while the server runs:"
                " restart it. Options that can: %s",
                _WHEN[source],
                ", ".join(fixed),
                ", ".join(live_keys()),
            )
            return
        await self._apply(loaded, source)

    async def watch(self, interval_s: float = _INTERVAL_S) -> None:
        """Reload whenever the file in use is another, until cancelled.

        A file that is away, or still being written, is left until it is there and at rest.
        """
        if self._loaded.path is None:
            return
        # Whatever was written since it was read for the start counts as a change too.
        taken: Signature | None = None
        seen: Signature | None = None
        while True:
            found = await asyncio.to_thread(_sign, self._loaded.path)
            if found is not None and found == seen and found != taken:
                taken = found
                await self.reload("file")
            seen = found
            await asyncio.sleep(interval_s)

    async def _apply(self, loaded: LoadedConfig, source: Literal["file", "signal"]) -> None:
        wanted, before = read_live(loaded.config), read_live(self._loaded.config)
        if source == "file":
            wanted = {name: value for name, value in wanted.items() if value != before[name]}
        for name, shadow in loaded.shadowed.items():
            if name in before and self._loaded.shadowed.get(name) != shadow:
                logger.warning(
                    "%s: %s is not applied, because %s sets it too and goes first",
                    _WHEN[source],
                    f"{name} = {shadow.value}",
                    shadow.by,
                )
        changes = await self._live.change(
            wanted, source=source, reason=str(loaded.path or ""), origins=loaded.origins
        )
        self._loaded = loaded
        if source == "signal" and not changes:
            logger.info("SIGHUP: the configuration was read again; nothing in it is new")


_WHEN = {"file": "the configuration file has changed", "signal": "SIGHUP"}


def find_fixed(before: Config, after: Config) -> Iterator[str]:
    """Yield the options that differ and cannot be changed while the server runs."""
    live = {key.path for key in live_keys().values()}
    for path in keys_by_path():
        is_live = path in live or path[:2] == (MODELS, ANY_MODEL)
        if not is_live and value_at(before, path) != value_at(after, path):
            yield dotted(path)
    for name in sorted({*before.models, *after.models}):
        if _fix(before.models.get(name)) != _fix(after.models.get(name)):
            yield dotted((MODELS, name))


def _fix(model: ModelConfig | None) -> ModelConfig | None:
    """Return a model with only what cannot be changed: all that can has one value."""
    live = {key.path[2] for key in live_keys().values() if key.path[:2] == (MODELS, ANY_MODEL)}
    return model and model.model_copy(update=dict.fromkeys(live))


def _sign(path: Path) -> Signature | None:
    """Return what identifies the file behind a path, through links; None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    # A pipe gives what it holds once.
    if not stat.S_ISREG(found.st_mode):
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
