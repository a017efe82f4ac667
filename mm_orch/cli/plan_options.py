"""What ``--plan`` alone is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

PLAN_OPTIONS = ("--traffic", "--hardware", "--model-shape")


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """As they were given; each is read when the plan is made.

    Attributes:
        traffic: fields such as ``rate=5,prompt=500``; None for the defaults.
        hardware: a name, and fields after it; None for this machine.
        model_shape: fields; None for a configured model's.
    """

    traffic: str | None = None
    hardware: str | None = None
    model_shape: str | None = None


def add_plan_options(group: Any) -> None:
    """Add them to a group of the parser."""
    group.add_argument(
        "--traffic",
        metavar="FIELDS",
        help="rate=1,prompt=256,output=128 (requests/s, new prompt tokens, output tokens), also"
        " shared=, turns=, think=",
    )
    group.add_argument(
        "--hardware",
        metavar="NAME[,FIELDS]",
        help="what a replica runs on: machine (measured), or a GPU such as l4, h100-sxm; fields"
        " memory=GB,bandwidth=GB/s,tflops=N,overhead=MS replace its figures",
    )
    group.add_argument(
        "--model-shape",
        metavar="FIELDS",
        help="a model by its figures: parameters=8e9,layers=32,heads=32,kv_heads=8, also head_dim=,"
        " bits=, active=, context=",
    )
