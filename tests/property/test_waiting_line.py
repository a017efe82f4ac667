"""Who goes next of what waits: everybody gets a turn, and callers get equal ones."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from mm_orch.core.priority import AGEING_S, MAX_PRIORITY, MIN_PRIORITY
from mm_orch.orchestration.admission import count_ahead
from mm_orch.orchestration.line import WaitingLine
from mm_orch.orchestration.ticket import Ticket

PRIORITIES = st.integers(MIN_PRIORITY, MAX_PRIORITY)
CALLERS = st.sampled_from("abc")
MOST_TOKENS = 5
TOKENS = st.integers(1, MOST_TOKENS)


def serve(line: WaitingLine) -> Ticket:
    ticket = line.find_next()
    assert ticket is not None
    line.take(ticket)
    return ticket


@given(st.lists(st.tuples(PRIORITIES, CALLERS, TOKENS, st.floats(0, 5)), max_size=30), st.data())
def test_every_request_is_served_once_or_was_dropped(
    arrivals: list[tuple[int, str, int, float]], data: st.DataObject
) -> None:
    line, now_s = WaitingLine(), 0.0
    waiting: list[Ticket] = []
    for priority, caller, num_tokens, gap_s in arrivals:
        now_s += gap_s
        waiting.append(Ticket("m", now_s, caller=caller, priority=priority))
        line.add(waiting[-1], num_tokens)
        match data.draw(st.sampled_from(["serve", "drop", "wait"])):
            case "serve":
                waiting.remove(serve(line))
            case "drop":
                line.drop(waiting.pop(data.draw(st.integers(0, len(waiting) - 1))))

    served = [serve(line) for _ in waiting]

    assert set(served) == set(waiting)
    assert line.find_next() is None


@given(
    st.integers(MIN_PRIORITY, MAX_PRIORITY - 1),
    st.lists(st.tuples(PRIORITIES, CALLERS, TOKENS), min_size=40, max_size=40),
)
def test_the_least_of_all_is_served_in_bounded_time_whatever_arrives(
    priority: int, flood: list[tuple[int, str, int]]
) -> None:
    line = WaitingLine()
    least = Ticket("m", 0.0, caller="z", priority=priority)
    line.add(least, MOST_TOKENS)
    # One is served a second, and another one comes: the line never gets shorter.
    step_s = AGEING_S
    turns = []
    for number, (other, caller, num_tokens) in enumerate(flood):
        line.add(Ticket("m", number * step_s, caller=caller, priority=other), num_tokens)
        turns.append(serve(line))

    # Of a higher priority at most those that came before it had made up for that; of its own and
    # lower ones, which it may meet among them, a turn of each other caller for each of its tokens.
    bound = MAX_PRIORITY - priority + 3 * (MOST_TOKENS + 1)
    assert least in turns[: bound + 1]


@given(st.lists(TOKENS, min_size=1, max_size=20), st.lists(TOKENS, min_size=1, max_size=20), TOKENS)
def test_while_two_callers_wait_neither_gets_more_than_a_request_ahead(
    first: list[int], second: list[int], alone: int
) -> None:
    line = WaitingLine()
    # What one has used while the other was away is not held against it.
    line.add(Ticket("m", 0.0, caller="a"), alone)
    serve(line)
    num_tokens: dict[Ticket, int] = {}
    for caller, sizes in (("a", first), ("b", second)):
        for size in sizes:
            ticket = Ticket("m", 1.0, caller=caller)
            num_tokens[ticket] = size
            line.add(ticket, size)
    left = Counter({"a": len(first), "b": len(second)})
    given_tokens: Counter[str] = Counter()
    while all(left.values()):
        ticket = serve(line)
        left[ticket.caller] -= 1
        given_tokens[ticket.caller] += num_tokens[ticket]
        # One that is in service, and the start that "a" was ahead by.
        assert abs(given_tokens["a"] - given_tokens["b"]) <= 2 * MOST_TOKENS


def test_one_callers_hundred_do_not_keep_another_ones_single_request_waiting() -> None:
    line = WaitingLine()
    for number in range(100):
        line.add(Ticket("m", float(number), caller="many"), 10)
    for _ in range(5):
        serve(line)
    single = Ticket("m", 100.0, caller="one")
    line.add(single, 10)

    assert single in [serve(line), serve(line)]


def test_of_one_caller_the_higher_priority_goes_first_then_who_came_first() -> None:
    line = WaitingLine()
    tickets = [
        Ticket("m", float(number), caller="a", priority=priority)
        for number, priority in enumerate((0, 0, 5, -1, 5))
    ]
    for ticket in tickets:
        line.add(ticket, 1)

    order = [tickets.index(serve(line)) for _ in tickets]

    assert order == [2, 4, 0, 1, 3]


def test_what_a_request_has_generated_is_held_against_its_caller() -> None:
    line = WaitingLine()
    talkative = Ticket("m", 0.0, caller="a")
    line.add(talkative, 1)
    serve(line)
    line.charge(talkative, 1000)
    for number in range(5):
        line.add(Ticket("m", 1.0 + number, caller="a"), 1)
        line.add(Ticket("m", 9.0 + number, caller="b"), 1)

    assert [serve(line).caller for _ in range(6)] == ["b"] * 5 + ["a"]


@given(
    st.lists(st.tuples(PRIORITIES, CALLERS), max_size=30),
    PRIORITIES,
    CALLERS,
)
def test_as_many_go_before_a_newcomer_as_are_counted(
    waiting: list[tuple[int, str]], priority: int, caller: str
) -> None:
    line = WaitingLine()
    for other, other_caller in waiting:
        line.add(Ticket("m", 0.0, caller=other_caller, priority=other), 1)
    newcomer = Ticket("m", 0.0, caller=caller, priority=priority)
    num_counted = count_ahead(Counter(waiting), (priority, caller))
    line.add(newcomer, 1)

    num_ahead = 0
    while serve(line) is not newcomer:
        num_ahead += 1

    # Who is first of those that stand equal may be another than the newcomer.
    num_others = len({one for level, one in waiting if level == priority} - {caller})
    assert num_counted - num_others <= num_ahead <= num_counted
