"""Options of the section ``cluster``: workers on the machines of a Ray cluster."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

import os

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import (
    AtLeastOne,
    AtLeastZero,
    ClusterAddress,
    FilePath,
    Host,
    PositiveFloat,
)


class ClusterSettings(Section):
    """Workers on the machines of a Ray cluster in place of this one."""

    address: ClusterAddress | None = option(
        "Address of the Ray cluster that runs the models, HOST:PORT; auto is this machine's, which"
        " is started where there is none. null runs them here, without Ray.",
        default=None,
    )
    host: Host | None = option(
        "This machine's address, as workers on other nodes reach it.",
        default=None,
        default_in_words="null: the one that Ray knows",
    )
    python: FilePath | None = option(
        "Interpreter that has Ray, of the same releases as the cluster's nodes.",
        default=None,
        default_in_words="null: the server's own",
    )
    cpus_per_worker: AtLeastOne = option(
        "Cores that Ray keeps free for each worker; its engine computes with so many threads.",
        default=1,
    )
    gpus_per_worker: AtLeastZero | None = option(
        "GPUs that Ray keeps free for each worker.",
        default=None,
        default_in_words="null: 1 where system.device is a GPU, else 0",
    )
    placement_timeout_s: PositiveFloat = option(
        "Longest wait in seconds for a node that has room for a worker, which may first have to be"
        " started by Ray's autoscaler.",
        default=300.0,
    )

    @property
    def interpreter(self) -> str:
        """The interpreter that has Ray (``~`` expanded); empty for the server's own."""
        # Path.expanduser raises for an unknown user; this leaves the name as it is.
        return os.path.expanduser(self.python or "")  # noqa: PTH111
