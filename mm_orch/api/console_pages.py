"""Serves the operator console: a fixed set of files, read once, that need no key themselves."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotation
from starlette.responses import RedirectResponse, Response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fastapi import FastAPI

_FOLDER = Path(__file__).parent / "console"
_PAGE = "index.html"
_CONTENT_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
# Nothing from elsewhere and nothing inline: what a model or a client wrote can never become code.
_CONTENT_SECURITY_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]
)
_HEADERS = {
    # Asked for again each time, so that a page never meets another release's modules.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _Page:
    content: bytes
    content_type: str
    etag: str


def add_console_routes(app: FastAPI) -> None:
    """Add /console and /console/{name}; what it calls asks for keys, not the files."""
    pages = _read_pages()

    async def show_page(request: Request) -> Response:
        return _answer(request, pages[_PAGE])

    async def redirect() -> Response:
        # Its links are relative to /console, also behind a prefix that a proxy takes away.
        return RedirectResponse("../console", 307)

    async def show_file(request: Request, name: str) -> Response:
        page = pages.get(name)
        if page is None:
            raise HTTPException(404)
        return _answer(request, page)

    for path, endpoint in (
        ("/console", show_page),
        ("/console/", redirect),
        ("/console/{name:path}", show_file),
    ):
        app.add_api_route(
            path, endpoint, methods=["GET"], response_model=None, include_in_schema=False
        )


def _read_pages() -> Mapping[str, _Page]:
    return {
        path.relative_to(_FOLDER).as_posix(): _read(path)
        for path in sorted(_FOLDER.rglob("*"))
        if path.suffix in _CONTENT_TYPES
    }


def _read(path: Path) -> _Page:
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:32]
    return _Page(content, _CONTENT_TYPES[path.suffix], f'"{digest}"')


def _answer(request: Request, page: _Page) -> Response:
    headers = {**_HEADERS, "ETag": page.etag}
    known = request.headers.get("if-none-match", "")
    if page.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(page.content, headers={**headers, "Content-Type": page.content_type})
