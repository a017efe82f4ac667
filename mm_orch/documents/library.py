"""Takes files in: reads one, cuts it, has its chunks embedded, and stores all of it or nothing."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from mm_orch.core.embedding import EmbeddingRequest
from mm_orch.core.errors import DeadlineError, DocumentLimitError, NotServedError
from mm_orch.core.generation import ANONYMOUS
from mm_orch.documents.chunking import Measure, cut_into_chunks
from mm_orch.documents.pdf import PdfReader
from mm_orch.documents.reading import find_media_type, read_text
from mm_orch.documents.sizes import GuessingTextMeter, check_name, choose_sizes
from mm_orch.orchestration.ticket import RUN
from mm_orch.storage.documents import MAX_CHUNKS, DocumentSummary, NewDocument, Passage
from mm_orch.storage.finishing import finish

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from numpy.typing import NDArray

    from mm_orch.documents.text import FileText
    from mm_orch.orchestration.generation import MeasuringEmbedder
    from mm_orch.orchestration.ticket import Ticket
    from mm_orch.storage.documents import DocumentStore

# Embedded at a time: other requests take turns with each, and what is over is noticed.
_MAX_TEXTS = 64
_MAX_CUT_AT_ONCE = 2
_NO_VECTORS = (
    "No embedding model is configured: the chunks have no vectors, and are found by their words"
    " alone."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """A file that is to be stored.

    Attributes:
        owner: whose it is.
        name: of the file; its ending says what it is.
        content: the file.
        metadata: the caller's, told wherever the document is cited.
        chunk_size: most tokens of a chunk; None for the usual.
        chunk_overlap: tokens that a chunk repeats of the one before, at most; None for the usual.
        timeout_s: the deadline, seconds from now; None for ``api.request_timeout_s``.
        priority: of what the embedding model is asked; see core.priority.
        caller: name of the key, for counting.
    """

    request_id: str
    owner: str
    name: str
    content: bytes = field(repr=False)
    metadata: dict[str, Any] = field(default_factory=dict)
    chunk_size: int | None = None
    chunk_overlap: int | None = None
    timeout_s: float | None = None
    priority: int = 0
    caller: str = ANONYMOUS


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What has become of a file.

    Attributes:
        status: ``stored``; ``replaced``, where one of this name and content was there that was cut
            or embedded otherwise, or had other metadata; ``known``, where it was there as it is.
    """

    summary: DocumentSummary
    status: Literal["stored", "replaced", "known"]

    @property
    def note(self) -> str | None:
        """What the document is without, in words; None where it is without nothing."""
        return None if self.summary.embedding_model else _NO_VECTORS


class RunPlaces(Protocol):
    """Lets uploads in: the entrance of all requests, seen from here."""

    def place_run(
        self, model: str, *, caller: str, priority: int, timeout_s: float, content: object
    ) -> AbstractContextManager[Ticket]:
        """Hold a place for several requests; raises OverloadError where there is none."""


class DocumentLibrary:
    """Takes files in for the store.

    Args:
        store: keeps documents.
        embedder: makes vectors.
        places: let uploads in.
        embedding_model: the default one, by its configured name; None where none is configured:
            then chunks have no vectors.
        default_model: whose queue uploads wait in where nothing embeds.
        timeout_s: of uploads that set none.
        is_enabled: documents are served at all.
    """

    def __init__(
        self,
        store: DocumentStore,
        *,
        embedder: MeasuringEmbedder,
        places: RunPlaces,
        embedding_model: str | None,
        default_model: str,
        timeout_s: float,
        is_enabled: bool = True,
    ) -> None:
        self._store = store
        self._embedder = embedder
        self._places = places
        self._embedding_model = embedding_model
        self._default_model = default_model
        self._timeout_s = timeout_s
        self._is_enabled = is_enabled
        self._pdfs = PdfReader()
        self._cutting = asyncio.Semaphore(_MAX_CUT_AT_ONCE)

    @property
    def store(self) -> DocumentStore:
        """The stored documents; raises NotServedError where workflows are switched off."""
        self.check_enabled()
        return self._store

    def check_enabled(self) -> None:
        """Raise NotServedError where workflows are switched off, and documents with them."""
        if not self._is_enabled:
            raise NotServedError(
                "There are no workflows and no documents here: workflows.enabled is false.",
                remedy="Set it to true and start the server again.",
            )

    async def upload(self, upload: Upload) -> Uploaded:
        """Store a file; when this returns, it is on the disk. Cancelling leaves nothing of it.

        Raises:
            NotServedError: workflows are switched off.
            InvalidValueError: it cannot be read, or a size is not allowed.
            DocumentLimitError: it is too large, or the owner has too much.
            OverloadError: the queue is full, or the server drains.
            DeadlineError: the time was over first.
            EngineError: the embedding model failed.
            StorageError: the disk failed.
        """
        self.check_enabled()
        timeout_s = upload.timeout_s or self._timeout_s
        with self._places.place_run(
            self._embedding_model or self._default_model,
            caller=upload.caller,
            priority=upload.priority,
            timeout_s=timeout_s,
            content=(upload.name, upload.content),
        ) as place:
            # What the embedder is asked belongs to this place, and is not refused afterwards.
            token = RUN.set(place)
            try:
                async with asyncio.timeout(timeout_s) as scope:
                    return await self._take(upload, scope)
            except TimeoutError:
                if not scope.expired():
                    raise
                raise DeadlineError(
                    f"The document {upload.name!r} was not stored within {timeout_s:g} s.",
                    remedy="Cut the file into several, or raise api.request_timeout_s.",
                ) from None
            finally:
                RUN.reset(token)

    async def _take(self, upload: Upload, scope: asyncio.Timeout) -> Uploaded:
        check_name(upload.name)
        media_type = find_media_type(upload.name, upload.content)
        meter = (
            GuessingTextMeter()
            if self._embedding_model is None
            else await self._embedder.find_meter(self._embedding_model)
        )
        size, overlap = choose_sizes(upload.chunk_size, upload.chunk_overlap, meter)
        digest = await asyncio.to_thread(lambda: hashlib.sha256(upload.content).hexdigest())
        document = NewDocument(
            name=upload.name,
            media_type=media_type,
            num_bytes=len(upload.content),
            digest=digest,
            metadata=upload.metadata,
            chunk_size=size,
            chunk_overlap=overlap,
            embedding_model=self._embedding_model,
        )
        known = await self._store.find_same(upload.owner, document.name, digest)
        if known is not None and _is_same(known, document):
            return Uploaded(known, "known")
        if media_type == "application/pdf":
            file = await self._pdfs.read(upload.content)
        else:
            file = await asyncio.to_thread(read_text, upload.content, media_type)
        chunks = await self._cut(file, Measure(meter.count, size, overlap))
        vectors = await self._embed(upload, chunks, scope)
        added = await finish(
            self._store.add(upload.owner, document, chunks, vectors),
            "document",
            remedy="List the documents, or send it again: it is not stored twice.",
        )
        return Uploaded(added.summary, "stored" if added.is_new else "replaced")

    async def _cut(self, file: FileText, measure: Measure) -> list[Passage]:
        """Cut a text in a thread, which stops when this is cancelled."""
        is_over = threading.Event()

        def cut() -> list[Passage]:
            going = itertools.takewhile(
                lambda _: not is_over.is_set(), cut_into_chunks(file, measure)
            )
            return list(itertools.islice(going, MAX_CHUNKS + 1))

        async with self._cutting:
            try:
                chunks = await asyncio.to_thread(cut)
            finally:
                is_over.set()
        if len(chunks) > MAX_CHUNKS:
            raise DocumentLimitError(
                f"The document has more than {MAX_CHUNKS} chunks, the most that are stored of one.",
                param="chunk_size",
                remedy="Raise chunk_size, or cut the file into several.",
            )
        return chunks

    async def _embed(
        self, upload: Upload, chunks: Sequence[Passage], scope: asyncio.Timeout
    ) -> NDArray[np.float32] | None:
        if self._embedding_model is None:
            return None
        found: list[NDArray[np.float32]] = []
        loop = asyncio.get_running_loop()
        for begin in range(0, len(chunks), _MAX_TEXTS):
            part = chunks[begin : begin + _MAX_TEXTS]
            end_s = scope.when()
            embeddings = await self._embedder.embed(
                EmbeddingRequest(
                    request_id=upload.request_id,
                    inputs=tuple(chunk.content for chunk in part),
                    model=self._embedding_model,
                    # Never 0, which would be none.
                    timeout_s=None if end_s is None else max(1e-3, end_s - loop.time()),
                    priority=upload.priority,
                    caller=upload.caller,
                )
            )
            found.append(embeddings.vectors)
        return np.concatenate(found)


def _is_same(known: DocumentSummary, document: NewDocument) -> bool:
    return all(
        getattr(known, name) == getattr(document, name) for name in NewDocument.__struct_fields__
    )
