"""Counts what was begun and how it ended, and compares that with what the server says."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from benchmarks.soak_mix import ROUGH, Account, Kind
from benchmarks.statistics import Verdict

if TYPE_CHECKING:
    from benchmarks.soak_mix import Act

OK, CUT = "ok", "cut"
_PREFIX = "soak-"
_CODE = re.compile(r"""["']code["']: ?["'](\w+)["']""")
_STATUS = re.compile(r"HTTP \d+")
_MAX_SHOWN_FAULTS = 10
_MAX_SHOWN_CHARS = 80
# What may become of a request whose worker is killed or unloaded, beside an answer.
_DISTURBED = frozenset({"model_unavailable", "engine_crashed", "request_poisoned"})
_EXPECTED_BY_KIND = {
    Kind.CUT_STREAM: {OK, CUT},
    Kind.CUT_WHOLE: {OK, CUT},
    Kind.LATE: {OK, "deadline_exceeded", "deadline_too_soon"},
    Kind.TOO_LONG: {"context_length_exceeded"},
    Kind.UNKNOWN_MODEL: {"model_not_found"},
    Kind.MALFORMED: {"invalid_value"},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCounts:
    """What the server has counted since it began.

    Attributes:
        num_exchanges: requests of HTTP that have models work.
        num_ended: requests that ended, by its metrics.
        num_in_flight: requests that wait or run now.
        num_log_lines: requests that ended, by its log.
    """

    num_exchanges: int
    num_ended: int
    num_in_flight: int
    num_log_lines: int


@dataclass(slots=True)
class Book:
    """The users' requests; a byte or two is kept of each.

    Attributes:
        num_ended: requests of which their user knows the end.
        outcomes: how often a kind of request ended in a way.
    """

    num_ended: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    _odd_ends: Counter[str] = field(default_factory=Counter)
    _accounts: list[Account] = field(default_factory=list)
    _num_seen: bytearray = field(default_factory=bytearray)

    @property
    def num_started(self) -> int:
        """Requests that were sent."""
        return len(self._accounts)

    def start(self, act: Act) -> str:
        """Note a request that is about to be sent; return the id that it is to have."""
        self._accounts.append(act.account)
        self._num_seen.append(0)
        return f"{_PREFIX}{len(self._accounts) - 1}"

    def end(self, act: Act, outcome: str) -> None:
        """Note how a request ended, as its user sees it."""
        self.num_ended += 1
        self.outcomes[f"{act.kind.value}: {outcome}"] += 1
        expected = _EXPECTED_BY_KIND.get(act.kind, {OK})
        is_excused = act.model == ROUGH and outcome in _DISTURBED
        if outcome not in expected and not is_excused:
            self._odd_ends[f"{act.kind.value} with {act.model} ended with {outcome}"] += 1

    def see(self, request_id: str) -> None:
        """Note that the server's log tells of the end of a request."""
        number = request_id.removeprefix(_PREFIX)
        if number.isdigit() and int(number) < self.num_started:
            # Twice is wrong already.
            self._num_seen[int(number)] = min(2, self._num_seen[int(number)] + 1)

    def compare(self, server: ServerCounts) -> dict[str, Verdict]:
        """Return the verdicts on the counts; to be asked when the log has been seen."""
        odd = self._find_odd_accounts()
        equal = {
            "client_started_equals_ended": self.num_started == self.num_ended,
            "server_exchanges_equal_started": server.num_exchanges == self.num_started,
            "server_ends_equal_started": server.num_ended == sum(self._num_seen) and not odd,
            "server_metrics_equal_log": server.num_ended == server.num_log_lines,
            "nothing_in_flight": server.num_in_flight == 0,
        }
        return {bar: Verdict.MET if is_met else Verdict.MISSED for bar, is_met in equal.items()}

    def faults(self) -> list[str]:
        """Return which ends must not be, and how often; to be asked when the log has been seen."""
        odd = self._odd_ends + self._find_odd_accounts()
        return [f"{text}: {count} times" for text, count in odd.most_common(_MAX_SHOWN_FAULTS)]

    def _find_odd_accounts(self) -> Counter[str]:
        return Counter(
            f"{seen} ends in the log of a request that has {account.value}"
            for account, seen in zip(self._accounts, self._num_seen, strict=True)
            if not _fits(account, seen)
        )


def outcome_of(error: str | None) -> str:
    """Return how a request ended in a word: OK, the code of its error, or what else went wrong."""
    if error is None:
        return OK
    code = _CODE.search(error)
    if code is not None:
        return code[1]
    status = _STATUS.match(error)
    return status[0] if status is not None else error[:_MAX_SHOWN_CHARS]


def _fits(account: Account, num_seen: int) -> bool:
    match account:
        case Account.NONE:
            return num_seen == 0
        case Account.ONE:
            return num_seen == 1
        case Account.PERHAPS:
            return num_seen <= 1
