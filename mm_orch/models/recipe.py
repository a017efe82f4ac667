"""How a text becomes one vector: what sentence-transformers' files say of a model's last layer.

modules.json            the parts in order: Transformer, Pooling, Normalize
1_Pooling/config.json   how the tokens' vectors become one
sentence_*_config.json  the longest text, and whether texts are put in small letters
config.json             whether vectors may be cut (matryoshka_dimensions, is_matryoshka)
"""

from __future__ import annotations

import enum
import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from mm_orch.core.errors import ModelStoreError

if TYPE_CHECKING:
    from pathlib import Path

_SUPPORTED_MODULES = {"Transformer", "Pooling", "Normalize"}
_MODULE_CONFIG = re.compile(r"\d+_\w+/config\.json")


class Pooling(enum.Enum):
    """How the tokens' vectors become one."""

    CLS = "cls"
    MEAN = "mean"
    MAX = "max"
    MEAN_SQRT_LEN = "mean_sqrt_len"
    LAST = "last"


_POOLING_BY_NAME = {
    "cls": Pooling.CLS,
    "cls_token": Pooling.CLS,
    "mean": Pooling.MEAN,
    "mean_tokens": Pooling.MEAN,
    "max": Pooling.MAX,
    "max_tokens": Pooling.MAX,
    "mean_sqrt_len_tokens": Pooling.MEAN_SQRT_LEN,
    "lasttoken": Pooling.LAST,
}


class VectorRecipe(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with the last layer's [num_tokens, dimensions] of a text.

    Attributes:
        pooling: how they become one vector; mean where no file says.
        is_normalized: whether that is brought to length 1; not where no file says.
        is_lowercased: texts are put in small letters before they are tokenised.
        max_tokens: of a text, or None where no file bounds it.
        is_stated: whether the model's files say it; else it is the usual one.
        cut_dimensions: lengths that vectors may be cut to (Matryoshka, arXiv:2205.13147).
        can_cut_anywhere: vectors may be cut to any length.
        unsupported: parts that the files ask for and nothing here computes.
    """

    pooling: Pooling = Pooling.MEAN
    is_normalized: bool = False
    is_lowercased: bool = False
    max_tokens: int | None = None
    is_stated: bool = False
    cut_dimensions: tuple[int, ...] = ()
    can_cut_anywhere: bool = False
    unsupported: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """Say it for people, as in "mean pooling, normalised"."""
        origin = "" if self.is_stated else " (the model's files do not say)"
        length = "normalised" if self.is_normalized else "not normalised"
        return f"{self.pooling.value} pooling, {length}{origin}"


def is_module_config(path: str) -> bool:
    """Whether a path inside a model's directory is the configuration of one of its parts."""
    return _MODULE_CONFIG.fullmatch(path) is not None


def read_recipe(directory: Path) -> VectorRecipe:
    """Read a model directory's recipe; one without such files gets mean pooling.

    Raises:
        ModelStoreError: a file is there and cannot be read.
    """
    limits = _read_limits(directory)
    config = _read_json(directory / "config.json") or {}
    recipe = VectorRecipe(
        max_tokens=limits.get("max_seq_length"),
        is_lowercased=bool(limits.get("do_lower_case")),
        cut_dimensions=tuple(config.get("matryoshka_dimensions") or ()),
        can_cut_anywhere=bool(config.get("is_matryoshka")),
    )
    modules = _read_json(directory / "modules.json")
    if not modules:
        return recipe
    kinds = {str(module["type"]).rpartition(".")[2]: str(module["path"]) for module in modules}
    unsupported = [kind for kind in kinds if kind not in _SUPPORTED_MODULES]
    pooling = Pooling.MEAN
    if "Pooling" in kinds:
        names = _read_pooling(directory / kinds["Pooling"] / "config.json")
        if len(names) == 1 and names[0] in _POOLING_BY_NAME:
            pooling = _POOLING_BY_NAME[names[0]]
        else:
            unsupported.append(f"pooling by {' and '.join(names) or 'nothing'}")
    return msgspec.structs.replace(
        recipe,
        pooling=pooling,
        is_normalized="Normalize" in kinds,
        is_stated=True,
        unsupported=tuple(unsupported),
    )


def _read_pooling(path: Path) -> list[str]:
    config = _read_json(path)
    if config is None:
        raise ModelStoreError(f"{path} is missing, though modules.json names it.")
    if "pooling_mode" in config:
        named = config["pooling_mode"]
        return [named] if isinstance(named, str) else list(named)
    prefix = "pooling_mode_"
    return [key.removeprefix(prefix) for key in config if key.startswith(prefix) and config[key]]


def _read_limits(directory: Path) -> dict[str, Any]:
    for path in sorted(directory.glob("sentence_*_config.json")):
        return _read_json(path) or {}
    return {}


def _read_json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelStoreError(f"{path} cannot be read: {error}.") from error
