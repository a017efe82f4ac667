"""How the console's files are served."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import mm_orch.api
from mm_orch.api.settings import ApiKey, ApiSettings
from tests.unit.api.face import Face

FOLDER = Path(mm_orch.api.__file__).parent / "console"
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*") if path.is_file())
COLOURS = {
    name: (light, dark)
    for name, light, dark in re.findall(
        r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", (FOLDER / "console.css").read_text()
    )
}
GROUNDS = ("page", "surface", "sunken")
KEYS = ApiSettings(enable_auth=True, api_keys=(ApiKey(name="a", key="sk"),))


async def test_the_page_needs_no_key_and_lets_nothing_in_from_elsewhere() -> None:
    page = await Face(settings=KEYS).call("GET", "/console")

    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert "unsafe" not in policy
    assert page.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", FILES)
async def test_each_file_is_served_as_what_it_is(name: str) -> None:
    file = await Face().call("GET", f"/console/{name}")

    assert file.status_code == 200
    assert file.content == (FOLDER / name).read_bytes()
    kinds = {"js": "javascript", "css": "css", "html": "html", "svg": "svg", "txt": "plain"}
    assert kinds[name.rpartition(".")[2]] in file.headers["content-type"]


async def test_what_the_browser_has_is_not_sent_again() -> None:
    face = Face()
    first = await face.call("GET", "/console/app.js")

    again = await face.call(
        "GET", "/console/app.js", headers={"If-None-Match": f'W/{first.headers["etag"]}, "x"'}
    )
    other = await face.call("GET", "/console/app.js", headers={"If-None-Match": '"x"'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert other.status_code == 200


@pytest.mark.parametrize(
    "name", ["gone.js", "../errors.py", "%2e%2e/errors.py", "vendor", "vendor/", "app.js/"]
)
async def test_nothing_else_is_served(name: str) -> None:
    assert (await Face().call("GET", f"/console/{name}")).status_code == 404


async def test_a_slash_too_much_leads_back() -> None:
    page = await Face().call("GET", "/console/")

    assert (page.status_code, page.headers["location"]) == (307, "../console")


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".js")])
def test_every_import_leads_to_a_file_of_the_console(name: str) -> None:
    path = FOLDER / name
    imported = re.findall(r'from "([^"]+)"', path.read_text())

    assert [one for one in imported if not (path.parent / one).is_file()] == []


@pytest.mark.parametrize(
    "name", [name for name in FILES if name.endswith(".js") and not name.startswith("vendor/")]
)
def test_no_text_becomes_markup_or_code(name: str) -> None:
    source = (FOLDER / name).read_text()

    assert re.findall(r"innerHTML|outerHTML|insertAdjacent|\beval\(|new Function", source) == []


CONTRASTS = [
    *[(ink, ground, 4.5) for ink in ("ink", "soft", "faint", "accent") for ground in GROUNDS],
    *[(tone, f"{tone}-fill", 4.5) for tone in ("good", "warn", "bad", "busy")],
    ("on-accent", "accent", 4.5),
    ("edge", "surface", 3.0),
    *[("on-phase", name, 4.5) for name in COLOURS if name.startswith("phase-")],
    *[(name, "surface", 3.0) for name in COLOURS if name.startswith("series-")],
]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(("ink", "ground", "least"), CONTRASTS)
def test_colours_stand_out_as_wcag_asks(ink: str, ground: str, least: float, theme: int) -> None:
    light, dark = sorted((luminance(COLOURS[name][theme]) for name in (ink, ground)), reverse=True)

    assert (light + 0.05) / (dark + 0.05) >= least


def luminance(colour: str) -> float:
    """Relative luminance of #rrggbb, as WCAG 2.2 defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
