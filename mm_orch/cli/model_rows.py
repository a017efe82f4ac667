"""The models of a server as a table, or as blocks where the table is too wide."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, NamedTuple

from mm_orch.cli.status import list_exceptions
from mm_orch.cli.styled import Piece, Tone, flow
from mm_orch.cli.words import NONE, name_latency, name_number, name_ratio, name_size
from mm_orch.core.figures import IntervalFigures
from mm_orch.workers.phase import ModelPhase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mm_orch.cli.styled import Line
    from mm_orch.core.figures import Figures, ModelFigures
    from mm_orch.orchestration.reports import ModelReport

_GAP = "  "
_BLOCK_INDENT = 4
_TONE_BY_PHASE = {
    ModelPhase.READY: Tone.GOOD,
    ModelPhase.LOADING: Tone.WARNING,
    ModelPhase.RESTARTING: Tone.WARNING,
    ModelPhase.STUCK: Tone.BAD,
    ModelPhase.FAILED: Tone.BAD,
    ModelPhase.UNLOADED: Tone.FAINT,
}


class Cell(NamedTuple):
    """One value of a model under its title."""

    title: str
    text: str
    tone: Tone = Tone.PLAIN
    is_number: bool = True


def lay_out_models(
    models: Sequence[ModelReport], figures: Figures | None, width: int
) -> Iterator[Line]:
    """Yield a line a model below a line of titles where they fit, else a block a model."""
    rows = [_cells(model, figures) for model in models]
    sizes = [
        max(len(column[0].title), *(len(cell.text) for cell in column))
        for column in zip(*rows, strict=True)
    ]
    is_table = sum(sizes) + len(_GAP) * (len(sizes) - 1) <= width
    if is_table and rows:
        titles = [cell._replace(text=cell.title, tone=Tone.STRONG) for cell in rows[0]]
        yield _row(titles, sizes)
    for model, row in zip(models, rows, strict=True):
        yield from [_row(row, sizes)] if is_table else _block(row, width)
        yield from _notes(model, width)


def _cells(model: ModelReport, figures: Figures | None) -> list[Cell]:
    last, window = _find_last(model, figures), _find_window(model, figures)
    ttft = window.time_to_first_token if window else None
    state = f"{model.phase.value}, draining" if model.is_draining else model.phase.value
    state_tone = Tone.WARNING if model.is_draining else _TONE_BY_PHASE[model.phase]
    texts = {
        "run": str(model.num_running),
        "wait": str(model.num_waiting),
        "req/s": name_number(last.requests_per_second if last else None),
        "tok/s": name_number(last.tokens_per_second if last else None),
        "TTFT p50": name_latency(ttft.p50 if ttft else None),
        "p95": name_latency(ttft.p95 if ttft else None),
        "batch": name_number(last.batch_size_mean if last else None),
        "reused": name_ratio(window.cache_hit_ratio if window else model.cache_hit_ratio),
        "KV": name_ratio(model.kv_use_ratio),
        "memory": name_size(model.memory_bytes),
    }
    return [
        Cell("model", model.name, Tone.STRONG, is_number=False),
        Cell("engine", model.engine or NONE, is_number=False),
        Cell("state", state, state_tone, is_number=False),
        *(Cell(title, text) for title, text in texts.items()),
    ]


def _find_last(model: ModelReport, figures: Figures | None) -> IntervalFigures | None:
    if figures is None or not figures.history.points:
        return None
    # One that is left out was idle.
    return figures.history.points[-1].models.get(model.name, IntervalFigures())


def _find_window(model: ModelReport, figures: Figures | None) -> ModelFigures | None:
    of_all = figures.models if figures else ()
    return next(
        (one for one in of_all if (one.model, one.engine) == (model.name, model.engine)), None
    )


def _row(cells: Sequence[Cell], sizes: Sequence[int]) -> Line:
    pieces: list[Piece] = []
    for cell, size in zip(cells, sizes, strict=True):
        text = cell.text.rjust(size) if cell.is_number else cell.text.ljust(size)
        pieces += [Piece(_GAP), Piece(text, cell.tone)] if pieces else [Piece(text, cell.tone)]
    return tuple(pieces)


def _block(cells: Sequence[Cell], width: int) -> Iterator[Line]:
    head = [cell for cell in cells if not cell.is_number and cell.text != NONE]
    yield from flow(((Piece(cell.text, cell.tone),) for cell in head), width)
    facts = [
        (Piece(f"{cell.title} ", Tone.FAINT), Piece(cell.text))
        for cell in cells
        if cell.is_number and cell.text != NONE
    ]
    yield from flow(facts, width, indent=_BLOCK_INDENT)


def _notes(model: ModelReport, width: int) -> Iterator[Line]:
    """Yield what a person should know of it besides its figures."""
    notes = [model.short_detail] if model.short_detail else []
    for note in (*notes, *list_exceptions(model)):
        for line in textwrap.wrap(note, max(width - _BLOCK_INDENT, _BLOCK_INDENT)):
            yield (Piece(f"{' ' * _BLOCK_INDENT}{line}", Tone.WARNING),)
