"""Which series an expression in PromQL reads."""

from __future__ import annotations

import pytest

promql = pytest.importorskip("promql_parser", reason="promql-parser is not installed")


def names_in(expression: str) -> set[str]:
    """The series that an expression reads."""
    names: set[str] = set()

    def look(node: object) -> None:
        selector = getattr(node, "vector_selector", node)
        if isinstance(selector, promql.VectorSelector):
            names.add(selector.name)

    promql.walk(promql.parse(expression), look)
    return names
