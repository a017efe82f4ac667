"""MuAI: one server that answers with many models, each through the best engine at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mm_orch.core.version import __version__

if TYPE_CHECKING:
    from mm_orch.muai import Answer, AsyncMuAI, MuAI
    from mm_orch.orchestration.generation import Embeddings

__all__ = ["MuAI", "AsyncMuAI", "Answer", "Embeddings", "__version__"]


def __getattr__(name: str) -> Any:
    # Imported on first use: `muai --help` must not pay for what it does not need.
    if name in {"MuAI", "AsyncMuAI", "Answer"}:
        from mm_orch import muai

        return getattr(muai, name)
    if name == "Embeddings":
        from mm_orch.orchestration.generation import Embeddings

        return Embeddings
    message = f"module 'mm_orch' has no attribute {name!r}"
    raise AttributeError(message)
