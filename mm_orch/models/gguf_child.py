"""The converting process: reads a GGUF file with transformers, writes a Hugging Face directory.

It prints the name of each stage when the stage is done.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mm_orch.models.conversion import STAGES

if TYPE_CHECKING:
    from collections.abc import Sequence

# GGUF names the way a tokeniser splits text before merging, but transformers 5 makes the same
# byte-level splitter for all. This one also takes every digit alone, and with it spaces before
# numbers fall into other tokens.
_SPLITS_DIGITS = {"smollm"}


def main(arguments: Sequence[str]) -> int:
    """Convert GGUF into DIRECTORY; returns the exit code."""
    gguf, directory = (Path(argument) for argument in arguments)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    import torch
    import transformers

    _silence(transformers.logging)
    _report(STAGES[0])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    _report(STAGES[1])
    _plain_copy(model).save_pretrained(directory)
    _report(STAGES[2])
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if _read_field(gguf, "tokenizer.ggml.pre") in _SPLITS_DIGITS:
        _split_digits(tokenizer.backend_tokenizer)
    tokenizer.save_pretrained(directory)
    _report(STAGES[3])
    return 0


def _silence(logging: Any) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _plain_copy(model: Any) -> Any:
    """Return the model without the mark of quantisation, which save_pretrained refuses."""
    settings = model.config.to_dict()
    settings.pop("quantization_config", None)
    # Nor should the file say where on this machine it came from.
    settings.pop("_name_or_path", None)
    config = type(model.config).from_dict(settings)
    config.name_or_path = ""
    config.architectures = [type(model).__name__]
    copy = type(model)(config)
    copy.load_state_dict(model.state_dict())
    return copy


def _split_digits(tokenizer: Any) -> None:
    from tokenizers import pre_tokenizers

    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )


def _read_field(gguf: Path, name: str) -> object:
    from gguf import GGUFReader

    field = GGUFReader(gguf).get_field(name)
    return field.contents() if field is not None else None


def _report(stage: str) -> None:
    sys.stdout.write(stage + "\n")
    sys.stdout.flush()


def _exit_with_parent() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)
