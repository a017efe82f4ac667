"""In which order the members of a group are looked at for a key: the same for everyone.

Rendezvous hashing (Thaler and Ravishankar 1998): every member has a weight for every key, and the
heaviest comes first. Who is asked needs no memory of it, so several servers in front agree; and
where a member leaves, the order of the others stays.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_WEIGHT_BYTES = 8


def rank(key: str, identity_by_member: Mapping[int, str]) -> list[int]:
    """Return the members, first that which comes first for the key.

    Args:
        key: of what is looked for.
        identity_by_member: what a member is called by everybody who asks.
    """
    # Not Python's own hash: in every process that is another one.
    keyed = blake2b(key.encode(), digest_size=_WEIGHT_BYTES).digest()

    def weigh(member: int) -> bytes:
        identity = identity_by_member[member].encode()
        return blake2b(identity, key=keyed, digest_size=_WEIGHT_BYTES).digest()

    return sorted(identity_by_member, key=weigh, reverse=True)
