"""Takes calls of workflows: finds the workflow and the session, runs the graph, tells of it."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mm_orch.consciousness.gauge import Gauge
from mm_orch.core.errors import DeadlineError, NotServedError
from mm_orch.core.generation import ChatPrompt, GenerationRequest, Message
from mm_orch.core.routing import AUTO, Routing
from mm_orch.routing.route import DEFAULT_WORKFLOW
from mm_orch.workflows.account import WorkflowAccount
from mm_orch.workflows.advice import follow
from mm_orch.workflows.cascade_settings import CascadeSettings
from mm_orch.workflows.contract import CALL, HISTORY, SERVICES, Services
from mm_orch.workflows.deadline import REMEDY, RunDeadline
from mm_orch.workflows.doubt import DoubtSettings
from mm_orch.workflows.embedding import RunEmbedder
from mm_orch.workflows.generating import RunModels
from mm_orch.workflows.graph_state import Values
from mm_orch.workflows.routes import choose_own
from mm_orch.workflows.run import WorkflowRun
from mm_orch.workflows.session_locks import SessionLocks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from mm_orch.orchestration.generation import Embedder, Meters, RunGenerator
    from mm_orch.search.service import Search
    from mm_orch.storage.documents import DocumentStore
    from mm_orch.storage.sessions import SessionStore, Turn
    from mm_orch.workflows.account import Watch
    from mm_orch.workflows.advice import Advisor
    from mm_orch.workflows.call import WorkflowCall
    from mm_orch.workflows.contract import Workflow
    from mm_orch.workflows.registry import WorkflowRegistry
    from mm_orch.workflows.routes import WorkflowRoutes

# More than most models' contexts hold of text; what is older is not recalled.
_MAX_RECALLED_BYTES = 2**20
# Of one session, while a message of it is answered: people send few, a program may send any number.
_MAX_WAITING_OF_SESSION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSettings:
    """The slice of the configuration that workflows need.

    Attributes:
        timeout_s: seconds for all of a call that sets none.
        window_tokens: most tokens of a conversation that a model is shown; None for as many as its
            context allows.
        tells_confidence: answers say how sure they are.
        gauge: says how sure.
        cascade: of the workflow of this name.
        doubt: what answers from pages do that are not sure.
    """

    is_enabled: bool = True
    timeout_s: float = 300.0
    window_tokens: int | None = None
    tells_confidence: bool = True
    gauge: Gauge = field(default_factory=Gauge)
    cascade: CascadeSettings = field(default_factory=CascadeSettings)
    doubt: DoubtSettings = field(default_factory=DoubtSettings)

    @property
    def option_by_switched_off(self) -> dict[str, str]:
        """The workflows that are not to be had now, each with the option that decides it."""
        return {} if self.cascade.is_enabled else {"cascade": "workflows.cascade.enabled"}


class Workflows:
    """All workflows, as the faces see them.

    Args:
        registry: knows them by name.
        generator: lets runs in, and has models generate.
        meters: count tokens.
        sessions: keep conversations.
        search: finds pages and reads them.
        documents: keep texts, and search them.
        embedder: makes vectors.
        settings: from the configuration.
        watch: who is told of runs.
        advisor: knows the system itself; None where nobody does.
        routes: chooses for calls that name no workflow.
    """

    def __init__(
        self,
        registry: WorkflowRegistry,
        *,
        routes: WorkflowRoutes,
        generator: RunGenerator,
        meters: Meters,
        sessions: SessionStore,
        search: Search,
        documents: DocumentStore,
        embedder: Embedder,
        settings: WorkflowSettings,
        watch: Watch,
        advisor: Advisor | None = None,
    ) -> None:
        self._sessions = sessions
        self._search = search
        self._documents = documents
        self._embedder = embedder
        self._advisor = advisor
        self._registry = registry
        self._routes = routes
        self._generator = generator
        self._meters = meters
        self._settings = settings
        self._watch = watch
        self._locks = SessionLocks(_MAX_WAITING_OF_SESSION)

    @property
    def sessions(self) -> SessionStore:
        """The stored conversations; raises NotServedError where workflows are switched off."""
        self._check_enabled()
        return self._sessions

    async def list_all(self) -> list[Workflow]:
        """Return every workflow that can be run, in order of their names.

        One that is switched off or cannot be imported is left out; asking for it says why.
        """
        if not self._settings.is_enabled:
            return []
        switched_off = self._settings.option_by_switched_off
        found = await self._registry.find_usable()
        return [one for one in found if one.name not in switched_off]

    async def find(self, name: str, *, param: str) -> Workflow:
        """Return a workflow.

        Args:
            name: of the workflow.
            param: the field that named it.

        Raises:
            NotServedError: workflows are switched off, or this one is.
            WorkflowNotFoundError: no workflow has this name.
            WorkflowError: it cannot be imported.
        """
        self._check_enabled()
        option = self._settings.option_by_switched_off.get(name)
        if option is not None:
            raise NotServedError(
                f"The workflow {name} is switched off: {option} is false.",
                param=param,
                remedy=f"Set {option} to true and start the server again.",
            )
        return await self._registry.load(name, param=param)

    @asynccontextmanager
    async def open(
        self, name: str | None, call: WorkflowCall, *, param: str = "workflow_type"
    ) -> AsyncIterator[WorkflowRun]:
        """Start a run; leaving the context before its end cancels every step.

        Args:
            name: of the workflow; ``auto`` has one chosen, and None does what is configured.
            call: what is asked; its model may be ``auto`` too.
            param: the field that named the workflow.

        Raises:
            NotServedError, WorkflowNotFoundError, WorkflowError: as :meth:`find`.
            WorkflowLockedError: it is not allowed at this stage of development.
            ModelNotFoundError, UnsupportedError: the model is none that generates.
            OverloadError: the queue is full, the server drains, or too many wait for the session.
            SessionNotFoundError, SessionLimitError: the session cannot go on.
            DeadlineError: the time was over before the first step.
        """
        clock = self._watch.clock
        deadline = RunDeadline(name or AUTO, call.timeout_s or self._settings.timeout_s, clock)
        routing = await self._route(name, call, deadline)
        name = deadline.workflow
        if routing.model is not None:
            call = replace(call, model=routing.model.model)
        workflow = await self.find(name, param=param)
        if workflow.follows_mood and self._advisor is not None:
            call = follow(self._advisor, call)
        models = RunModels(self._generator, name, call, self._settings.gauge)
        account = WorkflowAccount(name, call, models, routing=routing, watch=self._watch)
        async with AsyncExitStack() as stack:
            with account.entering():
                if self._advisor is not None:
                    self._advisor.check(name, param=param)
                # First of all, so that who is refused costs nothing.
                request = _stand_in(name, call, deadline)
                place = stack.enter_context(self._generator.enter_run(request))
                history = await self._recall(call, stack, deadline)
            inputs = Values()
            inputs.put(CALL, call)
            inputs.put(HISTORY, history)
            inputs.put(SERVICES, self._services_for(models, call))
            run = WorkflowRun(
                workflow,
                inputs,
                routing=routing,
                place=place,
                deadline=deadline,
                account=account,
                clock=clock,
            )
            try:
                yield run
            finally:
                await run.aclose()

    async def _route(self, name: str | None, call: WorkflowCall, deadline: RunDeadline) -> Routing:
        """Choose what the call leaves open; the deadline then knows the workflow's name."""
        self._check_enabled()
        begin_s = self._watch.clock()
        model = None
        workflow = choose_own(self._advisor, call) if name in {None, AUTO} else None
        if workflow is not None:
            name = workflow.workflow
        elif name is None:
            name = AUTO if self._routes.settings.is_by_default else DEFAULT_WORKFLOW
        if name == AUTO:
            services = self._services_for(RunModels(self._generator, name, call), call)
            async with deadline.bound():
                workflow = await self._routes.choose(call, services)
            name = workflow.workflow
        deadline.workflow = name
        if call.model == AUTO:
            model = self._generator.choose_model(_stand_in(name, call, deadline))
        routing = Routing(workflow=workflow, model=model)
        if not routing.is_empty:
            self._watch.tell_routing(call, name, routing, begin_s)
        return routing

    def _check_enabled(self) -> None:
        if not self._settings.is_enabled:
            raise NotServedError(
                "There are no workflows and no sessions here: workflows.enabled is false.",
                remedy="Set it to true and start the server again.",
            )

    async def _recall(
        self, call: WorkflowCall, stack: AsyncExitStack, deadline: RunDeadline
    ) -> tuple[Message, ...]:
        """Take the call's session until the stack is left; return what was said in it."""
        session = call.session
        if session is None:
            return ()

        def still_answering() -> DeadlineError:
            return DeadlineError(
                f"Another message of the session {session.session_id} was still being answered"
                f" after {deadline.timeout_s:g} s.",
                remedy=REMEDY,
            )

        async with deadline.bound(still_answering):
            await stack.enter_async_context(self._locks.hold(call.owner, session.session_id))
        async with deadline.bound():
            recalled = await self._sessions.recall(
                call.owner,
                None if session.is_new else session.session_id,
                max_bytes=_MAX_RECALLED_BYTES,
            )
        return tuple(_messages_of(recalled.turns))

    def _services_for(self, models: RunModels, call: WorkflowCall) -> Services:
        return Services(
            models=models,
            meters=self._meters,
            sessions=self._sessions,
            search=self._search,
            documents=self._documents,
            embedder=RunEmbedder(self._embedder, call),
            window_tokens=self._settings.window_tokens,
            tells_confidence=self._settings.tells_confidence,
            cascade=self._settings.cascade,
            doubt=self._settings.doubt,
            advisor=self._advisor,
        )


def _stand_in(workflow: str, call: WorkflowCall, deadline: RunDeadline) -> GenerationRequest:
    """Return a request that is admitted for all that the run may ask for."""
    return GenerationRequest(
        request_id=call.request_id,
        prompt=ChatPrompt(call.messages),
        model=call.model,
        options=call.options,
        timeout_s=deadline.timeout_s,
        priority=call.priority,
        caller=call.caller,
        workflow=workflow,
    )


def _messages_of(turns: Iterable[Turn]) -> Iterable[Message]:
    for turn in turns:
        yield Message(role="user", content=turn.user.content)
        yield Message(role="assistant", content=turn.assistant.content)
