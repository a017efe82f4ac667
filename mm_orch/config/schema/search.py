"""Options of the section ``workflows.search``: where pages are looked for, and may be from."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import Field

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import (
    AtLeastOne,
    FilePath,
    Hosts,
    HttpUrl,
    Ports,
    PositiveFloat,
    ProviderName,
)


class SearchOptions(Section):
    """Where workflows look for pages, and what they may fetch."""

    provider: ProviderName = option(
        "What finds pages: recorded (a corpus on this machine, no network), searxng (a SearXNG"
        " server), or a plug-in.",
        default="recorded",
    )
    url: HttpUrl | None = option(
        "The address of the server that searches; needed by searxng.", default=None
    )
    corpus: FilePath | None = option(
        "Recorded pages: a file of JSON lines, or a folder of such files (*.jsonl). Where the web"
        " cannot be searched, this corpus is.",
        default=None,
        default_in_words="null: a small corpus that is built in",
    )
    max_pages: Annotated[int, Field(ge=1, le=10)] = option(
        "Most pages that are read for one question, or one part of it.", default=3
    )
    timeout_s: PositiveFloat = option("Seconds that a search may take.", default=10.0)
    page_timeout_s: PositiveFloat = option(
        "Seconds that fetching one page may take, with all its redirects.", default=10.0
    )
    max_page_bytes: AtLeastOne = option(
        "Largest page that is read, unpacked, in bytes.", default=2 * 2**20
    )
    allowed_ports: Ports = option("Ports that pages may be fetched from.", default=(80, 443))
    allowed_private_hosts: Hosts = option(
        "Hosts that pages may be fetched from although they are not on the public internet, such as"
        " those of an intranet: names as URLs have them, or addresses.",
        default=(),
    )

    @property
    def corpus_path(self) -> Path | None:
        """The corpus as a path, with ~ for the user's home."""
        # Path.expanduser raises for an unknown user; this leaves the name as it is.
        return None if self.corpus is None else Path(os.path.expanduser(self.corpus))  # noqa: PTH111
