"""Writes a file as a whole or not at all, whoever else writes it at the same time."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Put a file in the place of the one that is there; its folder is made where it is missing.

    Raises:
        OSError: it cannot be written; what was there stays, and nothing lies beside it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Threads and processes that write the same file at the same time have a draft each. It is not
    # tempfile's, which only its owner could read.
    draft = path.with_name(f".draft-{secrets.token_hex(8)}-{path.name}")
    try:
        draft.write_bytes(content)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
