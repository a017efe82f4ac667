"""Searches the web through a SearXNG server, which asks many search engines (docs.searxng.org)."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

import aiohttp
import msgspec

from mm_orch.core.errors import SearchError, clause
from mm_orch.search.inflating import TooLargeError, read_bounded
from mm_orch.search.page import Found, Hit

if TYPE_CHECKING:
    from mm_orch.search.settings import SearchSettings

_MAX_BYTES = 2 * 2**20
_MAX_QUERY_CHARS = 400
_PIECE_BYTES = 16384
_OFF = (
    "Start it, or correct workflows.search.url; with workflows.search.provider: recorded no network"
    " is needed."
)
_FORMAT = "Add json to search.formats in the server's settings.yml."


class _Result(msgspec.Struct, frozen=True):
    url: str
    title: str | None = None
    content: str | None = None


class _Answer(msgspec.Struct, frozen=True):
    results: list[_Result]


class SearxngProvider:
    """Implements search.provider.SearchProvider.

    The server's address is the operator's, so it may be private; those of the pages that it finds
    are anybody's.

    Args:
        settings: name the server.

    Raises:
        SearchError: no server is named.
    """

    def __init__(self, settings: SearchSettings) -> None:
        if not settings.url:
            raise SearchError(
                "workflows.search.url is not set, and workflows.search.provider is searxng."
            )
        self._url = settings.url.rstrip("/")
        self._timeout_s = settings.timeout_s

    async def search(self, query: str, *, limit: int) -> Found:
        """See SearchProvider."""
        try:
            body = await self._ask(query[:_MAX_QUERY_CHARS])
        except TimeoutError:
            raise SearchError(
                f"The web cannot be searched: {self._url} did not answer within"
                f" {self._timeout_s:g} s.",
                remedy=_OFF,
            ) from None
        except (aiohttp.ClientError, OSError) as error:
            raise SearchError(
                f"The web cannot be searched: {self._url} cannot be reached: {clause(error)}.",
                remedy=_OFF,
            ) from error
        except TooLargeError:
            raise SearchError(
                f"The web cannot be searched: {self._url} answers with over {_MAX_BYTES} bytes."
            ) from None
        return Found(hits=tuple(self._read(body)[:limit]))

    async def _ask(self, query: str) -> bytes:
        async with (
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._timeout_s), auto_decompress=False
            ) as session,
            session.get(
                f"{self._url}/search",
                params={"q": query, "format": "json"},
                headers={"Accept": "application/json", "Accept-Encoding": "identity"},
                allow_redirects=False,
            ) as response,
        ):
            if response.status != HTTPStatus.OK:
                remedy = _FORMAT if response.status == HTTPStatus.FORBIDDEN else None
                raise SearchError(
                    f"The web cannot be searched: {self._url} answers with {response.status}.",
                    remedy=remedy,
                )
            return await read_bounded(
                response.content.iter_chunked(_PIECE_BYTES), "identity", _MAX_BYTES
            )

    def _read(self, body: bytes) -> list[Hit]:
        try:
            answer = msgspec.json.decode(body, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            raise SearchError(
                f"The web cannot be searched: what {self._url} answers is no result of SearXNG.",
                remedy=_FORMAT,
            ) from None
        hit_by_url: dict[str, Hit] = {}
        for one in answer.results:
            url = one.url.partition("#")[0]
            hit = Hit(url=url, title=one.title or "", snippet=one.content or "")
            hit_by_url.setdefault(url, hit)
        return list(hit_by_url.values())
