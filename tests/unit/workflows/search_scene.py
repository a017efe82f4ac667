"""Workflows that search: scripted pages, and a model that says something else of each prompt."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mm_orch.core.generation import ChatPrompt, GenerationOptions, Message
from mm_orch.search.errors import PageError
from mm_orch.search.page import Found, Hit, RawPage
from mm_orch.search.service import Search
from mm_orch.search.settings import SearchSettings
from mm_orch.workflows.call import WorkflowCall
from mm_orch.workflows.contract import ANSWER
from tests.unit.api.scripted_generator import ScriptedGenerator, Step, say

if TYPE_CHECKING:
    from mm_orch.core.generation import GenerationRequest
    from mm_orch.storage.sessions import SessionStore
    from mm_orch.workflows.graph_progress import Progress
    from mm_orch.workflows.graph_runner import Outcome
    from mm_orch.workflows.running import Workflows

QUESTION = "How high is Mount Vell?"
HEIGHT = "The height of Mount Vell is 2,100 metres."
CLIMBED = "Mara Lind climbed Mount Vell in 1921."
MOMENT = dt.datetime(2026, 11, 27, tzinfo=dt.UTC)
SUMMARY, ANSWERING, PARTS, JOIN = "summary", "answer", "parts", "join"
_KIND_BY_WORDS = {
    "what the page says": SUMMARY,
    "numbered notes": ANSWERING,
    "simpler questions": PARTS,
    "answers to its parts": JOIN,
}


def page_hit(name: str, text: str) -> Hit:
    url = f"https://a.example/{name}"
    page = RawPage(
        url=url, content_type="text/plain", text=text, fetched_at=MOMENT, title="Mount Vell"
    )
    return Hit(url=url, title="Mount Vell", page=page)


HITS = (page_hit("one", HEIGHT), page_hit("two", f"{CLIMBED} Goats live there."))
NO_TEXT = page_hit("empty", " ")

# A question of two parts, each with a page that answers it.
HIGHER = "Is Mount Vell higher than Mount Orr?"
VELL, ORR = "How high is Mount Vell?", "How high is Mount Orr?"
ORR_HEIGHT = "The height of Mount Orr is 1,400 metres."
JOINED = "Mount Vell is 700 metres higher than Mount Orr."


Said = str | Sequence[Step] | Callable[[str], str]


@dataclass
class Model(ScriptedGenerator):
    """Says what it is told to each kind of prompt: a text, or a script.

    Attributes:
        said: by kind; a function is given the prompt's last message.
        kinds: of all that was asked, in order.
    """

    said: dict[str, Said] = field(default_factory=dict)
    kinds: list[str] = field(default_factory=list)

    def _script_for(self, request: GenerationRequest) -> Sequence[Step]:
        assert isinstance(request.prompt, ChatPrompt)
        instructions = request.prompt.messages[0].content
        [kind] = {kind for words, kind in _KIND_BY_WORDS.items() if words in instructions}
        self.kinds.append(kind)
        script = self.said.get(kind, "I do not know.")
        if callable(script):
            script = script(request.prompt.messages[-1].content)
        return say(*script) if isinstance(script, str) else script

    def prompts(self, kind: str) -> list[ChatPrompt]:
        found = zip(self.kinds, self.requests, strict=True)
        prompts = [request.prompt for one, request in found if one == kind]
        return [prompt for prompt in prompts if isinstance(prompt, ChatPrompt)]


def answer_part(shown: str) -> str:
    """Return the answer to the part of HIGHER that is asked about."""
    return HEIGHT if VELL in shown else ORR_HEIGHT


@dataclass
class Provider:
    """Finds what it is told to.

    Attributes:
        hits: by a word of the query; "" for every other.
        failure: raised instead.
    """

    hits: dict[str, Sequence[Hit]] = field(default_factory=lambda: {"": HITS})
    failure: Exception | None = None
    queries: list[str] = field(default_factory=list)
    is_silent: bool = False

    async def search(self, query: str, *, limit: int) -> Found:
        self.queries.append(query)
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        word = next((one for one in self.hits if one and one in query), "")
        return Found(hits=tuple(self.hits.get(word, ()))[:limit])


class Fetcher:
    """Fetches nothing: a page cannot be read, or never comes."""

    def __init__(self, *, is_silent: bool = False) -> None:
        self.is_silent = is_silent
        self.num_open = 0
        self.has_begun = asyncio.Event()

    async def fetch(self, url: str) -> RawPage:
        self.num_open += 1
        self.has_begun.set()
        try:
            if self.is_silent:
                await asyncio.Event().wait()
            raise PageError(url, "its server answers with 500")
        finally:
            self.num_open -= 1


def make_search(provider: Provider, fetcher: Fetcher | None = None, max_pages: int = 2) -> Search:
    search = Search(
        SearchSettings(provider="scripted", max_pages=max_pages),
        fetcher or Fetcher(),  # type: ignore[arg-type]  # as much of one as is used
    )
    search._provider_by_name["scripted"] = provider
    return search


def make_call(**fields: object) -> WorkflowCall:
    """Return a call; ``question`` stands for a message of the user."""
    question = str(fields.pop("question", QUESTION))
    return WorkflowCall(
        **{
            "request_id": "r",
            "messages": (Message(role="user", content=question),),
            "options": GenerationOptions(max_tokens=50),
            "timeout_s": 60,
            **fields,
        }  # type: ignore[arg-type]  # by name
    )


async def play(
    workflows: Workflows, name: str, call: WorkflowCall
) -> tuple[Outcome, list[Progress]]:
    async with workflows.open(name, call) as run:
        events = [event async for event in run]
    return run.outcome, events


def failures(outcome: Outcome) -> list[tuple[str, str]]:
    return [(one.step, one.error.message) for one in outcome.failed]


def text_of(outcome: Outcome) -> str:
    return outcome.values[ANSWER].text


class NoSessions:
    """Stands for a store that nobody asks."""


def no_sessions() -> SessionStore:
    return NoSessions()  # type: ignore[return-value]
