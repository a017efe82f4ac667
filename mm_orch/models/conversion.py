"""Runs the conversion of a GGUF file in a process of its own, so that this one needs no torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from mm_orch.core.errors import ModelStoreError

if TYPE_CHECKING:
    from mm_orch.models.progress import Progress

STAGES = ("starting PyTorch", "reading weights", "writing weights", "writing the tokeniser")
_LIBRARIES = ("torch", "transformers", "gguf", "accelerate", "safetensors")
_NUM_TOLD_LINES = 5
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.models.gguf_child import main; sys.exit(main(sys.argv[1:]))"
)


def convert_gguf(gguf: Path, directory: Path, progress: Progress) -> None:
    """Write config, fp32 safetensors, tokeniser and chat template into the directory.

    Raises:
        ModelStoreError: PyTorch is not installed, or transformers cannot read the file.
    """
    missing = [name for name in _LIBRARIES if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelStoreError(
            f"{gguf.name} has to be converted, and {', '.join(missing)} is not installed.",
            remedy="Run: pip install '.[pytorch]'",
        )
    progress.start(f"converting {gguf.name}", len(STAGES))
    with subprocess.Popen(  # noqa: S603 - this interpreter and our own module
        [sys.executable, "-P", "-c", _START_CODE, str(gguf), str(directory)],
        # The child ends when this pipe closes, so a killed parent leaves none behind.
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as child:
        last_lines: deque[str] = deque(maxlen=_NUM_TOLD_LINES)
        for line in child.stdout or ():
            if line.strip() in STAGES:
                progress.advance(1)
            else:
                last_lines.append(line.strip())
    progress.finish()
    if child.returncode != 0:
        raise ModelStoreError(
            f"{gguf.name} cannot be converted: {' '.join(last_lines)}",
            remedy="Check that the file is a complete GGUF of a kind that transformers reads.",
        )
