"""Where a worker that is no child of the server is to run: what Ray is asked for."""

from __future__ import annotations

import msgspec

EXIT_NOT_PLACED, EXIT_LOST = 84, 85
"""With these ends what stands here for a worker elsewhere: there was no room for it, or its node or
the cluster is lost. Workers themselves end with no such codes."""


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """A place for one worker on any node of a Ray cluster.

    Attributes:
        cluster: address of the cluster, as ``ray start --address`` takes it.
        auth_mode: how Ray lets its clients in; empty for what their environment says.
        host: this machine's address, as the cluster's nodes reach it.
        python: interpreter that has Ray; empty for this one.
        num_cpus: cores that are the worker's own.
        num_gpus: GPUs that are the worker's own.
        timeout_s: longest wait for a node that has room.
    """

    cluster: str
    auth_mode: str = ""
    host: str
    python: str = ""
    num_cpus: float
    num_gpus: float
    timeout_s: float


def is_of_place(placement: Placement | None, exit_code: int) -> bool:
    """Whether a worker that is to run there has ended because of its place."""
    return placement is not None and exit_code in {EXIT_NOT_PLACED, EXIT_LOST}
