"""What the server knows of a model's text: its tokeniser, its chat template, its manners."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.models.chat_template import ChatTemplate
from mm_orch.models.recipe import VectorRecipe, read_recipe
from mm_orch.models.text import TextCodec
from mm_orch.models.thought_marks import find_thought_marks
from mm_orch.models.tool_formats import GENERIC, ToolFormat, find_tool_format

if TYPE_CHECKING:
    from mm_orch.core.guide import ThoughtMarks
    from mm_orch.models.stored import StoredModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelText:
    """What the server needs of a model to read and write its text.

    Attributes:
        context_length: most tokens of prompt and output together.
        recipe: how an embedding model makes vectors.
        tool_format: how the model writes calls.
        thought_marks: how it marks its thoughts, or None.
    """

    name: str
    context_length: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    codec: TextCodec
    template: ChatTemplate | None
    tool_format: ToolFormat = GENERIC
    thought_marks: ThoughtMarks | None = None
    recipe: VectorRecipe = field(default_factory=VectorRecipe)


def load_model_text(stored: StoredModel, context_length: int) -> ModelText:
    """Read tokeniser and chat template from the model's directory.

    Raises:
        ModelStoreError: the files are damaged.
    """
    directory = Path(stored.directory)
    codec = TextCodec.from_directory(directory)
    template = ChatTemplate.find_in_directory(directory)
    template_source = "" if template is None else template.tool_source
    return ModelText(
        name=stored.name,
        context_length=context_length,
        vocab_size=stored.vocab_size,
        eos_token_ids=stored.eos_token_ids,
        codec=codec,
        template=template,
        recipe=read_recipe(directory),
        tool_format=find_tool_format(template_source),
        thought_marks=find_thought_marks(template_source, codec),
    )
