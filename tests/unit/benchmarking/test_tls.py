"""Servers over TLS: their certificate is checked, and answers are read as without it."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from mm_orch.benchmarking.client import Target, read_json
from mm_orch.benchmarking.load import failures_of, run_closed
from mm_orch.core.errors import NoServerError
from tests.unit.benchmarking.peer import Peer
from tests.unit.benchmarking.test_load import workload

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl, which makes the certificate")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and its certificate for 127.0.0.1, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    words = "req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=test"
    more = ["-addext", "subjectAltName=IP:127.0.0.1"]
    command = [str(OPENSSL), *words.split(), *more]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_text((folder / "key.pem").read_text() + (folder / "cert.pem").read_text())
    return both


@asynccontextmanager
async def serving_securely(peer: Peer, certificate: Path) -> AsyncIterator[Target]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, ssl=context)
    port = server.sockets[0].getsockname()[1]
    try:
        yield Target.parse(f"https://127.0.0.1:{port}/v1", model="m")
    finally:
        server.close()
        await server.wait_closed()


async def test_a_server_whose_certificate_is_trusted_is_measured(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving_securely(Peer(), certificate) as target:
        run = await run_closed(target, workload(3), 1)

    assert failures_of([run]) == []
    assert run.requests[0].text == "w1 w1 w1 "


async def test_a_server_whose_certificate_is_not_trusted_is_told_nothing(
    certificate: Path,
) -> None:
    peer = Peer()
    async with serving_securely(peer, certificate) as target:
        with pytest.raises(NoServerError, match="CERTIFICATE_VERIFY_FAILED"):
            await read_json(target, "/v1/models")
        run = await run_closed(target, workload(1), 1)

    assert "no connection" in str(run.requests[0].error)
    assert peer.heads == []
