"""A real Ray cluster on this machine for which Ray's own autoscaler starts nodes and ends them.

Ray's ``AutoscalingCluster`` is not used: it begins and ends with ``ray stop --force``, which ends
every cluster of the machine. The configuration is the one that it makes.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from tests.daemons import find_free_address
from tests.ray_nodes import Node

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEAD_ID = "f" * 51 + "00000"
_STORE_BYTES = 80 << 20


class GrowingCluster(Node):
    """A head that runs no workers, one node for a worker, and more where Ray finds them needed.

    Args:
        directory: for Ray's files; its path must be short.
        max_nodes: most nodes beside the head.
        idle_s: after so long without work a node leaves.
    """

    def __init__(self, directory: Path, *, max_nodes: int, idle_s: float) -> None:
        self.environment = {
            "RAY_TMPDIR": str(directory),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }
        self.address = find_free_address()
        port = self.address.rpartition(":")[2]
        configuration = directory / "autoscaler.json"
        configuration.write_text(json.dumps(_configure(self.address, max_nodes, idle_s)))
        own = {
            "RAY_FAKE_CLUSTER": "1",
            "RAY_OVERRIDE_NODE_ID_FOR_TESTING": _HEAD_ID,
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
        }
        super().__init__(
            self.environment | own,
            *("--head", f"--port={port}", "--num-cpus=0", "--include-dashboard=false"),
            *(f"--temp-dir={directory}", f"--object-store-memory={_STORE_BYTES}"),
            f"--autoscaling-config={configuration}",
        )

    def count_nodes(self) -> int:
        """Return how many nodes there are beside the head."""
        return sum(_name(one) == "raylet" for one in self._members()) - 1


@contextlib.contextmanager
def run_growing_cluster(*, max_nodes: int, idle_s: float) -> Iterator[GrowingCluster]:
    """Run a cluster whose nodes come and go."""
    directory = Path(tempfile.mkdtemp(prefix="ray-"))
    cluster = None
    try:
        cluster = GrowingCluster(directory, max_nodes=max_nodes, idle_s=idle_s)
        yield cluster
    finally:
        if cluster is not None:
            cluster.lose()
        shutil.rmtree(directory, ignore_errors=True)


def _configure(address: str, max_nodes: int, idle_s: float) -> dict[str, object]:
    # The provider refuses to be told of memory. Of one that is there Ray learns how much its nodes
    # have; of none it believes that they have nothing, and starts none for who asks for some.
    node = {
        "resources": {"CPU": 1, "object_store_memory": _STORE_BYTES},
        "node_config": {},
        "min_workers": 1,
        "max_workers": max_nodes,
    }
    commands = ("initialization", "setup", "head_setup", "worker_setup")
    starts = ("head_start_ray", "worker_start_ray")
    return {
        "cluster_name": "test",
        "max_workers": max_nodes,
        "provider": {
            "type": "fake_multinode",
            # All nodes have this machine's address. Without this, Ray looks for each under its id
            # among addresses, never finds how long it is idle, and lets none leave.
            "use_node_id_as_ip": True,
            "gcs_address": address,
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "head": {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0},
            "node": node,
        },
        "head_node_type": "head",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_s / 60,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "cluster_synced_files": [],
        "rsync_exclude": [],
        "rsync_filter": [],
        **{f"{name}_commands": [] for name in (*commands, *starts)},
    }


def _name(process: psutil.Process) -> str:
    try:
        return process.name()
    except psutil.NoSuchProcess:
        return ""
