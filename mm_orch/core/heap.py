"""Keeps the garbage collector's pauses short."""

from __future__ import annotations

import gc


def settle() -> None:
    """Take everything that lives now for something that lives until the end.

    A full collection looks through all objects, and those of the imported libraries alone take from
    30 ms (the server) to 200 ms (a worker with vLLM) on a slow core, in which every stream stands
    still. They are looked through here once more and then no longer.
    """
    gc.collect()
    gc.freeze()
