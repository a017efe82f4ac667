"""Options of the section ``storage``: a database that several servers share."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import DatabaseUrl, PositiveFloat


class StorageSettings(Section):
    """Where conversations, documents and what the system remembers are kept."""

    url: DatabaseUrl = option(
        "A PostgreSQL database that keeps conversations, documents, outcomes, callers' rates and"
        " what the tuner found, for all servers that name it:"
        " postgresql://USER:PASSWORD@HOST:PORT/NAME."
        " null, or empty: files of this server alone, in system.data_dir.",
        default=None,
        secret=True,
    )
    max_connections: Annotated[int, Field(ge=3, le=1000)] = option(
        "Most connections of this server to the database at a time.", default=8
    )
    statement_timeout_s: PositiveFloat = option(
        "Longest in seconds that the database may work on one statement.", default=30.0
    )
