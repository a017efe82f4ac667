"""Makes panels: each a title, what it means, a unit, and one or more queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as dashboard_builders
from grafana_foundation_sdk.builders import heatmap, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.heatmap import HeatmapColorMode
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

if TYPE_CHECKING:
    from collections.abc import Mapping

    from grafana_foundation_sdk.cog.builder import Builder

    PanelBuilder = Builder[dashboard.Panel]

DATASOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")

# Units by Grafana's names.
SECONDS = "s"
BYTES = "bytes"
PERCENT = "percent"
RATIO = "percentunit"
CELSIUS = "celsius"
WATTS = "watt"
COUNT = "short"
PER_SECOND = "cps"
REQUESTS_PER_SECOND = "reqps"
TOKENS_PER_SECOND = "suffix: tokens/s"

Color = Literal["green", "yellow", "orange", "red", "blue"]


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and how its series are named: ``{{label}}`` stands for a label's value."""

    expression: str
    legend: str
    has_exemplars: bool = False


def lines(
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    min_value: float = 0,
    max_value: float | None = None,
) -> PanelBuilder:
    """Make a chart of series over time, from 0 upwards if not said otherwise."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .min(min_value)
        .line_width(1)
        .fill_opacity(8)
        .show_points(common.VisibilityMode.NEVER)
        .legend(_table_legend())
        .tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    )
    if max_value is not None:
        panel = panel.max(max_value)
    for target in _targets(*queries):
        panel = panel.with_target(target)
    return panel


def number(
    title: str,
    description: str,
    unit: str,
    query: Query,
    *,
    colors: Mapping[float | None, Color] | None = None,
) -> PanelBuilder:
    """Make one large number a series, the last value.

    Args:
        title: above it.
        description: what it means.
        unit: of the value.
        query: mostly of one series.
        colors: by the value from which on they hold; None is the lowest.
    """
    panel = (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .unit(unit)
        .graph_mode(common.BigValueGraphMode.AREA)
        .color_mode(common.BigValueColorMode.VALUE)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .thresholds(_thresholds(colors or {None: "blue"}))
    )
    for target in _targets(query):
        panel = panel.with_target(target)
    return panel


def states(
    title: str, description: str, query: Query, words: Mapping[int, tuple[str, Color]]
) -> PanelBuilder:
    """Make bars over time that change colour with the state; ``words`` are by value."""
    panel = (
        statetimeline.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .mappings([_value_mapping(words)])
        .thresholds(_thresholds({None: "blue"}))
        .show_value(common.VisibilityMode.AUTO)
    )
    for target in _targets(query):
        panel = panel.with_target(target)
    return panel


def heat(title: str, description: str, unit: str, expression: str) -> PanelBuilder:
    """Make a heatmap of a histogram; the expression gives its buckets, summed by ``le``."""
    target = _target("A", Query(expression, "{{le}}")).format(PromQueryFormat.HEATMAP)
    return (
        heatmap.Panel()
        .title(title)
        .description(description)
        .datasource(DATASOURCE)
        .calculate(calculate=False)
        .color(
            heatmap.HeatmapColorOptions()
            .mode(HeatmapColorMode.SCHEME)
            .scheme("Oranges")
            .exponent(0.5)
            .steps(64)
        )
        .y_axis(heatmap.YAxisConfig().unit(unit))
        .cell_values(heatmap.CellValues().unit(PER_SECOND))
        .show_legend()
        .with_target(target)
    )


def _targets(*queries: Query) -> list[prometheus.Dataquery]:
    return [_target(chr(ord("A") + index), query) for index, query in enumerate(queries)]


def _target(ref_id: str, query: Query) -> prometheus.Dataquery:
    return (
        prometheus.Dataquery()
        .datasource(DATASOURCE)
        .ref_id(ref_id)
        .expr(query.expression)
        .legend_format(query.legend)
        .exemplar(query.has_exemplars)
        .range()
    )


def _table_legend() -> common_builders.VizLegendOptions:
    return (
        common_builders.VizLegendOptions()
        .display_mode(common.LegendDisplayMode.TABLE)
        .placement(common.LegendPlacement.BOTTOM)
        .show_legend(show_legend=True)
        .calcs(["lastNotNull", "max"])
    )


def _thresholds(colors: Mapping[float | None, Color]) -> dashboard_builders.ThresholdsConfig:
    steps = [dashboard.Threshold(value=value, color=color) for value, color in colors.items()]
    return (
        dashboard_builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps)
    )


def _value_mapping(words: Mapping[int, tuple[str, Color]]) -> dashboard.ValueMap:
    options = {
        str(value): dashboard.ValueMappingResult(text=text, color=color, index=index)
        for index, (value, (text, color)) in enumerate(words.items())
    }
    return dashboard.ValueMap(options=options)
