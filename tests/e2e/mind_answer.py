"""A made up answer for the console: a system that has seen successes, failures and feedback."""

from __future__ import annotations

from typing import Any

MODEL = "smollm2-135m"


def mind() -> dict[str, Any]:
    """Return what /api/consciousness answers."""
    return {
        "self_model": _self_model(),
        "goals": {"quality": 0.6, "latency": 0.3, "cost": 0.1},
        "mood": {
            "valence": -0.42,
            "arousal": 0.31,
            "half_life_s": 3600.0,
            "has_effects": True,
            "instruction": "Answer carefully, and say what you are not sure of.",
            "temperature_offset": -0.04,
        },
        "development": {
            "is_gating": True,
            "stage": 1,
            "stages": [
                {"number": 0, "workflows": ["chat_generate", "self_description"]},
                {"number": 1, "workflows": ["rag_qa", "search_qa"]},
                {"number": 2, "workflows": ["lesson_pack", "cascade"]},
                {"number": 3, "workflows": ["*"]},
            ],
            "num_runs": 18,
            "num_successes": 17,
            "lower_bound": 0.742,
            "min_successes": 20,
            "min_success_ratio": 0.8,
        },
        "memory": {
            "is_stored": True,
            "problem": "",
            "half_life_s": 604800.0,
            "workflows": {
                "chat_generate": _statistics(120, 0.98, 2.4, 180.0, None, 0.5),
                "rag_qa": _statistics(31, 0.87, 6.1, 1450.0, 0.71, -0.25),
            },
            "models": {MODEL: _statistics(256, 0.96, 1.9, 240.0, None, None)},
        },
    }


def _self_model() -> dict[str, Any]:
    return {
        "health": "degraded",
        "health_reasons": ["model large is failed: no engine could load it"],
        "is_ready": True,
        "not_ready_because": "",
        "version": "1.0.0",
        "uptime_s": 7260.0,
        "default_model": MODEL,
        "models": [
            _model(MODEL, "loaded", "openvino"),
            _model("large", "failing", None, "no engine could load it"),
            _model("spare", "loadable", None),
        ],
        "engines": [
            {"name": "openvino", "is_available": True, "reason": ""},
            {"name": "vllm", "is_available": False, "reason": "vllm is not installed"},
        ],
        "workflows": [
            _workflow("chat_generate", "available", "Answers as a conversation."),
            _workflow("lesson_pack", "gated", "Makes a lesson.", "it is of stage 2"),
            _workflow("my_plugin", "broken", "", "The workflow my_plugin cannot be imported."),
        ],
        "num_running": 3,
        "num_waiting": 1,
        "queue_capacity": 100,
        "features": {"workflows": True, "sessions": True, "monitoring": False},
    }


def _model(name: str, state: str, engine: str | None, detail: str = "") -> dict[str, Any]:
    return {"name": name, "task": "generate", "state": state, "engine": engine, "detail": detail}


def _workflow(name: str, state: str, summary: str, detail: str = "") -> dict[str, Any]:
    return {"name": name, "state": state, "summary": summary, "detail": detail}


def _statistics(
    num: int,
    success: float,
    latency_s: float,
    num_tokens: float,
    confidence: float | None,
    feedback: float | None,
) -> dict[str, Any]:
    return {
        "num_outcomes": num,
        "weight": num * 0.8,
        "success_ratio": success,
        "latency_s": latency_s,
        "num_tokens": num_tokens,
        "confidence": confidence,
        "feedback": feedback,
    }
