"""Engines that say to compute on GPUs, for machines whose GPUs are made up."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

import msgspec

from tests.odd_engines import OddBackend

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineFacts, EngineSpec


class CardBackend(OddBackend):
    """Computes on the GPUs that it sees, as far as anybody can tell."""

    name: ClassVar[str] = "card"
    takes_gpus: ClassVar[bool] = True

    def start(self, spec: EngineSpec) -> EngineFacts:
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        device = "cpu" if spec.device == "cpu" or not visible else f"cuda: {visible}"
        return msgspec.structs.replace(super().start(spec), device=device)


class SecondCardBackend(CardBackend):
    """Another engine for GPUs."""

    name: ClassVar[str] = "second_card"


class HostedCardBackend(OddBackend):
    """An engine for GPUs whose library was built without them."""

    name: ClassVar[str] = "hosted_card"
    takes_gpus: ClassVar[bool] = True
