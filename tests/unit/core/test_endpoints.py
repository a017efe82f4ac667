"""The grammar of ``models.<name>.endpoints``."""

from __future__ import annotations

import pytest

from mm_orch.core.endpoints import Registry, find_endpoints, read_endpoints


@pytest.mark.parametrize(
    ("text", "registry", "host", "port", "path"),
    [
        ("http://gpu-1:8000", Registry.NOBODY, "gpu-1", 8000, ""),
        ("https://gpu-1.example/v1", Registry.NOBODY, "gpu-1.example", 443, "/v1"),
        ("http://[fd00::1]:8000/", Registry.NOBODY, "[fd00::1]", 8000, ""),
        ("http://10.0.0.7", Registry.NOBODY, "10.0.0.7", 80, ""),
        ("dns:http://vllm.models.svc:8000", Registry.DNS, "vllm.models.svc", 8000, ""),
        ("dns:https://vllm/a/b", Registry.DNS, "vllm", 443, "/a/b"),
        (
            "srv:http://_http._tcp.vllm.models.svc",
            Registry.SRV,
            "_http._tcp.vllm.models.svc",
            80,
            "",
        ),
        ("kubernetes:http://vllm.models:8000", Registry.KUBERNETES, "vllm.models", 8000, ""),
    ],
)
def test_each_kind_of_entry_is_understood(
    text: str, registry: Registry, host: str, port: int, path: str
) -> None:
    read = read_endpoints(text)

    assert (read.registry, read.host, read.port_number, read.path) == (registry, host, port, path)
    assert read.text == text


def test_a_pods_port_may_have_a_name() -> None:
    assert read_endpoints("kubernetes:https://vllm:api").port == "api"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gpu-1:8000",
        "ftp://gpu-1",
        "http://",
        "http://user:key@gpu-1:8000",
        "http://gpu-1:0",
        "http://gpu-1:65536",
        "http://gpu-1:8000#name",
        "http://gpu-1?key=1",
        "dns:vllm:8000",
        "dns:http://vllm:api",
        "srv:http://vllm.models.svc",
        "srv:http://_http._tcp.vllm:80",
        "kubernetes:http://vllm.models.svc.cluster.local:80",
        "kubernetes:http://Vllm",
        "consul:http://vllm",
        "http://gpu-1:8000\n",
    ],
)
def test_anything_else_is_none(text: str) -> None:
    assert find_endpoints(text) is None
    with pytest.raises(ValueError, match="no entry of endpoints"):
        read_endpoints(text)
