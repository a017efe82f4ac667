"""The manifests hang together, and ask of the server only what it has."""

from __future__ import annotations

import importlib
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

import mm_orch
from mm_orch.config.keys import dotted, keys_by_path
from mm_orch.core.errors import ConfigError
from tests.deploy_files import DEPLOY
from tests.manifests import (
    CHART,
    DATABASE_VARIABLE,
    MANIFESTS,
    SETS,
    container_of,
    load_configuration,
    read_manifests,
)
from tests.metrics_contract import PROMISED
from tests.processes import ROOT
from tests.promql_names import names_in
from tests.unit.api.face import Face

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

Manifests = dict[str, dict[str, Any]]

GAUGES = {series.name for series in PROMISED if series.kind == "gauge"}
# KubeRay makes its Secret.
TOKEN_OF_RAY = "RAY_AUTH_TOKEN"  # noqa: S105 - the name of a variable
# After the drain: answers are closed (3), workers end (15), alerts and traces are sent (4).
LONGEST_END_S = 22
ALWAYS = {
    *("ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget"),
    *("Secret", "Service", "ServiceAccount"),
}
KINDS = {
    "cpu": {*ALWAYS, "PersistentVolumeClaim"},
    "gpu": {*ALWAYS, "PersistentVolumeClaim"},
    "scaled": {*ALWAYS, "HorizontalPodAutoscaler", "ServiceMonitor"},
    "cluster": {*ALWAYS, "PersistentVolumeClaim", "RayCluster"},
}


@pytest.fixture(params=SETS)
def manifests(request: pytest.FixtureRequest) -> Manifests:
    return read_manifests(request.param)


@pytest.fixture
def generator(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("generate_manifests")


@pytest.mark.parametrize("name", KINDS)
def test_a_set_has_the_objects_that_it_is_for(name: str) -> None:
    assert set(read_manifests(name)) == KINDS[name]


@pytest.mark.parametrize("name", SETS)
def test_the_manifests_were_made_of_this_chart(name: str, generator: ModuleType) -> None:
    head = (MANIFESTS / f"{name}.yaml").read_text().splitlines()[0]

    assert set(SETS) == set(generator.VALUES_BY_NAME)
    assert f"({generator.checksum_of_chart()})" in head, "run: make manifests"


def test_the_configuration_is_valid_and_gives_no_warning(
    manifests: Manifests, tmp_path: Path
) -> None:
    loaded = load_configuration(manifests, tmp_path, key="a-key")

    assert loaded.warnings == ()
    assert loaded.config.api.enable_auth
    assert [key.name for key in loaded.config.api.api_keys if key.admin] == ["admin"]


def test_a_server_with_the_placeholder_for_a_key_does_not_start(
    manifests: Manifests, tmp_path: Path
) -> None:
    [placeholder] = manifests["Secret"]["stringData"].values()

    with pytest.raises(ConfigError, match="api_keys"):
        load_configuration(manifests, tmp_path, key=placeholder)


def test_the_pod_is_given_longer_than_hook_and_drain_take(
    manifests: Manifests, tmp_path: Path
) -> None:
    config = load_configuration(manifests, tmp_path, key="a-key").config
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    word, hook_s = container_of(manifests)["lifecycle"]["preStop"]["exec"]["command"]

    assert word == "sleep"
    needed_s = int(hook_s) + config.monitoring.server.graceful_shutdown_timeout + LONGEST_END_S
    assert pod["terminationGracePeriodSeconds"] > needed_s


async def test_probes_ask_paths_that_are_served(manifests: Manifests, tmp_path: Path) -> None:
    config = load_configuration(manifests, tmp_path, key="a-key").config
    served = (await Face().call("GET", "/openapi.json")).json()["paths"]
    container = container_of(manifests)
    has_several = "HorizontalPodAutoscaler" in manifests

    probes = {name: container[f"{name}Probe"] for name in ("startup", "readiness", "liveness")}
    paths = {name: probe["httpGet"]["path"] for name, probe in probes.items()}
    server = config.monitoring.server
    assert set(paths.values()) <= set(served)
    assert paths["startup"] == server.readiness_check_path
    assert paths["liveness"] == "/live"
    # A full queue is not ready: alone, a pod would take its callers' Retry-After from them.
    assert paths["readiness"] == (
        server.readiness_check_path if has_several else server.health_check_path
    )
    assert {probe["httpGet"]["port"] for probe in probes.values()} == {"http"}


def test_ports_are_those_of_the_configuration(manifests: Manifests, tmp_path: Path) -> None:
    config = load_configuration(manifests, tmp_path, key="a-key").config
    wanted = {
        "http": config.monitoring.server.port,
        "metrics": config.monitoring.prometheus.port,
    }
    ports = {one["name"]: one["containerPort"] for one in container_of(manifests)["ports"]}
    service = {one["targetPort"]: one["port"] for one in manifests["Service"]["spec"]["ports"]}
    policy = manifests["NetworkPolicy"]["spec"]["ingress"]

    assert ports == service == wanted
    assert {port["port"] for rule in policy for port in rule.get("ports", ())} == set(wanted)
    assert {config.monitoring.server.host, config.monitoring.prometheus.host} == {"0.0.0.0"}  # noqa: S104


def test_selectors_find_the_pods(manifests: Manifests) -> None:
    labels = manifests["Deployment"]["spec"]["template"]["metadata"]["labels"].items()
    selectors = [
        manifests["Deployment"]["spec"]["selector"]["matchLabels"],
        manifests["Service"]["spec"]["selector"],
        manifests["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        manifests["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]

    assert all(selector.items() <= labels for selector in selectors)


def test_every_object_is_in_one_namespace(manifests: Manifests) -> None:
    assert {one["metadata"]["namespace"] for one in manifests.values()} == {"muai"}


def test_what_the_pod_mounts_and_reads_is_there(manifests: Manifests) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    container = container_of(manifests)
    names = {one["metadata"]["name"] for one in manifests.values()}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    secrets = [
        one["valueFrom"]["secretKeyRef"]
        for one in container["env"]
        if "valueFrom" in one and one["name"] not in {TOKEN_OF_RAY, DATABASE_VARIABLE}
    ]

    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert volumes["config"]["configMap"]["name"] in names
    assert pod["serviceAccountName"] in names
    for one in secrets:
        assert one["name"] == manifests["Secret"]["metadata"]["name"]
        assert one["key"] in manifests["Secret"]["stringData"]


def test_pods_that_are_several_share_a_database_whose_url_is_in_a_secret(
    manifests: Manifests,
) -> None:
    variables = {one["name"]: one for one in container_of(manifests)["env"]}
    ports = [
        port["port"]
        for rule in manifests["NetworkPolicy"]["spec"]["egress"]
        for port in rule.get("ports", ())
    ]

    if "PersistentVolumeClaim" in manifests:
        assert DATABASE_VARIABLE not in variables
        assert 5432 not in ports
    else:
        assert variables[DATABASE_VARIABLE] == {
            "name": DATABASE_VARIABLE,
            "valueFrom": {"secretKeyRef": {"name": "muai-database", "key": "url"}},
        }
        assert ports.count(5432) == 1


def test_the_pod_may_do_as_little_as_possible(manifests: Manifests) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    container = container_of(manifests)
    dockerfile = (DEPLOY / "docker/Dockerfile").read_text()
    user = pod["securityContext"]["runAsUser"]

    assert f"\nUSER {user}:{pod['securityContext']['runAsGroup']}\n" in dockerfile
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not pod["automountServiceAccountToken"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert not container["securityContext"]["allowPrivilegeEscalation"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    writable = {mount["mountPath"] for mount in container["volumeMounts"]} - {"/etc/muai"}
    # With a cluster the server has its models where the nodes read them.
    assert writable - {"/data/models"} == {"/data", "/tmp", "/dev/shm"}  # noqa: S108 - of the container


def test_one_pod_owns_a_volume_and_several_own_none(manifests: Manifests) -> None:
    spec = manifests["Deployment"]["spec"]
    [data] = [one for one in spec["template"]["spec"]["volumes"] if one["name"] == "data"]

    if "PersistentVolumeClaim" in manifests:
        assert spec["replicas"] == 1
        assert spec["strategy"] == {"type": "Recreate"}
        assert "sessionAffinity" not in manifests["Service"]["spec"]
    else:
        # The autoscaler says how many.
        assert "replicas" not in spec
        assert "emptyDir" in data
        # What callers have said is in the database, whichever pod they come to.
        assert "MUAI_STORAGE_URL" in {one["name"] for one in container_of(manifests)["env"]}
        assert "sessionAffinity" not in manifests["Service"]["spec"]


def test_the_autoscaler_reads_gauges_that_there_are() -> None:
    spec = read_manifests("scaled")["HorizontalPodAutoscaler"]["spec"]
    read = {metric["pods"]["metric"]["name"] for metric in spec["metrics"]}
    adapter = yaml.safe_load((DEPLOY / "prometheus/adapter.yaml").read_text())
    made = {rule["seriesQuery"].partition("{")[0] for rule in adapter["rules"]["custom"]}

    assert read == made == {"requests_waiting", "kv_cache_usage_ratio"}
    assert read <= GAUGES
    assert 1 < spec["minReplicas"] < spec["maxReplicas"]


def test_keda_asks_for_the_same_gauges() -> None:
    template = (CHART / "templates/autoscaling.yaml").read_text()
    queries = [
        query.replace("{{ $series }}", '{namespace="a",service="b"}')
        for query in re.findall(r"query: (.*)", template)
    ]

    read = {name for query in queries for name in names_in(query)}
    assert read == {"requests_waiting", "kv_cache_usage_ratio"}


def test_the_operator_scrapes_the_job_that_the_rules_look_for() -> None:
    manifests = read_manifests("scaled")
    spec = manifests["ServiceMonitor"]["spec"]
    [endpoint] = spec["endpoints"]

    assert (
        spec["selector"]["matchLabels"].items()
        <= manifests["Service"]["metadata"]["labels"].items()
    )
    assert endpoint["port"] in {port["name"] for port in manifests["Service"]["spec"]["ports"]}
    assert {"targetLabel": "job", "replacement": "muai"} in endpoint["relabelings"]


def test_the_chart_restarts_pods_for_all_but_the_live_options() -> None:
    live = {dotted(path) for path, key in keys_by_path().items() if key.facts.is_live}

    assert set((CHART / "files/live-options.txt").read_text().split()) == live


def test_the_chart_has_the_products_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    images = {name: container_of(read_manifests(name))["image"] for name in SETS}

    assert chart["appVersion"] == mm_orch.__version__
    assert images == {
        "cpu": f"muai:{mm_orch.__version__}-cpu",
        "gpu": f"muai:{mm_orch.__version__}-cuda",
        "scaled": f"muai:{mm_orch.__version__}-cpu",
        "cluster": f"muai:{mm_orch.__version__}-cluster",
    }


@pytest.mark.parametrize("path", sorted(CHART.glob("values*.yaml")), ids=lambda path: path.name)
def test_the_values_keep_to_the_schema(path: Path) -> None:
    validator = values_validator()
    values = yaml.safe_load(path.read_text())

    assert validator.is_valid(merged(defaults(), values))
    assert not validator.is_valid({**values, "replicaCont": 2})


def test_every_default_is_in_the_schema_and_has_a_default() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())

    # Helm hands it to every chart.
    assert set(schema["properties"]) - {"global"} == set(defaults())


def defaults() -> dict[str, Any]:
    return dict(yaml.safe_load((CHART / "values.yaml").read_text()))


def merged(under: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Values as helm lays one file over another."""
    return under | {
        key: merged(under[key], value)
        if isinstance(value, dict) and isinstance(under.get(key), dict)
        else value
        for key, value in over.items()
    }


def values_validator() -> Any:
    library = pytest.importorskip("jsonschema_rs", reason="jsonschema-rs is not installed")
    return library.validator_for(json.loads((CHART / "values.schema.json").read_text()))
