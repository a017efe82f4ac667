"""How fast an answer has to be to count: the objective that goodput is measured by."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import InvalidValueError

if TYPE_CHECKING:
    from mm_orch.benchmarking.records import RequestRecord

_MS_PER_S = 1000


class Objective(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds in milliseconds, each kept or not by a request; None bounds nothing.

    Attributes:
        ttft_ms: to the first text.
        itl_ms: mean time between the tokens of one answer.
        e2e_ms: to the end of the answer.
    """

    ttft_ms: float | None = None
    itl_ms: float | None = None
    e2e_ms: float | None = None

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read bounds such as ``ttft=500,itl=100,e2e=5000``: one or more of the three.

        Raises:
            InvalidValueError: naming what is wrong and what is allowed.
        """
        bounds: dict[str, float] = {}
        for part in text.split(","):
            name, sign, value = (piece.strip() for piece in part.partition("="))
            if not sign or name not in _WORDS_BY_NAME:
                raise _refuse(f"{part.strip()!r} is no bound")
            if name in bounds:
                raise _refuse(f"{name} is given twice")
            bounds[name] = _milliseconds(name, value)
        return cls(**{f"{name}_ms": value for name, value in bounds.items()})

    @property
    def words(self) -> str:
        """The bounds for people."""
        bounds = {name: getattr(self, f"{name}_ms") for name in _WORDS_BY_NAME}
        return ", ".join(
            f"{_WORDS_BY_NAME[name]} {value:g} ms"
            for name, value in bounds.items()
            if value is not None
        )

    def is_met_by(self, record: RequestRecord) -> bool:
        """Whether a request was answered within every bound; one token has no time between."""
        if record.error is not None:
            return False
        measured = (
            (record.ttft_s if record.pieces_s else record.total_s, self.ttft_ms),
            (record.time_per_token_s, self.itl_ms),
            (record.total_s, self.e2e_ms),
        )
        return all(
            value_s is None or bound_ms is None or value_s * _MS_PER_S <= bound_ms
            for value_s, bound_ms in measured
        )


_WORDS_BY_NAME = {
    "ttft": "first text within",
    "itl": "tokens on average every",
    "e2e": "whole answer within",
}

DEFAULT_OBJECTIVE = Objective(ttft_ms=500, itl_ms=100)
"""Begins at once and comes faster than people read; how long the whole takes is the answer's
length, so that is not bounded unless it is asked for."""


def _milliseconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise _refuse(f"{name}={text!r} is no time")
    return value


def _refuse(what: str) -> InvalidValueError:
    return InvalidValueError(
        f"{what}; give one or more of ttft=MS, itl=MS and e2e=MS, each a number of milliseconds"
        " over 0, such as ttft=500,itl=100,e2e=5000"
    )
