"""What is wrong between options that are each allowed: pure checks of a whole configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mm_orch.config.layer import nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mm_orch.config.keys import Path
    from mm_orch.config.schema import Config


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """One contradiction.

    Attributes:
        path: the option to blame.
        value: its value.
        problem: what is wrong with it, to follow the value.
        others: options that it contradicts.
    """

    path: Path
    value: object
    problem: str
    others: tuple[Path, ...] = ()
    suggestion: str | None = None


def find_conflicts(config: Config) -> list[Conflict]:
    """Return every contradiction between the options of a configuration."""
    return [conflict for check in _CHECKS for conflict in check(config)]


def _check_batch_sizes(config: Config) -> Iterator[Conflict]:
    batcher = config.optimization.batcher
    if batcher.min_batch_size > batcher.max_batch_size:
        section = ("optimization", "batcher")
        yield Conflict(
            path=(*section, "min_batch_size"),
            value=batcher.min_batch_size,
            problem=f"must be at most max_batch_size, which is {batcher.max_batch_size}",
            others=((*section, "max_batch_size"),),
        )


def _check_alert_destinations(config: Config) -> Iterator[Conflict]:
    anomaly = config.monitoring.anomaly
    section = ("monitoring", "anomaly")
    url_by_destination = {
        "webhook": ("webhook_url", anomaly.webhook_url),
        "alertmanager": ("alertmanager_url", anomaly.alertmanager_url),
    }
    for destination, (option, url) in url_by_destination.items():
        if destination in anomaly.alert_destinations and url is None:
            yield Conflict(
                path=(*section, option),
                value=None,
                problem=f"must be a URL, because alert_destinations names {destination}",
                others=((*section, "alert_destinations"),),
            )


def _check_tracing(config: Config) -> Iterator[Conflict]:
    tracing = config.monitoring.tracing
    section = ("monitoring", "tracing")
    if tracing.enabled and tracing.endpoint is None:
        yield Conflict(
            path=(*section, "endpoint"),
            value=None,
            problem="must be a collector's URL, because tracing.enabled is true",
            others=((*section, "enabled"),),
        )


def _check_tuner(config: Config) -> Iterator[Conflict]:
    if config.optimization.tuner.enabled and not config.monitoring.enabled:
        yield Conflict(
            path=("optimization", "tuner", "enabled"),
            value=True,
            problem="must be false while monitoring.enabled is false: the tuner needs its readings",
            others=(("monitoring", "enabled"),),
        )


def _check_server_paths(config: Config) -> Iterator[Conflict]:
    server = config.monitoring.server
    section = ("monitoring", "server")
    if server.health_check_path == server.readiness_check_path:
        yield Conflict(
            path=(*section, "readiness_check_path"),
            value=server.readiness_check_path,
            problem="must differ from health_check_path",
            others=((*section, "health_check_path"),),
        )


def _check_auth(config: Config) -> Iterator[Conflict]:
    if config.api.enable_auth and not config.api.api_keys:
        yield Conflict(
            path=("api", "enable_auth"),
            value=True,
            problem="needs at least one key in api.api_keys, MUAI_API_KEY or MUAI_API_KEYS",
            others=(("api", "api_keys"),),
        )


def _check_key_names(config: Config) -> Iterator[Conflict]:
    path = ("api", "api_keys")
    names = [key.name for key in config.api.api_keys]
    secrets = [key.key.get_secret_value() for key in config.api.api_keys]
    for number, name in enumerate(names):
        if name in names[:number]:
            problem = f"must have different names; {name} is there twice"
            yield Conflict(path=path, value=(), problem=problem)
        first = secrets.index(secrets[number])
        if first < number:
            problem = f"must differ; {names[first]} and {name} have the same key"
            yield Conflict(path=path, value=(), problem=problem)


def _check_model_names(config: Config) -> Iterator[Conflict]:
    owner_by_spelling = {name: name for name in config.models}
    for name, model in config.models.items():
        for alias in model.aliases:
            owner = owner_by_spelling.setdefault(alias, name)
            is_again = owner == name and (alias == name or model.aliases.count(alias) > 1)
            if owner != name or is_again:
                yield Conflict(
                    path=("models", name, "aliases"),
                    value=alias,
                    problem=f"must be free; {alias} already means the model {owner}",
                    others=(("models", owner, "aliases"),) if owner != name else (),
                )
                if is_again:
                    break


def _check_model_engines(config: Config) -> Iterator[Conflict]:
    for name, model in config.models.items():
        if model.engines and not config.engines_for(name):
            yield Conflict(
                path=("models", name, "engines"),
                value=model.engines,
                problem="must leave an engine to use; each of these has enabled: false",
                others=tuple(("optimization", engine, "enabled") for engine in model.engines),
            )


def _check_endpoints(config: Config) -> Iterator[Conflict]:
    for name, model in config.models.items():
        path = ("models", name, "endpoints")
        others = (("models", name, "source"),)
        if model.endpoints and not model.source.startswith("openai:"):
            yield Conflict(
                path=path,
                value=list(model.endpoints),
                problem="needs an openai: source: openai:#NAME, the model's name on the servers",
                others=others,
            )
        elif model.source.startswith("openai:#") and not model.endpoints:
            yield Conflict(
                path=path,
                value=[],
                problem="must name servers, because the source has no URL",
                others=others,
            )


def _check_remote_tasks(config: Config) -> Iterator[Conflict]:
    for name, model in config.models.items():
        if model.source.startswith("openai:") and model.task != "generate":
            yield Conflict(
                path=("models", name, "task"),
                value=model.task,
                problem="must be generate: servers elsewhere are asked for text, not for vectors",
                others=(("models", name, "source"),),
            )


def _check_replicas(config: Config) -> Iterator[Conflict]:
    for name, model in config.models.items():
        if model.source.startswith("openai:") and model.replicas != 1:
            yield Conflict(
                path=("models", name, "replicas"),
                value=model.replicas,
                problem="must be 1: what runs elsewhere has no workers here; name more endpoints",
                others=(("models", name, "source"),),
            )


def _check_preloaded_models(config: Config) -> Iterator[Conflict]:
    known = config.model_name_by_spelling
    for name in config.monitoring.server.preload_models:
        if name not in known:
            yield Conflict(
                path=("monitoring", "server", "preload_models"),
                value=name,
                problem=f"must name configured models: {', '.join(known)}",
                suggestion=nearest(name, known),
            )


def _check_search(config: Config) -> Iterator[Conflict]:
    search = config.workflows.search
    section = ("workflows", "search")
    if search.provider == "searxng" and search.url is None:
        yield Conflict(
            path=(*section, "url"),
            value=None,
            problem="must be the server's URL, because workflows.search.provider is searxng",
            others=((*section, "provider"),),
        )


def _check_large_model(config: Config) -> Iterator[Conflict]:
    name, path = config.workflows.cascade.large_model, ("workflows", "cascade", "large_model")
    known = [
        spelling
        for spelling, model in config.model_name_by_spelling.items()
        if config.models[model].task == "generate"
    ]
    if name is not None and name not in known:
        yield Conflict(
            path=path,
            value=name,
            problem=f"must name a configured model that generates: {', '.join(known)}",
            suggestion=nearest(name, known),
        )


def _check_goals(config: Config) -> Iterator[Conflict]:
    goals = config.consciousness.goals
    section = ("consciousness", "goals")
    if goals.quality == goals.latency == goals.cost == 0:
        yield Conflict(
            path=(*section, "quality"),
            value=goals.quality,
            problem="must be above 0, because the other goals are 0 too",
            others=((*section, "latency"), (*section, "cost")),
        )


_CHECKS: tuple[Callable[[Config], Iterator[Conflict]], ...] = (
    _check_batch_sizes,
    _check_alert_destinations,
    _check_tracing,
    _check_tuner,
    _check_server_paths,
    _check_auth,
    _check_key_names,
    _check_model_names,
    _check_model_engines,
    _check_endpoints,
    _check_remote_tasks,
    _check_replicas,
    _check_preloaded_models,
    _check_search,
    _check_large_model,
    _check_goals,
)
