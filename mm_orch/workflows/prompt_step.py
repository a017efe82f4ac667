"""A step that asks a model with a prompt from a template, as workflows in YAML have them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mm_orch.core.errors import MuAIError, WorkflowError
from mm_orch.core.generation import FinishReason, Message
from mm_orch.core.guide import JsonSchemaShape
from mm_orch.workflows.contract import ANSWER, CALL, SERVICES

if TYPE_CHECKING:
    from collections.abc import Mapping

    import jinja2

    from mm_orch.core.generation import GenerationOptions
    from mm_orch.workflows.generating import GeneratedText
    from mm_orch.workflows.graph_state import Slot, StepContext

QUESTION = "question"
CONTEXT = "context"
VARIABLES = (QUESTION, CONTEXT)
"""What every template may use, beside the answers of other steps."""

# Of a step whose answer is not the workflow's, where neither says it: a small model may go on to
# the end of its context.
DEFAULT_MAX_TOKENS = 1024


class TemplateFaultError(MuAIError):
    """A template is not written as templates are; the message has the line inside it."""


class PromptTemplate:
    """Text with ``{{ names }}`` of jinja2, which runs in its sandbox.

    Raises:
        TemplateFaultError: it cannot be read.
    """

    def __init__(self, source: str) -> None:
        import jinja2
        from jinja2.meta import find_undeclared_variables

        environment = _environment()
        try:
            self.variables = frozenset(find_undeclared_variables(environment.parse(source)))
            self._template = environment.from_string(source)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateFaultError(
                f"line {error.lineno} of it: {(error.message or 'it cannot be read').rstrip('.')}"
            ) from error

    def render(self, values: Mapping[str, str]) -> str:
        """Return the text with the values in it.

        Raises:
            WorkflowError: it does with them what cannot be done.
        """
        import jinja2

        try:
            return self._template.render(**values)
        except (
            jinja2.TemplateError,
            *(ArithmeticError, AttributeError, LookupError, TypeError, ValueError),
        ) as error:
            raise WorkflowError(f"Its template cannot be filled in: {error}.") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStep:
    """Asks a model once.

    Attributes:
        prompt, system: the templates; no system is no instructions.
        output: where the answer goes; of :data:`ANSWER` it is told as it comes.
        needed: slots whose answers the templates may use, by their variable.
        optional: the same for steps that may have failed: then the variable is empty.
        schema: JSON schema of the answer, as text; None for free text.
    """

    name: str
    prompt: PromptTemplate
    system: PromptTemplate | None
    output: Slot[GeneratedText]
    needed: Mapping[str, Slot[GeneratedText]]
    optional: Mapping[str, Slot[GeneratedText]]
    model: str | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    schema: str | None = None

    async def run(self, context: StepContext) -> None:
        """Ask, and write the answer.

        Raises:
            WorkflowError: a template cannot be filled in, or the answer has lost its form.
        """
        is_last = self.output == ANSWER
        answer = await context[SERVICES].models.answer(
            self._messages(context),
            say=context.say if is_last else None,
            think=context.think if is_last else None,
            timeout_s=context.remaining_s(),
            options=self._options(context[CALL].options, is_last=is_last),
            model=self.model,
        )
        is_cut = answer.finish_reason is FinishReason.LENGTH
        if is_cut and self.schema is not None and not is_last:
            raise WorkflowError(
                f"The answer of step {self.name} was cut by its max_tokens, so it has not the form"
                " that it is to have."
            )
        context.put(self.output, answer)

    def _messages(self, context: StepContext) -> tuple[Message, ...]:
        call = context[CALL]
        values = {
            QUESTION: call.question,
            CONTEXT: "\n\n".join(call.instructions),
        }
        values |= {name: context[slot].text for name, slot in self.needed.items()}
        for name, slot in self.optional.items():
            found = context.find(slot)
            values[name] = "" if found is None else found.text
        prompt = Message(role="user", content=self.prompt.render(values))
        if self.system is None:
            return (prompt,)
        return (Message(role="system", content=self.system.render(values)), prompt)

    def _options(self, asked: GenerationOptions, *, is_last: bool) -> GenerationOptions:
        guide = None if self.schema is None else JsonSchemaShape(self.schema)
        temperature = asked.temperature if self.temperature is None else self.temperature
        if is_last:
            bounds = [one for one in (asked.max_tokens, self.max_tokens) if one is not None]
            most = min(bounds, default=None)
            return replace(asked, guide=guide, temperature=temperature, max_tokens=most)
        # What the caller says of the answer's length and end is not said of what comes before it.
        return replace(
            asked,
            guide=guide,
            temperature=temperature,
            max_tokens=self.max_tokens or DEFAULT_MAX_TOKENS,
            min_tokens=0,
            stop=(),
            ignore_eos=False,
        )


@cache
def _environment() -> jinja2.Environment:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["from_json"] = _from_json
    return environment


def _from_json(text: str) -> Any:
    return json.loads(text)
