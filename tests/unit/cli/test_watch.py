from __future__ import annotations

import pytest

from mm_orch.cli.live_view import Missing, Present
from mm_orch.cli.remote import RunningServer
from mm_orch.cli.watch import Observer, watch_status
from mm_orch.config import load_config
from mm_orch.core.errors import AuthenticationError, NoServerError
from tests.unit.cli.scripted_server import Script, figures_of

KEY = "k1"


def observer_of(peer: Script, key: str | None = None) -> Observer:
    return Observer(RunningServer("127.0.0.1", peer.port, key, timeout_s=5))


def see(observer: Observer) -> Present:
    look = observer.look()
    assert isinstance(look, Present)
    return look


def miss(observer: Observer) -> Missing:
    look = observer.look()
    assert isinstance(look, Missing)
    return look


def test_a_look_has_the_status_and_the_last_point_of_the_charts(peer: Script) -> None:
    peer.figures = figures_of(at=100)

    look = see(observer_of(peer))

    assert (look.place, look.status) == (peer.url, peer.report)
    assert look.figures is not None
    assert [point.at for point in look.figures.history.points] == [100]


def test_the_charts_are_asked_for_once_and_then_only_for_their_last_point(peer: Script) -> None:
    peer.figures = figures_of(at=100)
    observer = observer_of(peer)

    see(observer)
    see(observer)

    asked = [path for path in peer.paths if path.startswith("/api/metrics")]
    assert asked == ["/api/metrics", "/api/metrics?after=97.5"]


def test_without_monitoring_there_is_a_status_alone(peer: Script) -> None:
    assert see(observer_of(peer)).figures is None


def test_it_is_missed_since_the_first_look_until_it_is_back(peer: Script) -> None:
    observer = observer_of(peer)
    see(observer)
    peer.health = b"{}"

    first, second = miss(observer), miss(observer)
    peer.health = None
    see(observer)
    peer.health = b"{}"
    third = miss(observer)

    assert first.since == second.since == first.at
    assert second.at > first.at
    assert third.since == third.at > second.at


def test_after_a_pause_the_charts_are_asked_for_anew(peer: Script) -> None:
    peer.figures = figures_of(at=100)
    observer = observer_of(peer)
    see(observer)
    peer.health = b"{}"
    miss(observer)
    peer.health = None
    see(observer)

    assert [path for path in peer.paths if "metrics" in path] == ["/api/metrics"] * 2


def test_a_stranger_is_not_shown_the_key(peer: Script) -> None:
    peer.health = b"{}"

    assert miss(observer_of(peer, KEY)).problem == ""
    assert peer.paths == ["/health"]


def test_a_server_of_another_version_is_waited_for_with_the_reason(peer: Script) -> None:
    peer.status = b'{"health": 1}'

    look = miss(observer_of(peer))

    assert look.problem.startswith(f"The server at {peer.url} gives no status: ")


def test_a_refused_key_ends_it(peer: Script) -> None:
    peer.key = KEY

    with pytest.raises(AuthenticationError, match="refuses the key"):
        observer_of(peer, "wrong").look()


def test_an_unknown_port_cannot_be_watched() -> None:
    loaded = load_config(path=None, environ={}, overrides={"monitoring.server.port": 0})

    with pytest.raises(NoServerError, match="--port"):
        watch_status(loaded, interval_s=1, as_json=False)
