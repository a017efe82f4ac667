"""The plan's command, for hardware and models by their figures."""

from __future__ import annotations

import json

import pytest

from mm_orch.cli.program import run

_SHAPE = ["--model-shape", "parameters=8e9,layers=32,heads=32,kv_heads=8"]
_CALL = ["--plan", "--hardware", "h100-sxm", *_SHAPE]


def test_a_plan_says_what_is_needed_and_what_holds_it_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run([*_CALL, "--traffic", "rate=60,prompt=1000,output=300", "--objective", "ttft=1000"])

    told = capsys.readouterr().out
    assert code == 0
    assert told.startswith("Plan for a model of 8 billion parameters; by the roofline of h100-sxm")
    assert "Needed: 4 replicas" in told
    assert "Bottleneck: arithmetic; twice as much" in told
    for option in ("max_batch_size", "max_batch_tokens", "max_memory_mb", "queue_capacity"):
        assert option in told


def test_a_plan_is_one_object_where_that_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*_CALL, "--json"]) == 0

    plan = json.loads(capsys.readouterr().out)
    assert plan["num_replicas"] == 1
    assert plan["is_met"] is True
    assert plan["expected"]["good_ratio"] >= 0.95
    assert plan["traffic"].startswith("1 requests/s")


def test_what_nothing_keeps_ends_with_failure_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = run(["--plan", "--hardware", "l4", *_SHAPE, "--objective", "itl=20"])

    told = capsys.readouterr()
    assert code == 1
    assert "however many replicas there are: take faster hardware" in told.err
    assert "No number of replicas keeps the objective; what follows is of 1 replica, " in told.out
    assert "Needed" not in told.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--traffic", "rate=-1"], "--traffic: rate='-1' is not allowed; give a number of"),
        (["--hardware", "abacus"], "--hardware: 'abacus' is not known; give one of machine"),
        (["--hardware", "l4,tflops=x"], "--hardware: tflops='x' is not allowed"),
        (["--model-shape", "parameters=7e9"], "--model-shape: layers is missing"),
        (["--hardware", "l4,memory=10"], "l4 has 10.0 GB for a model, and the weights of"),
    ],
)
def test_what_is_not_allowed_is_wrong_usage(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*_CALL, *words]) == 2
    assert said in capsys.readouterr().err


def test_an_unknown_model_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--plan", "--model", "nobody"]) == 2
    told = capsys.readouterr().err
    assert "No model is named 'nobody'. Known: smollm2-135m. Or give --model-shape." in told
