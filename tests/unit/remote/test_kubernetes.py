"""Servers in the pods of a Service, asked of an API server over TLS with a service account."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from mm_orch.core.endpoints import read_endpoints
from mm_orch.remote.discovery import Address, DiscoveryError
from mm_orch.remote.kubernetes import KubernetesFinder
from tests.kubernetes_api import (
    OPENSSL,
    TOKEN,
    KubernetesApi,
    endpoint_slice,
    kubernetes_api,
    make_credentials,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl, which makes the certificate")


@pytest.fixture(scope="module")
def credentials(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_credentials(tmp_path_factory.mktemp("serviceaccount"))


def finder(api: KubernetesApi, entry: str = "kubernetes:http://vllm.models") -> KubernetesFinder:
    return KubernetesFinder(read_endpoints(entry), api_url=api.url, credentials=api.folder)


def server(host: str, port: int = 8000) -> Address:
    return Address(f"http://{host}:{port}", "vllm.models.svc")


async def test_every_ready_pod_of_all_slices_is_a_server(credentials: Path) -> None:
    async with kubernetes_api(credentials) as api:
        await api.set(
            [
                endpoint_slice("10.0.0.1", ready=True),
                # What is not said means ready.
                endpoint_slice("10.0.0.2"),
                endpoint_slice("10.0.0.3", ready=False),
                endpoint_slice("10.0.0.4", ready=True, terminating=True),
                endpoint_slice("fd00::5", ready=True),
                {"addressType": "IPv4", "ports": None, "endpoints": None},
                {"addressType": "FQDN", "endpoints": [{"addresses": ["pod.example"]}]},
            ]
        )

        assert await finder(api).find() == {
            server("10.0.0.1"),
            server("10.0.0.2"),
            server("[fd00::5]"),
        }
        [asked] = api.lists
        assert parse_qs(urlsplit(asked).query) == {
            "labelSelector": ["kubernetes.io/service-name=vllm"]
        }


async def test_the_namespace_is_the_pods_own_where_none_is_named(credentials: Path) -> None:
    async with kubernetes_api(credentials) as api:
        await api.set([endpoint_slice("10.0.0.1")])

        found = await finder(api, "kubernetes:http://vllm").find()

        assert [address.url for address in found] == ["http://10.0.0.1:8000"]


async def test_a_port_is_chosen_by_name_or_number(credentials: Path) -> None:
    slices = endpoint_slice("10.0.0.1")
    slices["ports"].append({"name": "metrics", "port": 9090})
    async with kubernetes_api(credentials) as api:
        await api.set([slices])

        by_name = await finder(api, "kubernetes:http://vllm.models:metrics").find()
        by_number = await finder(api, "kubernetes:http://vllm.models:8001").find()
        for entry in ("kubernetes:http://vllm.models", "kubernetes:http://vllm.models:grpc"):
            with pytest.raises(DiscoveryError, match=r"port of the Service vllm .*http, metrics"):
                await finder(api, entry).find()

    assert by_name == {server("10.0.0.1", 9090)}
    assert by_number == {server("10.0.0.1", 8001)}


async def test_a_change_ends_the_wait_at_once(credentials: Path) -> None:
    async with kubernetes_api(credentials) as api:
        await api.set([endpoint_slice("10.0.0.1")])
        asking = finder(api)
        await asking.find()
        waiting = asyncio.create_task(asking.wait(600))
        await api.watched.acquire()

        await api.set([endpoint_slice("10.0.0.2")])
        await asyncio.wait_for(waiting, 30)

        assert await asking.find() == {server("10.0.0.2")}
        query = parse_qs(urlsplit(api.watches[0]).query)
        assert query["labelSelector"] == ["kubernetes.io/service-name=vllm"]
        # It names the list that it goes on from, so that no change in between is missed.
        assert query["resourceVersion"] == ["2"]


async def test_however_long_the_news_of_a_change_is_the_wait_ends(credentials: Path) -> None:
    async with kubernetes_api(credentials) as api:
        api.event_bytes = 4 << 20
        await api.set([endpoint_slice("10.0.0.1")])
        asking = finder(api)
        await asking.find()
        waiting = asyncio.create_task(asking.wait(600))
        await api.watched.acquire()

        await api.set([endpoint_slice("10.0.0.2")])

        await asyncio.wait_for(waiting, 30)


async def test_a_refusal_says_what_the_api_server_says_and_never_the_token(
    credentials: Path,
) -> None:
    async with kubernetes_api(credentials) as api:
        api.refusal = 403
        with pytest.raises(DiscoveryError, match="answers with 403: no rights") as told:
            await finder(api).find()

    assert TOKEN not in str(told.value)


async def test_without_the_right_to_watch_it_is_asked_at_intervals(credentials: Path) -> None:
    async with kubernetes_api(credentials) as api:
        api.refusal = 403
        await asyncio.wait_for(finder(api).wait(0.01), 30)

    assert (api.lists, api.watches) == ([], [])


async def test_an_api_server_with_another_certificate_is_told_nothing(
    credentials: Path, tmp_path: Path
) -> None:
    other = make_credentials(tmp_path)
    async with kubernetes_api(credentials) as api:
        asking = KubernetesFinder(
            read_endpoints("kubernetes:http://vllm.models"), api_url=api.url, credentials=other
        )
        with pytest.raises(DiscoveryError, match="CERTIFICATE_VERIFY_FAILED"):
            await asking.find()


async def test_outside_a_pod_it_is_said_what_to_set(tmp_path: Path) -> None:
    asking = KubernetesFinder(
        read_endpoints("kubernetes:http://vllm.models"),
        api_url="https://kubernetes.default.svc",
        credentials=tmp_path,
    )
    with pytest.raises(DiscoveryError, match=r"set discovery\.kubernetes_url"):
        await asking.find()


async def test_an_api_server_that_is_away_is_told(credentials: Path) -> None:
    async with kubernetes_api(credentials) as api:
        pass
    with pytest.raises(DiscoveryError, match="Connect"):
        await finder(api).find()
