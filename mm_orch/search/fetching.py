"""Fetches a page that somebody else has named: guarded at each hop, bounded in size and time.

for the URL, and up to five redirects:
    the URL itself        http or https, an allowed port, no credentials
    the host's addresses  all on the public internet, and the connection is made to one of them
    the head              a redirect goes on above; else a status and a type that can be read
    the body              unpacked by hand up to the limit
"""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import datetime as dt
import re
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import aiohttp

from mm_orch.core.errors import clause
from mm_orch.core.version import __version__
from mm_orch.search.errors import PageError
from mm_orch.search.guard import Guard, resolve_by_system
from mm_orch.search.inflating import ENCODINGS, BrokenBodyError, TooLargeError, read_bounded
from mm_orch.search.page import TEXT_TYPES, RawPage
from mm_orch.search.targets import find_target

if TYPE_CHECKING:
    from collections.abc import Callable

    from mm_orch.search.guard import Resolve
    from mm_orch.search.limits import FetchLimits
    from mm_orch.search.targets import Target

MAX_REDIRECTS = 5
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {
    "User-Agent": f"muai/{__version__} (reads pages for questions)",
    "Accept": ", ".join(TEXT_TYPES),
    "Accept-Encoding": "gzip",
}
# Encodings of pages, as Python names them. Others take quadratic time, such as punycode, or are
# none of text.
_PAGE_CODECS = re.compile(
    "ascii|utf-(?:8|16|16-le|16-be|32)|iso8859-[0-9]+|cp[0-9]+|koi8-[rtu]|mac-[a-z]+"
    "|gb2312|gbk|gb18030|hz|big5(?:hkscs)?|euc_(?:jp|kr)|johab|shift_jis|iso2022_(?:jp|kr)"
)
# A page says in its first bytes how it is encoded, where its head does not.
_META_CHARSET = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE
)
_CHARSET_WITHIN_BYTES = 2048
_PIECE_BYTES = 16384


class PageFetcher:
    """Fetches pages; keeps no connection and no cookie from one to the next.

    No proxy is used, whatever the environment says: through one, the name would be resolved where
    nobody judges its addresses.

    Args:
        limits: of each page.
        resolve: gives the addresses of a name.
        now: the moment.
    """

    def __init__(
        self,
        limits: FetchLimits,
        *,
        resolve: Resolve = resolve_by_system,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._limits = limits
        self._resolve = resolve
        self._now = now
        self._allowed_hosts = frozenset(
            host.rstrip(".").lower() for host in limits.allowed_private_hosts
        )

    async def fetch(self, url: str) -> RawPage:
        """Return the page at a URL.

        Raises:
            PageError: it may not be fetched, cannot be, or is nothing that can be read.
        """
        try:
            async with asyncio.timeout(self._limits.timeout_s):
                return await self._follow(url)
        except TimeoutError:
            raise PageError(
                url, f"it was not complete after {self._limits.timeout_s:g} s"
            ) from None

    async def _follow(self, first_url: str) -> RawPage:
        url = first_url
        for _ in range(MAX_REDIRECTS + 1):
            target = find_target(url, self._limits.allowed_ports)
            found = await self._ask(target)
            if isinstance(found, RawPage):
                return found
            url = found
        raise PageError(first_url, f"it is redirected more than {MAX_REDIRECTS} times")

    async def _ask(self, target: Target) -> RawPage | str:
        """Return the page, or where it is said to be."""
        guard = Guard(
            self._resolve,
            allowed_hosts=self._allowed_hosts,
            allowed_ports=self._limits.allowed_ports,
        )
        connector = aiohttp.TCPConnector(
            resolver=guard,
            use_dns_cache=False,
            force_close=True,
            socket_factory=guard.make_socket,
        )
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    headers=_HEADERS,
                    auto_decompress=False,
                    # The whole is bounded, with every redirect.
                    timeout=aiohttp.ClientTimeout(total=None),
                ) as session,
                session.get(target.url, allow_redirects=False) as response,
            ):
                return await self._read(target, response)
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if isinstance(error, TimeoutError):
                raise
            reason = guard.refusal or clause(error) or type(error).__name__
            raise PageError(target.url, reason) from None

    async def _read(self, target: Target, response: aiohttp.ClientResponse) -> RawPage | str:
        if response.status in _REDIRECTS and (location := response.headers.get("Location")):
            return urljoin(target.url, location)
        if response.status != HTTPStatus.OK:
            raise PageError(target.url, f"its server answers with {response.status}")
        if response.content_type not in TEXT_TYPES:
            known = ", ".join(TEXT_TYPES)
            raise PageError(target.url, f"it is {response.content_type}; read are {known}")
        encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if encoding not in ENCODINGS:
            raise PageError(target.url, f"it is packed as {encoding}, which was not asked for")
        try:
            body = await read_bounded(
                response.content.iter_chunked(_PIECE_BYTES), encoding, self._limits.max_bytes
            )
        except TooLargeError:
            raise PageError(
                target.url,
                f"it is over workflows.search.max_page_bytes, which is {self._limits.max_bytes}",
            ) from None
        except BrokenBodyError:
            raise PageError(target.url, f"its body is no {encoding}") from None
        return RawPage(
            url=target.url,
            content_type=response.content_type,
            text=decode(body, response.charset),
            fetched_at=self._now(),
        )


def decode(body: bytes, charset: str | None) -> str:
    """Return a page's text; what its encoding does not have becomes a mark of replacement.

    Args:
        body: of the page.
        charset: that its head names, or None: then it is looked for in the body, and else is UTF-8.
    """
    found = _META_CHARSET.search(body, 0, _CHARSET_WITHIN_BYTES)
    for name in (charset, found.group(1).decode() if found else None, "utf-8"):
        # Named may be an encoding that there is not.
        with contextlib.suppress(LookupError):
            if name and _PAGE_CODECS.fullmatch(codecs.lookup(name).name):
                return body.decode(name, "replace")
    return ""
