"""Says plainly what does not fit in a body: which field, its value, what is allowed."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.api.schemas.sampling import DIGITS
from mm_orch.api.schemas.tools import NAME
from mm_orch.core.errors import InvalidValueError, UnsupportedError
from mm_orch.orchestration.limits import CONVERSATION_ID

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import BaseModel, ValidationError
    from pydantic_core import ErrorDetails

_MAX_SHOWN_CHARS = 60
_NOT_BUILT = "not built in this version yet"
# Values that other servers take, by the field that holds them.
_UNBUILT_VALUES = {
    "type": {
        "image_url",
        "input_audio",
        "file",
        "audio",
        "video_url",
        "custom",
        "allowed_tools",
    },
    "role": {"function"},
}
# The caller wrote JSON, so pydantic's Python words are put into that.
_JSON_WORDS = {
    "Input should be": "must be",
    r"a valid dictionary( or .*)?": "an object",
    rf"^String should match pattern '{re.escape(DIGITS)}'": "must be the digits of a token id",
    rf"^String should match pattern '{re.escape(NAME)}'": (
        "must be 1 to 64 letters, digits, '_' and '-'"
    ),
    rf"^String should match pattern '{re.escape(CONVERSATION_ID)}'": (
        "must be 1 to 128 letters, digits, '.', '_', ':' and '-'"
    ),
    "a valid (string|list|number|boolean)": r"a \1",
    "a valid integer": "an integer",
    "^Value error, ": "",
    r"^(List|Dictionary) should have at least 1 item after validation, not \d+$": (
        "must have at least 1 entry"
    ),
    r"^(List|Dictionary) should have at most (\d+) items? after validation, not (\d+)$": (
        r"has \3 entries, at most \2 are allowed"
    ),
    "^String should have": "must have",
    "^Dictionary": "Object",
    r"\bFalse\b": "false",
}


def explain(
    error: ValidationError, content: dict[str, Any], schema: type[BaseModel]
) -> InvalidValueError | UnsupportedError:
    """Return the refusal of a body: it names one field, its value and what is allowed.

    Args:
        error: what pydantic says of ``content``.
        content: the body.
        schema: what it should have been.
    """
    details = [_place(detail) for detail in error.errors(include_url=False)]
    first = _choose(details, content)
    path, value, is_there = _resolve(first, content)
    param = ".".join(map(str, path))
    if first["type"] == "extra_forbidden":
        return _unknown_field(param, schema if len(path) == 1 else None)
    if not is_there:
        return InvalidValueError(f"{param} is missing.", param=param)
    if _asks_for_unbuilt(first, path, value, schema):
        return UnsupportedError(f"{param} is {_show(value)}: {_NOT_BUILT}.", param=param)
    # A union reports one fault a branch; those about the same place belong in one sentence.
    faults = [detail for detail in details if _resolve(detail, content)[0] == path]
    # Where the kind of value is right for one branch, what the others want is of no interest.
    meant = [detail for detail in faults if not _is_of_other_kind(detail)] or faults
    reasons = " or ".join(dict.fromkeys(map(_say, meant)))
    return InvalidValueError(f"{param} is {_show(value)}: {reasons}.", param=param)


def _place(detail: ErrorDetails) -> ErrorDetails:
    """Put the fault of a tagged union where it is: at the tag."""
    context = detail.get("ctx", {})
    tag = str(context.get("discriminator", "")).strip("'")
    if not tag:
        return detail
    is_missing = detail["type"] == "union_tag_not_found"
    return {
        **detail,
        "loc": (*detail["loc"], tag),
        "type": "missing" if is_missing else "literal_error",
        "msg": f"Input should be one of {context.get('expected_tags')}",
    }


def _choose(details: Sequence[ErrorDetails], content: dict[str, Any]) -> ErrorDetails:
    """Choose the fault to tell of: of the first field, that of the branch that was meant.

    A union reports one fault a branch. A branch was meant when it found the right kind of value
    and only its size wrong, or when it got deepest.
    """
    field = details[0]["loc"][0]
    return max(
        (detail for detail in details if detail["loc"][0] == field),
        key=lambda detail: (
            not _is_of_other_kind(detail),
            len(_resolve(detail, content)[0]),
            # What is of another kind lacks what this kind has.
            detail["loc"][-1] == "type",
        ),
    )


def _unknown_field(param: str, schema: type[BaseModel] | None) -> InvalidValueError:
    known = list(schema.model_fields) if schema else []
    near = difflib.get_close_matches(param, known, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return InvalidValueError(f"{param} is not a field of this request.{hint}", param=param)


def _asks_for_unbuilt(
    detail: ErrorDetails, path: Sequence[str | int], value: object, schema: type[BaseModel]
) -> bool:
    if detail["type"] == "none_required":
        return True
    if isinstance(value, str) and value in _UNBUILT_VALUES.get(str(path[-1]), ()):
        return True
    field = schema.model_fields.get(str(path[0]))
    return field is not None and _NOT_BUILT in (field.description or "").lower()


def _is_of_other_kind(detail: ErrorDetails) -> bool:
    """Whether the fault is that the value is of another kind, such as a number for a string."""
    return detail["type"].endswith("_type")


def _resolve(
    detail: ErrorDetails, content: Mapping[str, Any]
) -> tuple[list[str | int], object, bool]:
    """Find the place in the body that a fault speaks of.

    pydantic mixes names of union branches into its locations; they are no part of the body.
    """
    location = detail["loc"]
    path: list[str | int] = []
    value: Any = content
    for index, step in enumerate(location):
        try:
            value = value[step]
        except (KeyError, IndexError, TypeError):
            is_last = index == len(location) - 1
            if is_last and detail["type"] == "missing":
                return [*path, step], None, False
            continue
        path.append(step)
    return path, value, True


def _say(detail: ErrorDetails) -> str:
    message = detail["msg"]
    for pattern, words in _JSON_WORDS.items():
        message = re.sub(pattern, words, message)
    return message[:1].lower() + message[1:]


def _show(value: object) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}..."
