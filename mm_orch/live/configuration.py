"""Owns the options in force while the server runs, and changes all that are asked, or none."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mm_orch.config.command_line import read_overrides
from mm_orch.config.keys import dotted, generic, keys_by_path
from mm_orch.config.setting import DEFAULT, shown_setting
from mm_orch.core.configuration import (
    Change,
    ChangeSource,
    ConfigurationChanged,
    LiveOption,
    LiveReport,
    WorkerInForce,
)
from mm_orch.core.endpoints import read_endpoints
from mm_orch.core.errors import ModelUnavailableError
from mm_orch.core.faults import Fault
from mm_orch.core.live_error import LiveChangeError
from mm_orch.live.decision import CACHE_MEMORY, decide, live_paths, read_live
from mm_orch.live.plans import find_replicas
from mm_orch.live.refusals import find_refusals
from mm_orch.live.sharing import find_sharing
from mm_orch.workers.kv_bytes import find_kv_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mm_orch.config import Config
    from mm_orch.config.keys import Path
    from mm_orch.core.events import Observer
    from mm_orch.optimization.manager import OptimizationManager
    from mm_orch.orchestration.admission import Admission
    from mm_orch.orchestration.gate import Gate
    from mm_orch.workers.messages import Sharing
    from mm_orch.workers.worker import Worker

logger = logging.getLogger(__name__)

_MAX_HISTORY = 200
# A step is over by then, or its worker is stuck and will be replaced.
_ANSWER_S = 60.0


class LiveConfiguration:
    """The configuration in force.

    Args:
        config: with which everything was started.
        origins: who set each of its options, by dotted key.
        manager: has the workers that batcher and cache are changed in.
        admission: bounds what waits.
        gate: bounds what engines are given.
    """

    def __init__(
        self,
        config: Config,
        origins: Mapping[str, str],
        *,
        manager: OptimizationManager,
        admission: Admission,
        gate: Gate,
        observer: Observer,
    ) -> None:
        self._config = config
        self._origins = {name: origins.get(name, DEFAULT) for name in live_paths(config)}
        self._manager = manager
        self._admission = admission
        self._gate = gate
        self._observer = observer
        self._history: deque[Change] = deque(maxlen=_MAX_HISTORY)
        # One change at a time.
        self._turn = asyncio.Lock()
        self._changing: set[asyncio.Task[tuple[Change, ...]]] = set()

    @property
    def config(self) -> Config:
        """The whole configuration as it is in force."""
        return self._config

    @property
    def history(self) -> Sequence[Change]:
        """The last changes, newest first."""
        return tuple(self._history)

    def read(self) -> Mapping[str, object]:
        """Return the value in force of each live option by its dotted key."""
        return read_live(self._config)

    def report(self) -> LiveReport:
        """Return the live options with what they may be, and the last changes."""
        values = read_live(self._config)
        return LiveReport(
            options=tuple(
                LiveOption(
                    path=name,
                    value=values[name],
                    origin=self._origins[name],
                    allowed=keys_by_path()[generic(path)].kind.words,
                )
                for name, path in live_paths(self._config).items()
            ),
            workers=tuple(_tell_in_force(worker) for worker in self._manager.workers),
            history=tuple(self._history),
        )

    async def change(
        self,
        values: Mapping[str, object],
        *,
        source: ChangeSource,
        reason: str = "",
        origins: Mapping[str, str] | None = None,
    ) -> tuple[Change, ...]:
        """Give options other values, all of them or none; return those that were not in force yet.

        A change that has begun is carried out though its caller is cancelled.

        Args:
            values: by dotted key.
            source: who changes them.
            reason: for people.
            origins: who set each value, where that is not the source itself.

        Raises:
            LiveChangeError: with every fault; nothing has changed.
            ModelUnavailableError: a worker does not answer; nothing has changed.
        """
        task = asyncio.create_task(self._change_in_turn(values, source, reason, origins or {}))
        self._changing.add(task)
        task.add_done_callback(self._changing.discard)
        return await asyncio.shield(task)

    async def _change_in_turn(
        self,
        values: Mapping[str, object],
        source: ChangeSource,
        reason: str,
        origins: Mapping[str, str],
    ) -> tuple[Change, ...]:
        async with self._turn:
            before = self._config
            after = decide(before, values, origin=source)
            old_values, new_values = read_live(before), read_live(after)
            changed = [name for name, old in old_values.items() if old != new_values[name]]
            sharing = find_sharing(after)
            if sharing != find_sharing(before):
                self._check_engines(changed, new_values, sharing, source)
                await self._share(find_sharing(before), sharing, new_values, source)
                self._gate.wake_all()
            self._resize(before, after)
            self._name_servers(before, after)
            self._admission.queue_capacity = after.monitoring.server.queue_capacity
            self._config = after
            when = datetime.now(UTC).isoformat(timespec="milliseconds")
            changes = tuple(
                Change(
                    path=name,
                    old=old_values[name],
                    new=new_values[name],
                    source=source,
                    reason=reason,
                    when=when,
                )
                for name in changed
            )
            # Here and not where it was asked for: whoever did may have been cancelled.
            self._origins |= {name: origins.get(name, source) for name in changed}
            self._note(changes)
            return changes

    def _resize(self, before: Config, after: Config) -> None:
        for name in after.models:
            if (count := find_replicas(after, name)) != find_replicas(before, name):
                self._manager.resize(name, count)

    def _name_servers(self, before: Config, after: Config) -> None:
        for name, model in after.models.items():
            if model.endpoints != before.models[name].endpoints:
                self._manager.name_servers(name, [read_endpoints(e) for e in model.endpoints])

    def _check_engines(
        self,
        changed: Sequence[str],
        values: Mapping[str, Any],
        sharing: Sharing,
        source: ChangeSource,
    ) -> None:
        refusals = [
            refusal
            for worker in self._manager.workers
            for refusal in find_refusals(changed, sharing, worker.spec, worker.ready)
        ]
        if refusals:
            raise LiveChangeError([_fault(name, values, why, source) for name, why in refusals])

    async def _share(
        self, before: Sharing, after: Sharing, values: Mapping[str, Any], source: ChangeSource
    ) -> None:
        """Tell the workers; tell them the old values again where one of them refuses."""
        given = self._manager.share(after)
        if given:
            await asyncio.wait([answer for _, answer in given], timeout=_ANSWER_S)
        silent = [worker for worker, answer in given if not answer.done()]
        refusals = [
            f"is refused by {worker.engine}, which runs {worker.model}: {told.refusal}"
            for worker, answer in given
            if answer.done() and (told := answer.result()) is not None and told.refusal
        ]
        if silent or refusals:
            self._manager.share(before)
        if refusals:
            # Of all that is told to workers, memory alone may be lacking.
            raise LiveChangeError([_fault(CACHE_MEMORY, values, why, source) for why in refusals])
        if silent:
            names = ", ".join(worker.model for worker in silent)
            raise ModelUnavailableError(
                f"Nothing is changed: the worker of {names} did not answer within {_ANSWER_S:g} s.",
                retry_after_s=_ANSWER_S,
            )

    def _note(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._history.appendleft(change)
            logger.info(
                "configuration changed: %s from %s to %s by %s%s",
                change.path,
                *(_shown(change.path, value) for value in (change.old, change.new)),
                change.source,
                f" ({change.reason})" if change.reason else "",
            )
            # Models' options are counted together.
            key = dotted(generic(_path_of(change.path)))
            self._observer.observe(ConfigurationChanged(path=key, source=change.source))


def _tell_in_force(worker: Worker) -> WorkerInForce:
    batcher, kv_bytes = worker.orders.in_force.batcher, find_kv_bytes(worker)
    return WorkerInForce(
        model=worker.model,
        engine=worker.engine,
        max_batch_size=batcher.max_batch_size,
        min_batch_size=batcher.min_batch_size,
        batch_timeout_ms=round(batcher.batch_timeout_s * 1000),
        max_batch_tokens=batcher.max_batch_tokens,
        kv_target_bytes=kv_bytes.target,
        kv_actual_bytes=kv_bytes.actual,
    )


def _fault(name: str, values: Mapping[str, Any], problem: str, source: ChangeSource) -> Fault:
    return Fault(name, _shown(name, values[name]), problem, source)


def _shown(name: str, value: object) -> str:
    return shown_setting(_path_of(name), value)


def _path_of(name: str) -> Path:
    [path] = read_overrides({name: None}).settings
    return path
