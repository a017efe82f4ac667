"""Who was refused, and when they were told to come back: those who do find a place kept."""

from __future__ import annotations

import hashlib
from collections import deque

import msgspec

_MAX_PROMISES = 4096
# Who comes back later than this after the told moment is a newcomer.
_KEPT_S = 60.0


def name_asker(caller: str, model: str, content: object) -> bytes:
    """Return what stands for a request when it is asked again.

    Clients repeat the same body, and nothing else tells one of a key's clients from another.

    Args:
        caller: name of the key.
        model: that is to answer.
        content: what is asked; anything that msgspec encodes.
    """
    encoded = msgspec.msgpack.encode((caller, model, content))
    return hashlib.blake2b(encoded, digest_size=16).digest()


class Promises:
    """When those that were refused have been told to return.

    Each is told a moment of its own, or all would come back in the same one and find one place.
    """

    def __init__(self) -> None:
        self._returns_s: deque[float] = deque(maxlen=_MAX_PROMISES)
        # In order of the last refusal.
        self._return_s_by_asker: dict[bytes, float] = {}

    def count(self, now_s: float) -> int:
        """Those whose moment has not come; moments come mostly in order."""
        while self._returns_s and self._returns_s[0] <= now_s:
            self._returns_s.popleft()
        return len(self._returns_s)

    def add(self, asker: bytes, at_s: float) -> None:
        """Note one that was told to return then."""
        self._returns_s.append(at_s)
        self._return_s_by_asker.pop(asker, None)
        if len(self._return_s_by_asker) >= _MAX_PROMISES:
            del self._return_s_by_asker[next(iter(self._return_s_by_asker))]
        self._return_s_by_asker[asker] = at_s

    def has_kept_its_word(self, asker: bytes, now_s: float) -> bool:
        """Whether it was refused, and comes back no earlier than it was told to."""
        return_s = self._return_s_by_asker.get(asker)
        return return_s is not None and return_s <= now_s <= return_s + _KEPT_S

    def redeem(self, asker: bytes) -> None:
        """Forget one that was let in."""
        self._return_s_by_asker.pop(asker, None)
