from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from mm_orch.config import render_changed, render_effective
from mm_orch.core.errors import ConfigError

if TYPE_CHECKING:
    from tests.unit.config.conftest import Load

TEXT = """
optimization:
  engine_preference: [vllm, pytorch]
  batcher: {max_batch_size: 4}
monitoring:
  tracing: {endpoint: 'http://ann:secret-one@collector:4317', service_name: "no"}
  anomaly: {webhook_url: 'https://hooks.example/secret-two', throughput_threshold_rps: 1.0e-7}
models:
  "org/name:7b": {source: 'path:/a $${b} "c" # d', aliases: [x, "1"]}
api:
  api_keys: [secret-three, {name: ann, key: secret-four}]
storage: {url: 'postgresql://ann:secret-five@db/muai'}
"""
ENVIRON = {"MUAI_LOG_LEVEL": "debug", "MUAI_OPT_CACHE_MAX_MEMORY": "0"}


def test_every_value_stands_with_its_origin(load: Load) -> None:
    loaded = load(TEXT, ENVIRON, {"monitoring.server.port": 81})
    lines = {
        line.partition("#")[0].strip(): line.partition("  # ")[2]
        for line in render_effective(loaded).splitlines()
        if not line.rstrip().endswith(":")
    }
    assert lines["max_batch_size: 4"] == str(loaded.path)
    assert lines["log_level: DEBUG"] == "MUAI_LOG_LEVEL"
    assert lines["max_memory_mb: 0"] == "MUAI_OPT_CACHE_MAX_MEMORY"
    assert lines["port: 81"] == "command line"
    assert lines["port: 9090"] == "default"
    assert all(lines.values())


def test_the_output_loads_again_as_the_same_configuration(load: Load) -> None:
    first = load(TEXT, ENVIRON, {"monitoring.server.port": 81}).config
    output = render_effective(load(TEXT, ENVIRON, {"monitoring.server.port": 81}))
    # What the mask hides would be a key that everybody can read in the output.
    with pytest.raises(ConfigError, match="a masked key"):
        load(output)
    with pytest.raises(ConfigError, match=r"storage\.url = \*\*\* .*must be a URL postgresql:"):
        load(output)
    masked = output.replace('url: "***"', "url: postgresql://db/muai")
    second = load(masked.replace("***", "filled-in-")).config
    assert second.optimization == first.optimization
    assert second.monitoring.server == first.monitoring.server
    assert second.models == first.models
    assert list(second.models) == list(first.models)
    assert second.system == first.system
    assert [key.name for key in second.api.api_keys] == ["key-1", "ann"]
    assert second.models["org/name:7b"].source == 'path:/a ${b} "c" # d'
    assert second.monitoring.tracing.service_name == "no"


def test_other_yaml_readers_understand_the_output(load: Load) -> None:
    tree = yaml.safe_load(render_effective(load(TEXT)))
    assert tree["monitoring"]["tracing"]["service_name"] == "no"
    assert tree["optimization"]["engine_preference"] == ["vllm", "pytorch"]
    assert tree["models"]["org/name:7b"]["aliases"] == ["x", "1"]


def test_what_is_set_otherwise_stands_by_its_key_without_secrets(load: Load) -> None:
    changed = render_changed(load(TEXT, ENVIRON, {"monitoring.server.port": 81}))

    assert changed["optimization.engine_preference"] == "[vllm, pytorch]"
    [source] = [value for key, value in changed.items() if key.endswith("source")]
    assert source.startswith('"path:/a $${b}')
    assert (changed["system.log_level"], changed["monitoring.server.port"]) == ("DEBUG", "81")
    assert "monitoring.server.host" not in changed
    assert "secret" not in str(changed)


def test_the_output_holds_no_secret(load: Load) -> None:
    output = render_effective(load(TEXT))
    assert "secret-" not in output
    assert "http://***@collector:4317" in output
    assert "https://hooks.example/***" in output
    assert "postgresql" not in output


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("https://ann:pw@hooks.example:8443/a?b", "https://hooks.example:8443/***"),
        ("http://[::1]:80/a", "http://[::1]:80/***"),
    ],
)
def test_a_masked_url_keeps_its_host_and_loads(load: Load, url: str, masked: str) -> None:
    key = "monitoring.anomaly.webhook_url"
    output = render_effective(load(overrides={key: url}))
    assert load(output).config.monitoring.anomaly.webhook_url == masked


def test_the_defaults_render_without_any_other_origin(load: Load) -> None:
    output = render_effective(load(""))
    assert {line.partition("  # ")[2] for line in output.splitlines() if "  # " in line} == {
        "default"
    }
