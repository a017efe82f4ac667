"""The plain manifests in deploy/kubernetes, by kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import yaml

from mm_orch.config import load_config
from tests.deploy_files import DEPLOY

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.config import LoadedConfig

CHART = DEPLOY / "helm/muai"
MANIFESTS = DEPLOY / "kubernetes"
DATABASE_VARIABLE = "MUAI_STORAGE_URL"
SETS = sorted(path.stem for path in MANIFESTS.glob("*.yaml"))


def read_manifests(name: str) -> dict[str, dict[str, Any]]:
    """Return the objects of a set; there is one of each kind."""
    objects = list(yaml.safe_load_all((MANIFESTS / f"{name}.yaml").read_text()))
    by_kind = {one["kind"]: one for one in objects}
    assert len(by_kind) == len(objects)
    return by_kind


def container_of(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the Deployment's only container."""
    [container] = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    return dict(container)


def load_configuration(
    manifests: dict[str, dict[str, Any]], folder: Path, *, key: str
) -> LoadedConfig:
    """Load what the server would read, with a key in each variable that comes from the Secret.

    The one that comes from a Secret of the user's own is a database's URL.
    """
    path = folder / "config.yaml"
    path.write_text(manifests["ConfigMap"]["data"]["config.yaml"])
    environ = {one["name"]: one.get("value", key) for one in container_of(manifests)["env"]}
    if DATABASE_VARIABLE in environ:
        environ[DATABASE_VARIABLE] = "postgresql://muai@database/muai"
    return load_config(path=path, environ=environ, overrides={})
