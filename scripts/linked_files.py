"""A hook of mkdocs: makes pages of the files outside docs/ that pages link to."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs/"
SOURCE = "source/"

_LINK = re.compile(r"(?P<open>\]\()(?P<target>[^)#\s]+)(?P<rest>[^)\s]*\))")
_UNSEARCHED = "---\nsearch:\n  exclude: true\n---\n"
_LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".json": "json", ".toml": "toml"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add a page for each file that is linked to, and for those that these link to."""
    unread = [f"{DOCS}{file.src_uri}" for file in files.documentation_pages()]
    seen = set(unread)
    while unread:
        path = unread.pop()
        for linked in _linked_files(path, (ROOT / path).read_text()):
            if linked in seen or linked.startswith(DOCS):
                continue
            seen.add(linked)
            files.append(File.generated(config, _uri(linked), content=_content(linked)))
            if linked.endswith(".md"):
                unread.append(linked)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Have links between files of the repository lead to their pages."""
    del config, files
    path = _path(page.file.src_uri)
    here = PurePosixPath(page.file.src_uri).parent

    def redirect(match: re.Match[str]) -> str:
        linked = _resolve(path, match["target"])
        if linked is None or (path.startswith(DOCS) and linked.startswith(DOCS)):
            return match[0]
        return f"{match['open']}{os.path.relpath(_uri(linked), here)}{match['rest']}"

    return _LINK.sub(redirect, markdown)


def _linked_files(path: str, markdown: str) -> list[str]:
    found = (_resolve(path, match["target"]) for match in _LINK.finditer(markdown))
    return [linked for linked in found if linked is not None]


def _resolve(path: str, target: str) -> str | None:
    """Return the file or folder that a page's link leads to, from the repository's root."""
    if "://" in target or target.startswith(("/", "mailto:")):
        return None
    linked = os.path.normpath(PurePosixPath(path).parent / target)
    return linked if not linked.startswith("..") and (ROOT / linked).exists() else None


def _uri(path: str) -> str:
    """Return where the site has the page of a file."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    if (ROOT / path).is_dir():
        return f"{SOURCE}{path}/index.md"
    return f"{SOURCE}{path}" if path.endswith(".md") else f"{SOURCE}{path}.md"


def _path(uri: str) -> str:
    """Return the file whose page this is."""
    if not uri.startswith(SOURCE):
        return f"{DOCS}{uri}"
    path = uri.removeprefix(SOURCE)
    return path if (ROOT / path).exists() else path.removesuffix("/index.md").removesuffix(".md")


def _content(path: str) -> str:
    file = ROOT / path
    if file.is_dir():
        names = "".join(f"- `{inner.name}`\n" for inner in sorted(file.iterdir()))
        return f"{_UNSEARCHED}# {path}\n\n{names}"
    text = file.read_text()
    if path.endswith(".md"):
        return _UNSEARCHED + text
    language = _LANGUAGES.get(file.suffix, "text")
    return f"{_UNSEARCHED}# {path}\n\n~~~~~{language}\n{text.rstrip()}\n~~~~~\n"
