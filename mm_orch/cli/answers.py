"""Who answers a call: a server that runs on this machine, or engines of this process."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from mm_orch.cli.progress import make_progress
from mm_orch.cli.remote import find_server
from mm_orch.cli.unknown_model import unknown_model
from mm_orch.core.errors import AuthenticationError
from mm_orch.core.routing import AUTO

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from mm_orch.cli.remote import RunningServer
    from mm_orch.cli.wishes import Wishes
    from mm_orch.config import Config
    from mm_orch.muai import Answer, MuAI

logger = logging.getLogger(__name__)


class Reply(Protocol):
    """One answer: iterate it once for its text; then ``answer`` has the whole."""

    def __iter__(self) -> Generator[str]:
        """Yield text as it is generated; closing the generator stops the answer."""

    @property
    def answer(self) -> Answer:
        """The whole answer, once iteration has ended."""


class Answers(Protocol):
    """Takes conversations."""

    @property
    def place(self) -> str:
        """Where answers come from, for people."""

    def reply(self, turns: Sequence[Mapping[str, str]], wishes: Wishes) -> Reply:
        """Begin an answer to a conversation of role and content."""

    def workflows(self) -> Sequence[str]:
        """Return the names of the workflows that can answer.

        Raises:
            MuAIError: they cannot be had.
        """


@contextmanager
def open_answers(config: Config, wishes: Wishes) -> Iterator[Answers]:
    """Give the server at the configured address, or start engines in this process.

    The server is used when it has the model from the same source as the configuration, and runs
    it with the engine that the call names, if it names one.

    Raises:
        ModelNotFoundError: neither the server nor the configuration has the model.
    """
    server = _find_suitable_server(config, wishes)
    if server is not None:
        logger.info("answered by the server at %s", server.place)
        yield server
        return
    _check_model(config, wishes.model)
    from mm_orch.muai import MuAI

    with MuAI(config, engine=wishes.engine, progress=make_progress()) as muai:
        yield _LocalAnswers(muai, config)


class _LocalAnswers:
    place = "this process"

    def __init__(self, muai: MuAI, config: Config) -> None:
        self._muai = muai
        self._config = config

    def reply(self, turns: Sequence[Mapping[str, str]], wishes: Wishes) -> Reply:
        options = {
            "model": wishes.asked_model,
            "max_tokens": wishes.max_tokens,
            "temperature": wishes.temperature,
        }
        given = {name: value for name, value in options.items() if value is not None}
        return self._muai.stream(turns, **given)  # type: ignore[arg-type]  # typed one by one above

    def workflows(self) -> Sequence[str]:
        from mm_orch.workflows.finding import make_registry

        return make_registry(self._config).names if self._config.workflows.enabled else ()


def _find_suitable_server(config: Config, wishes: Wishes) -> RunningServer | None:
    server = find_server(config)
    if server is None:
        return None
    # Which it is that "auto" chooses is known only to who answers.
    name = config.default_model_name if wishes.model in {None, AUTO} else wishes.model
    try:
        report = server.status()
    except AuthenticationError as error:
        logger.warning("not answered by the server at %s: %s", server.place, error)
        return None
    known = config.models.get(config.model_name_by_spelling.get(name, name))
    for model in report.models:
        if name == model.name or name in model.aliases:
            has_same_source = known is None or known.source == model.source
            has_same_engine = wishes.engine in (None, model.engine)
            if has_same_source and has_same_engine and not report.is_draining:
                return server
    logger.info("the server at %s does not serve %s as asked", server.place, name)
    return None


def _check_model(config: Config, name: str | None) -> None:
    if name is not None and name != AUTO and name not in config.model_name_by_spelling:
        raise unknown_model(config, name)
