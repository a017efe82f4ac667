"""A text model of transformers with its recipe on top: token ids in, one vector a text out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModel

from mm_orch.core.errors import EngineStartError
from mm_orch.models.recipe import Pooling, read_recipe
from mm_orch.optimization.engines.embedding import refuse_unsupported
from mm_orch.optimization.engines.pytorch.faults import translated_loading

if TYPE_CHECKING:
    from mm_orch.models.recipe import VectorRecipe
    from mm_orch.optimization.engines.contract import EngineSpec

# The layer that BERT puts on its first token for training; no recipe uses it.
_UNUSED_WEIGHTS = "pooler."


class Encoder(torch.nn.Module):
    """The model, its pooling and its normalisation as one module, so that all can be exported."""

    def __init__(self, model: Any, recipe: VectorRecipe) -> None:
        super().__init__()
        self.model = model
        self.recipe = recipe

    @property
    def padding_id(self) -> int:
        """The token that fills up shorter texts; its value matters to positions in some models."""
        padding_id: int | None = self.model.config.get_text_config().pad_token_id
        return padding_id or 0

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Return [num_texts, dimensions], float32.

        Args:
            input_ids: [num_texts, width]; each text begins at the left.
            attention_mask: the same shape, 1 where there is a token.
        """
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask)[0].float()
        vectors = pool(hidden, attention_mask, self.recipe.pooling)
        return torch.nn.functional.normalize(vectors) if self.recipe.is_normalized else vectors


def pool(hidden: torch.Tensor, mask: torch.Tensor, pooling: Pooling) -> torch.Tensor:
    """Make one vector of each text's tokens.

    Args:
        hidden: [num_texts, width, dimensions].
        mask: [num_texts, width], 1 where there is a token; at least one in each row.
        pooling: how.
    """
    is_token = mask.unsqueeze(-1).to(hidden.dtype)
    match pooling:
        case Pooling.CLS:
            return hidden[:, 0]
        case Pooling.MEAN:
            return (hidden * is_token).sum(dim=1) / is_token.sum(dim=1)
        case Pooling.MEAN_SQRT_LEN:
            return (hidden * is_token).sum(dim=1) / is_token.sum(dim=1).sqrt()
        case Pooling.MAX:
            return hidden.masked_fill(is_token == 0, -torch.inf).amax(dim=1)
        case Pooling.LAST:
            rows = torch.arange(hidden.shape[0], device=hidden.device)
            return hidden[rows, mask.sum(dim=1) - 1]


def load_encoder(spec: EngineSpec, dtype: torch.dtype) -> Encoder:
    """Load the weights (safetensors only) on the CPU.

    Raises:
        EngineStartError: the directory holds no model that transformers loads, or not all of its
            weights, or its recipe has parts that are not computed here.
    """
    recipe = read_recipe(Path(spec.directory))
    refuse_unsupported(spec.model, recipe)
    with translated_loading(spec):
        model, report = AutoModel.from_pretrained(
            spec.directory,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
            output_loading_info=True,
        )
    missing = sorted(name for name in report["missing_keys"] if _UNUSED_WEIGHTS not in name)
    if missing:
        raise EngineStartError(
            f"{spec.model}: {len(missing)} weights are missing in {spec.directory}, such as"
            f" {missing[0]}.",
            remedy="Check the model's files, or remove and pull it again.",
        )
    if model.config.is_encoder_decoder:
        raise EngineStartError(
            f"{spec.model}: {type(model).__name__} is an encoder with a decoder, which is not run"
            " for embedding here.",
            remedy="Choose a model like BERT, RoBERTa, MPNet or a decoder alone.",
        )
    model.config.use_cache = False
    return Encoder(model, recipe).train(mode=False)
