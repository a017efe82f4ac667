from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from mm_orch.cli.alert import send_test_alert
from mm_orch.config import load_config
from tests.alert_receiver import Receiver
from tests.unit.cli.test_status import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from mm_orch.config import LoadedConfig


@contextmanager
def served(receiver: Receiver) -> Iterator[None]:
    """Let it answer from a loop of its own: the command runs one to its end."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    serving = receiver.serve()
    asyncio.run_coroutine_threadsafe(serving.__aenter__(), loop).result(60)
    try:
        yield
    finally:
        asyncio.run_coroutine_threadsafe(serving.__aexit__(None, None, None), loop).result(60)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def loaded_with(**anomaly: object) -> LoadedConfig:
    values = {f"monitoring.anomaly.{key}": value for key, value in anomaly.items()}
    return load_config(path=None, environ={}, overrides=values)


def test_each_destination_that_took_it_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    receiver = Receiver()
    with served(receiver):
        loaded = loaded_with(
            alert_destinations=["log", "webhook", "alertmanager"],
            webhook_url=f"{receiver.url}/secret",
            alertmanager_url=receiver.url,
        )
        assert send_test_alert(loaded) == 0

    assert capsys.readouterr().out.splitlines() == [
        "log          took it",
        "webhook      took it",
        "alertmanager took it",
    ]
    assert sorted(receiver.paths) == ["/api/v2/alerts", "/secret", "/secret"]


def test_one_that_did_not_take_it_is_a_failure_with_what_to_check(
    capsys: pytest.CaptureFixture[str],
) -> None:
    loaded = loaded_with(
        alert_destinations=["log", "webhook"], webhook_url=f"http://127.0.0.1:{free_port()}/secret"
    )

    assert send_test_alert(loaded) == 1

    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "log          took it",
        "webhook      failed: Connection refused",
    ]
    assert "check monitoring.anomaly.webhook_url" in captured.err
    assert "secret" not in captured.out + captured.err


def test_where_there_is_no_destination_it_says_which_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert send_test_alert(loaded_with(alert_destinations=[])) == 1
    assert "log, webhook, alertmanager" in capsys.readouterr().err


def test_where_alerts_are_off_it_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert send_test_alert(loaded_with(enabled=False)) == 0
    assert "monitoring.anomaly.enabled is false" in capsys.readouterr().err
