"""Makes a dashboard of rows of panels, with the variables that all dashboards share."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import DATASOURCE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dashboards.panels import PanelBuilder

_TAG = "muai"
_GRID_WIDTH = 24


@dataclass(frozen=True, slots=True)
class Row:
    """Panels beside each other, equally wide; where ``per_line`` is less, in several lines."""

    title: str
    panels: Sequence[PanelBuilder]
    per_line: int
    height: int = 8


@dataclass(frozen=True, slots=True)
class Board:
    """A dashboard; its ``uid`` is in its address and names its file."""

    uid: str
    title: str
    description: str
    rows: Sequence[Row]


def render(board: Board) -> str:
    """Return the dashboard as Grafana reads it."""
    dashboard = (
        builders.Dashboard(board.title)
        .uid(f"{_TAG}-{board.uid}")
        .description(board.description)
        .tags([_TAG])
        .refresh("30s")
        .time("now-1h", "now")
        .timezone("browser")
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .with_variable(_datasource_variable())
        .with_variable(_model_variable())
        .link(_link_to_the_others())
    )
    next_id = 1
    for row in board.rows:
        dashboard = dashboard.with_row(builders.Row(row.title).id(next_id))
        next_id += 1
        for panel in row.panels:
            placed = panel.id(next_id).span(_GRID_WIDTH // row.per_line).height(row.height)
            dashboard = dashboard.with_panel(placed)
            next_id += 1
    text = json.dumps(dashboard.build(), cls=JSONEncoder, indent=2, sort_keys=True)
    return text + "\n"


def _datasource_variable() -> builders.DatasourceVariable:
    return builders.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def _model_variable() -> builders.QueryVariable:
    return (
        builders.QueryVariable("model")
        .label("Model")
        .description("Which models the panels show.")
        .datasource(DATASOURCE)
        .query("label_values(inference_requests_total, model)")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_ASC)
        .multi(multi=True)
        .include_all(include_all=True)
        .all_value(".*")
        .current(models.VariableOption(selected=True, text="All", value="$__all"))
    )


def _link_to_the_others() -> builders.DashboardLink:
    return (
        builders.DashboardLink("MuAI")
        .type(models.DashboardLinkType.DASHBOARDS)
        .tags([_TAG])
        .as_dropdown(as_dropdown=True)
        .include_vars(include_vars=True)
        .keep_time(keep_time=True)
    )
