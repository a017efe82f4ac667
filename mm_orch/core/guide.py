"""What an answer must look like: given to an engine with its sampling parameters.

Step backends get a mask of allowed tokens from the grammar that is made of it; stream engines map
it to what their library offers.
"""

from __future__ import annotations

import msgspec


class JsonSchemaShape(msgspec.Struct, frozen=True, tag="json_schema"):
    """A JSON value that is valid under ``schema``, which is JSON text."""

    schema: str


class JsonObjectShape(msgspec.Struct, frozen=True, tag="json_object"):
    """Any JSON object."""


class Tag(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of structured text: ``begin``, a JSON value that is valid under ``schema``, ``end``.

    Attributes:
        is_lenient: keywords of the schema that the grammar library lacks are passed over.
    """

    begin: str
    schema: str
    end: str
    is_lenient: bool = False


class TagsShape(msgspec.Struct, frozen=True, kw_only=True, tag="tags"):
    """One or more tags, or something else instead.

    The tags stand in ``opening tag (separator tag)* closing``. What may stand instead: nothing
    where ``is_required``, else the ``otherwise`` shape; where there is none, free text, which
    turns into tags as soon as it holds ``trigger``.

    Attributes:
        trigger: what ``opening`` and the first tag's ``begin``, put together, begin with; empty
            where nothing tells a tag from text.
        is_single: no more than one tag.
    """

    tags: tuple[Tag, ...]
    trigger: str = ""
    opening: str = ""
    separator: str = ""
    closing: str = ""
    is_single: bool = False
    is_required: bool = True
    otherwise: JsonSchemaShape | JsonObjectShape | None = None


Shape = JsonSchemaShape | JsonObjectShape | TagsShape


class ThoughtMarks(msgspec.Struct, frozen=True, kw_only=True):
    """How a model marks the thoughts that it writes before an answer."""

    begin: str
    end: str


class Guide(msgspec.Struct, frozen=True, kw_only=True):
    """The shape of an answer, and what may come before it.

    Attributes:
        shape: of the answer itself.
        thoughts: the answer may begin with thoughts in these marks, which are free text.
        is_thinking: the prompt has opened the thoughts already, so they come first.
    """

    shape: Shape
    thoughts: ThoughtMarks | None = None
    is_thinking: bool = False
