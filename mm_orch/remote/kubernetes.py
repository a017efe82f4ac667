"""Servers that run in the pods of a Kubernetes Service: its EndpointSlices, from the API server.

They are listed, and then watched for the next change, with the service account that every pod has:
it needs the verbs list and watch on endpointslices in the Service's namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec

from mm_orch.remote.discovery import Address, DiscoveryError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence
    from pathlib import Path

    from mm_orch.core.endpoints import Endpoints

_ANSWER_S = 10.0
# The shortest time between two lists, however much changes.
_MIN_INTERVAL_S = 0.5
_GRACE_S = 5.0
_SERVICE_LABEL = "kubernetes.io/service-name"
_MAX_SHOWN_CHARS = 200
_ODD_SHAPE = (AttributeError, KeyError, TypeError, ValueError)


class KubernetesFinder:
    """Implements remote.discovery.Finder.

    Args:
        endpoints: SERVICE or SERVICE.NAMESPACE, and the port of its pods.
        api_url: of the API server.
        credentials: folder with ``token``, ``ca.crt`` and ``namespace``; the token is read again
            for each question, because Kubernetes renews it.
    """

    def __init__(self, endpoints: Endpoints, *, api_url: str, credentials: Path) -> None:
        self.name = endpoints.text
        self._endpoints = endpoints
        self._service, _, self._namespace = endpoints.host.partition(".")
        self._api_url = api_url.rstrip("/")
        self._credentials = credentials
        self._version = ""

    async def find(self) -> frozenset[Address]:
        """See Finder."""
        async with self._asking({}, _ANSWER_S) as reply:
            body = await reply.read()
        try:
            listed = msgspec.json.decode(body)
            self._version = str(listed["metadata"].get("resourceVersion") or "")
            return frozenset(
                address for one in listed["items"] or () for address in self._addresses_in(one)
            )
        except (*_ODD_SHAPE, RecursionError, msgspec.MsgspecError) as error:
            raise DiscoveryError(f"{self._api_url} sent no list of EndpointSlices.") from error

    async def wait(self, interval_s: float) -> None:
        """See Finder: watches until something has changed since the list, or the time is over."""
        await asyncio.sleep(min(_MIN_INTERVAL_S, interval_s))
        query = {
            "watch": "true",
            "resourceVersion": self._version,
            "timeoutSeconds": str(max(1, round(interval_s))),
        }
        # Whatever a watch fails of, the next list tells, if it lasts.
        with contextlib.suppress(DiscoveryError, TimeoutError, aiohttp.ClientError):
            async with self._asking(query, interval_s + _GRACE_S) as reply:
                # That something comes is all that is asked: an event may be of any length.
                await reply.readany()
                return
        await asyncio.sleep(interval_s)

    @contextlib.asynccontextmanager
    async def _asking(
        self, query: dict[str, str], timeout_s: float
    ) -> AsyncIterator[aiohttp.StreamReader]:
        """Ask for the Service's EndpointSlices; give the body of the answer.

        Raises:
            DiscoveryError: it was refused, or did not come.
        """
        access = await asyncio.to_thread(self._read_access)
        url = (
            f"{self._api_url}/apis/discovery.k8s.io/v1/namespaces"
            f"/{self._namespace or access.namespace}/endpointslices"
        )
        with self._translated():
            # A session for each question: its certificates may be others by then.
            async with (
                aiohttp.ClientSession(
                    headers={"Authorization": f"Bearer {access.token}"}
                ) as session,
                session.get(
                    url,
                    params={"labelSelector": f"{_SERVICE_LABEL}={self._service}", **query},
                    timeout=aiohttp.ClientTimeout(total=timeout_s),
                    ssl=access.tls,
                    allow_redirects=False,
                ) as reply,
            ):
                if reply.status != HTTPStatus.OK:
                    raise DiscoveryError(_refusal(self._api_url, reply.status, await reply.read()))
                yield reply.content

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except TimeoutError as error:
            raise DiscoveryError(f"{self._api_url} does not answer.") from error
        except (aiohttp.ClientError, OSError) as error:
            raise DiscoveryError(f"{self._api_url}: {type(error).__name__} {error}") from error

    def _read_access(self) -> _Access:
        """Read the service account's files; to be called in a thread."""
        folder = self._credentials
        try:
            token = (folder / "token").read_text().strip()
            namespace = "" if self._namespace else (folder / "namespace").read_text().strip()
            tls = ssl.create_default_context(cafile=folder / "ca.crt")
        except (OSError, ssl.SSLError) as error:
            raise DiscoveryError(
                f"the service account cannot be read from {folder}: {error}. Outside a pod, set"
                " discovery.kubernetes_url and discovery.kubernetes_credentials."
            ) from error
        return _Access(token, namespace, tls)

    def _addresses_in(self, piece: dict[str, Any]) -> Iterator[Address]:
        """Yield the servers of one EndpointSlice."""
        port = self._choose_port(piece.get("ports") or ())
        if port is None or piece.get("addressType") not in {"IPv4", "IPv6"}:
            return
        server_name = f"{self._service}.{self._namespace}.svc" if self._namespace else ""
        for endpoint in piece.get("endpoints") or ():
            conditions = endpoint.get("conditions") or {}
            # What is not said of a pod means that it is ready, by the API's definition.
            if conditions.get("ready") is False or conditions.get("terminating"):
                continue
            for host in endpoint["addresses"]:
                shown = f"[{host}]" if ":" in host else host
                yield Address(
                    f"{self._endpoints.scheme}://{shown}:{port}{self._endpoints.path}", server_name
                )

    def _choose_port(self, ports: Sequence[dict[str, Any]]) -> int | None:
        """Return the port that is meant: by its name or number, or the only one."""
        wanted = self._endpoints.port
        if wanted.isdigit():
            # It need not be one that the Service names.
            return int(wanted)
        meant = [one for one in ports if not wanted or one.get("name") == wanted]
        if len(meant) == 1:
            return int(meant[0]["port"])
        if not ports:
            # A slice without endpoints has none.
            return None
        names = ", ".join(str(one.get("name") or one["port"]) for one in ports)
        raise DiscoveryError(f"say which port of the Service {self._service} is meant: {names}.")


@dataclass(frozen=True, slots=True)
class _Access:
    token: str = field(repr=False)
    namespace: str
    tls: ssl.SSLContext


def _refusal(api_url: str, status: int, body: bytes) -> str:
    try:
        said = str(msgspec.json.decode(body)["message"])
    except (*_ODD_SHAPE, RecursionError, msgspec.MsgspecError):
        said = body.decode(errors="replace")
    return f"{api_url} answers with {status}: {said[:_MAX_SHOWN_CHARS]}"
