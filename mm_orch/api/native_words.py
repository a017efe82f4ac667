"""Puts the caller's errors in the words of the native API, whose fields are spelt otherwise."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from mm_orch.api.schemas.workflow import Preferences
from mm_orch.core.errors import RequestError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def native_words(question_param: str) -> Iterator[None]:
    """Name the fields of what is refused in the context as the body has them.

    Args:
        question_param: the field that holds what is asked.
    """
    try:
        yield
    except RequestError as error:
        if error.param in Preferences.model_fields:
            error.param = f"preferences.{error.param}"
        elif error.param == "messages":
            error.param = question_param
            if isinstance(error, UnsupportedError):
                error.remedy = "Name a model that takes conversations in preferences.model."
        raise
