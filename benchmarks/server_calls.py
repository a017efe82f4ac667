"""Calls a server's plain paths, those of operators among them."""

from __future__ import annotations

import http.client
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mm_orch.benchmarking.server_process import HOST

if TYPE_CHECKING:
    from collections.abc import Mapping

_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, read to its end."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


def call(
    port: int,
    method: str,
    path: str,
    *,
    body: object = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = _TIMEOUT_S,
) -> Reply:
    """Send one request on a connection of its own, and read the whole answer.

    Args:
        port: on this machine.
        method: of the request.
        path: of the request.
        body: becomes JSON; None for no body.
        headers: beside those that every request has.
        timeout_s: longest silence.

    Raises:
        OSError: nobody answers, or what answers is no HTTP.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=timeout_s)
    data = None if body is None else json.dumps(body).encode()
    try:
        connection.request(method, path, data, dict(headers or {}))
        response = connection.getresponse()
        return Reply(response.status, response.read())
    except http.client.HTTPException as error:
        message = f"{method} {path} was answered with no HTTP: {error!r}"
        raise ConnectionError(message) from error
    finally:
        connection.close()


def change_options(port: int, values: Mapping[str, object]) -> None:
    """Give live options other values.

    Raises:
        RuntimeError: the server refused them.
    """
    reply = call(port, "PATCH", "/admin/config", body=values)
    if reply.status != http.HTTPStatus.OK:
        message = f"{values} was refused: {reply.body.decode(errors='replace')}"
        raise RuntimeError(message)


def workers_of(port: int) -> dict[int, str]:
    """Return the process number of each worker that runs now, with its model.

    Raises:
        OSError: the server does not say.
    """
    models = models_of(port)
    return {one["worker_pid"]: str(one["name"]) for one in models if one["worker_pid"]}


def models_of(port: int) -> list[dict[str, Any]]:
    """Return what the server says of each of its models.

    Raises:
        OSError: it does not say.
    """
    reply = call(port, "GET", "/api/status")
    if reply.status != http.HTTPStatus.OK:
        message = f"/api/status was answered with {reply.status}"
        raise ConnectionError(message)
    models: list[dict[str, Any]] = reply.json["models"]
    return models
