"""The documentation as a site: built as `make docs` builds it, whole, and without other hosts."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from tests.generated import run_check
from tests.processes import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# What a browser loads by itself, of tags that are not links to follow.
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\ssrc=[\"']?(?P<src>[^\"' >]+)"
    r"|<link\b(?![^>]*rel=[\"']?canonical)[^>]*\shref=[\"']?(?P<href>[^\"' >]+)"
)
_EXTERNAL = re.compile(r"(?:\]\(|<)(https?://[^)>\s]+)")
_PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning of mkdocs (a dead link, a page without a place) ends the build."""
    directory = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", directory],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    return directory


def test_every_page_is_built(site: Path) -> None:
    built = {path.stem for path in site.glob("*.html")}

    assert {path.stem for path in (ROOT / "docs").glob("*.md")} <= built


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    loaded = {
        match["src"] or match["href"]
        for page in pages
        for match in _LOADED.finditer(page.read_text())
    }
    styles = "".join(path.read_text() for path in site.rglob("*.css"))

    assert len(pages) > 60
    assert len(loaded) > 5
    assert [url for url in loaded if urlsplit(url).netloc] == []
    assert re.findall(r"(?:@import|url\()\s*[\"']?(?:https?:)?//[^)]+", styles) == []


def test_a_link_out_of_the_pages_leads_to_a_page_of_that_file(site: Path) -> None:
    page = (site / "configuration-examples.html").read_text()
    shown = site / "source/config/presets/cpu-only.yaml.html"

    assert 'href="source/config/presets/cpu-only.yaml.html"' in page
    assert "engine_preference" in shown.read_text()


def test_the_python_reference_has_every_public_name(site: Path) -> None:
    import mm_orch

    page = (site / "python-reference.html").read_text()
    names = [name for name in mm_orch.__all__ if not name.startswith("__")]

    assert len(names) >= 4
    assert [name for name in names if f'id="mm_orch.{name}"' not in page] == []


def test_the_http_reference_is_up_to_date() -> None:
    checked = run_check("scripts/generate_http_docs.py")

    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_an_external_link_is_whole(page: Path) -> None:
    for link in _EXTERNAL.findall(page.read_text()):
        parts = urlsplit(link)
        is_local = parts.hostname in {"127.0.0.1", "localhost"}
        assert is_local or (parts.scheme == "https" and "." in str(parts.hostname)), link
