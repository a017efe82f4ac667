"""What a search provider is, and which there are: the built-in ones and plug-ins beside them."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from typing import TYPE_CHECKING, Protocol

from mm_orch.core.errors import SearchError

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.search.page import Found
    from mm_orch.search.settings import SearchSettings

logger = logging.getLogger(__name__)

ENTRY_POINT_GROUP = "mm_orch.search_providers"
RECORDED = "recorded"

# Named here too, so that a checkout works without being installed as a distribution.
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
    plug_ins = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    targets = {**_BUILT_IN, **{entry.name: entry.value for entry in plug_ins}}
    if name not in targets:
        raise SearchError(
            f"workflows.search.provider is {name!r}. Known: {', '.join(sorted(targets))}."
        )
    module_name, _, attribute = targets[name].partition(":")
    try:
        make: Callable[[SearchSettings], SearchProvider] = getattr(
            importlib.import_module(module_name), attribute
        )
        return make(settings)
    except SearchError:
        raise
    except (Exception, SystemExit) as error:  # boundary: a module's code may be a plug-in's
        logger.warning("the search provider %s cannot be made", name, exc_info=True)
        raise SearchError(
            f"The search provider {name} ({targets[name]}) cannot be imported or made:"
            f" {_describe(error)}.",
            remedy="Repair the package that provides it, and start the server again.",
        ) from error


def _describe(error: BaseException) -> str:
    if isinstance(error, ImportError | AttributeError):
        return str(error)
    # What its code says may be anything; the log has it.
    return type(error).__name__
