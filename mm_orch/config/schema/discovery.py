"""Options of the section ``discovery``: how servers elsewhere are looked for."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import AtLeastOne, FilePath, HttpUrl, IpAddress, PositiveFloat


class DiscoverySettings(Section):
    """How the servers of models.<name>.endpoints are looked for."""

    interval_s: PositiveFloat = option(
        "Seconds between two questions which servers there are; a change in Kubernetes is told at"
        " once.",
        default=10.0,
    )
    dns_server: IpAddress | None = option(
        "DNS server to ask; null: those of the system.", default=None
    )
    dns_port: AtLeastOne = option("Port of dns_server.", default=53)
    kubernetes_url: HttpUrl = option(
        "The API server, as pods see it.", default="https://kubernetes.default.svc"
    )
    kubernetes_credentials: FilePath = option(
        "Folder with the token, ca.crt and namespace of a service account that may list and watch"
        " endpointslices, as every pod has it.",
        default="/var/run/secrets/kubernetes.io/serviceaccount",
    )
