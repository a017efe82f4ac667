"""The image and the compose file: what they copy, mount and name is there."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import yaml

import mm_orch
from mm_orch.config import load_config
from mm_orch.config.schema import Config
from tests.deploy_files import DEPLOY
from tests.processes import ROOT
from tests.unit.api.face import Face

DOCKERFILE = (DEPLOY / "docker/Dockerfile").read_text()
COMPOSE_FOLDER = DEPLOY / "compose"
COMPOSE = yaml.safe_load((COMPOSE_FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
IMAGE_CONFIG = DEPLOY / "docker/muai.yaml"


def copied() -> set[str]:
    """What the Dockerfile takes from the project's folder."""
    lines = re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
    return {word for line in lines for word in line.split()[:-1]}


def test_what_the_image_copies_is_there_and_is_sent_to_the_build() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line[0] == "!"}

    assert len(copied()) > 5
    assert [name for name in copied() if not (ROOT / name).exists()] == []
    assert copied() == sent


def test_the_image_runs_as_nobody_and_every_stage_has_a_known_beginning() -> None:
    users = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", DOCKERFILE, re.MULTILINE)
    known = {"${BASE_IMAGE}", *(name for _, name in stages)}

    assert users == ["10001:10001"]
    assert "useradd --uid 10001" in DOCKERFILE
    assert {"cpu", "cuda"} < known
    assert [start for start, _ in stages if start not in known] == []
    # What is built where no target is named.
    assert stages[-1] == ("cpu", "")


def test_the_extras_that_the_image_installs_are_the_projects() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    [extras] = re.findall(r"'\.\[(.*)\]'", DOCKERFILE)

    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    # docs/scaling.md says which images can keep their state in a database.
    assert "postgres" in extras.split(",")
    assert "\npsycopg==" in (ROOT / "requirements.lock").read_text()


async def test_the_images_health_check_asks_a_path_that_is_served() -> None:
    served = (await Face().call("GET", "/openapi.json")).json()["paths"]
    [(port, path)] = re.findall(r"http://127\.0\.0\.1:(\d+)(/\w+)", DOCKERFILE)
    config = load_config(path=IMAGE_CONFIG, environ={}, overrides={}).config

    assert path in served
    assert int(port) == config.monitoring.server.port
    assert f"EXPOSE {port} {config.monitoring.prometheus.port}\n" in DOCKERFILE


def test_the_image_is_configured_to_be_reached_and_to_write_no_log_file() -> None:
    loaded = load_config(path=IMAGE_CONFIG, environ={}, overrides={})

    # That it asks for no key is the one thing that it warns of.
    assert [w for w in loaded.warnings if "without api.enable_auth" not in w] == []
    assert loaded.config.monitoring.server.host == "0.0.0.0"  # noqa: S104 - a container's
    assert loaded.config.system.log_file is None


def test_every_image_of_the_compose_file_has_a_version() -> None:
    images = {name: service["image"] for name, service in SERVICES.items()}

    assert images["muai"] == f"muai:{mm_orch.__version__}-cpu"
    for image in images.values():
        assert re.search(r":(\$\{\w+:-)?v?\d+\.\d+", image), image


def test_the_readme_starts_the_jaeger_of_the_compose_file_and_says_where_to_look() -> None:
    readme = (ROOT / "README.md").read_text()
    image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", SERVICES["jaeger"]["image"])
    service = Config().monitoring.tracing.service_name

    assert f" {image}\n" in readme
    assert f"<http://localhost:16686> for the service `{service}`" in readme
    assert SERVICES["jaeger"]["ports"] == ["127.0.0.1:16686:16686"]


def test_what_the_compose_file_mounts_is_there() -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", ())]
    sources = {mount.partition(":")[0] for mount in mounts}
    files = {source for source in sources if source.startswith(".")}

    assert len(files) > 4
    assert [file for file in files if not (COMPOSE_FOLDER / file).exists()] == []
    assert sources - files == set(COMPOSE["volumes"])
    build = SERVICES["muai"]["build"]
    assert (COMPOSE_FOLDER / build["context"] / build["dockerfile"]).is_file()


def test_the_compose_file_publishes_for_this_machine_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]

    assert len(ports) > 4
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_the_servers_variables_are_valid_and_name_services_that_there_are() -> None:
    environ = SERVICES["muai"]["environment"]
    loaded = load_config(path=IMAGE_CONFIG, environ=environ, overrides={})
    hosts = re.findall(r"http://([a-z-]+):", " ".join(environ.values()))

    assert [w for w in loaded.warnings if "without api.enable_auth" not in w] == []
    assert set(hosts) == {"otel-collector", "alertmanager"}
    assert set(hosts) <= set(SERVICES)


def test_a_container_is_given_longer_than_its_drain() -> None:
    config = load_config(path=IMAGE_CONFIG, environ={}, overrides={}).config
    given_s = int(SERVICES["muai"]["stop_grace_period"].removesuffix("s"))

    # 22 s are the most that it takes after the drain.
    assert given_s > config.monitoring.server.graceful_shutdown_timeout + 22


def test_what_watches_finds_what_it_watches() -> None:
    prometheus = yaml.safe_load((COMPOSE_FOLDER / "prometheus.yml").read_text())
    sources = yaml.safe_load((COMPOSE_FOLDER / "datasources.yml").read_text())["datasources"]
    [job] = prometheus["scrape_configs"]
    uids = {source["uid"] for source in sources}

    assert job["job_name"] == "muai"
    targets = [job, *prometheus["alerting"]["alertmanagers"]]
    hosts = {
        target.partition(":")[0]
        for one in targets
        for config in one["static_configs"]
        for target in config["targets"]
    }
    assert hosts == {"muai", "alertmanager"}
    assert {re.sub(r"http://|:\d+", "", source["url"]) for source in sources} <= set(SERVICES)
    [link] = sources[0]["jsonData"]["exemplarTraceIdDestinations"]
    assert link["datasourceUid"] in uids
    collector = SERVICES["otel-collector"]["environment"]["OTLP_ENDPOINT"]
    assert collector.partition(":")[0] in SERVICES
