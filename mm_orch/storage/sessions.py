"""What a stored conversation is, and what can be asked of whoever stores them."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Annotated, Protocol

import msgspec

from mm_orch.core.errors import SessionLimitError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

SESSION_ID = r"^[A-Za-z0-9._:-]{1,128}$"
MAX_MESSAGE_BYTES = 2**20
"""Of one message in UTF-8."""
MAX_SESSION_BYTES = 8 * 2**20
"""Of the turns of one session as an export has them, so that a body of default size takes it."""
MAX_TURNS = 10_000
"""Of one session."""
MAX_SESSIONS = 10_000
"""Of one owner."""

# Python's own $ fits before a last line end too.
Identifier = Annotated[str, msgspec.Meta(pattern=SESSION_ID.replace("$", r"\Z"))]
Moment = Annotated[float, msgspec.Meta(ge=0)]


class StoredMessage(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one side said; ``created_at`` is seconds since 1970."""

    message_id: Identifier
    content: str
    created_at: Moment


class Turn(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A question and its answer: stored together or not at all."""

    user: StoredMessage
    assistant: StoredMessage

    @property
    def num_bytes(self) -> int:
        """What it takes of a line of an export, with the comma after it."""
        return len(msgspec.json.encode(self)) + 1


class SessionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A session in short; the moments are seconds since 1970."""

    session_id: str
    num_turns: int
    created_at: float
    updated_at: float


class Session(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A whole conversation, the first turn first; a line of an export.

    Attributes:
        created_at: of its first turn, seconds since 1970.
        updated_at: of its last.
    """

    session_id: Identifier
    created_at: Moment
    updated_at: Moment
    turns: Annotated[tuple[Turn, ...], msgspec.Meta(min_length=1, max_length=MAX_TURNS)]


class Recalled(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a conversation that goes on.

    Attributes:
        turns: the last ones, the oldest first; fewer than ``num_turns`` where they are many.
    """

    num_turns: int = 0
    turns: tuple[Turn, ...] = ()


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """A turn that is stored, whatever happens next.

    Attributes:
        num_turns: of the session with it.
        message_id: of the answer.
    """

    session_id: str
    num_turns: int
    message_id: str


class ImportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of an import: sessions that are new, and those that were there already."""

    num_added: int
    num_known: int


class SessionStore(Protocol):
    """Keeps sessions, each for one owner; nobody else can read it, or learn that it is there.

    Every call may raise StorageError when the disk fails, StorageBusyError when another process
    writes for too long, StorageUnavailableError when a database cannot be reached, and
    QueueFullError when too many wait.
    """

    @property
    def failure(self) -> str | None:
        """Why sessions cannot be stored now, as far as the last calls have shown; else None."""

    async def recall(self, owner: str, session_id: str | None, *, max_bytes: int) -> Recalled:
        """Return the last turns of a session that is to go on, or of a new one.

        Args:
            owner: whose it is.
            session_id: which; None for one that is to begin.
            max_bytes: of the texts, which the last turn may exceed.

        Raises:
            SessionNotFoundError: the owner has none of this name.
            SessionLimitError: it takes no more turns, or the owner no more sessions.
        """

    async def append_turn(
        self, owner: str, session_id: str, *, question: str, answer: str, is_new: bool
    ) -> Appended:
        """Store a turn; when this returns, it is on the disk.

        Args:
            owner: whose session it is.
            session_id: which.
            question: what was asked.
            answer: what was said to it.
            is_new: the session begins with this turn.

        Raises:
            SessionNotFoundError: the session has been deleted meanwhile.
            SessionLimitError: a text or the session is too long.
        """

    async def read(self, owner: str, session_id: str) -> Session:
        """Return a whole session; raises SessionNotFoundError."""

    async def list_sessions(
        self, owner: str, *, limit: int, offset: int = 0
    ) -> tuple[SessionSummary, ...]:
        """Return so many sessions after ``offset``, the one that changed last first."""

    async def delete(self, owner: str, session_id: str) -> None:
        """Forget a session; raises SessionNotFoundError."""

    def export(self, owner: str) -> AsyncIterator[bytes]:
        """Yield the sessions that an owner has now, as JSON lines."""

    async def import_lines(self, owner: str, lines: Iterable[bytes]) -> ImportReport:
        """Take what :meth:`export` gave, all or nothing; the owner may be another one.

        The lines are read in a thread, before anything is written.

        Raises:
            InvalidValueError: a line is no session, or has the name of another one; says which.
            SessionLimitError: these are too many.
        """


def new_session_id() -> str:
    """Return a name that no session has."""
    return f"session-{uuid.uuid4().hex}"


def new_message_id() -> str:
    """Return a name that no message has."""
    return f"msg-{uuid.uuid4().hex}"


def check_sizes(question: str, answer: str, place: str) -> None:
    """Refuse texts that are too long to be stored; ``place`` is where they stand.

    Raises:
        SessionLimitError: says which, how long it is, and how long it may be.
    """
    for name, text in (("question", question), ("answer", answer)):
        num_bytes = len(text.encode())
        if num_bytes > MAX_MESSAGE_BYTES:
            raise SessionLimitError(
                f"The {name} of {place} has {num_bytes} bytes; at most {MAX_MESSAGE_BYTES} are"
                " stored."
            )
