"""What is configured of searches, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from mm_orch.config import load_config
from mm_orch.core.errors import ConfigError
from mm_orch.search.limits import FetchLimits
from mm_orch.search.settings import SearchSettings, read_settings


def load(tmp_path: Path, **search: Any) -> SearchSettings:
    file = tmp_path / "muai.yaml"
    file.write_text(yaml.safe_dump({"workflows": {"search": search}}))
    config = load_config(path=file, environ={}, overrides={}).config
    return read_settings(config.workflows.search)


def test_by_default_the_corpus_that_is_built_in_is_searched(tmp_path: Path) -> None:
    assert load(tmp_path) == SearchSettings()


def test_every_option_reaches_what_it_bounds(tmp_path: Path) -> None:
    settings = load(
        tmp_path,
        provider="searxng",
        url="http://127.0.0.1:8888",
        corpus="~/own.jsonl",
        max_pages=5,
        timeout_s=1.5,
        page_timeout_s=2.5,
        max_page_bytes=1000,
        allowed_ports=[80, 8080],
        allowed_private_hosts=["wiki.intra", "10.0.0.7", "fd00::7"],
    )

    assert settings == SearchSettings(
        provider="searxng",
        url="http://127.0.0.1:8888",
        corpus=Path("~/own.jsonl").expanduser(),
        max_pages=5,
        timeout_s=1.5,
        limits=FetchLimits(
            timeout_s=2.5,
            max_bytes=1000,
            allowed_ports=(80, 8080),
            allowed_private_hosts=("wiki.intra", "10.0.0.7", "fd00::7"),
        ),
    )


@pytest.mark.parametrize(
    ("search", "key"),
    [
        ({"provider": "searxng"}, "workflows.search.url"),
        ({"provider": "Big Search"}, "workflows.search.provider"),
        ({"url": "ftp://a.example/"}, "workflows.search.url"),
        ({"max_pages": 0}, "workflows.search.max_pages"),
        ({"max_pages": 11}, "workflows.search.max_pages"),
        ({"timeout_s": 0}, "workflows.search.timeout_s"),
        ({"max_page_bytes": 0}, "workflows.search.max_page_bytes"),
        ({"allowed_ports": []}, "workflows.search.allowed_ports"),
        ({"allowed_ports": [0]}, "workflows.search.allowed_ports"),
        ({"allowed_private_hosts": ["http://a.example"]}, "workflows.search.allowed_private_hosts"),
        ({"allowed_hosts": ["a"]}, "workflows.search.allowed_hosts"),
    ],
)
def test_a_fault_names_its_key(tmp_path: Path, search: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, **search)

    [fault] = caught.value.faults
    assert fault.key.startswith(key)
