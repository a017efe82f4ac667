"""Where the servers of one model are: the grammar of an entry of ``models.<name>.endpoints``.

http://gpu-1:8000                      one server
dns:http://vllm.models.svc:8000        one at every address of the name (A and AAAA records)
srv:http://_http._tcp.vllm.models.svc  one at every host and port that its SRV records name
kubernetes:http://vllm.models:8000     one in every ready pod of a Service (SERVICE.NAMESPACE:PORT)
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*"
_PATH = r"(?P<path>(?:/[A-Za-z0-9._~-]+)*)/?"
_SCHEME = r"(?P<scheme>https?)://"
_PORT = r"(?P<port>:[0-9]{1,5})?"
_SERVER = re.compile(rf"{_SCHEME}(?P<host>{_HOST}|\[[0-9A-Fa-f:.]+\]){_PORT}{_PATH}")
_DNS = re.compile(rf"dns:{_SCHEME}(?P<host>{_HOST}){_PORT}{_PATH}")
_SRV = re.compile(rf"srv:{_SCHEME}(?P<host>(?:_[A-Za-z0-9-]+\.){{2}}{_HOST}){_PATH}")
_KUBERNETES = re.compile(
    rf"kubernetes:{_SCHEME}(?P<host>[a-z0-9-]+(?:\.[a-z0-9-]+)?)(?P<port>:[a-z0-9-]+)?{_PATH}"
)
_MAX_PORT = 65535
_PORT_BY_SCHEME = {"http": 80, "https": 443}


class Registry(enum.Enum):
    """Who knows which servers there are now."""

    NOBODY = "static"
    DNS = "dns"
    SRV = "srv"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """One entry, read.

    Attributes:
        text: as it was written.
        registry: who is asked for the servers.
        scheme: http or https.
        host: the server, or the name that the registry is asked for.
        port: a number, of a pod its name too; empty where nothing was said.
        path: what stands before /v1, without a slash at its end.
    """

    text: str
    registry: Registry
    scheme: str
    host: str
    port: str
    path: str

    @property
    def port_number(self) -> int:
        """The port, or the scheme's own."""
        return int(self.port) if self.port else _PORT_BY_SCHEME[self.scheme]


_GRAMMAR = (
    (Registry.NOBODY, _SERVER),
    (Registry.DNS, _DNS),
    (Registry.SRV, _SRV),
    (Registry.KUBERNETES, _KUBERNETES),
)


def find_endpoints(text: str) -> Endpoints | None:
    """Read an entry; None where it is none. Credentials in it are refused: they would be shown."""
    for registry, pattern in _GRAMMAR:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        port = (match.groupdict().get("port") or "").removeprefix(":")
        if port.isdigit() and not 0 < int(port) <= _MAX_PORT:
            return None
        return Endpoints(
            text=text,
            registry=registry,
            scheme=match["scheme"],
            host=match["host"],
            port=port,
            path=match["path"],
        )
    return None


def read_endpoints(text: str) -> Endpoints:
    """Read an entry that the configuration has let pass.

    Raises:
        ValueError: it is none.
    """
    found = find_endpoints(text)
    if found is None:
        raise ValueError(f"{text!r} is no entry of endpoints.")
    return found
