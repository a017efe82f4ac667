"""Number formats of an export's weights, and how far each may be from PyTorch in fp32."""

from __future__ import annotations

from dataclasses import dataclass

from mm_orch.core.errors import EngineStartError


@dataclass(frozen=True, slots=True)
class WeightFormat:
    """How an export stores weights.

    Attributes:
        name: fp32, int8 or int4.
        bits: of the layers' weights; None for floats.
        head_bits: of the output layer's.
        max_deviation: of its logits from PyTorch's in fp32: root of the mean square of the
            differences, as a share of the logits' own spread.
        description: for the log.
    """

    name: str
    bits: int | None
    head_bits: int | None
    max_deviation: float
    description: str


FORMATS = {
    one.name: one
    for one in (
        WeightFormat("fp32", None, None, 1e-3, "fp32"),
        WeightFormat(
            "int8",
            8,
            8,
            0.2,
            "8-bit weights in groups of 32 with a scale, products with 8-bit activations",
        ),
        WeightFormat(
            "int4",
            4,
            8,
            0.7,
            "4-bit weights in groups of 32 with a scale and a minimum, an 8-bit output layer,"
            " products with 8-bit activations",
        ),
    )
}


def choose_format(model: str, dtype: str) -> WeightFormat:
    """Return the format for a configured dtype; auto is fp32.

    Raises:
        EngineStartError: the engine does not compute in this one.
    """
    name = "fp32" if dtype == "auto" else dtype
    if name not in FORMATS:
        raise EngineStartError(
            f"{model}: the ONNX Runtime engine does not compute in {dtype}, only in"
            f" {', '.join(FORMATS)}.",
            remedy=f"Set models.{model}.dtype to auto or fp32, or models.{model}.quantization to"
            " int8 or int4.",
        )
    return FORMATS[name]
