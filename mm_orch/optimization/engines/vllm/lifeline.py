"""Ties the processes that vLLM starts to the one that started them.

vLLM's own processes outlive a parent that is killed. A :class:`Lifeline` lies in the configuration
that vLLM hands to each of them, so each unpickles it before it does anything else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mm_orch.core.parent import die_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable


class Lifeline:
    """Unpickled in a child process, it has the kernel kill that process with its parent."""

    def __reduce__(self) -> tuple[Callable[[int], Lifeline], tuple[int]]:
        return hold, (os.getpid(),)

    def compute_hash(self) -> str:
        """Tell vLLM's caches of compiled code that nothing in here concerns them."""
        return ""


def hold(parent_id: int) -> Lifeline:
    """Tie this process to the one that pickled the line; nothing happens in that one itself."""
    if os.getpid() == parent_id:
        return Lifeline()
    die_with_parent()
    if not _is_alive(parent_id):
        # It died before the line was tied.
        os._exit(1)
    return Lifeline()


def _is_alive(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    return True
