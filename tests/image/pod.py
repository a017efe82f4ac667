"""The chart's pod of a real image, run by podman on this machine's network.

Of the manifests, podman plays the Deployment and its ConfigMap. What differs from a cluster: the
network and so the ports, a named volume that holds the model already, the key, which podman 4.3
does not take out of a Secret's ``stringData``, and ``/dev/shm``, of which it makes a plain folder.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from openai import OpenAI

from tests.manifests import read_manifests

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

KEY = "a-key-of-this-test"
_READY_S = 180
_POLL_S = 0.2


def podman(*words: str, timeout_s: float = 120) -> str:
    """Run podman and return what it says; fails with its words where it fails."""
    result = try_podman(*words, timeout_s=timeout_s)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout.strip()


def try_podman(*words: str, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run podman."""
    return subprocess.run(
        ["podman", *words],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
        check=False,
    )


@dataclass(frozen=True, slots=True)
class Pod:
    """A running pod.

    Attributes:
        container: its only container's name.
        port: of the server.
        metrics_port: of its metrics.
    """

    container: str
    port: int
    metrics_port: int

    @property
    def log(self) -> str:
        result = try_podman("logs", self.container)
        return result.stdout + result.stderr

    def open_client(self) -> OpenAI:
        """Return an official client with the pod's key that tries nothing twice."""
        return OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key=KEY, max_retries=0)

    def get(self, path: str, *, port: int | None = None) -> tuple[int, str]:
        """Return status and body of a GET without a key; 0 while nobody listens."""
        connection = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=10)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        except ConnectionRefusedError as error:
            return 0, str(error)
        finally:
            connection.close()

    def execute(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container."""
        return try_podman("exec", self.container, *words)

    @contextlib.contextmanager
    def ending(self) -> Iterator[None]:
        """Have the pod end meanwhile: SIGTERM, and the manifests' grace period."""
        template = read_manifests("cpu")["Deployment"]["spec"]["template"]
        grace_s = str(template["spec"]["terminationGracePeriodSeconds"])
        command = ["podman", "stop", "--time", grace_s, self.container]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as stopping:
            yield
            assert stopping.wait(int(grace_s) + 30) == 0

    def wait_until(self, path: str, status: int) -> None:
        """Ask until the path answers with this status."""
        end_s = time.monotonic() + _READY_S
        while (answer := self.get(path))[0] != status:
            assert time.monotonic() < end_s, f"{path} is still {answer}\n{self.log}"
            time.sleep(_POLL_S)


def make_volume(name: str, model_directory: Path) -> None:
    """Make a volume that holds a model, as after the first start."""
    podman("volume", "create", name)
    folder = Path(podman("volume", "inspect", name, "--format", "{{.Mountpoint}}"))
    shutil.copytree(model_directory, folder / "models" / model_directory.name)
    user = read_manifests("cpu")["Deployment"]["spec"]["template"]["spec"]["securityContext"]
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user["runAsUser"], user["fsGroup"])


def play(image: str, volume: str, folder: Path) -> Pod:
    """Start the pod of the manifests for CPUs, and wait until it is ready."""
    manifests = read_manifests("cpu")
    name = f"muai-{uuid.uuid4().hex[:8]}"
    port, metrics_port = _find_free_ports()
    config = manifests["ConfigMap"]
    options = yaml.safe_load(config["data"]["config.yaml"])
    options["monitoring"]["server"]["port"] = port
    options["monitoring"]["prometheus"]["port"] = metrics_port
    config["data"]["config.yaml"] = yaml.safe_dump(options)
    deployment = _as_podman_plays_it(manifests["Deployment"], name=name, image=image, volume=volume)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump_all([config, deployment]))
    # Its output goes to a file: what it starts would hold a pipe open.
    with (folder / "play.txt").open("w+") as words:
        command = ["podman", "kube", "play", "--network", "host", "--log-driver", "k8s-file"]
        code = subprocess.run(
            [*command, str(path)], stdout=words, stderr=words, timeout=120, check=False
        ).returncode
        words.seek(0)
        assert code == 0, words.read()
    pod = Pod(f"{name}-pod-0-muai", port, metrics_port)
    pod.wait_until("/ready", 200)
    return pod


def remove(pod: Pod) -> None:
    """End the pod, whatever state it is in."""
    podman("pod", "rm", "--force", "--time", "5", pod.container.removesuffix("-muai"))


def _as_podman_plays_it(
    deployment: Mapping[str, Any], *, name: str, image: str, volume: str
) -> dict[str, Any]:
    changed = dict(deployment)
    changed["metadata"]["name"] = name
    spec = changed["spec"]["template"]["spec"]
    spec["hostNetwork"] = True
    for one in spec["volumes"]:
        if one["name"] == "data":
            one["persistentVolumeClaim"]["claimName"] = volume
    [container] = spec["containers"]
    container["image"] = image
    # The network is this machine's: nothing is mapped.
    del container["ports"]
    for variable in container["env"]:
        if variable.pop("valueFrom", None):
            variable["value"] = KEY
    return changed


def _find_free_ports() -> tuple[int, int]:
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return first.getsockname()[1], second.getsockname()[1]
