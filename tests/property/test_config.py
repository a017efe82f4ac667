"""Whatever stands in a file, the environment or the arguments: it loads or it is a ConfigError."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mm_orch.config import load_config, render_effective
from mm_orch.config.environment import path_by_variable
from mm_orch.config.interpolation import escape, interpolate
from mm_orch.config.keys import Key, dotted, keys_by_path
from mm_orch.config.kinds import Shape
from mm_orch.config.schema import BUILT_IN_MODEL
from mm_orch.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from mm_orch.config import LoadedConfig

KEYS = list(keys_by_path().values())
NAMES = sorted({name for key in KEYS for name in key.path} | {"server", BUILT_IN_MODEL, "m"})
VARIABLES = [*path_by_variable(), "MUAI_API_KEY", "MUAI_API_KEYS", "MUAI_OPT_NOTHING", "A"]
# Surrogates too: an environment may hold bytes that are no text.
ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=20)
WORDS = st.sampled_from(
    [
        "",
        "auto",
        "vllm",
        "fp16",
        "on",
        "null",
        "0",
        "-1",
        "1e400",
        "${A}",
        "${",
        "$${A:x}",
        "a,b",
        "/",
    ]
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), WORDS, st.text(max_size=20)
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=12,
)
YAML_PIECES = st.sampled_from(
    [
        *"{}[]:,-?&*!|>'\"%@`#~<\n ",
        "\n  ",
        ": ",
        "- ",
        "<<: ",
        "&a ",
        "*a",
        "!!int ",
        "---\n",
        *NAMES,
    ]
)
NUMBERS = [key for key in KEYS if key.kind.shape in {Shape.INT, Shape.FLOAT}]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("config") / "muai.yaml"


def load_or_refuse(
    path: Path, content: bytes, environ: dict[str, str], overrides: dict[str, Any]
) -> LoadedConfig | None:
    """Load, or check that the refusal says something about every fault."""
    path.write_bytes(content)
    refusal: ConfigError | None = None
    try:
        loaded = load_config(path=path, environ=environ, overrides=overrides)
    except ConfigError as error:
        refusal = error
    if refusal is None:
        render_effective(loaded).encode()
        return loaded
    assert refusal.faults
    # It can be printed, fault by fault, on a line each.
    lines = str(refusal).encode().decode().splitlines()
    assert len(lines) == len(refusal.faults) + 1
    return None


@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_in_a_file_load_or_are_refused(path: Path, content: bytes) -> None:
    load_or_refuse(path, content, {}, {})


@given(pieces=st.lists(YAML_PIECES, max_size=30))
def test_anything_that_looks_like_yaml_loads_or_is_refused(path: Path, pieces: list[str]) -> None:
    load_or_refuse(path, "".join(pieces).encode(), {"A": "x"}, {})


@given(tree=TREES)
def test_any_structure_in_a_file_loads_or_is_refused(path: Path, tree: Any) -> None:
    load_or_refuse(path, json.dumps(tree).encode(), {"A": "x"}, {})


@given(
    section=st.sampled_from(sorted({key.path[:-1] for key in KEYS})),
    values=st.dictionaries(st.sampled_from(NAMES), TREES, max_size=4),
)
def test_any_structure_in_a_section_loads_or_is_refused(
    path: Path, section: tuple[str, ...], values: dict[str, Any]
) -> None:
    tree: Any = values
    for name in reversed(section):
        tree = {name: tree}
    load_or_refuse(path, json.dumps(tree).encode(), {"A": "x"}, {})


@given(
    environ=st.dictionaries(
        st.sampled_from(VARIABLES) | ANY_TEXT.map("MUAI_OPT_".__add__), WORDS | ANY_TEXT, max_size=4
    )
)
def test_any_environment_loads_or_is_refused(path: Path, environ: dict[str, str]) -> None:
    load_or_refuse(path, b"system: {log_file: '${A:x}'}", environ, {})


@given(
    overrides=st.dictionaries(
        st.sampled_from([dotted(key.path).replace("*", "m") for key in KEYS]) | ANY_TEXT,
        TREES | ANY_TEXT,
        max_size=4,
    ),
    content=st.sampled_from([b"", b"models: {m: {source: 'path:/m'}}"]),
)
def test_any_arguments_load_or_are_refused(
    path: Path, overrides: dict[str, Any], content: bytes
) -> None:
    load_or_refuse(path, content, {}, overrides)


def numbers_in_range(key: Key) -> st.SearchStrategy[Any]:
    limits = key.kind.limits
    low, high = limits.get("ge", limits.get("gt")), limits.get("le")
    if key.kind.shape is Shape.INT:
        return st.integers(int(low or 0), None if high is None else int(high))
    return st.floats(low, high, exclude_min="gt" in limits, allow_nan=False, allow_infinity=False)


def values_out_of_range(key: Key) -> st.SearchStrategy[Any]:
    limits = key.kind.limits
    low, high = limits.get("ge", limits.get("gt", 0)), limits.get("le")
    is_open = "gt" in limits
    too_low = st.integers(max_value=int(low) - (0 if is_open else 1))
    too_high = st.nothing() if high is None else st.integers(int(high) + 1)
    no_numbers = st.sampled_from([float("nan"), float("inf"), "many", True, [1], {"a": 1}])
    fractions = st.just(1.5) if key.kind.shape is Shape.INT else st.nothing()
    return too_low | too_high | no_numbers | fractions


def key_of_a_model(key: Key) -> str:
    return dotted(key.path).replace("*", BUILT_IN_MODEL)


@given(data=st.data(), key=st.sampled_from(NUMBERS))
def test_any_number_in_range_loads_from_every_origin(
    path: Path, data: st.DataObject, key: Key
) -> None:
    value = data.draw(numbers_in_range(key))
    name = key_of_a_model(key)
    room = {"optimization.batcher.max_batch_size": 2**63 - 1}
    tree: Any = value
    for part in reversed(key.path):
        tree = {BUILT_IN_MODEL if part == "*" else part: tree}
    overrides = {} if name in room else room
    from_file = load_or_refuse(path, json.dumps(tree).encode(), {}, overrides)
    from_arguments = load_or_refuse(path, b"", {}, {**overrides, name: value})
    from_text = load_or_refuse(path, b"", {}, {**overrides, name: f" {value!r} "})
    assert from_file
    assert from_arguments
    assert from_text
    assert from_file.config == from_arguments.config == from_text.config


@given(data=st.data(), key=st.sampled_from(NUMBERS))
def test_any_number_out_of_range_is_refused_by_its_key(
    path: Path, data: st.DataObject, key: Key
) -> None:
    value = data.draw(values_out_of_range(key))
    path.write_bytes(b"")
    with pytest.raises(ConfigError) as caught:
        load_config(path=path, environ={}, overrides={key_of_a_model(key): value})
    assert key_of_a_model(key) in [fault.key for fault in caught.value.faults]


def valid_values(key: Key) -> st.SearchStrategy[Any]:
    """Values that the key may take, whatever the others are."""
    nullable = st.none() if key.kind.is_nullable else st.nothing()
    texts = st.text(min_size=1, max_size=12).filter(
        lambda text: text.isprintable() and text.strip()
    )
    match key.kind.shape:
        case Shape.BOOL:
            return st.booleans()
        case Shape.INT | Shape.FLOAT:
            return nullable | numbers_in_range(key)
        case Shape.TEXT if key.kind.choices:
            return nullable | st.sampled_from(key.kind.choices)
        case Shape.TEXT:
            return {
                "service_name": texts,
                "log_file": texts,
                "data_dir": texts,
                "source": texts.map("path:".__add__),
            }.get(key.path[-1], st.just(key.default))
        case _:
            return st.just(key.default)


@given(data=st.data())
def test_the_effective_configuration_loads_again_as_it_is(path: Path, data: st.DataObject) -> None:
    keys = data.draw(st.lists(st.sampled_from(KEYS), max_size=12, unique_by=lambda key: key.path))
    settings = {key_of_a_model(key): data.draw(valid_values(key)) for key in keys}
    first = load_or_refuse(path, b"", {}, settings)
    if first is None:
        return
    second = load_or_refuse(path, render_effective(first).encode(), {}, {})
    assert second
    assert second.config == first.config
    assert set(second.origins.values()) == {str(path)}


@given(text=st.text(st.sampled_from("${}:aA"), max_size=12))
def test_escaping_a_text_keeps_it_from_being_replaced(text: str) -> None:
    assert interpolate(escape(text), {"A": "x", "a": "y"}).text == text
