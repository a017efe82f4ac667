"""Who was refused, and when they were told to come back: those who do find a place kept."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from dataclasses import dataclass

import msgspec

_MAX_RETURNS = 4096
# Of one caller: nobody's refusals push out another's.
_MAX_ASKERS = 512
# Of equal requests.
_MAX_MOMENTS = 16
# Who comes back later than this after the told moment is a newcomer.
_KEPT_S = 60.0


@dataclass(frozen=True, slots=True)
class Asker:
    """What stands for a request when it is asked again.

    Clients repeat the same body, and nothing else tells one of a key's clients from another.

    Attributes:
        caller: name of the key.
        digest: of what is asked, and of which model.
    """

    caller: str
    digest: bytes

    @classmethod
    def of(cls, caller: str, model: str, content: object) -> Asker:
        """Return who asks for this; ``content`` is anything that msgspec encodes."""
        encoded = msgspec.msgpack.encode((model, content))
        return cls(caller, hashlib.blake2b(encoded, digest_size=16).digest())


class Promises:
    """When those that were refused have been told to return.

    Each is told a moment of its own, or all would come back in the same one and find one place.
    """

    def __init__(self) -> None:
        self._returns_s: deque[float] = deque(maxlen=_MAX_RETURNS)
        # Moments of each asker, in order of the last refusal.
        self._moments_s: defaultdict[str, dict[bytes, deque[float]]] = defaultdict(dict)

    def count(self, now_s: float) -> int:
        """Those whose moment has not come; moments come mostly in order."""
        while self._returns_s and self._returns_s[0] <= now_s:
            self._returns_s.popleft()
        return len(self._returns_s)

    def add(self, asker: Asker, at_s: float) -> None:
        """Note one that was told to return then."""
        self._returns_s.append(at_s)
        askers = self._moments_s[asker.caller]
        moments_s = askers.pop(asker.digest, deque(maxlen=_MAX_MOMENTS))
        if len(askers) >= _MAX_ASKERS:
            del askers[next(iter(askers))]
        moments_s.append(at_s)
        askers[asker.digest] = moments_s

    def has_kept_its_word(self, asker: Asker, now_s: float) -> bool:
        """Whether it was refused, and comes back no earlier than it was told to."""
        moments_s = self._moments_s[asker.caller].get(asker.digest, ())
        return any(at_s <= now_s <= at_s + _KEPT_S for at_s in moments_s)

    def redeem(self, asker: Asker) -> None:
        """Forget the first moment of one that was let in."""
        askers = self._moments_s[asker.caller]
        if moments_s := askers.get(asker.digest):
            moments_s.popleft()
            if not moments_s:
                del askers[asker.digest]
