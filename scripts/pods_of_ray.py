"""Writes the pods that KubeRay makes of a RayCluster in these manifests, for tools that know pods.

usage: python scripts/pods_of_ray.py MANIFESTS
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml


def pods_of(cluster: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a Pod for the head and one for each group of workers."""
    spec, meta = cluster["spec"], cluster["metadata"]
    groups = {"head": spec["headGroupSpec"]}
    groups |= {group["groupName"]: group for group in spec["workerGroupSpecs"]}
    return [
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                **group["template"]["metadata"],
                "name": f"{meta['name']}-{name}",
                "namespace": meta["namespace"],
            },
            "spec": group["template"]["spec"],
        }
        for name, group in groups.items()
    ]


def main() -> int:
    """Print the pods as YAML; return 1 where the manifests have no RayCluster."""
    objects = list(yaml.safe_load_all(Path(sys.argv[1]).read_text()))
    clusters = [one for one in objects if one["kind"] == "RayCluster"]
    pods = [pod for cluster in clusters for pod in pods_of(cluster)]
    print(yaml.safe_dump_all(pods, sort_keys=False))
    return 0 if pods else 1


if __name__ == "__main__":
    sys.exit(main())
