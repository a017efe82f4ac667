"""What is known of a text model that was exported with its recipe."""

from __future__ import annotations

from mm_orch.optimization.engines.onnx.export_cache import GraphRecord


class EncoderRecord(GraphRecord, frozen=True, kw_only=True):
    """What was seen when the graph was made, and compared with PyTorch in fp32.

    Attributes:
        padding_id: fills up shorter texts.
        dimensions: of the vectors.
        recipe: how they are made, in words.
        min_cosine: of the angle between both vectors of a text, at worst.
        max_abs_error: largest difference of two components.
        max_component: largest of PyTorch's components, without its sign.
        num_texts: how many were compared.
    """

    padding_id: int
    dimensions: int
    recipe: str
    min_cosine: float
    max_abs_error: float
    max_component: float
    num_texts: int
