"""Where a model's worker is in its life."""

from __future__ import annotations

import enum


class ModelPhase(enum.Enum):
    """The states of a supervised model, as reports name them."""

    UNLOADED = "unloaded"
    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STUCK = "stuck"
