from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mm_orch.config import load_config
from mm_orch.core.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.config.conftest import Faults, Load

SECRET = "hunter2-of-ann"  # noqa: S105 - made up


@pytest.mark.parametrize(
    ("text", "key", "suggestion"),
    [
        ("optimisation: {}", "optimisation", "optimization"),
        ("optimization: {bacher: {}}", "optimization.bacher", "optimization.batcher"),
        (
            "optimization: {batcher: {max_batchsize: 1}}",
            "optimization.batcher.max_batchsize",
            "optimization.batcher.max_batch_size",
        ),
        (
            "optimization: {server: {prot: 1}}",
            "optimization.server.prot",
            "optimization.server.port",
        ),
        (
            "optimization: {max_batch_size: 1}",
            "optimization.max_batch_size",
            "optimization.batcher.max_batch_size",
        ),
        ("models: {m: {source: 'path:/m', alias: x}}", "models.m.alias", "models.m.aliases"),
        ("system: {xyzzy: 1}", "system.xyzzy", None),
        ("Optimization: {}", "Optimization", "optimization"),
    ],
)
def test_an_unknown_key_names_the_nearest_one(
    faults: Faults, text: str, key: str, suggestion: str | None
) -> None:
    (fault,) = faults(text)
    assert fault.key == key
    assert fault.suggestion == suggestion
    assert "is not an option of" in fault.problem


def test_an_unknown_key_of_the_command_line_is_a_fault(faults: Faults) -> None:
    (fault,) = faults(overrides={"monitoring.server.prot": 1})
    assert fault.suggestion == "monitoring.server.port"
    assert fault.origin == "command line"


@pytest.mark.parametrize(
    ("text", "key", "value", "allowed", "suggestion"),
    [
        (
            "optimization: {vllm: {dtype: FP16}}",
            "optimization.vllm.dtype",
            "'FP16'",
            "must be one of auto, fp16, bf16, fp32",
            "fp16",
        ),
        (
            "optimization: {batcher: {max_batch_size: 8.5}}",
            "optimization.batcher.max_batch_size",
            "8.5",
            "must be a whole number, at least 1",
            None,
        ),
        (
            "optimization: {vllm: {gpu_memory_utilization: 90}}",
            "optimization.vllm.gpu_memory_utilization",
            "90",
            "must be a number above 0, at most 1",
            None,
        ),
        (
            "optimization: {vllm: {max_model_len: long}}",
            "optimization.vllm.max_model_len",
            "'long'",
            "must be a whole number, at least 1, or null",
            None,
        ),
        (
            "monitoring: {anomaly: {alert_destinations: [log, webhok]}}",
            "monitoring.anomaly.alert_destinations[1]",
            "'webhok'",
            "must be one of log, webhook, alertmanager",
            "webhook",
        ),
        (
            "optimization: {engine_preference: [VLLM]}",
            "optimization.engine_preference[0]",
            "'VLLM'",
            "must be an engine's name (small letters, digits, _ and -)",
            "vllm",
        ),
        ("api: {enable_auth: 1}", "api.enable_auth", "1", "must be true or false", None),
        (
            "optimization: {batcher: 5}",
            "optimization.batcher",
            "5",
            "must be a mapping of options",
            None,
        ),
        ("models: [a]", "models", "['a']", "must be a mapping of options", None),
        (
            "models: {a b: {source: 'path:/m'}}",
            "models.a b",
            "'a b'",
            "must be a model's name (letters, digits and ._:-/, a letter or digit first, not"
            " 'auto', no 'workflow/' first)",
            None,
        ),
        (
            f"monitoring: {{server: {{port: {2**70}}}}}",
            "monitoring.server.port",
            str(2**70),
            "must be a whole number from 0 to 65535",
            None,
        ),
        (
            f"optimization: {{batcher: {{max_batch_size: {2**64}}}}}",
            "optimization.batcher.max_batch_size",
            str(2**64),
            f"must be a whole number, at least 1, at most {2**63 - 1}",
            None,
        ),
    ],
)
def test_a_fault_tells_key_value_origin_and_what_is_allowed(
    faults: Faults, text: str, key: str, value: str, allowed: str, suggestion: str | None
) -> None:
    (fault,) = faults(text)
    assert (fault.key, fault.value, fault.problem) == (key, value, allowed)
    assert fault.suggestion == suggestion
    assert fault.origin.endswith("muai.yaml line 1")


def test_a_model_without_a_source_is_told_what_a_source_is(faults: Faults) -> None:
    (fault,) = faults("models:\n  m: {dtype: bf16}")
    assert fault.key == "models.m.source"
    assert "is required: hf:ORG/NAME" in fault.problem
    assert fault.origin.endswith("line 2")


def test_an_option_for_a_model_that_nobody_configured_asks_for_its_source(faults: Faults) -> None:
    (fault,) = faults(overrides={"models.m.context_length": 8})
    assert fault.key == "models.m.source"


def test_all_faults_of_all_origins_are_reported_at_once(faults: Faults) -> None:
    found = faults(
        """
        optimisation: {}
        optimization:
          batcher: {min_batch_size: 9, max_batch_size: 4}
          vllm: {dtype: int3}
        monitoring:
          server: {port: 1, port: 2, preload_models: [absent]}
          prometheus: {port: high}
        models:
          m: {aliases: [smollm2-135m]}
        """,
        {"MUAI_LOG_LEVEL": "loud"},
        {"system.device": "gpu", "foo": 1},
    )
    assert {fault.key for fault in found} == {
        "optimisation",
        "optimization.batcher.min_batch_size",
        "optimization.vllm.dtype",
        "monitoring.server.port",
        "monitoring.server.preload_models",
        "monitoring.prometheus.port",
        "models.m.source",
        "models.m.aliases",
        "system.log_level",
        "system.device",
        "foo",
    }


def test_the_error_lists_every_fault_on_its_line(load: Load) -> None:
    with pytest.raises(ConfigError) as caught:
        load("system: {device: gpu, log_levl: INFO}")
    message = str(caught.value)
    assert message.startswith("The configuration has 2 faults:")
    assert "Did you mean system.log_level?" in message
    assert len(message.splitlines()) == 3


@pytest.mark.parametrize(
    "text",
    [
        f"api: {{api_keys: ['{SECRET} with a space']}}",
        f"api: {{api_keys: [{{name: ann, key: '{SECRET} x'}}]}}",
        f"api: {{api_keys: [{{name: ann, key: {SECRET}, colour: red}}]}}",
        f"api: {{api_keys: {{ann: {SECRET}}}}}",
        f"api: {{apikeys: {SECRET}}}",
        f"api: {{api_keys: [{SECRET}], api_keys: [{SECRET}]}}",
        f"api: {{api_keys: [{SECRET}, {SECRET}]}}",
        f"api: {SECRET}",
        f"api_key: {SECRET}",
        f"system: {{password: {SECRET}}}",
        f"storage: {{url: 'mysql://ann:{SECRET}@db/muai'}}",
        f"storage: {{url: 'postgresql://ann:{SECRET} x@db/muai'}}",
        f"storage: {{url: ['postgresql://ann:{SECRET}@db/muai']}}",
        f"monitoring: {{anomaly: {{webhook_url: 'hooks.example/{SECRET}'}}}}",
        f"monitoring: {{tracing: {{endpoint: 'ftp://ann:{SECRET}@host'}}}}",
        "api: {api_keys: ['${KEY} x']}",
    ],
)
def test_no_fault_shows_a_secret(tmp_path: Path, text: str) -> None:
    path = tmp_path / "muai.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(path=path, environ={"KEY": SECRET}, overrides={})
    assert SECRET not in str(caught.value)
    # Nor does what Python prints of an error that was met on the way.
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_a_secret_variable_that_is_refused_is_not_shown(faults: Faults) -> None:
    (fault,) = faults(environ={"MUAI_API_KEY": f"{SECRET} x"})
    assert fault.origin == "MUAI_API_KEY"
    assert SECRET not in str(fault)


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        (
            "optimization: {batcher: {min_batch_size: 9, max_batch_size: 4}}",
            "optimization.batcher.min_batch_size",
            "must be at most max_batch_size, which is 4",
        ),
        (
            "monitoring: {anomaly: {alert_destinations: [webhook]}}",
            "monitoring.anomaly.webhook_url",
            "must be a URL, because alert_destinations names webhook",
        ),
        (
            "monitoring: {anomaly: {alert_destinations: alertmanager, alertmanager_url: null}}",
            "monitoring.anomaly.alertmanager_url",
            "must be a URL, because alert_destinations names alertmanager",
        ),
        (
            "monitoring: {tracing: {enabled: true}}",
            "monitoring.tracing.endpoint",
            "must be a collector's URL",
        ),
        (
            "optimization: {tuner: {enabled: true}}\nmonitoring: {enabled: false}",
            "optimization.tuner.enabled",
            "must be false while monitoring.enabled is false",
        ),
        (
            "monitoring: {server: {health_check_path: /ready}}",
            "monitoring.server.readiness_check_path",
            "must differ from health_check_path",
        ),
        ("api: {enable_auth: true}", "api.enable_auth", "needs at least one key"),
        ("api: {api_keys: [a, {name: b, key: a}]}", "api.api_keys", "key-1 and b have the same"),
        (
            "api: {api_keys: [{name: n, key: a}, {name: n, key: b}]}",
            "api.api_keys",
            "n is there twice",
        ),
        (
            "models: {m: {source: 'path:/m', aliases: [smollm2-135m]}}",
            "models.m.aliases",
            "smollm2-135m already means the model smollm2-135m",
        ),
        (
            "models: {m: {source: 'path:/m', aliases: [x]}, n: {source: 'path:/n', aliases: [x]}}",
            "models.n.aliases",
            "x already means the model m",
        ),
        (
            "models: {m: {source: 'path:/m', aliases: [m]}}",
            "models.m.aliases",
            "m already means the model m",
        ),
        (
            "models: {m: {source: 'path:/m', aliases: [x, x]}}",
            "models.m.aliases",
            "x already means the model m",
        ),
        (
            "optimization: {vllm: {enabled: false}}\n"
            "models: {m: {source: 'path:/m', engines: [vllm]}}",
            "models.m.engines",
            "must leave an engine to use",
        ),
        (
            "models: {m: {source: 'path:/m', endpoints: ['http://gpu-1:8000']}}",
            "models.m.endpoints",
            "needs an openai: source",
        ),
        (
            "models: {m: {source: 'openai:http://gpu-1:8000#m', replicas: 2}}",
            "models.m.replicas",
            "must be 1: what runs elsewhere has no workers here",
        ),
        (
            "models: {m: {source: 'openai:http://gpu-1:8000#m', replicas: 1-2}}",
            "models.m.replicas",
            "must be 1: what runs elsewhere has no workers here",
        ),
        (
            "models: {m: {source: 'openai:http://gpu-1:8000#m', task: embed}}",
            "models.m.task",
            "must be generate: servers elsewhere are asked for text",
        ),
        (
            "models: {m: {source: 'openai:#m'}}",
            "models.m.endpoints",
            "must name servers",
        ),
        (
            "monitoring: {server: {preload_models: [smolm2-135m]}}",
            "monitoring.server.preload_models",
            "must name configured models: smollm2-135m",
        ),
        (
            "workflows: {cascade: {large_model: huge}}",
            "workflows.cascade.large_model",
            "must name a configured model that generates: smollm2-135m",
        ),
        (
            "models: {m: {source: 'path:/m', task: embed}}\nworkflows: {cascade: {large_model: m}}",
            "workflows.cascade.large_model",
            "must name a configured model that generates: smollm2-135m",
        ),
    ],
)
def test_values_that_contradict_each_other_are_a_fault(
    faults: Faults, text: str, key: str, problem: str
) -> None:
    (fault,) = faults(text)
    assert fault.key == key
    assert problem in fault.problem


def test_a_contradiction_names_the_origins_of_both_sides(faults: Faults) -> None:
    (fault,) = faults(
        "optimization: {batcher: {min_batch_size: 9}}", {"MUAI_OPT_BATCHER_MAX_SIZE": "4"}
    )
    assert fault.origin.endswith("line 1")
    assert "optimization.batcher.max_batch_size: MUAI_OPT_BATCHER_MAX_SIZE" in fault.problem


def test_an_unknown_model_to_preload_names_the_nearest_one(faults: Faults) -> None:
    (fault,) = faults("monitoring: {server: {preload_models: [smolm2-135m]}}")
    assert fault.suggestion == "smollm2-135m"
