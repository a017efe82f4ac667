"""Connects a process to a Ray cluster."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import Any

# Ray keeps objects for tasks there; workers send their tokens themselves.
_OBJECT_STORE_BYTES = 100 << 20
_CONNECT_TIMEOUT_S = 5.0
_AUTH_MODE = "RAY_AUTH_MODE"


def connect(address: str, *, auth_mode: str = "") -> Any:
    """Return the library, connected to the cluster at the address, or to this machine's for auto.

    Args:
        address: HOST:PORT, or auto.
        auth_mode: how Ray lets its clients in; empty for what the environment says.

    Raises:
        ModuleNotFoundError: this interpreter has no Ray.
        ConnectionError: there is no cluster, or it does not answer.
    """
    if auth_mode:
        os.environ[_AUTH_MODE] = auth_mode
    ray = _import()
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address(address)
    if found is None:
        raise ConnectionError("this machine belongs to no Ray cluster")
    _try(found)
    # Not the one that was found: given auto, Ray takes up this machine's token by itself.
    ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    return ray


def start() -> Any:
    """Return the library, connected to a cluster of this machine that ends with this process.

    Raises:
        ModuleNotFoundError: this interpreter has no Ray.
    """
    ray = _import()
    ray.init(
        address="local",
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False,
        object_store_memory=_OBJECT_STORE_BYTES,
    )
    return ray


def read_auth_mode() -> str:
    """Return how Ray lets clients in: one that it starts has them show a token that it made."""
    return os.environ.get(_AUTH_MODE, "")


def say(text: str) -> None:
    """Write a line to the standard error, where the server reads it."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def _try(address: str) -> None:
    # Ray itself waits for minutes, and keeps the address of a cluster that has been killed.
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise ConnectionError(f"{address}: {error}") from error


def _import() -> Any:
    # It tells its makers of its use unless it is told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    return ray
