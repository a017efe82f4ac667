"""Options of the section ``system``: logs, device, memory for models, data directory."""

# ruff: noqa: TC001 - pydantic reads the annotations of Section's subclasses at run time

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from mm_orch.config.schema.section import Section, option
from mm_orch.config.schema.values import AtLeastOne, Device, FilePath, LogLevel


class SystemSettings(Section):
    """What concerns the whole process."""

    log_level: LogLevel = option("Least severe message that is logged.", default="INFO")
    log_file: FilePath | None = option(
        "File that logs go to; null is none.", default="logs/muai.log"
    )
    log_format: Literal["text", "json"] = option("Lines for people, or JSON.", default="text")
    device: Device = option("Device that models run on.", default="auto")
    max_cached_models: AtLeastOne = option(
        "Most models loaded at once; the least recently used leaves first.", default=3
    )
    model_memory_mb: AtLeastOne | None = option(
        "Most memory in MiB for all loaded models together, as measured: idle ones leave to make"
        " room, busy ones never.",
        default=None,
        default_in_words="null: 80% of what is free",
    )
    data_dir: FilePath | None = option(
        "Directory of downloaded models, conversations, documents and traces.",
        default=None,
        default_in_words="null: the user's own data directory",
    )

    @property
    def data_directory(self) -> Path:
        """The data directory: as configured (``~`` expanded), else the user's own for muai."""
        if self.data_dir is not None:
            # Path.expanduser raises for an unknown user; this leaves the name as it is.
            return Path(os.path.expanduser(self.data_dir))  # noqa: PTH111
        import platformdirs

        return platformdirs.user_data_path("muai")
