"""Joins a Ray cluster for a server, or starts one of this machine alone for as long as it runs.

stdin   first line: the address, or auto; end of file: the server is gone
stdout  one line: Joined as JSON
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec

from mm_orch.workers.cluster.session import connect, read_auth_mode, say, start

AUTO = "auto"


class Joined(msgspec.Struct, frozen=True, kw_only=True):
    """What a server is told of its cluster.

    Attributes:
        address: of the cluster.
        auth_mode: how Ray lets its clients in; empty for its default.
        host: this machine's address, as the cluster knows it.
        num_nodes: nodes that are alive.
        is_own: it was started for this server, and ends with it.
    """

    address: str
    auth_mode: str
    host: str
    num_nodes: int
    is_own: bool


def main() -> int:
    """Keep the cluster until the server is gone; return the exit code."""
    # Ctrl-C in a terminal is for the server, which then closes our input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(sys.stdout.fileno())
    # Whatever Ray prints is no answer.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    address = sys.stdin.buffer.readline().decode().strip()
    is_own = False
    try:
        ray = connect(address)
    except ConnectionError as error:
        if address != AUTO:
            say(f"no Ray cluster answers: {error}")
            return 1
        ray, is_own = start(), True
    except ImportError as error:
        say(f"{sys.executable} has no Ray: {error}")
        return 1
    joined = Joined(
        address=ray.get_runtime_context().gcs_address,
        auth_mode=read_auth_mode(),
        host=ray.util.get_node_ip_address(),
        num_nodes=sum(node["Alive"] for node in ray.nodes()),
        is_own=is_own,
    )
    os.write(answers, msgspec.json.encode(joined) + b"\n")
    sys.stdin.buffer.read()
    ray.shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
