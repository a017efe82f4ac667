"""The application under test with scripted neighbours, and a client that calls it in process."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2

from mm_orch.api.application import Insight, create_application
from mm_orch.api.settings import ApiSettings
from mm_orch.core.generation import ChatPrompt
from mm_orch.core.observers import ObserverFanOut
from mm_orch.documents.library import DocumentLibrary
from mm_orch.orchestration.ticket import Ticket
from mm_orch.orchestration.usage import UsageBook
from mm_orch.storage.sql_sessions import SqlSessions
from mm_orch.storage.sqlite_database import SqliteDatabase
from mm_orch.workflows.account import Watch
from mm_orch.workflows.as_models import ModelsAndWorkflows
from mm_orch.workflows.running import WorkflowSettings
from tests.unit.api.scripted_embedder import ScriptedEmbedder
from tests.unit.api.scripted_generator import (
    ROUTER,
    EventList,
    ScriptedGenerator,
    ScriptedLoader,
    ScriptedReports,
)
from tests.unit.workflows.scene import make_workflows, no_documents

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from starlette.types import ASGIApp

    from mm_orch.api.tracing import StartTrace
    from mm_orch.consciousness.mind import Mind
    from mm_orch.core.errors import MuAIError
    from mm_orch.core.observations import Observations
    from mm_orch.core.tuning_report import TunerReports
    from mm_orch.live.configuration import LiveConfiguration
    from mm_orch.storage.documents import DocumentStore
    from mm_orch.storage.sessions import SessionStore
    from mm_orch.workflows.registry import WorkflowRegistry
    from mm_orch.workflows.routes import RoutingSettings, RoutingSources

CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
RESPONSES = "/v1/responses"
VECTORS = "/v1/embeddings"
HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}]}
SHORTEST: dict[str, dict[str, Any]] = {
    CHAT: HELLO,
    TEXT: {"prompt": "Hi"},
    RESPONSES: {"input": "Hi"},
}


def _no_sessions() -> SessionStore:
    """Return a store whose file cannot be opened."""
    return SqlSessions(SqliteDatabase(Path("/dev/null/sessions.sqlite3")))


@dataclass
class Places:
    """Lets uploads in.

    Attributes:
        refusal: raised instead.
        num_taken: places that are held.
        models: that they were asked for.
    """

    refusal: MuAIError | None = None
    num_taken: int = 0
    models: list[str] = field(default_factory=list)

    @contextmanager
    def place_run(
        self, model: str, *, caller: str, priority: int, timeout_s: float, content: object
    ) -> Iterator[Ticket]:
        assert content
        if self.refusal is not None:
            raise self.refusal
        self.models.append(model)
        self.num_taken += 1
        try:
            yield Ticket(model, timeout_s, caller=caller, priority=priority)
        finally:
            self.num_taken -= 1


@dataclass
class Face:
    """The HTTP face and everything beside it."""

    generator: ScriptedGenerator = field(default_factory=ScriptedGenerator)
    embedder: ScriptedEmbedder = field(default_factory=ScriptedEmbedder)
    loader: ScriptedLoader = field(default_factory=ScriptedLoader)
    reports: ScriptedReports = field(default_factory=ScriptedReports)
    settings: ApiSettings = field(default_factory=ApiSettings)
    observer: EventList = field(default_factory=EventList)
    usage: UsageBook = field(default_factory=UsageBook)
    has_metrics: bool = True
    observations: Observations | None = None
    live: LiveConfiguration | None = None
    tuner: TunerReports | None = None
    places: Places = field(default_factory=Places)
    address: str = "127.0.0.1"
    start_trace: StartTrace | None = None
    sessions: SessionStore = field(default_factory=_no_sessions)
    documents: DocumentStore = field(default_factory=no_documents)
    embedding_model: str | None = "vectors"
    workflow_settings: WorkflowSettings | None = None
    registry: WorkflowRegistry | None = None
    routing: RoutingSettings | None = None
    routing_sources: RoutingSources | None = None
    mind: Mind | None = None

    def __post_init__(self) -> None:
        workflows = make_workflows(
            self.generator,
            self.sessions,
            self.workflow_settings,
            documents=self.documents,
            embedder=self.embedder,
            registry=self.registry,
            routing=self.routing,
            sources=self.routing_sources,
            advisor=self.mind,
            watch=Watch(ObserverFanOut((self.mind,) if self.mind else ()), time.monotonic),
        )
        settings = self.workflow_settings or WorkflowSettings()
        library = DocumentLibrary(
            self.documents,
            embedder=self.embedder,
            places=self.places,
            embedding_model=self.embedding_model,
            default_model="scripted",
            timeout_s=settings.timeout_s,
            is_enabled=settings.is_enabled,
        )
        self.app: ASGIApp = create_application(
            generator=ModelsAndWorkflows(self.generator, workflows),
            workflows=workflows,
            library=library,
            embedder=self.embedder,
            loader=self.loader,
            reports=self.reports,
            router=ROUTER,
            settings=self.settings,
            observer=self.observer,
            insight=Insight(
                report_usage=self.usage.report,
                live=self.live,
                observations=self.observations,
                tuner=self.tuner,
                mind=self.mind,
            ),
            render_metrics=_render_metrics if self.has_metrics else None,
            start_trace=self.start_trace,
        )

    async def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx2.Response:
        """Send one request and return the whole answer."""
        # The boundary answers with 500 and then lets the server see the error as well.
        transport = httpx2.ASGITransport(
            self.app, raise_app_exceptions=False, client=(self.address, 123)
        )
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers, **_payload_of(body, content))

    async def post(self, path: str, key: str = "", **body: object) -> httpx2.Response:
        """Send these fields, with a key if there is one."""
        return await self.call("POST", path, body, headers={"X-API-Key": key} if key else None)

    async def chat(self, **fields: object) -> httpx2.Response:
        """Ask for a chat completion, with these fields over the shortest body."""
        return await self.call("POST", CHAT, {**HELLO, **fields})

    async def complete(self, **fields: object) -> httpx2.Response:
        """Ask for a text completion, with these fields over the shortest body."""
        return await self.call("POST", TEXT, {**SHORTEST[TEXT], **fields})

    async def respond(self, **fields: object) -> httpx2.Response:
        """Ask for a response, with these fields over the shortest body."""
        return await self.call("POST", RESPONSES, {**SHORTEST[RESPONSES], **fields})

    async def embed(self, **fields: object) -> httpx2.Response:
        """Ask for vectors, with these fields over the shortest body."""
        return await self.call("POST", VECTORS, {"input": "Hi", **fields})


def events_of(response: httpx2.Response) -> list[str]:
    """Return the data of each server-sent event."""
    assert response.headers["content-type"].startswith("text/event-stream")
    parts = response.text.split("\n\n")
    assert parts.pop() == ""
    assert all(part.startswith("data: ") for part in parts)
    return [part.removeprefix("data: ") for part in parts]


def _payload_of(body: object, content: bytes | None) -> dict[str, Any]:
    if content is not None:
        return {"content": content}
    return {} if body is None else {"json": body}


def _render_metrics(_accept: str) -> tuple[bytes, str]:
    return b"up 1\n", "text/plain; version=0.0.4"


def turns_asked(face: Face) -> list[list[tuple[str, str]]]:
    """Return role and text of all that each generation was shown."""
    prompts = (request.prompt for request in face.generator.requests)
    return [
        [(message.role, message.content) for message in prompt.messages]
        for prompt in prompts
        if isinstance(prompt, ChatPrompt)
    ]


def assert_fits(content: Any, schema: type[BaseModel]) -> None:
    """Check that an answer has all that is described, and nothing else."""
    assert schema.model_validate(content).model_dump() == content
