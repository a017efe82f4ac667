"""One server elsewhere that runs a model: asks it, watches it, counts its faults."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from contextlib import aclosing, asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.errors import (
    EngineCrashedError,
    EngineError,
    EngineFailedError,
    EngineHungError,
    InvalidValueError,
    ModelUnavailableError,
)
from mm_orch.optimization.circuit import Circuit, CircuitState
from mm_orch.remote.channel import (
    BrokenChannelError,
    Channel,
    SilentChannelError,
    read_lines,
    read_whole,
)
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from mm_orch.core.clock import Clock
    from mm_orch.remote.channel import Reply
    from mm_orch.remote.discovery import Address

logger = logging.getLogger(__name__)

_CONNECT_S = 5.0
# So long a request may be sent to a server that has just begun to hang.
_PROBE_EVERY_S = 5.0
_PROBE_S = 5.0
_MIN_RETRY_S = 1.0
# A server that names a longer time may be well before.
_MAX_REST_S = 10.0
_DATA, _DONE = b"data:", b"[DONE]"
_MAX_SHOWN_CHARS = 300
# The server is there and well, and will take the request later.
_OVERLOAD = {429, 503}
_CALLERS_FAULT = {400, 404, 413, 422}
_REFUSES_KEY = {401, 403}


class RemoteServer:
    """One model of a server that speaks OpenAI's API.

    Args:
        model: our name for it.
        address: where the server listens.
        name_there: the model's name on it; None where it is to be found out.
        api_key: sent as a bearer token; empty for none.
        stall_s: a stream that says nothing for so long is given up.
        on_change: called when phase or circuit are others than before.

    Attributes:
        rests_until_s: it has no place for requests until then; a reading of the clock.
    """

    def __init__(
        self,
        model: str,
        address: Address,
        *,
        name_there: str | None,
        api_key: str,
        stall_s: float,
        on_change: Callable[[], None],
        clock: Clock,
    ) -> None:
        self.model = model
        self.address = address
        self.phase = ModelPhase.LOADING
        self.detail = "not asked yet"
        self.circuit = Circuit(clock)
        self.rests_until_s = 0.0
        self._ready_at_s = 0.0
        self._base = address.url.rstrip("/").removesuffix("/v1") + "/v1"
        self._name_there = name_there
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._stall_s = stall_s
        self._on_change = on_change
        self._clock = clock
        self._changed = asyncio.Event()
        self._channel: Channel | None = None
        self._has_another_by_wait: dict[asyncio.Timeout, Callable[[], bool]] = {}

    @property
    def name_there(self) -> str:
        """The model's name on the server; known once it has been asked."""
        return self._name_there or self.model

    async def run(self) -> None:
        """Ask the server how it is until cancelled; whatever it answers, it is asked again."""
        try:
            while True:
                try:
                    await self._probe()
                except Exception as error:  # boundary: no odd server ends this one
                    logger.exception("%s cannot be followed", self._base)
                    self._trip(f"{self._base} cannot be followed: {type(error).__name__}: {error}")
                await self._pause()
        finally:
            channel, self._channel = self._channel, None
            self._change(ModelPhase.FAILED, "it is being stopped")
            if channel is not None:
                await channel.aclose()

    @asynccontextmanager
    async def stream(self, path: str, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[Any]]:
        """Send a request; give the chunks of its answer. Leaving early closes the connection.

        Raises:
            InvalidValueError: the server refuses the request.
            ModelUnavailableError: it has no place for it now.
            EngineError: it cannot be reached, fails, or breaks off.
        """
        if self._channel is None:
            raise ModelUnavailableError(
                f"Model {self.model} is not connected.", retry_after_s=_MIN_RETRY_S
            )
        with self._translated():
            reply = await self._channel.ask(
                "POST", path, msgspec.json.encode(body), silence_s=self._stall_s
            )
            try:
                if reply.status != HTTPStatus.OK:
                    raise self._refusal(reply, await read_whole(reply))
                yield self._read_events(reply)
            finally:
                await reply.aclose()

    @asynccontextmanager
    async def while_reachable(self, has_another: Callable[[], bool]) -> AsyncIterator[None]:
        """Wait for something of the server, but no longer than it answers when asked how it is.

        Args:
            has_another: whether there is a server to go to: who has none waits on.

        Raises:
            EngineHungError: it did not answer that.
        """
        try:
            async with asyncio.timeout(None) as wait:
                self._has_another_by_wait[wait] = has_another
                try:
                    yield
                finally:
                    del self._has_another_by_wait[wait]
        except TimeoutError as error:
            raise EngineHungError(
                f"The server of {self.model} had a request and ceased to answer: {self.detail}",
                num_lost=1,
            ) from error

    def count(self, error: EngineError) -> None:
        """Note a fault of the server."""
        if self.phase is ModelPhase.FAILED:
            # One fault ends many requests, and is one.
            return
        if isinstance(error, EngineCrashedError):
            self._trip(str(error))
        elif self.circuit.count_step_fault(error.message, lived_s=self._lived_s):
            self._change(ModelPhase.FAILED, error.message)

    def record_success(self) -> None:
        """Note an answer that came to its end."""
        self.circuit.record_success()

    async def _probe(self) -> None:
        """Ask which models it has; that it answers closes the circuit."""
        try:
            await self._ask_models()
        except (BrokenChannelError, SilentChannelError) as error:
            self._trip(f"{self._base} cannot be reached: {error}")
            self._end_waits()
            return
        except EngineFailedError as error:
            self._trip(error.message)
            return
        if self.circuit.state is not CircuitState.CLOSED:
            self.circuit.close()
        if self.phase is not ModelPhase.READY:
            self._ready_at_s = self._clock()
            self._change(ModelPhase.READY, "")

    async def _ask_models(self) -> None:
        if self._channel is None:
            self._channel = Channel(
                self._base,
                self._headers,
                connect_s=_CONNECT_S,
                server_name=self.address.server_name,
            )
        reply = await self._channel.ask("GET", "/models", b"", silence_s=_PROBE_S)
        try:
            body = await read_whole(reply)
        finally:
            await reply.aclose()
        if reply.status in _REFUSES_KEY:
            raise EngineFailedError(f"{self._base} refuses the key ({reply.status}).")
        if reply.status != HTTPStatus.OK:
            raise EngineFailedError(f"{self._base} answers with {reply.status}.")
        self._choose_name(body)

    def _choose_name(self, body: bytes) -> None:
        try:
            names = msgspec.convert([one["id"] for one in json.loads(body)["data"]], list[str])
        except (KeyError, RecursionError, TypeError, ValueError, msgspec.MsgspecError) as error:
            raise EngineFailedError(f"{self._base}/models is no list of models.") from error
        if self._name_there is None:
            if self.model not in names and len(names) != 1:
                raise EngineFailedError(
                    f"{self._base} has the models {', '.join(names) or 'none'}: say which is meant"
                    " with #NAME at the end of the source."
                )
            self._name_there = self.model if self.model in names else names[0]
        elif self._name_there not in names:
            raise EngineFailedError(
                f"{self._base} has no model {self._name_there}, but {', '.join(names) or 'none'}."
            )

    async def _read_events(self, reply: Reply) -> AsyncIterator[Any]:
        """Yield each event's JSON until [DONE]."""
        with self._translated():
            async with aclosing(read_lines(reply.pieces())) as lines:
                async for line in lines:
                    if not line.startswith(_DATA):
                        continue
                    data = line[len(_DATA) :].strip()
                    if data == _DONE:
                        reply.finish()
                        return
                    yield _parse(data)
        raise EngineCrashedError(
            f"The server of {self.model} closed its stream before the end.", num_lost=1
        )

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Name the channel's errors in our words."""
        try:
            yield
        except SilentChannelError as error:
            raise EngineHungError(
                f"The server of {self.model} said nothing for {self._stall_s:g} s.", num_lost=1
            ) from error
        except BrokenChannelError as error:
            raise EngineCrashedError(
                f"The server of {self.model} cannot be reached or has broken off: {error}",
                num_lost=1,
            ) from error

    def _refusal(self, reply: Reply, body: bytes) -> Exception:
        status = reply.status
        message, param = _error_in(body)
        told = f"The server of {self.model} answers with {status}: {message}"
        if status in _CALLERS_FAULT:
            return InvalidValueError(told, param=param)
        if status in _OVERLOAD:
            retry_after_s = _retry_after(reply)
            self.rests_until_s = self._clock() + min(retry_after_s, _MAX_REST_S)
            return ModelUnavailableError(told, retry_after_s=retry_after_s)
        return EngineFailedError(told)

    async def _pause(self) -> None:
        """Wait until it is time to ask again: sooner when a request has met a fault."""
        if self.phase is ModelPhase.READY:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PROBE_EVERY_S):
                    await self._changed.wait()
        await asyncio.sleep(self.circuit.wait_s)

    def _end_waits(self) -> None:
        """Let who waits for the server look elsewhere, long before its silence is given up."""
        for wait, has_another in self._has_another_by_wait.items():
            if has_another():
                wait.reschedule(asyncio.get_running_loop().time())

    @property
    def _lived_s(self) -> float:
        """For how long it has been well; 0 while it is not."""
        return self._clock() - self._ready_at_s if self.phase is ModelPhase.READY else 0.0

    def _trip(self, reason: str) -> None:
        self.circuit.trip(reason, lived_s=self._lived_s)
        self._change(ModelPhase.FAILED, reason)

    def _change(self, phase: ModelPhase, detail: str) -> None:
        self.phase, self.detail = phase, detail
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_change()


def _parse(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError):
        # It is stricter: numbers such as Infinity are no JSON, but servers write them.
        return _parse_loosely(data)


def _parse_loosely(data: bytes) -> Any:
    try:
        return json.loads(data)
    except (RecursionError, ValueError) as error:
        shown = data[:_MAX_SHOWN_CHARS].decode(errors="replace")
        raise EngineFailedError(
            f"The remote server sent an event that is no JSON: {shown}"
        ) from error


def _error_in(body: bytes) -> tuple[str, str | None]:
    try:
        error = json.loads(body)["error"]
        return str(error["message"]), error.get("param")
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        return body[:_MAX_SHOWN_CHARS].decode(errors="replace"), None


def _retry_after(reply: Reply) -> float:
    return float(reply.retry_after) if reply.retry_after.isdigit() else _MIN_RETRY_S
