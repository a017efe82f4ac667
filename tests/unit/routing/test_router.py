from __future__ import annotations

import pytest

from mm_orch.core.errors import ModelNotFoundError
from mm_orch.routing.router import Router

ROUTER = Router({"small": ("tiny", "default"), "large": ()}, "small")


@pytest.mark.parametrize(
    ("name", "model"),
    [(None, "small"), ("small", "small"), ("tiny", "small"), ("large", "large")],
)
def test_a_name_or_an_alias_means_its_model(name: str | None, model: str) -> None:
    assert ROUTER.choose(name) == model


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'medium'.*default, large, small, tiny") as error:
        ROUTER.choose("medium")

    assert error.value.param == "model"


def test_models_are_listed_once_and_in_order() -> None:
    assert ROUTER.models == ["small", "large"]
