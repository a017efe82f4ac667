"""The distance of two vectors as a function of SQL: sqlite-vec's, where it can be loaded.

Python's own sqlite3 is often built without extensions; a slower function of the same name stands in
for it then.
"""

from __future__ import annotations

import logging
import sqlite3

import numpy as np
import sqlite_vec

from mm_orch.storage.document_lines import VECTOR_DTYPE

logger = logging.getLogger(__name__)


def ensure_cosine(connection: sqlite3.Connection) -> None:
    """Have the connection know ``vec_distance_cosine``, of two vectors in the stored form.

    It gives 1 minus the cosine: 0 for one direction, 2 for opposite ones. Vectors must be of length
    1; with one of zeros the distance is 1 or null.
    """
    try:
        connection.execute("SELECT vec_distance_cosine(x'0000803f', x'0000803f')").close()
    except sqlite3.OperationalError:
        _add_cosine(connection)


def _add_cosine(connection: sqlite3.Connection) -> None:
    try:
        connection.enable_load_extension(True)  # noqa: FBT003 - sqlite3 takes it by position
        sqlite_vec.load(connection)
        connection.enable_load_extension(False)  # noqa: FBT003
    except (AttributeError, sqlite3.OperationalError) as error:
        logger.info("vectors are compared without sqlite-vec: %s", error)
        connection.create_function("vec_distance_cosine", 2, _distance, deterministic=True)


def _distance(one: bytes, other: bytes) -> float:
    return float(1 - np.dot(np.frombuffer(one, VECTOR_DTYPE), np.frombuffer(other, VECTOR_DTYPE)))
