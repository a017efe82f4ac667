"""Stores files as documents: with the server at the configured address, else in this process."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.progress import make_progress
from mm_orch.cli.remote import StoredFile, find_server
from mm_orch.core.errors import InvalidValueError, MuAIError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mm_orch.cli.arguments import Arguments
    from mm_orch.config import Config, LoadedConfig
    from mm_orch.muai import MuAI


class _Keeper(Protocol):
    def upload(self, name: str, content: bytes) -> StoredFile:
        """Store a file; raises MuAIError where it is refused."""


def upload_files(loaded: LoadedConfig, arguments: Arguments) -> int:
    """Store each file, and say of each what has become of it; the exit code is 1 if one failed."""
    config = loaded.config
    told: list[dict[str, Any]] = []
    notes: set[str] = set()
    has_failed = False
    with _open_keeper(config) as keeper:
        for path in arguments.uploads:
            try:
                stored = keeper.upload(path.name, _read(path, config.api.max_request_bytes))
            except MuAIError as error:
                terminal.complain(f"{path}: {error}")
                has_failed = True
                continue
            told.append({"file": str(path), **msgspec.structs.asdict(stored)})
            if stored.note:
                notes.add(stored.note)
            if not arguments.json:
                terminal.say(_in_words(path, stored))
    if arguments.json:
        terminal.say(msgspec.json.encode({"documents": told}).decode())
    for note in sorted(notes):
        terminal.remark(note)
    return exit_codes.FAILED if has_failed else exit_codes.DONE


@contextmanager
def _open_keeper(config: Config) -> Iterator[_Keeper]:
    server = find_server(config)
    if server is not None:
        yield server
        return
    from mm_orch.muai import MuAI

    with MuAI(config, progress=make_progress()) as muai:
        yield _LocalKeeper(muai)


class _LocalKeeper:
    def __init__(self, muai: MuAI) -> None:
        self._muai = muai

    def upload(self, name: str, content: bytes) -> StoredFile:
        uploaded = self._muai.upload(name, content)
        summary = uploaded.summary
        return StoredFile(summary.document_id, summary.num_chunks, uploaded.status, uploaded.note)


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        num_bytes = path.stat().st_size
        if num_bytes > max_bytes:
            raise InvalidValueError(
                f"It has {num_bytes} bytes; at most {max_bytes} are taken (api.max_request_bytes)."
            )
        return path.read_bytes()
    except OSError as error:
        raise InvalidValueError(f"It cannot be read: {error.strerror or error}.") from error


def _in_words(path: Path, stored: StoredFile) -> str:
    chunks = "1 chunk" if stored.chunks_count == 1 else f"{stored.chunks_count} chunks"
    return f"{path}: {stored.status}, {chunks} ({stored.document_id})"
