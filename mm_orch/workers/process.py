"""The worker process: loads one model with one engine and drives it until told to stop.

One thread does everything in turn: take what the server sent, let the engine work, report. A
second thread only waits for the server to vanish.

    stdin   first line: WorkerSpec as JSON; end of file: the server is gone
    ZeroMQ  Submit, Embed, Abort, ReleaseConversation, Configure, Shutdown
            ->  |  ->  Ready or StartFailed, then StepDone, CacheChanged and Configured ...
    stderr  log lines
"""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING

import msgspec
import zmq

from mm_orch.core.errors import EngineError
from mm_orch.core.heap import settle
from mm_orch.core.parent import die_with_parent
from mm_orch.optimization.engines.contract import ResizableBackend, Sequence, StreamEngine
from mm_orch.optimization.registry import load_engine
from mm_orch.workers import messages
from mm_orch.workers.connection import clean_up, connect
from mm_orch.workers.driving import StepDriver, StreamDriver, make_driver
from mm_orch.workers.embedding import EmbeddingDriver
from mm_orch.workers.pinning import pin

if TYPE_CHECKING:
    from mm_orch.workers.driving import Driver

logger = logging.getLogger(__name__)

_EXIT_START_FAILED = 3
# Unsent reports at exit are worth a moment, not more.
_LINGER_MS = 500


def main() -> int:
    """Run one worker; returns the exit code."""
    # Ctrl-C in a terminal reaches the whole group, but when workers stop is the server's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Whatever a library prints belongs into the log.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s: %(message)s"
    )
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=messages.WorkerSpec)
    threading.Thread(target=_exit_with_server, args=(spec.address,), daemon=True).start()
    context = zmq.Context()
    socket = context.socket(zmq.PAIR)
    socket.linger = _LINGER_MS
    connect(socket, spec.address, spec.key)
    try:
        return _run(spec, socket)
    finally:
        socket.close()
        context.term()


def _run(spec: messages.WorkerSpec, socket: zmq.Socket[bytes]) -> int:
    pin(spec)
    try:
        engine = load_engine(spec.engine, spec.task)()
        facts = engine.start(spec.engine_spec)
    except EngineError as error:
        logger.exception("%s cannot start", spec.engine)
        socket.send(
            messages.encode(messages.StartFailed(message=error.message, remedy=error.remedy))
        )
        return _EXIT_START_FAILED
    ready = messages.Ready(
        facts=facts,
        batches_itself=isinstance(engine, StreamEngine),
        is_resizable=isinstance(engine, ResizableBackend),
    )
    socket.send(messages.encode(ready))
    die_with_parent()
    driver = make_driver(engine, facts, spec)
    settle()
    try:
        _serve(socket, driver)
    finally:
        driver.stop()
    return 0


def _serve(socket: zmq.Socket[bytes], driver: Driver) -> None:
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    if driver.wake_fd is not None:
        poller.register(driver.wake_fd, zmq.POLLIN)
    while True:
        # With a step to run, take only what has arrived; else wait for something to arrive.
        while socket in dict(poller.poll(_poll_ms(driver))):
            message = messages.decode_to_worker(socket.recv())
            if isinstance(message, messages.Shutdown):
                return
            if isinstance(message, messages.Configure):
                _tell(socket, _configure(driver, message))
                continue
            _tell(socket, _take(message, driver))
        _tell(socket, driver.advance())


def _configure(driver: Driver, order: messages.Configure) -> messages.Configured:
    """Do what is ordered, and say what is in force then."""
    cache, refusal = None, ""
    try:
        cache = driver.configure(order.sharing)
    except EngineError as error:
        refusal = str(error)
    return messages.Configured(
        number=order.number, sharing=driver.sharing, refusal=refusal, cache=cache
    )


def _take(
    message: messages.Submit | messages.Embed | messages.Abort | messages.ReleaseConversation,
    driver: Driver,
) -> messages.CacheChanged | None:
    match message, driver:
        case messages.Submit(sequences), StepDriver() | StreamDriver():
            for order in sequences:
                _add(order, driver)
        case messages.Embed(texts), EmbeddingDriver():
            driver.embed(texts)
        case messages.Abort(sequence_ids), _:
            return driver.abort(sequence_ids)
        case messages.ReleaseConversation(conversation_id), _:
            return driver.release_conversation(conversation_id)
        case _:
            raise TypeError(f"{type(driver).__name__} does not take {type(message).__name__}")
    return None


def _tell(socket: zmq.Socket[bytes], report: messages.FromWorker | None) -> None:
    if report is not None:
        socket.send(messages.encode(report))


def _add(order: messages.SequenceOrder, driver: StepDriver | StreamDriver) -> None:
    match driver:
        case StepDriver():
            driver.add(_as_sequence(order), since_s=order.since_s)
        case StreamDriver():
            driver.add(_as_sequence(order))


def _as_sequence(order: messages.SequenceOrder) -> Sequence:
    return Sequence(
        sequence_id=order.sequence_id,
        token_ids=list(order.token_ids),
        params=order.params,
        num_prompt_tokens=order.num_prompt_tokens,
        conversation_id=order.conversation_id,
        priority=order.priority,
    )


def _poll_ms(driver: Driver) -> int | None:
    wait_s = driver.wait_s
    # Rounded up: a wait cut short would be polled for again and again.
    return None if wait_s is None else math.ceil(wait_s * 1000)


def _exit_with_server(address: str) -> None:
    """Wait for the server's end of standard input to close, then leave nothing behind."""
    # Unbuffered: a thread inside the buffered reader would hold its lock when the process exits,
    # which Python answers with a second of waiting and an abort.
    while os.read(sys.stdin.fileno(), 1):
        pass
    clean_up(address)
    # The main thread may be deep in a step: nothing gentler ends it at once.
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
