"""Says in words what the system is and can do: every sentence is a fact of the self-model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mm_orch.consciousness.self_words import WORDS

if TYPE_CHECKING:
    from mm_orch.consciousness.self_question import Language, Topic
    from mm_orch.consciousness.self_words import Words
    from mm_orch.core.mind_report import EngineFacts, ModelFacts, SelfModel, WorkflowFacts


def describe_self(facts: SelfModel, topic: Topic, language: Language) -> str:
    """Return what is so about a topic, in lines.

    Args:
        facts: of this moment.
        topic: of the question; its abilities are everything together.
        language: to answer in.
    """
    words = WORDS[language]
    match topic:
        case "models":
            return _list_models(facts, words)
        case "engines":
            return _list_engines(facts, words)
        case "workflows":
            return _list_workflows(facts, words)
        case "health":
            return _tell_health(facts, words)
        case "load":
            return _tell_load(facts, words)
        case "abilities":
            parts = (
                words.who.format(version=facts.version),
                _list_workflows(facts, words),
                _list_models(facts, words),
                _tell_features(facts, words),
                _tell_health(facts, words),
            )
            return "\n".join(part for part in parts if part)


def _list_models(facts: SelfModel, words: Words) -> str:
    return _list(
        words.models,
        [(one.name, _tell_model(one, facts.default_model, words)) for one in facts.models],
        words,
    )


def _tell_model(model: ModelFacts, default_model: str, words: Words) -> str:
    told = [words.states[model.state]]
    if model.engine and model.state == "loaded":
        told.append(words.on_engine.format(engine=model.engine))
    if model.name == default_model:
        told.append(words.default)
    if model.detail and model.state == "failing":
        told.append(model.detail)
    return words.comma.join(told)


def _list_engines(facts: SelfModel, words: Words) -> str:
    return _list(words.engines, [(e.name, _tell_engine(e, words)) for e in facts.engines], words)


def _tell_engine(engine: EngineFacts, words: Words) -> str:
    if engine.is_available:
        return words.states["available"]
    return engine.reason or words.states["broken"]


def _list_workflows(facts: SelfModel, words: Words) -> str:
    return _list(
        words.workflows, [(one.name, _tell_workflow(one, words)) for one in facts.workflows], words
    )


def _tell_workflow(workflow: WorkflowFacts, words: Words) -> str:
    if workflow.state == "available":
        return workflow.summary
    state = words.states[workflow.state]
    return f"{state}{words.comma}{workflow.detail}" if workflow.detail else state


def _tell_health(facts: SelfModel, words: Words) -> str:
    reasons = words.comma.join(facts.health_reasons)
    state = words.states[facts.health]
    lines = [f"{words.health}{words.colon}{state}{_in_brackets(reasons, words)}"]
    if not facts.is_ready:
        lines.append(words.not_ready.format(reason=facts.not_ready_because))
    return "\n".join([*lines, _tell_load(facts, words)])


def _tell_load(facts: SelfModel, words: Words) -> str:
    return words.load.format(
        running=facts.num_running, waiting=facts.num_waiting, capacity=facts.queue_capacity
    )


def _tell_features(facts: SelfModel, words: Words) -> str:
    lines = []
    for title, wanted in ((words.switched_on, True), (words.switched_off, False)):
        names = [name for name, is_on in facts.features.items() if is_on is wanted]
        if names:
            lines.append(f"{title}{words.colon}{words.comma.join(names)}")
    return "\n".join(lines)


def _list(title: str, items: list[tuple[str, str]], words: Words) -> str:
    if not items:
        return f"{title}{words.colon}{words.nothing}"
    lines = [f"- {name}{words.colon}{text}" for name, text in items]
    return "\n".join([f"{title}{words.colon}".rstrip(), *lines])


def _in_brackets(text: str, words: Words) -> str:
    before, after = words.brackets
    return f"{before}{text}{after}" if text else ""
