"""The Python face: the same path as HTTP, in this process, for async and for plain code."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import CancelledError, Future
from concurrent.futures import wait as wait_for
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from mm_orch.call_options import make_embedding_request, make_request, make_upload
from mm_orch.core.errors import MuAIError
from mm_orch.core.routing import NOTHING_CHOSEN
from mm_orch.orchestration.limits import check_conversation_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
    from types import TracebackType
    from typing import Self, Unpack

    from mm_orch.app import Runtime
    from mm_orch.call_options import Conversation, EmbeddingOptions, Options, UploadOptions
    from mm_orch.config import Config
    from mm_orch.core.generation import GenerationRequest, Usage
    from mm_orch.core.routing import Routing
    from mm_orch.documents.library import Uploaded
    from mm_orch.models.progress import Progress
    from mm_orch.orchestration.generation import Embeddings, Generation
    from mm_orch.orchestration.reports import StatusReport

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer.

    Attributes:
        text: what the model said.
        model: the configured name of the model that answered.
        engine: the engine that ran it.
        finish_reason: stop or length.
        usage: tokens of prompt and answer.
        ttft_s: seconds to the first token.
        total_s: seconds to the end.
        routing: what was chosen of what the call left open, and why.
        lacking: what the answer of a workflow is without: for each, the step and why.
    """

    text: str
    model: str
    engine: str
    finish_reason: str
    usage: Usage
    ttft_s: float
    total_s: float
    routing: Routing = NOTHING_CHOSEN
    lacking: tuple[str, ...] = ()


class AnswerStream:
    """An answer as it comes: iterate it for pieces of text; then ``answer`` holds the whole."""

    def __init__(self, runtime: Runtime, request: GenerationRequest) -> None:
        self._runtime = runtime
        self._request = request
        self._answer: Answer | None = None

    @property
    def answer(self) -> Answer:
        """The whole answer, once iteration has ended."""
        if self._answer is None:
            raise MuAIError("The answer is not complete yet.", remedy="Iterate to the end first.")
        return self._answer

    async def __aiter__(self) -> AsyncGenerator[str]:
        begin_s = time.monotonic()
        ttft_s: float | None = None
        pieces: list[str] = []
        finish_reason = ""
        async with self._runtime.generator.open(self._request) as generation:
            async for delta in generation:
                if ttft_s is None:
                    ttft_s = time.monotonic() - begin_s
                if delta.finish_reason is not None:
                    finish_reason = delta.finish_reason.value
                if delta.text:
                    pieces.append(delta.text)
                    yield delta.text
            total_s = time.monotonic() - begin_s
            self._answer = Answer(
                text="".join(pieces),
                model=generation.model,
                engine=generation.engine,
                finish_reason=finish_reason,
                usage=generation.usage,
                ttft_s=total_s if ttft_s is None else ttft_s,
                total_s=total_s,
                routing=generation.routing,
                lacking=_find_lacking(generation),
            )


class PlainAnswerStream:
    """An AnswerStream for plain code; closing the iterator early stops the generation."""

    def __init__(self, muai: MuAI, stream: AnswerStream) -> None:
        self._muai = muai
        self._stream = stream

    @property
    def answer(self) -> Answer:
        """The whole answer, once iteration has ended."""
        return self._stream.answer

    def __iter__(self) -> Generator[str]:
        pieces = aiter(self._stream)
        try:
            while (piece := self._muai.wait(anext(pieces, None))) is not None:
                yield piece
        finally:
            # Leaves the request's context, wherever the iteration stands.
            self._muai.wait(pieces.aclose())


class AsyncMuAI:
    """Models in this process's own workers, for asyncio code.

    >>> async with AsyncMuAI() as muai:
    ...     answer = await muai.generate("What is machine learning?", max_tokens=64)

    Args:
        config: from :func:`mm_orch.config.load_config`; None reads file and environment as the
            command line does.
        engine: run every model with this engine, whatever the configuration prefers.
        progress: told about downloads.

    Raises:
        ConfigError: on construction, when the configuration has faults.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        engine: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._config = config or _load_config()
        self._engine = engine
        self._progress = progress
        self._stack = AsyncExitStack()
        self._runtime: Runtime | None = None

    async def __aenter__(self) -> Self:
        from mm_orch.app import open_runtime

        self._runtime = await self._stack.enter_async_context(
            open_runtime(self._config, engine=self._engine, progress=self._progress)
        )
        return self

    async def __aexit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._runtime = None
        await self._stack.__aexit__(error_type, error, traceback)

    async def generate(
        self, prompt: str, *, raw: bool = False, **options: Unpack[Options]
    ) -> Answer:
        """Answer one message; with ``raw`` continue the text as it is, without chat template.

        Raises:
            RequestError, OverloadError, DeadlineError, EngineError: as over HTTP.
        """
        return await _read_all(self.stream(prompt, raw=raw, **options))

    async def chat(self, messages: Conversation, **options: Unpack[Options]) -> Answer:
        """Answer a conversation of ``{"role": ..., "content": ...}`` turns; raises as generate."""
        return await _read_all(self.stream(messages, **options))

    def stream(
        self, prompt: str | Conversation, *, raw: bool = False, **options: Unpack[Options]
    ) -> AnswerStream:
        """Answer a message or a conversation piece by piece; iterating raises as generate."""
        return AnswerStream(self._running, make_request(prompt, raw=raw, options=options))

    async def embed(
        self, texts: str | Sequence[str], **options: Unpack[EmbeddingOptions]
    ) -> Embeddings:
        """Make one vector a text; a single text makes one row. Raises as generate."""
        return await self._running.embedder.embed(make_embedding_request(texts, options=options))

    async def upload(self, name: str, content: bytes, **options: Unpack[UploadOptions]) -> Uploaded:
        """Store a file as a document that workflows search; its name's ending says what it is.

        Raises:
            RequestError, OverloadError, DeadlineError, EngineError, StorageError: as over HTTP.
        """
        return await self._running.library.upload(make_upload(name, content, options=options))

    def release_conversation(self, conversation_id: str) -> None:
        """Free the KV memory that only the calls with this ``conversation_id`` need.

        Raises:
            InvalidValueError: this cannot name a conversation.
        """
        check_conversation_id(conversation_id)
        self._running.orchestrator.release_conversation(conversation_id)

    def status(self) -> StatusReport:
        """Engines, models and load, as ``--status`` prints them; loads nothing."""
        return self._running.status.status()

    @property
    def _running(self) -> Runtime:
        if self._runtime is None:
            raise MuAIError("AsyncMuAI is not open.", remedy="Use it in 'async with AsyncMuAI()'.")
        return self._runtime


class MuAI:
    """The same for plain code: an event loop in a thread of its own does the waiting.

    >>> with MuAI() as muai:
    ...     print(muai.generate("What is machine learning?", max_tokens=64).text)

    Close it, or use it in ``with``: its workers end then, and at the latest with the process.
    Arguments and errors are those of :class:`AsyncMuAI`.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        engine: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._inner = AsyncMuAI(config, engine=engine, progress=progress)
        self._opened: Future[asyncio.AbstractEventLoop] = Future()
        self._closing = asyncio.Event()
        # Nothing is given to the loop once its end has begun: it might never run.
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="muai", daemon=True)
        self._thread.start()
        self._loop = self._opened.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def generate(self, prompt: str, *, raw: bool = False, **options: Unpack[Options]) -> Answer:
        """Answer one message; see :meth:`AsyncMuAI.generate`."""
        return self.wait(self._inner.generate(prompt, raw=raw, **options))

    def chat(self, messages: Conversation, **options: Unpack[Options]) -> Answer:
        """Answer a conversation; see :meth:`AsyncMuAI.chat`."""
        return self.wait(self._inner.chat(messages, **options))

    def stream(
        self, prompt: str | Conversation, *, raw: bool = False, **options: Unpack[Options]
    ) -> PlainAnswerStream:
        """Answer piece by piece; see :meth:`AsyncMuAI.stream`."""
        return PlainAnswerStream(self, self._inner.stream(prompt, raw=raw, **options))

    def embed(self, texts: str | Sequence[str], **options: Unpack[EmbeddingOptions]) -> Embeddings:
        """Make one vector a text; see :meth:`AsyncMuAI.embed`."""
        return self.wait(self._inner.embed(texts, **options))

    def upload(self, name: str, content: bytes, **options: Unpack[UploadOptions]) -> Uploaded:
        """Store a file as a document; see :meth:`AsyncMuAI.upload`."""
        return self.wait(self._inner.upload(name, content, **options))

    def release_conversation(self, conversation_id: str) -> None:
        """Free a conversation's KV memory; see :meth:`AsyncMuAI.release_conversation`."""
        self._call(lambda: self._inner.release_conversation(conversation_id))

    def status(self) -> StatusReport:
        """Engines, models and load; see :meth:`AsyncMuAI.status`."""
        return self._call(self._inner.status)

    def close(self) -> None:
        """Stop the workers and the thread; safe twice."""
        with self._lock:
            if not self._is_closed:
                self._is_closed = True
                if self._thread.is_alive():
                    self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._live())
        except BaseException as error:
            if self._opened.done():
                raise
            self._opened.set_exception(error)

    async def _live(self) -> None:
        async with self._inner:
            self._opened.set_result(asyncio.get_running_loop())
            await self._closing.wait()

    def _call(self, function: Callable[[], T]) -> T:
        async def run() -> T:
            return function()

        return self.wait(run())

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on this object's loop and return what it returns."""
        outcome: Future[T] = Future()
        tasks: list[asyncio.Future[T]] = []

        def start() -> None:
            tasks.append(asyncio.ensure_future(coroutine))
            tasks[0].add_done_callback(lambda task: _hand_over(task, outcome))

        def cancel() -> None:
            if tasks:
                tasks[0].cancel()
            else:
                # The interrupt came before the start was even asked for.
                outcome.set_exception(CancelledError())

        try:
            self._submit(start)
            return outcome.result()
        except MuAIError:
            if not tasks:
                coroutine.close()
            raise
        except BaseException:
            if not outcome.done():
                # Interrupted: what it works on may be touched again only when it has let go.
                self._submit(cancel)
                wait_for([outcome])
            raise

    def _submit(self, call: Callable[[], None]) -> None:
        with self._lock:
            if self._is_closed or not self._thread.is_alive():
                raise MuAIError("MuAI has been closed.", remedy="Make a new one.")
            self._loop.call_soon_threadsafe(call)


def _hand_over(task: asyncio.Future[T], outcome: Future[T]) -> None:
    if task.cancelled():
        outcome.set_exception(CancelledError())
    elif (error := task.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(task.result())


async def _read_all(stream: AnswerStream) -> Answer:
    async for _piece in stream:
        pass
    return stream.answer


def _find_lacking(generation: Generation) -> tuple[str, ...]:
    from mm_orch.workflows.as_models import WorkflowGeneration

    failed = generation.failed if isinstance(generation, WorkflowGeneration) else ()
    return tuple(f"{one.step}: {one.error}" for one in failed)


def _load_config() -> Config:
    import os

    from mm_orch.config import load_config

    return load_config(path=None, environ=os.environ, overrides={}).config
