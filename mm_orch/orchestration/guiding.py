"""Which shape an answer is kept to, and how its text is read: response format, tools, thoughts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.core.errors import InvalidValueError
from mm_orch.core.generation import ChatPrompt
from mm_orch.core.guide import Guide, TagsShape
from mm_orch.core.tools import ToolChoice
from mm_orch.models.plain_json import is_plain
from mm_orch.models.tool_formats import make_tag, make_tags_shape
from mm_orch.orchestration.reading import PLAIN, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.core.generation import GenerationRequest
    from mm_orch.core.guide import Shape
    from mm_orch.core.tools import ToolUse
    from mm_orch.optimization.engines.contract import EngineFacts
    from mm_orch.orchestration.model_text import ModelText

    FindReason = Callable[[Guide], str]


def find_tool_use(request: GenerationRequest) -> ToolUse | None:
    """Return the tools that the answer may call, or None."""
    use = request.prompt.tool_use if isinstance(request.prompt, ChatPrompt) else None
    return None if use is None or use.choice is ToolChoice.NONE else use


def make_reading(
    request: GenerationRequest, text: ModelText, token_ids: tuple[int, ...]
) -> Reading:
    """Say how to read the answer; the text of raw prompts is not sorted."""
    if not isinstance(request.prompt, ChatPrompt):
        return PLAIN
    use, form, marks = find_tool_use(request), text.tool_format, text.thought_marks
    is_thinking = marks is not None and text.codec.ends_with(token_ids, marks.begin)
    if use is None:
        return Reading(thoughts=marks, is_thinking=is_thinking)
    return Reading(
        thoughts=marks,
        is_thinking=is_thinking,
        tool_format=form,
        tool_names=frozenset(tool.name for tool in use.tools),
        is_single=form.is_single or not use.is_parallel or use.name is not None,
    )


def make_guide(
    request: GenerationRequest, text: ModelText, reading: Reading, find_reason: FindReason
) -> Guide | None:
    """Return what the answer is kept to; None for free text.

    Args:
        request: the caller's.
        text: of its model.
        reading: of its answer.
        find_reason: says why answers cannot be kept to a guide; empty when they can.

    Raises:
        InvalidValueError: a schema that answers cannot be kept to, or options that do not go with
            one.
    """
    shape = _find_shape(request, text)
    if shape is None:
        return None
    obstacle = _find_obstacle(request)
    if obstacle is None:
        reason = find_reason(Guide(shape=shape))
        if not reason:
            return Guide(shape=shape, thoughts=reading.thoughts, is_thinking=reading.is_thinking)
        obstacle = _blame(request, text, reason, find_reason)
    if needs_guide(request):
        raise obstacle
    # What the model may call, it may also get wrong; then it is text.
    return None


def needs_guide(request: GenerationRequest) -> bool:
    """Whether the answer must have a shape; else it is only better with one."""
    use = find_tool_use(request)
    if request.options.guide is not None:
        return True
    if use is None:
        return False
    return use.choice is ToolChoice.REQUIRED or any(tool.is_strict for tool in use.tools)


def can_keep(facts: EngineFacts, guide: Guide) -> bool:
    """Whether an engine keeps answers to a guide."""
    match facts.guides:
        case "all":
            return True
        case "plain":
            return is_plain(guide)
        case "none":
            return False


def is_streamable(guide: Guide | None) -> bool:
    """Whether calls are right from their first character on, so that they can be told at once."""
    if guide is None or not isinstance(guide.shape, TagsShape):
        return False
    return guide.shape.is_required or bool(guide.shape.trigger)


def _find_shape(request: GenerationRequest, text: ModelText) -> Shape | None:
    use = find_tool_use(request)
    tags = make_tags_shape(use, text.tool_format, request.options.guide) if use else None
    return tags or request.options.guide


def _find_obstacle(request: GenerationRequest) -> InvalidValueError | None:
    options = request.options
    if options.ignore_eos:
        return InvalidValueError(
            "ignore_eos is true, but an answer with a shape ends where the shape does.",
            param="ignore_eos",
        )
    if options.min_tokens:
        return InvalidValueError(
            f"min_tokens is {options.min_tokens}, but an answer with a shape ends where the shape"
            " does.",
            param="min_tokens",
        )
    return None


def _blame(
    request: GenerationRequest, text: ModelText, reason: str, find_reason: FindReason
) -> InvalidValueError:
    """Say which field is at fault: the first that is refused by itself."""
    for param, shape in _parts(request, text):
        if own_reason := find_reason(Guide(shape=shape)):
            return _refusal(param, own_reason)
    return _refusal("tools", reason)


def _parts(request: GenerationRequest, text: ModelText) -> Iterator[tuple[str, Shape]]:
    if request.options.guide is not None:
        yield request.guide_param, request.options.guide
    use = find_tool_use(request)
    if use is not None:
        for index, tool in enumerate(use.tools):
            tag = make_tag(tool, use, text.tool_format)
            yield request.tool_param.format(index=index), TagsShape(tags=(tag,))


def _refusal(param: str, reason: str) -> InvalidValueError:
    return InvalidValueError(
        f"{param} is a schema that answers cannot be kept to: {reason}.", param=param
    )
