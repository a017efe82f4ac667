"""Lists, fetches and removes models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mm_orch.cli import exit_codes, terminal
from mm_orch.cli.progress import make_progress
from mm_orch.cli.unknown_model import unknown_model
from mm_orch.cli.words import name_size
from mm_orch.core.errors import ModelStoreError
from mm_orch.core.generation import Task

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mm_orch.config import Config, LoadedConfig
    from mm_orch.models.store import ModelStore
    from mm_orch.models.stored import StoredModel


class ModelEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One model as --model-info tells of it.

    Attributes:
        task: what it is configured for, or None.
        is_configured: False for files that no entry of the configuration speaks of.
        vectors: how an embedding model makes them, in words.
        engines: those that would be tried and can run here, in order.
        problem: why its files cannot be had, or empty.
    """

    name: str
    aliases: tuple[str, ...] = ()
    source: str
    task: Task | None = None
    is_default: bool = False
    is_configured: bool = True
    is_downloaded: bool
    size_bytes: int | None = None
    directory: str | None = None
    architecture: str | None = None
    context_length: int | None = None
    vectors: str | None = None
    engines: tuple[str, ...] = ()
    problem: str = ""

    @property
    def is_remote(self) -> bool:
        """Whether another server runs it."""
        return self.source.startswith("openai:")


def print_models(loaded: LoadedConfig, name: str | None, *, as_json: bool) -> int:
    """Print every known model, or the one asked for.

    Raises:
        ModelNotFoundError: no configured and no stored model has this name.
    """
    entries = list(_entries(loaded.config))
    if name is not None:
        entries = [entry for entry in entries if name == entry.name or name in entry.aliases]
        if not entries:
            raise unknown_model(loaded.config, name)
    if as_json:
        values = {"models": entries}
        terminal.say_json(values)
    else:
        for entry in entries:
            for line in _lines(entry):
                terminal.say(line)
    return exit_codes.DONE


def pull(loaded: LoadedConfig, wanted: str) -> int:
    """Fetch a configured model, or a source under a name made from it.

    Raises:
        ModelNotFoundError: it is neither.
        ModelStoreError: it cannot be had.
    """
    config = loaded.config
    name = config.model_name_by_spelling.get(wanted)
    if name is None and ":" not in wanted:
        raise unknown_model(config, wanted, remedy="Or give a source, like hf:ORG/NAME.")
    is_configured = name is not None
    source = config.models[name].source if name is not None else wanted
    stored = _store(config).ensure(
        name or _name_for(wanted, config),
        source,
        with_code=name is not None and config.models[name].trust_remote_code,
    )
    size = name_size(stored.size_bytes)
    terminal.say(f"{stored.name} is complete: {size} in {stored.directory}")
    if not is_configured:
        terminal.say("To use it, put this into the configuration:")
        terminal.say(
            f"models:\n  {stored.name}:\n    source: {msgspec.json.encode(source).decode()}"
        )
    return exit_codes.DONE


def remove(loaded: LoadedConfig, wanted: str) -> int:
    """Delete a model's files; it stays configured and is fetched again when next needed.

    Raises:
        ModelNotFoundError: no model has this name.
        ModelStoreError: the files cannot be deleted.
    """
    config = loaded.config
    store = _store(config)
    known = {stored.name: stored.name for stored in store.list_stored()}
    known |= config.model_name_by_spelling
    if wanted not in known:
        raise unknown_model(config, wanted)
    name = known[wanted]
    num_bytes = store.remove(name)
    if num_bytes:
        terminal.say(f"{name}: {name_size(num_bytes)} freed")
    else:
        terminal.say(f"{name}: there was nothing to delete")
    return exit_codes.DONE


def _entries(config: Config) -> Iterator[ModelEntry]:
    store = _store(config)
    for name, model in config.models.items():
        found, problem = _find(store, name, model.source)
        yield _described(
            ModelEntry(
                name=name,
                aliases=model.aliases,
                source=model.source,
                task=model.task,
                is_default=name in {config.default_model_name, config.default_embedder_name},
                is_downloaded=found is not None,
                engines=_able_engines(config, name),
                problem=problem,
            ),
            found,
        )
    for stored in store.list_stored():
        if stored.name not in config.models:
            entry = ModelEntry(
                name=stored.name, source=stored.source, is_configured=False, is_downloaded=True
            )
            yield _described(entry, stored)


def _find(store: ModelStore, name: str, source: str) -> tuple[StoredModel | None, str]:
    try:
        return store.find(name, source), ""
    except ModelStoreError as error:
        # One model whose path is gone does not hide the others.
        return None, str(error)


def _described(entry: ModelEntry, stored: StoredModel | None) -> ModelEntry:
    if stored is None:
        return entry
    return msgspec.structs.replace(
        entry,
        size_bytes=stored.size_bytes,
        directory=stored.directory,
        architecture=stored.architecture,
        context_length=stored.context_length,
        vectors=_vectors_of(stored) if entry.task == "embed" else None,
    )


def _vectors_of(stored: StoredModel) -> str:
    from mm_orch.models.recipe import read_recipe

    return read_recipe(Path(stored.directory)).words


def _able_engines(config: Config, name: str) -> tuple[str, ...]:
    from mm_orch.optimization.registry import probe_engine

    task, pythons = config.models[name].task, config.python_by_engine
    return tuple(
        engine
        for engine in config.engines_for(name)
        if probe_engine(engine, task, python=pythons.get(engine, "")).is_available
    )


def _lines(entry: ModelEntry) -> Iterator[str]:
    yield f"{entry.name}{' (default)' if entry.is_default else ''}"
    if entry.aliases:
        yield f"  aliases     {', '.join(entry.aliases)}"
    if entry.task == "embed":
        yield "  task        embed: makes vectors of texts"
    yield f"  source      {entry.source}"
    if entry.is_remote:
        yield "  files       none: another server runs it"
        return
    if entry.problem:
        yield f"  files       {entry.problem}"
    elif entry.is_downloaded and entry.size_bytes is not None:
        yield f"  files       {name_size(entry.size_bytes)} in {entry.directory}"
    else:
        yield f"  files       not downloaded; fetched when first needed, or by --pull {entry.name}"
    if entry.architecture:
        recipe = f", {entry.vectors}" if entry.vectors else ""
        yield f"  model       {entry.architecture}, context {entry.context_length} tokens{recipe}"
    if entry.is_configured:
        yield f"  engines     {', '.join(entry.engines) or 'none that can run here'}"
    else:
        yield "  engines     none: it is not in the configuration"


def _store(config: Config) -> ModelStore:
    from mm_orch.models.store import ModelStore

    return ModelStore(config.system.data_directory, progress=make_progress())


def _name_for(source: str, config: Config) -> str:
    """Return the configured name of a source, else one made of its last part."""
    for name, model in config.models.items():
        if model.source == source:
            return name
    _, _, rest = source.partition(":")
    words = rest.partition("@")[0].partition("==")[0].rstrip("/")
    last = words.rpartition("/")[2].removesuffix(".gguf")
    return re.sub(r"[^a-z0-9._-]+", "-", last.lower()).strip("-._") or "model"
