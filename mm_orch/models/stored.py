"""What is known of a model whose files are complete on this machine."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.recipe import is_module_config, read_recipe

if TYPE_CHECKING:
    from pathlib import Path


# Their first token stands at the position after the padding token's id.
_POSITIONS_AFTER_PADDING = {
    "camembert",
    "longformer",
    "mpnet",
    "roberta",
    "xlm-roberta",
    "xlm-roberta-xl",
}


class StoredModel(msgspec.Struct, frozen=True, kw_only=True):
    """A complete model directory.

    Attributes:
        name: the configured name it was fetched for.
        directory: Hugging Face layout: config.json, tokenizer.json, safetensors.
        source: as configured.
        revision: the commit of a hub repository, or None.
        architecture: the model class that config.json names, such as LlamaForCausalLM.
        context_length: most tokens of prompt and output together, or of a text to be embedded.
        vocab_size: rows of the embedding; token ids are below it.
        eos_token_ids: tokens that end an answer.
        size_bytes: of all files.
        file_sizes: bytes of each file by its name, to notice damage.
        gguf_file: the original, kept beside what was made of it, or None.
        has_code: whether a hub repository's Python files were fetched too.
    """

    name: str
    directory: str
    source: str
    revision: str | None
    architecture: str
    context_length: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    size_bytes: int
    file_sizes: dict[str, int]
    gguf_file: str | None = None
    has_code: bool = False


def describe_directory(
    name: str, directory: Path, *, source: str, revision: str | None = None
) -> StoredModel:
    """Read a directory's own files into a StoredModel; loads no weights.

    Raises:
        ModelStoreError: config.json, tokenizer.json or the safetensors are missing or unreadable.
    """
    files = _list_files(directory)
    if not any(file.endswith(".safetensors") for file in files):
        pickled = [file for file in files if file.endswith((".bin", ".pt", ".pth"))]
        detail = f"; {pickled[0]} is a pickle, which can run code" if pickled else ""
        raise ModelStoreError(
            f"{directory} holds no .safetensors{detail}.",
            remedy="Use a model that is published as safetensors.",
        )
    for needed in ("config.json", "tokenizer.json"):
        if needed not in files:
            raise ModelStoreError(f"{directory} holds no {needed}.")
    config = _read_json(directory / "config.json")
    # Models of several modalities keep the language model's numbers one level down.
    text_config = {**config, **(config.get("text_config") or {})}
    try:
        return StoredModel(
            name=name,
            directory=str(directory),
            source=source,
            revision=revision,
            architecture=(config.get("architectures") or ["unknown"])[0],
            context_length=_read_context(directory, text_config),
            vocab_size=int(text_config["vocab_size"]),
            eos_token_ids=_read_eos(directory, text_config),
            size_bytes=sum(files.values()),
            file_sizes=files,
            gguf_file=next((file for file in sorted(files) if file.endswith(".gguf")), None),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelStoreError(f"{directory / 'config.json'} lacks a usable {error}.") from error


def _list_files(directory: Path) -> dict[str, int]:
    paths = [*directory.iterdir(), *directory.glob("*_*/config.json")]
    sizes = {
        str(path.relative_to(directory)): path.stat().st_size for path in paths if path.is_file()
    }
    return {name: size for name, size in sizes.items() if "/" not in name or is_module_config(name)}


def _read_context(directory: Path, config: dict[str, Any]) -> int:
    bounds = [config.get("max_position_embeddings") or config.get("n_positions")]
    if bounds[0] is not None and config.get("model_type") in _POSITIONS_AFTER_PADDING:
        bounds[0] -= int(config["pad_token_id"]) + 1
    bounds.append(read_recipe(directory).max_tokens)
    known = [int(bound) for bound in bounds if bound is not None]
    if not known:
        raise KeyError("max_position_embeddings")
    return min(known)


def _read_eos(directory: Path, config: dict[str, Any]) -> tuple[int, ...]:
    # What generation uses has the last word: chat models add their end-of-turn token there.
    path = directory / "generation_config.json"
    generation = _read_json(path) if path.exists() else {}
    eos = generation.get("eos_token_id", config.get("eos_token_id"))
    if eos is None:
        return ()
    return tuple(eos) if isinstance(eos, list) else (int(eos),)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelStoreError(f"{path} cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise ModelStoreError(f"{path} is not a JSON object.")
    return content
