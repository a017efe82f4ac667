from __future__ import annotations

import pytest

from mm_orch.config import load_config
from mm_orch.core.live_error import LiveChangeError
from mm_orch.live.decision import decide, live_keys, read_live
from mm_orch.live.plans import find_replicas
from mm_orch.optimization.replicas.layout import ReplicaRange

MAX_BATCH = "optimization.batcher.max_batch_size"
MIN_BATCH = "optimization.batcher.min_batch_size"
MEMORY = "optimization.cache.max_memory_mb"
REPLICAS = "models.smollm2-135m.replicas"
CONFIG = load_config(path=None, environ={}, overrides={"system.device": "cpu"}).config


def test_the_live_options_are_those_of_the_contract() -> None:
    tuner = {
        f"optimization.tuner.{name}"
        for name in (
            "observation_window_seconds",
            "tuning_interval_seconds",
            "enable_batch_size_tuning",
            "enable_timeout_tuning",
            "enable_cache_size_tuning",
        )
    }
    assert set(live_keys()) == tuner | {
        "optimization.autoscaler.target_wait_s",
        "optimization.autoscaler.quiet_s",
        MAX_BATCH,
        MIN_BATCH,
        "optimization.batcher.batch_timeout_ms",
        "optimization.batcher.max_batch_tokens",
        MEMORY,
        "monitoring.server.queue_capacity",
        "monitoring.server.graceful_shutdown_timeout",
        "models.*.endpoints",
        "models.*.replicas",
    }


def test_the_live_options_of_models_are_those_of_each() -> None:
    config = load_config(
        path=None, environ={}, overrides={"models.m.x:1.source": "path:/m", f"{REPLICAS}": 3}
    ).config
    assert {name: value for name, value in read_live(config).items() if "replicas" in name} == {
        "models.m.x:1.replicas": 1,
        REPLICAS: 3,
    }
    decided = decide(config, {"models.m.x:1.replicas": "auto"}, origin="admin")
    assert decided.models["m.x:1"].replicas == "auto"
    assert decide(decided, {"models.m.x:1.replicas": 1}, origin="admin") == config
    ranged = decide(config, {"models.m.x:1.replicas": "2-5"}, origin="admin")
    assert find_replicas(ranged, "m.x:1") == ReplicaRange(2, 5)
    assert [find_replicas(one, "m.x:1") for one in (config, decided)] == [1, None]


def test_a_decision_changes_what_is_asked_and_nothing_else() -> None:
    decided = decide(
        CONFIG, {MAX_BATCH: 7, "optimization.server.queue_capacity": 5}, origin="admin"
    )

    changed = {MAX_BATCH: 7, "monitoring.server.queue_capacity": 5}
    assert read_live(decided) == {**read_live(CONFIG), **changed}
    assert decide(decided, read_live(CONFIG), origin="admin") == CONFIG


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({MAX_BATCH: 0}, "max_batch_size = 0 (admin): must be a whole number, at least 1"),
        ({MAX_BATCH: 1.5}, "max_batch_size = 1.5 (admin): must be a whole number"),
        ({MAX_BATCH: True}, "max_batch_size = true (admin): must be a whole number"),
        ({MAX_BATCH: None}, "max_batch_size = null (admin): must be a whole number"),
        ({MAX_BATCH: [4]}, "max_batch_size = [4] (admin): must be a whole number"),
        ({MAX_BATCH: 2**70}, "max_batch_size = 1180591620717411303424 (admin): must be"),
        ({MEMORY: "all"}, "max_memory_mb = 'all' (admin): must be a whole number, at least 0"),
        ({MIN_BATCH: 33}, "must be at most max_batch_size, which is 32"),
        ({MAX_BATCH: 2, MIN_BATCH: 3}, "must be at most max_batch_size, which is 2"),
        ({"optimization.batcher.max_batch_sise": 4}, f"Did you mean {MAX_BATCH}?"),
        ({"": 4}, "is not an option of the configuration"),
        ({"system.device": "cpu"}, "cannot be changed while the server runs; it needs a restart"),
        ({"models.smollm2-135m.dtype": "fp32"}, "cannot be changed while the server runs"),
        ({REPLICAS: 0}, "replicas = 0 (admin): must be a whole number from 1 to 64, a range"),
        ({REPLICAS: "many"}, "replicas = 'many' (admin): must be a whole number from 1 to 64"),
        ({"models.no.replicas": 2}, "is of no model that is configured; there are smollm2-135m"),
        ({"optimization.batcher": {}}, "optimization.batcher = {} (admin): is not an option of"),
    ],
)
def test_what_is_not_allowed_is_named_with_what_is(values: dict[str, object], says: str) -> None:
    with pytest.raises(LiveChangeError) as told:
        decide(CONFIG, values, origin="admin")

    assert says in str(told.value)


def test_all_faults_are_told_together_and_the_live_options_named() -> None:
    values = {MAX_BATCH: 0, MEMORY: "x", MIN_BATCH: 40, "system.device": "cpu", "api.x": "secret"}

    with pytest.raises(LiveChangeError) as told:
        decide(CONFIG, values, origin="admin")

    # Whether 40 is too many cannot be told while the bound itself is wrong.
    named = {fault.key for fault in told.value.faults}
    assert named == {MAX_BATCH, MEMORY, "system.device", "api.x"}
    assert all(name in str(told.value) for name in live_keys())
    assert "secret" not in str(told.value)


def test_keys_are_never_told() -> None:
    with pytest.raises(LiveChangeError) as told:
        decide(CONFIG, {"api.api_keys": ["a-secret-key"]}, origin="admin")

    assert "a-secret-key" not in str(told.value)


@pytest.mark.parametrize("switch", ["optimization.enabled", "optimization.batcher.enabled"])
def test_what_is_switched_off_is_not_changed_without_effect(switch: str) -> None:
    config = load_config(path=None, environ={}, overrides={switch: False}).config

    with pytest.raises(LiveChangeError, match=f"has no effect while {switch} is false"):
        decide(config, {MAX_BATCH: 4}, origin="admin")

    assert read_live(decide(config, {MAX_BATCH: 32, MEMORY: 9}, origin="admin"))[MEMORY] == 9
