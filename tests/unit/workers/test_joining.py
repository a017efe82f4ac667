"""A server's cluster that is lost and joined again, without Ray."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.errors import ServerStartError
from mm_orch.workers.cluster.joining import Cluster, ClusterSettings

if TYPE_CHECKING:
    from pathlib import Path


class EndedKeeper:
    """A process that has ended."""

    returncode = 1

    async def wait(self) -> int:
        return 1


async def test_a_cluster_that_is_away_is_told_of_once_and_joined_whatever_went_wrong(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    faults: list[Exception] = [
        ServerStartError("it is away"),
        ServerStartError("it is away"),
        ValueError("nobody thought of it"),
        ServerStartError("it is away"),
    ]
    is_joined = asyncio.Event()

    async def join(cluster: Cluster) -> None:
        # What was started for it has ended, as after a real try.
        cluster._keeper = keeper
        if faults:
            raise faults.pop(0)
        is_joined.set()
        await asyncio.get_running_loop().create_future()

    keeper: Any = EndedKeeper()
    monkeypatch.setattr(Cluster, "join", join)
    monkeypatch.setattr("mm_orch.workers.cluster.joining._REJOIN_EVERY_S", 0.0)
    cluster = Cluster(ClusterSettings(address="auto"))
    cluster._keeper = keeper
    with caplog.at_level(logging.INFO):
        keeping = asyncio.create_task(cluster.keep())
        await asyncio.wait_for(is_joined.wait(), 30)
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)

    assert [one.levelname for one in caplog.records] == ["ERROR", "WARNING"]


async def test_what_speaks_nonsense_of_a_cluster_is_ended(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f"#!{sys.executable}\nimport sys\nprint('nonsense', flush=True)\nsys.stdin.read()\n"
    )
    python.chmod(0o755)
    cluster = Cluster(ClusterSettings(address="auto", python=str(python)))

    with pytest.raises(ServerStartError, match="cannot be joined"):
        await cluster.join()

    assert cluster._keeper is not None
    assert cluster._keeper.returncode == -9
