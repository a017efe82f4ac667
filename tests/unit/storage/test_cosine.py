"""Distances by sqlite-vec and by what stands in for it: one meaning."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import numpy as np
import pytest
import sqlite_vec

from mm_orch.storage.cosine import ensure_cosine
from mm_orch.storage.document_lines import as_vector
from tests.unit.storage.document_scene import vector_of

PAIRS = [((1, 0), (1, 0)), ((1, 0), (0, 1)), ((3, 4), (-3, -4)), ((1, 2), (2, 1))]


def distance(connection: sqlite3.Connection, one: bytes, other: bytes) -> float | None:
    [found] = connection.execute("SELECT vec_distance_cosine(?, ?)", (one, other)).fetchone()
    return None if found is None else float(found)


@pytest.mark.parametrize("is_extension", [False, True])
def test_the_distance_is_1_minus_the_cosine(*, is_extension: bool) -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        if is_extension:
            if not hasattr(connection, "enable_load_extension"):
                pytest.skip("this Python's sqlite3 loads no extensions")
            connection.enable_load_extension(True)  # noqa: FBT003 - its own word
            sqlite_vec.load(connection)
        ensure_cosine(connection)
        ensure_cosine(connection)

        for one, other in PAIRS:
            first, second = vector_of(*one), vector_of(*other)
            cosine = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
            found = distance(connection, as_vector(first), as_vector(second))
            assert found == pytest.approx(1 - cosine, abs=1e-6)
        zeros = as_vector(vector_of(0, 0))
        found = distance(connection, zeros, as_vector(vector_of(1, 0)))
        assert found is None or found == 1
