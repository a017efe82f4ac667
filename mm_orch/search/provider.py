"""What a search provider is, and which there are: the built-in ones and plug-ins beside them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.errors import SearchError
from mm_orch.core.plug_ins import describe_failure, find_targets, import_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.search.page import Found
    from mm_orch.search.settings import SearchSettings

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "mm_orch.search_providers"
RECORDED = "recorded"

_BUILT_IN = {
    RECORDED: "mm_orch.search.recorded:RecordedProvider",
    "searxng": "mm_orch.search.searxng:SearxngProvider",
}


class SearchProvider(Protocol):
    """Finds pages; an entry point names what makes one of the settings."""

    async def search(self, query: str, *, limit: int) -> Found:
        """Return at most so many pages that may have the answer, best first.

        Args:
            query: one line of text.
            limit: at least 1.

        Raises:
            SearchError: it cannot search now; says why, and what to do.
        """


def make_provider(settings: SearchSettings, name: str) -> SearchProvider:
    """Import and make a provider; not on the event loop, as a plug-in may import anything.

    Raises:
        SearchError: there is none of this name, or it cannot be imported or made.
    """
    targets = find_targets(ENTRY_POINT_GROUP, _BUILT_IN)
    if name not in targets:
        raise SearchError(
            f"workflows.search.provider is {name!r}. Known: {', '.join(sorted(targets))}."
        )
    try:
        make: Callable[[SearchSettings], SearchProvider] = import_target(targets[name])
        return make(settings)
    except SearchError:
        raise
    except (Exception, SystemExit) as error:  # boundary: a module's code may be a plug-in's
        logger.warning("the search provider %s cannot be made", name, exc_info=True)
        raise SearchError(
            f"The search provider {name} ({targets[name]}) cannot be imported or made:"
            f" {describe_failure(error)}.",
            remedy="Repair the package that provides it, and start the server again.",
        ) from error
