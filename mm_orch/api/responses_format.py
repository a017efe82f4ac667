"""Writes answers of /v1/responses: one object with output items, or typed events that build it.

Items follow one another and are closed in that order: thoughts, the message, each call.
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from mm_orch.api.formats import WholeChoice, encode_event
from mm_orch.core.generation import FinishReason, TextDelta
from mm_orch.workflows.call import WORKFLOW_PREFIX

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mm_orch.api.formats import Json
    from mm_orch.api.schemas.responses import ResponsesRequest
    from mm_orch.core.generation import Usage
    from mm_orch.core.tools import ToolCallDelta

_TEXT_EVENTS = {"message": "response.output_text", "reasoning": "response.reasoning_text"}


class ResponsesFormat:
    """response objects and their events, for one choice."""

    end = b""

    def __init__(self, model: str, body: ResponsesRequest) -> None:
        self._head = _echo(body) | {
            "id": _make_id("resp"),
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
        }
        self._output: list[Json] = []
        # The last item, while more of it may come.
        self._open: Json | None = None
        self._num_events = 0
        self._is_cut = False

    def opening(self, num_choices: int) -> list[Json]:
        """Say that the answer begins."""
        del num_choices
        started = self._response("in_progress", None)
        return [
            self._event("response.created", response=started),
            self._event("response.in_progress", response=started),
        ]

    def chunks(self, delta: TextDelta) -> list[Json]:
        """One delta as events."""
        events = self._add_text("reasoning", delta.reasoning)
        events += self._add_text("message", delta.text)
        for call in delta.tool_calls:
            events += self._add_call(call)
        # Only what is still open is cut.
        self._is_cut = delta.finish_reason is FinishReason.LENGTH
        return events

    def closing(self, usage: Usage) -> list[Json]:
        """Close the last item, and tell the whole."""
        events = [] if self._output else self._open_text("message")
        events += self._close()
        status = "incomplete" if self._is_cut else "completed"
        response = self._response(status, usage)
        return [*events, self._event(f"response.{status}", response=response)]

    def failure(self, error: Json) -> Json:
        """Say what went wrong in OpenAI's event, with the envelope that other answers have."""
        told = error["error"]
        words = {key: told[key] for key in ("code", "message", "param")}
        return self._event("error", **words, error=told)

    def event(self, content: Json) -> bytes:
        """One event as it is sent."""
        return encode_event(content, name=content["type"])

    def whole(self, choices: Sequence[WholeChoice], usage: Usage) -> Json:
        """The whole answer."""
        [choice] = choices
        reason = None if choice.finish_reason is None else FinishReason(choice.finish_reason)
        self.chunks(
            TextDelta(
                index=0,
                text=choice.text,
                num_tokens=0,
                reasoning=choice.reasoning,
                tool_calls=choice.call_deltas(),
                finish_reason=reason,
            )
        )
        [*_, last] = self.closing(usage)
        response: Json = last["response"]
        return response

    def _add_text(self, kind: str, text: str) -> list[Json]:
        if not text:
            return []
        events: list[Json] = []
        if self._open is None or self._open["type"] != kind:
            events = [*self._close(), *self._open_text(kind)]
        item = self._output[-1]
        item["content"][0]["text"] += text
        return [*events, self._text_event(kind, "delta", delta=text)]

    def _open_text(self, kind: str) -> list[Json]:
        if kind == "message":
            part: Json = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            item: Json = {"type": kind, "id": _make_id("msg"), "role": "assistant", "content": []}
        else:
            part = {"type": "reasoning_text", "text": ""}
            item = {"type": kind, "id": _make_id("rs"), "summary": [], "content": []}
        events = self._open_item(item)
        item["content"] = [part]
        return [*events, self._part_event("response.content_part.added", part=dict(part))]

    def _add_call(self, call: ToolCallDelta) -> list[Json]:
        events: list[Json] = []
        if call.id:
            item = {
                "type": "function_call",
                "id": _make_id("fc"),
                "call_id": call.id,
                "name": call.name,
                "arguments": "",
            }
            events = [*self._close(), *self._open_item(item)]
        if call.arguments:
            self._output[-1]["arguments"] += call.arguments
            events.append(
                self._item_event("response.function_call_arguments.delta", delta=call.arguments)
            )
        return events

    def _open_item(self, item: Json) -> list[Json]:
        item["status"] = "in_progress"
        self._output.append(item)
        self._open = item
        return [self._item_place("response.output_item.added", item=dict(item))]

    def _close(self) -> list[Json]:
        item, self._open = self._open, None
        if item is None:
            return []
        item["status"] = "incomplete" if self._is_cut else "completed"
        if item["type"] == "function_call":
            name = "response.function_call_arguments.done"
            events = [self._item_event(name, arguments=item["arguments"], name=item["name"])]
        else:
            [part] = item["content"]
            events = [
                self._text_event(item["type"], "done", text=part["text"]),
                self._part_event("response.content_part.done", part=part),
            ]
        return [*events, self._item_place("response.output_item.done", item=item)]

    def _text_event(self, kind: str, verb: str, **content: object) -> Json:
        # Log probabilities are asked for by nobody yet, but clients want the field.
        more: Json = {"logprobs": []} if kind == "message" else {}
        return self._part_event(f"{_TEXT_EVENTS[kind]}.{verb}", **content, **more)

    def _part_event(self, kind: str, **content: object) -> Json:
        return self._item_event(kind, content_index=0, **content)

    def _item_event(self, kind: str, **content: object) -> Json:
        return self._item_place(kind, item_id=self._output[-1]["id"], **content)

    def _item_place(self, kind: str, **content: object) -> Json:
        return self._event(kind, output_index=len(self._output) - 1, **content)

    def _event(self, kind: str, **content: object) -> Json:
        number, self._num_events = self._num_events, self._num_events + 1
        return {"type": kind, "sequence_number": number, **content}

    def _response(self, status: str, usage: Usage | None) -> Json:
        reason = {"reason": "max_output_tokens"} if status == "incomplete" else None
        return self._head | {
            "status": status,
            "error": None,
            "incomplete_details": reason,
            "output": list(self._output),
            "usage": None if usage is None else _usage_of(usage),
        }


def _echo(body: ResponsesRequest) -> Json:
    """Say what was asked for, as OpenAI does."""
    dumped = body.model_dump(by_alias=True, exclude_none=True)
    return {
        "instructions": body.instructions,
        "max_output_tokens": body.max_output_tokens,
        "metadata": body.metadata or {},
        "parallel_tool_calls": body.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": False,
        "temperature": 1.0 if body.temperature is None else body.temperature,
        "text": {"format": {"type": "text"}} | dumped.get("text", {}),
        "tool_choice": dumped.get("tool_choice", "auto"),
        "tools": dumped.get("tools", []),
        "top_p": 1.0 if body.top_p is None else body.top_p,
        # Workflows may leave out the first turns of what is too long.
        "truncation": "auto" if (body.model or "").startswith(WORKFLOW_PREFIX) else "disabled",
        "user": body.user,
    }


def _usage_of(usage: Usage) -> Json:
    return {
        "input_tokens": usage.num_prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.num_cached_tokens},
        "output_tokens": usage.num_generated_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.num_reasoning_tokens},
        "total_tokens": usage.num_prompt_tokens + usage.num_generated_tokens,
    }


def _make_id(kind: str) -> str:
    return f"{kind}_{uuid.uuid4().hex}"
