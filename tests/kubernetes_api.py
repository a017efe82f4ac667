"""The part of a Kubernetes API server that discovery asks, over TLS, in this process."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

OPENSSL = shutil.which("openssl")
TOKEN = "token-of-the-service-account"  # noqa: S105 - of a server in this process
NAMESPACE = "models"


def endpoint_slice(
    *hosts: str, port: int = 8000, port_name: str = "http", **conditions: bool
) -> dict[str, Any]:
    return {
        "addressType": "IPv6" if ":" in "".join(hosts) else "IPv4",
        "ports": [{"name": port_name, "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [host], "conditions": conditions} for host in hosts],
    }


@dataclass
class KubernetesApi:
    """One Service's EndpointSlices; who watches is told when they change.

    Attributes:
        queries: what it was asked, a watch apart from a list.
        watched: released when a watch has begun.
        event_bytes: length of what it tells of a change, in one line.
    """

    folder: Path
    url: str = ""
    refusal: int = 0
    event_bytes: int = 0
    lists: list[str] = field(default_factory=list)
    watches: list[str] = field(default_factory=list)
    watched: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    _slices: list[dict[str, Any]] = field(default_factory=list)
    _version: int = 1
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def set(self, slices: Sequence[dict[str, Any]]) -> None:
        async with self._changed:
            self._slices = list(slices)
            self._version += 1
            self._changed.notify_all()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.json_response({"kind": "Status", "message": "Unauthorized"}, status=401)
        if self.refusal:
            return web.json_response(
                {"kind": "Status", "message": "no rights"}, status=self.refusal
            )
        if request.query.get("watch"):
            return await self._watch(request)
        self.lists.append(str(request.rel_url))
        return web.json_response(
            {"metadata": {"resourceVersion": str(self._version)}, "items": self._slices}
        )

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        self.watches.append(str(request.rel_url))
        response = web.StreamResponse()
        await response.prepare(request)
        self.watched.release()
        since = int(request.query["resourceVersion"])
        async with self._changed:
            await self._changed.wait_for(lambda: self._version > since)
        event = b'{"type": "MODIFIED", "object": {}}'
        await response.write(event.ljust(self.event_bytes) + b"\n")
        return response


def make_credentials(folder: Path) -> Path:
    """Write a service account's folder, and the server's certificate with its key beside it."""
    words = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out ca.crt -days 2 -subj /CN=test"
    subprocess.run(
        [str(OPENSSL), *words.split(), "-addext", "subjectAltName=IP:127.0.0.1"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (folder / "token").write_text(f"{TOKEN}\n")
    (folder / "namespace").write_text(NAMESPACE)
    return folder


@asynccontextmanager
async def kubernetes_api(folder: Path) -> AsyncIterator[KubernetesApi]:
    """Serve, with the certificate in this folder of credentials."""
    api = KubernetesApi(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.crt", folder / "key.pem")
    app = web.Application()
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    app.router.add_get(path, api.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    api.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield api
    finally:
        await runner.cleanup()
