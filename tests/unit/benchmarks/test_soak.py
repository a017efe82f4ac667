"""What a soak asks for, and what it makes of what it saw."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from benchmarks.processes import OTHER, SERVER, Life, ProcessWatch
from benchmarks.soak_book import CUT, OK, Book, ServerCounts, outcome_of
from benchmarks.soak_mix import CHAT, EMBED, ROUGH, STEADY, Account, Act, Kind, draw_act
from benchmarks.soak_operator import Operation, Operator
from benchmarks.soak_server import counts_of
from benchmarks.soak_summary import Stillness, note_descriptors, note_memory
from benchmarks.soak_users import Users
from benchmarks.statistics import Verdict
from mm_orch.benchmarking.client import Client, Target
from mm_orch.benchmarking.server_process import free_port
from tests.unit.benchmarking.peer import Peer, serving

if TYPE_CHECKING:
    from pathlib import Path

HOUR_S = 3600.0


def missed(verdicts: dict[str, Verdict]) -> set[str]:
    return {bar for bar, verdict in verdicts.items() if verdict is not Verdict.MET}


def drawn(seed: int, num_acts: int = 400) -> list[Act]:
    dice = random.Random(seed)  # noqa: S311 - reproducible on purpose
    return [draw_act(dice) for _ in range(num_acts)]


def test_a_seed_draws_the_same_acts_of_every_kind() -> None:
    acts = drawn(1)

    assert acts == drawn(1)
    assert acts != drawn(2)
    assert {act.kind for act in acts} == set(Kind)
    assert {act.model for act in acts} == {STEADY, ROUGH, EMBED}
    assert {act.account for act in acts} == set(Account)
    assert {len(act.questions) for act in acts if act.kind is Kind.CONVERSATION} == {2, 3, 4}


def act_of(kind: Kind = Kind.STREAM, model: str = STEADY, cut_after_s: float | None = None) -> Act:
    return Act(kind=kind, model=model, path=CHAT, fields={}, cut_after_s=cut_after_s)


def counts(number: int, **others: int) -> ServerCounts:
    all_alike = {"num_exchanges": number, "num_ended": number, "num_log_lines": number}
    return ServerCounts(**{"num_in_flight": 0, **all_alike, **others})


def book_of(*acts_and_ends: tuple[Act, str, int]) -> Book:
    """Book these acts, how each ended, and how often the log tells of it."""
    book = Book()
    for act, outcome, num_seen in acts_and_ends:
        request_id = book.start(act)
        book.end(act, outcome)
        for _ in range(num_seen):
            book.see(request_id)
    return book


MALFORMED = (act_of(Kind.MALFORMED), "invalid_value", 0)
CUT_EARLY = (act_of(Kind.CUT_WHOLE, cut_after_s=0.1), CUT, 0)
CUT_LATE = (act_of(Kind.CUT_STREAM, cut_after_s=0.1), CUT, 1)


@pytest.mark.parametrize(
    ("server", "wrong"),
    [
        (counts(2, num_exchanges=4), set()),
        (counts(2, num_exchanges=3), {"server_exchanges_equal_started"}),
        (counts(3, num_exchanges=4), {"server_ends_equal_started"}),
        (counts(2, num_exchanges=4, num_log_lines=3), {"server_metrics_equal_log"}),
        (counts(2, num_exchanges=4, num_in_flight=1), {"nothing_in_flight"}),
    ],
)
def test_counts_that_differ_are_told(server: ServerCounts, wrong: set[str]) -> None:
    book = book_of((act_of(), OK, 1), MALFORMED, CUT_EARLY, CUT_LATE)

    assert missed(book.compare(server)) == wrong
    assert book.faults() == []


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ((act_of(), OK, 2), "2 ends in the log of a request that has one: 1 times"),
        ((act_of(), OK, 0), "0 ends in the log of a request that has one: 1 times"),
        (
            (act_of(Kind.MALFORMED), "invalid_value", 1),
            "1 ends in the log of a request that has none: 1 times",
        ),
        ((act_of(), "HTTP 500", 1), "stream with steady ended with HTTP 500: 1 times"),
        (
            (act_of(), "model_unavailable", 1),
            "stream with steady ended with model_unavailable: 1 times",
        ),
    ],
)
def test_a_wrong_end_is_a_fault(entry: tuple[Act, str, int], said: str) -> None:
    book = book_of(entry)

    book.compare(counts(1))

    assert book.faults() == [said]


def test_a_request_without_an_end_is_told() -> None:
    book = book_of((act_of(model=ROUGH), "model_unavailable", 1))
    book.see("not one of ours")
    book.start(act_of(Kind.MALFORMED))

    assert missed(book.compare(counts(1, num_exchanges=2))) == {"client_started_equals_ended"}
    assert book.faults() == []


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (None, OK),
        ('HTTP 503: {"error":{"message":"m","code":"queue_full"}}', "queue_full"),
        ("the stream broke off: {'message': 'm', 'code': 'engine_crashed'}", "engine_crashed"),
        ("HTTP 500: oh", "HTTP 500"),
        ("the connection broke off", "the connection broke off"),
    ],
)
def test_an_end_is_named_by_its_code(error: str | None, outcome: str) -> None:
    assert outcome_of(error) == outcome


def test_the_metrics_page_is_counted() -> None:
    page = """# TYPE inference_requests_total counter
inference_requests_total{model="a",engine="pytorch",status="success"} 3.0
inference_requests_total{model="a",engine="pytorch",status="cancelled"} 1.0
# TYPE http_requests_total counter
http_requests_total{route="/v1/chat/completions",method="POST",status="200"} 5.0
http_requests_total{route="/metrics",method="GET",status="200"} 9.0
# TYPE requests_running gauge
requests_running{model="a"} 1.0
# TYPE requests_waiting gauge
requests_waiting{model="a"} 2.0
"""

    assert counts_of(page, num_log_lines=4) == ServerCounts(
        num_exchanges=5, num_ended=4, num_in_flight=3, num_log_lines=4
    )


def life(name: str, *, birth_s: float = 0.0, level: float = 100.0, per_hour: float = 0.0) -> Life:
    points = [
        (birth_s + at_s, level + per_hour * at_s / HOUR_S) for at_s in map(float, range(0, 600, 5))
    ]
    return Life(name, points)


def all_lives(
    *, server_per_hour: float = 0.0, steady_per_hour: float = 0.0, level_per_life: float = 0.0
) -> list[Life]:
    rough = [
        # A young worker grows quickly, each as the one before.
        life(ROUGH, birth_s=600.0 * number, level=50 + level_per_life * number, per_hour=90.0)
        for number in range(6)
    ]
    return [
        life(SERVER, per_hour=server_per_hour),
        life(STEADY, per_hour=steady_per_hour),
        life(EMBED),
        *rough,
    ]


@pytest.mark.parametrize(
    ("lives", "bars"),
    [
        (all_lives(), set()),
        (all_lives(server_per_hour=17.0), {"server_memory_is_flat"}),
        (all_lives(steady_per_hour=17.0), set()),
        (all_lives(steady_per_hour=33.0), {"steady_memory_is_flat"}),
        # Its worker has ended and was not seen again.
        ([one for one in all_lives() if one.name != STEADY], {"steady_memory_is_flat"}),
    ],
)
def test_memory_is_judged_by_what_lives_how_long(lives: list[Life], bars: set[str]) -> None:
    assert missed(note_memory({}, lives, begin_s=60.0)) == bars


def test_lives_that_take_more_each_time_are_told_without_a_verdict() -> None:
    figures: dict[str, object] = {}

    verdicts = note_memory(figures, all_lives(level_per_life=6.0), begin_s=60.0)

    assert {bar for bar in verdicts if bar.startswith(ROUGH)} == set()
    # Ten minutes each: six lives an hour. At 30 s a life has grown by 0.75 MiB.
    assert figures["rough_memory_by_birth_mib_per_hour"] == pytest.approx([36.0] * 3)
    assert figures["rough_memory_by_age_mib_per_hour"] == pytest.approx([90.0] * 3)
    assert figures["rough_memory_at_30_s_mib"] == [50.8, 65.8, 80.8]


def test_a_single_life_says_nothing_of_those_after_it() -> None:
    figures: dict[str, object] = {}

    note_memory(figures, all_lives()[:4], begin_s=60.0)

    assert figures["rough_num_generations_compared"] == 1
    assert "rough_memory_by_birth_mib_per_hour" not in figures


def test_what_stays_open_is_told() -> None:
    def looks(server: int, *others: int) -> list[list[Life]]:
        lives = [Life(SERVER, num_fds=server), *(Life(OTHER, num_fds=one) for one in others)]
        busy = [Life(SERVER, num_fds=server + 5), *lives[1:]]
        return [busy, lives]

    before = Stillness.of(looks(20, 5))
    figures: dict[str, object] = {}

    assert missed(note_descriptors(figures, before, Stillness.of(looks(22, 9)))) == set()
    assert figures["server_descriptors"] == [20, 22]
    assert missed(note_descriptors({}, before, Stillness.of(looks(23, 5)))) == {
        "server_descriptors"
    }
    assert missed(note_descriptors({}, before, Stillness.of(looks(20, 5, 5)))) == {"processes"}
    nobody = Stillness(num_processes=2, num_fds_by_name={})
    assert missed(note_descriptors({}, before, nobody)) == {"server_descriptors"}


def test_processes_are_named_when_their_models_are_known() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as child:
        models: dict[int, str] = {}
        watch = ProcessWatch(psutil.Process().pid, lambda: models)
        found = watch.look()
        assert found[child.pid].name == OTHER
        models[child.pid] = STEADY
        watch.look()
        assert found[child.pid].name == STEADY
        child.kill()
    assert child.pid not in watch.look()

    own = next(one for one in watch.lives if one.name == SERVER)
    assert len(own.points) == 3
    assert own.num_fds > 0
    assert len(found[child.pid].points) == 2
    assert found[child.pid] in watch.lives


def test_an_operator_does_everything_in_turn(tmp_path: Path) -> None:
    config = tmp_path / "muai.yaml"
    config.write_text('{"optimization": {"batcher": {"max_batch_size": 8}}, "models": {}}')
    operator = Operator(port=0, pid=0, config=config, model=ROUGH, seed=1)

    assert {operator._draw() for _ in Operation} == set(Operation)
    operator._do(Operation.FILE)

    assert '"max_batch_size": ' in config.read_text()
    assert '"queue_capacity": ' in config.read_text()
    assert [*tmp_path.iterdir()] == [config]


async def do(act: Act, peer: Peer) -> Book:
    """Let one user do this on its own."""
    book = Book()
    async with serving(peer):
        client = Client(peer.target, timeout_s=5.0)
        await Users(peer.target, book, num_users=1, seed=1)._do(client, act)
        if peer.barrier is not None:
            await peer.barrier.abort()
        client.close()
    return book


async def test_a_conversation_is_asked_turn_by_turn() -> None:
    fields = {"stream": True, "max_tokens": 1}
    act = Act(kind=Kind.CONVERSATION, model=STEADY, path=CHAT, fields=fields, questions=("a", "b"))
    peer = Peer()

    book = await do(act, peer)

    assert [body["model"] for body in peer.bodies] == [STEADY, STEADY]
    said = [turn["content"] for turn in peer.bodies[1]["messages"]]
    assert said == ["a", "w1 ", "b"]
    assert ["X-Request-ID: soak-0\r\n" in head for head in peer.heads] == [True, False]
    assert "X-Request-ID: soak-1\r\n" in peer.heads[1]
    assert (book.num_started, book.num_ended) == (2, 2)
    assert book.outcomes == {"conversation: ok": 2}


async def test_a_user_that_leaves_has_asked_and_had_no_answer() -> None:
    act = Act(
        kind=Kind.CUT_STREAM,
        model=ROUGH,
        path=CHAT,
        fields={"max_tokens": 1},
        questions=("a",),
        cut_after_s=0.0,
    )
    peer = Peer(barrier=asyncio.Barrier(2))

    book = await do(act, peer)

    assert len(peer.bodies) == 1
    assert book.outcomes == {"cut_stream: cut": 1}
    assert book.num_ended == 1


async def test_a_user_that_finds_nobody_books_that() -> None:
    act = Act(kind=Kind.UNKNOWN_MODEL, model=STEADY, path=CHAT, fields={}, cut_after_s=9.0)
    book = Book()
    nobody = Client(Target(host="127.0.0.1", port=free_port(), model="m"), timeout_s=5.0)

    await Users(nobody._target, book, num_users=1, seed=1)._do(nobody, act)

    [outcome] = book.outcomes
    assert outcome.startswith("unknown_model: no connection")
