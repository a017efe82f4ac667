from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Protocol

import pytest

from mm_orch.config import LoadedConfig, load_config
from mm_orch.core.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mm_orch.core.faults import Fault


class Load(Protocol):
    def __call__(
        self,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> LoadedConfig: ...


class Faults(Protocol):
    def __call__(
        self,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> list[Fault]: ...


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Load a file with this text; without a text, load without a file."""

    def load_text(
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> LoadedConfig:
        path = tmp_path / "muai.yaml"
        path.write_text(textwrap.dedent(text or ""))
        return load_config(path=path, environ=environ or {}, overrides=overrides or {})

    return load_text


@pytest.fixture
def faults(load: Load) -> Faults:
    """Return the faults that loading finds; finding none fails the test."""

    def collect(
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        overrides: Mapping[str, object] | None = None,
    ) -> list[Fault]:
        with pytest.raises(ConfigError) as caught:
            load(text, environ, overrides)
        return caught.value.faults

    return collect
