"""Writes the chart's plain manifests into deploy/kubernetes, as helm renders them.

It needs the helm of scripts/setup-deploy, or another named by HELM.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

from generated_files import write_or_check

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy/helm/muai"
DIRECTORY = ROOT / "deploy/kubernetes"
REASON = "is not what the chart makes; run: make manifests"
# No key: the server refuses to start with it and says so.
PLACEHOLDER = "replace this by the output of: openssl rand -hex 32"
# What each set adds to the chart's values.
VALUES_BY_NAME = {
    "cpu": (),
    "gpu": ("values-gpu.yaml",),
    "scaled": ("values-scaled.yaml",),
    "cluster": ("values-cluster.yaml",),
}
_HEAD = """\
# {name}: made of deploy/helm/muai ({checksum}) by scripts/generate_manifests.py.
# Before the first `kubectl apply --namespace muai -f`: the image's name in the Deployment, the key
# in the Secret.
"""
# Said by helm, and true only of what helm installs.
_OF_HELM = re.compile(
    r"^ *app\.kubernetes\.io/managed-by: Helm\n|^# Source: .*\n|^ *helm\.sh/.*\n", re.MULTILINE
)
# A blank line before the mark is helm's; the PVC's annotations hold nothing else.
_EMPTY_ANNOTATIONS = re.compile(r"^  annotations:\n(?: {4}#.*\n)*(?=spec:)", re.MULTILINE)


def checksum_of_chart() -> str:
    """Return a checksum of all that the manifests are made of."""
    paths = [*CHART.glob("*.yaml"), *CHART.glob("templates/*"), *CHART.glob("files/*.txt")]
    digest = hashlib.sha256(PLACEHOLDER.encode())
    for path in sorted(paths):
        digest.update(path.relative_to(CHART).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def render(name: str, helm: str) -> str:
    """Return a set of manifests as one file.

    Raises:
        subprocess.CalledProcessError: helm refuses the chart; its words are on standard error.
    """
    command = [
        *(helm, "template", "muai", str(CHART), "--namespace", "muai"),
        *("--set-string", f"auth.callers.admin.key={PLACEHOLDER}"),
        *(word for file in VALUES_BY_NAME[name] for word in ("--values", str(CHART / file))),
    ]
    made = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    plain = _EMPTY_ANNOTATIONS.sub("", _OF_HELM.sub("", made)).replace("\n\n---", "\n---")
    return _HEAD.format(name=name, checksum=checksum_of_chart()) + plain


def main() -> int:
    """Write the files, or with --check say whether they are up to date."""
    helm = os.environ.get("HELM", str(ROOT / ".venv-deploy/bin/helm"))
    content_by_path = {DIRECTORY / f"{name}.yaml": render(name, helm) for name in VALUES_BY_NAME}
    foreign = [path for path in DIRECTORY.glob("*.yaml") if path not in content_by_path]
    return write_or_check(content_by_path, root=ROOT, reason=REASON, superfluous=foreign)


if __name__ == "__main__":
    sys.exit(main())
