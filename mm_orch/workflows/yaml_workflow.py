"""Makes a workflow of a YAML text, or says everything that is wrong with it at once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.config.layer import nearest
from mm_orch.core.errors import GraphError
from mm_orch.core.guide import Guide, JsonSchemaShape
from mm_orch.workflows.contract import (
    ANSWER,
    CALL,
    CONFIDENCE,
    HISTORY,
    INPUTS,
    KEPT,
    SERVICES,
    SOURCES,
    Workflow,
)
from mm_orch.workflows.generating import GeneratedText
from mm_orch.workflows.graph import Graph
from mm_orch.workflows.graph_state import Slot
from mm_orch.workflows.graph_step import Step
from mm_orch.workflows.keeping import KEEP
from mm_orch.workflows.prompt_step import (
    VARIABLES,
    PromptStep,
    PromptTemplate,
    TemplateFaultError,
)
from mm_orch.workflows.yaml_options import NAME
from mm_orch.workflows.yaml_reading import Places, read_draft

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from mm_orch.core.faults import Fault
    from mm_orch.workflows.yaml_options import StepOptions, WorkflowOptions
    from mm_orch.workflows.yaml_reading import Draft

_STEPS = "steps"
# These name other things in the graph of every workflow.
_RESERVED = frozenset(
    (
        *VARIABLES,
        KEEP.name,
        *(slot.name for slot in (CALL, HISTORY, SERVICES, ANSWER, KEPT, SOURCES, CONFIDENCE)),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a workflow's file is checked against.

    Attributes:
        taken_names: of workflows that there are already.
        models: every name and alias of a model that generates.
        find_reason: says why answers cannot be kept to a guide; empty when they can. None leaves
            that to the call.
    """

    taken_names: Collection[str] = ()
    models: Collection[str] = ()
    find_reason: Callable[[Guide], str] | None = None


@dataclass(frozen=True, slots=True)
class ReadWorkflow:
    """What has come of a file.

    Attributes:
        name: under which it is asked for; None where that is not known or another's.
        workflow: None where there are faults.
    """

    name: str | None
    workflow: Workflow | None
    faults: tuple[Fault, ...]


def read_workflow(text: str, *, origin: str, around: Surroundings) -> ReadWorkflow:
    """Read one workflow.

    Args:
        text: the YAML.
        origin: names the file in faults.
        around: what it is checked against.
    """
    places = Places(origin)
    draft = read_draft(text, places)
    name = draft.name if draft.name and re.fullmatch(NAME, draft.name) else None
    if name in around.taken_names:
        places.refuse(("name",), name, "is the name of another workflow")
        name = None
    reader = _Checks(draft, places, around)
    templates = {step: reader.check_step(step, options) for step, options in draft.steps.items()}
    reader.check_names()
    if draft.options is None or places.faults:
        return ReadWorkflow(name, None, tuple(places.faults))
    try:
        workflow = _make(draft.options, draft.steps, templates)
    except GraphError as error:
        for fault in error.faults:
            places.refuse((_STEPS,), list(draft.step_names), f"cannot be run: {fault}")
        return ReadWorkflow(name, None, tuple(places.faults))
    return ReadWorkflow(name, workflow, ())


@dataclass(frozen=True, slots=True)
class _Templates:
    prompt: PromptTemplate
    system: PromptTemplate | None

    @property
    def variables(self) -> frozenset[str]:
        return self.prompt.variables | (self.system.variables if self.system else frozenset())


@dataclass(frozen=True, slots=True)
class _Checks:
    """Looks at what one key alone does not show."""

    draft: Draft
    places: Places
    around: Surroundings

    def check_names(self) -> None:
        for step in self.draft.step_names:
            if step in _RESERVED:
                problem = f"is a name that means something else: {', '.join(sorted(_RESERVED))}"
                self.places.refuse((_STEPS, step), step, problem)
            elif not re.fullmatch(NAME, step):
                problem = "is no name of a step: small letters, digits and _, a letter first"
                self.places.refuse((_STEPS, step), step, problem)
        options = self.draft.options
        if options is not None and not self.places.has_fault("answer"):
            self._check_step_name(("answer",), options.answer)

    def check_step(self, step: str, options: StepOptions) -> _Templates | None:
        """Return the step's templates; None where one is no template."""
        path = (_STEPS, step)
        for needed in options.needs:
            self._check_step_name((*path, "needs"), needed)
        if options.model is not None and options.model not in self.around.models:
            known = ", ".join(sorted(self.around.models))
            near = nearest(options.model, self.around.models)
            problem = f"is no model that generates; known: {known}"
            self.places.refuse((*path, "model"), options.model, problem, near)
        if options.format is not None:
            self._check_format((*path, "format"), options.format)
        prompt = self._read_template((*path, "prompt"), options.prompt)
        system = self._read_template((*path, "system"), options.system)
        if prompt is None or (options.system is not None and system is None):
            return None
        return _Templates(prompt, system)

    def _check_step_name(self, path: tuple[str, ...], name: str) -> None:
        names = self.draft.step_names
        if name not in names:
            problem = f"is no step; known: {', '.join(names) or 'none'}"
            self.places.refuse(path, name, problem, nearest(name, names))

    def _check_format(self, path: tuple[str, ...], schema: dict[str, object]) -> None:
        try:
            text = json.dumps(schema, allow_nan=False)
        except ValueError:
            self.places.refuse(path, schema, "must be a JSON schema; JSON has no such numbers")
            return
        find_reason = self.around.find_reason
        reason = find_reason(Guide(shape=JsonSchemaShape(text))) if find_reason else ""
        if reason:
            problem = f"is a schema that answers cannot be kept to: {reason}"
            self.places.refuse(path, schema, problem)

    def _read_template(self, path: tuple[str, ...], source: str | None) -> PromptTemplate | None:
        if source is None:
            return None
        try:
            template = PromptTemplate(source)
        except TemplateFaultError as error:
            self.places.refuse(path, source, f"is no template, {error}")
            return None
        known = (*VARIABLES, *self.draft.step_names)
        for name in sorted(template.variables - set(known)):
            problem = f"uses {name}, which is no step; known: {', '.join(known)}"
            self.places.refuse(path, source, problem, nearest(name, known))
        return template


def _make(
    options: WorkflowOptions,
    steps: Mapping[str, StepOptions],
    templates: Mapping[str, _Templates | None],
) -> Workflow:
    """Return the workflow.

    Raises:
        GraphError: its steps do not fit together.
    """
    slots = {
        name: ANSWER if name == options.answer else Slot(name, GeneratedText) for name in steps
    }
    made = (
        _make_step(name, one, template, slots=slots, steps=steps)
        for name, one in steps.items()
        # Where one is missing there is a fault, and no workflow is made.
        if (template := templates[name]) is not None
    )
    graph = Graph(
        name=options.name, inputs=INPUTS, steps=(*made, KEEP), answer=ANSWER, results=(KEPT,)
    )
    return Workflow(summary=options.summary, graph=graph)


def _make_step(
    name: str,
    options: StepOptions,
    templates: _Templates,
    *,
    slots: Mapping[str, Slot[GeneratedText]],
    steps: Mapping[str, StepOptions],
) -> Step:
    used = [one for one in slots if one in templates.variables or one in options.needs]
    needed = {one: slots[one] for one in used if not steps[one].optional}
    missable = {one: slots[one] for one in used if steps[one].optional}
    step = PromptStep(
        name=name,
        prompt=templates.prompt,
        system=templates.system,
        output=slots[name],
        needed=needed,
        optional=missable,
        model=options.model,
        max_tokens=options.max_tokens,
        temperature=options.temperature,
        schema=None if options.format is None else json.dumps(options.format),
    )
    return Step(
        name=name,
        run=step.run,
        inputs=(CALL, SERVICES, *needed.values()),
        optional_inputs=tuple(missable.values()),
        outputs=(slots[name],),
        is_optional=options.optional,
        max_retries=options.retries,
        deadline_s=options.deadline_s,
    )
