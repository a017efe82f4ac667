"""How each language says what the system is and can do."""

# ruff: noqa: RUF001 - Chinese has signs of its own

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mm_orch.consciousness.self_question import Language


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """How one language says it; ``states`` by their names in the self-model."""

    who: str
    workflows: str
    models: str
    engines: str
    health: str
    load: str
    not_ready: str
    default: str
    on_engine: str
    switched_on: str
    switched_off: str
    nothing: str
    comma: str
    colon: str
    brackets: tuple[str, str]
    states: Mapping[str, str]


_ENGLISH = Words(
    who="I am MuAI {version}: one server that answers with several models and workflows.",
    workflows="Workflows",
    models="Models",
    engines="Engines",
    health="Health",
    load="{running} requests are being answered and {waiting} wait; there is room for {capacity}"
    " to wait.",
    not_ready="A request sent now would not be served: {reason}.",
    default="the default",
    on_engine="on {engine}",
    switched_on="Switched on",
    switched_off="Switched off",
    nothing="none",
    comma=", ",
    colon=": ",
    brackets=(" (", ")"),
    states={
        "loaded": "loaded",
        "loadable": "not loaded; the next request for it loads it",
        "loading": "being loaded",
        "failing": "failing",
        "available": "available",
        "gated": "not allowed yet",
        "broken": "broken",
        "healthy": "healthy",
        "degraded": "degraded",
        "unhealthy": "unhealthy",
    },
)
_CHINESE = Words(
    who="我是 MuAI {version}：一个用多个模型和工作流来回答的服务器。",
    workflows="工作流",
    models="模型",
    engines="引擎",
    health="健康状况",
    load="正在回答 {running} 个请求，{waiting} 个在等待；最多可有 {capacity} 个等待。",
    not_ready="现在发来的请求不会得到回答：{reason}。",
    default="默认",
    on_engine="运行于 {engine}",
    switched_on="已开启",
    switched_off="已关闭",
    nothing="无",
    comma="，",
    colon="：",
    brackets=("（", "）"),
    states={
        "loaded": "已加载",
        "loadable": "未加载，下一个请求会加载它",
        "loading": "正在加载",
        "failing": "故障",
        "available": "可用",
        "gated": "尚未开放",
        "broken": "损坏",
        "healthy": "健康",
        "degraded": "降级",
        "unhealthy": "不健康",
    },
)
WORDS: Mapping[Language, Words] = {"en": _ENGLISH, "zh": _CHINESE}
