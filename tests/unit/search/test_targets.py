"""Which URLs are followed, before any name is resolved."""

from __future__ import annotations

import contextlib
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.search.errors import PageError
from mm_orch.search.targets import MAX_URL_CHARS, find_target

PORTS = (80, 443)


@pytest.mark.parametrize(
    ("url", "host", "port", "sent"),
    [
        ("http://a.example", "a.example", 80, "http://a.example"),
        ("https://A.Example./b?c=d#e", "a.example", 443, "https://A.Example./b?c=d"),
        ("HTTPS://a.example:443/", "a.example", 443, "https://a.example:443/"),
        ("http://93.184.216.34/", "93.184.216.34", 80, "http://93.184.216.34/"),
        ("http://[2606:4700::1111]/", "2606:4700::1111", 80, "http://[2606:4700::1111]/"),
        ("http://b\u00fccher.example/", "b\u00fccher.example", 80, "http://b\u00fccher.example/"),
    ],
)
def test_a_url_of_the_web_leads_to_its_host_and_port(
    url: str, host: str, port: int, sent: str
) -> None:
    target = find_target(url, PORTS)

    assert (target.host, target.port, target.url) == (host, port, sent)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://a.example/", "http and https"),
        ("file:///etc/passwd", "http and https"),
        ("gopher://a.example/", "http and https"),
        ("javascript:alert(1)", "http and https"),
        ("data:text/html,x", "http and https"),
        ("//a.example/", "http and https"),
        ("a.example", "http and https"),
        ("", "http and https"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://./", "no host"),
        ("http://a..example/", "no host"),
        ("http://user@a.example/", "user or a password"),
        ("http://user:secret@a.example/", "user or a password"),
        ("http://a.example:22/", "port 22"),
        ("http://a.example:8080/", "port 8080"),
        ("http://a.example:0/", "port 0"),
        ("http://a.example:99999/", "no URL"),
        ("http://a.example:x/", "no URL"),
        ("http://[::1/", "no URL"),
        ("http://a.example\\@b.example/", "characters"),
        ("http://a.example/\r\nHost: b", "characters"),
        ("http://a.example/ b", "characters"),
        ("http://a.example/\x00", "characters"),
        ("http://a%2eexample/", "no host"),
        ("http://a.example/" + "b" * MAX_URL_CHARS, "2065 characters"),
    ],
)
def test_any_other_url_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(PageError, match=why):
        find_target(url, PORTS)


def test_ports_are_those_that_are_allowed() -> None:
    assert find_target("http://a.example:8080/", (8080,)).port == 8080
    with pytest.raises(PageError, match=r"port 80 is none of .* which are 8080"):
        find_target("http://a.example/", (8080,))


@given(st.one_of(st.text(), st.text().map(lambda text: f"http://{text}")))
def test_whatever_is_followed_is_of_the_web_and_has_no_credentials(url: str) -> None:
    with contextlib.suppress(PageError):
        target = find_target(url, PORTS)
        parts = urlsplit(target.url)
        assert parts.scheme in {"http", "https"}
        assert parts.username is None
        assert target.port in PORTS
        assert target.host


def test_an_error_shows_a_url_in_one_short_line() -> None:
    error = PageError("http://a.example/\n" + "x" * 500, "why")

    assert "\n" not in str(error)
    assert len(str(error)) < 250
