"""The set of manifests with a Ray cluster: its nodes are what the server expects of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml

from tests.manifests import CHART, container_of, load_configuration, read_manifests
from tests.processes import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MANIFESTS = read_manifests("cluster")
CLUSTER = MANIFESTS["RayCluster"]
POD = MANIFESTS["Deployment"]["spec"]["template"]
GROUPS = [CLUSTER["spec"]["headGroupSpec"], *CLUSTER["spec"]["workerGroupSpecs"]]


def nodes() -> Iterator[dict[str, Any]]:
    """The containers that are nodes of the cluster, the one beside the server first."""
    [beside] = POD["spec"]["initContainers"]
    yield beside
    for group in GROUPS:
        [container] = group["template"]["spec"]["containers"]
        yield container


def paths_of(container: dict[str, Any]) -> set[str]:
    return {mount["mountPath"] for mount in container["volumeMounts"]}


def test_all_nodes_have_the_servers_image_and_the_release_of_ray_that_it_has() -> None:
    [pinned] = re.findall(
        r"^ray==(\S+)", (ROOT / "requirements-cluster.lock").read_text(), re.MULTILINE
    )

    assert {node["image"] for node in nodes()} == {container_of(MANIFESTS)["image"]}
    assert CLUSTER["spec"]["rayVersion"] == pinned


def test_the_server_joins_the_cluster_over_the_node_beside_it(tmp_path: Path) -> None:
    address = load_configuration(MANIFESTS, tmp_path, key="a-key").config.cluster.address
    beside, server = next(nodes()), container_of(MANIFESTS)
    name = CLUSTER["metadata"]["name"]

    # KubeRay calls the head's Service so.
    assert address == f"{name}-head-svc:6379"
    assert f"--address={address}" in beside["args"]
    assert "--num-cpus=0" in beside["args"]
    # It is there before the server and until its end, and they see each other.
    assert beside["restartPolicy"] == "Always"
    assert POD["spec"]["shareProcessNamespace"]
    shared = {"/tmp", "/dev/shm"}  # noqa: S108 - of the container
    assert shared <= paths_of(beside) & paths_of(server)
    for container in (beside, server):
        of_ray = {one["name"]: one for one in container["env"] if one["name"].startswith("RAY_")}
        assert of_ray["RAY_AUTH_MODE"]["value"] == CLUSTER["spec"]["authOptions"]["mode"]
        secret = of_ray["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
        assert secret == {"name": name, "key": "auth_token"}


def test_a_node_of_the_cluster_reads_the_models_and_has_room_for_a_worker(tmp_path: Path) -> None:
    config = load_configuration(MANIFESTS, tmp_path, key="a-key").config
    claims = [
        volume["persistentVolumeClaim"]["claimName"]
        for template in (POD, *(group["template"] for group in GROUPS))
        for volume in template["spec"]["volumes"]
        if volume["name"] == "models"
    ]
    _, head, *workers = nodes()

    assert len(claims) == 1 + len(GROUPS)
    assert len(set(claims)) == 1
    assert all("/data/models" in paths_of(node) for node in (container_of(MANIFESTS), *workers))
    for worker in workers:
        assert int(worker["resources"]["limits"]["cpu"]) >= config.cluster.cpus_per_worker
    assert CLUSTER["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert head["readinessProbe"]["tcpSocket"]["port"] == 6379


def test_no_caller_is_sent_to_a_node_and_all_pods_reach_one_another() -> None:
    selector = MANIFESTS["Service"]["spec"]["selector"].items()
    policy = MANIFESTS["NetworkPolicy"]["spec"]
    among_them = policy["podSelector"]["matchLabels"].items()

    for group in GROUPS:
        labels = group["template"]["metadata"]["labels"].items()
        assert not selector <= labels
        assert among_them <= labels
    assert {"podSelector": policy["podSelector"]} in policy["ingress"][0]["from"]
    assert "ports" not in policy["ingress"][0]
    assert {"podSelector": policy["podSelector"]} in policy["egress"][0]["to"]


def test_nodes_of_the_cluster_may_do_as_little_as_the_server() -> None:
    server = container_of(MANIFESTS)["securityContext"]

    assert all(node["securityContext"] == server for node in nodes())
    for group in GROUPS:
        spec = group["template"]["spec"]
        assert spec["securityContext"] == POD["spec"]["securityContext"]


def test_the_chart_without_a_cluster_has_nothing_of_ray() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    assert values["cluster"]["enabled"] is False
    assert "ray" not in yaml.safe_dump(read_manifests("cpu"))
