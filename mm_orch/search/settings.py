"""The slice of the configuration that searching needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.search.limits import FetchLimits

if TYPE_CHECKING:
    from mm_orch.config.schema.search import SearchOptions

BUILT_IN_CORPUS = Path(__file__).parent / "corpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchSettings:
    """Where pages are looked for.

    Attributes:
        provider: name of an entry point of ``mm_orch.search_providers``.
        url: of the server that searches; empty for providers that need none.
        corpus: file or folder of recorded pages; None for those that are built in.
        max_pages: that are read for one question.
        timeout_s: for one search.
        limits: of the pages that are fetched.
    """

    provider: str = "recorded"
    url: str = ""
    corpus: Path | None = None
    max_pages: int = 3
    timeout_s: float = 10.0
    limits: FetchLimits = field(default_factory=FetchLimits)


def read_settings(options: SearchOptions) -> SearchSettings:
    """Return the slice of what is configured."""
    return SearchSettings(
        provider=options.provider,
        url=options.url or "",
        corpus=options.corpus_path,
        max_pages=options.max_pages,
        timeout_s=options.timeout_s,
        limits=FetchLimits(
            timeout_s=options.page_timeout_s,
            max_bytes=options.max_page_bytes,
            allowed_ports=options.allowed_ports,
            allowed_private_hosts=options.allowed_private_hosts,
        ),
    )
