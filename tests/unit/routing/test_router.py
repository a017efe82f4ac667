from __future__ import annotations

import pytest

from mm_orch.core.errors import ModelNotFoundError
from mm_orch.routing.router import Router

ROUTER = Router({"small": ("tiny", "default"), "large": ()}, "small")


@pytest.mark.parametrize(
    ("name", "model"),
    [(None, "small"), ("auto", "small"), ("small", "small"), ("tiny", "small"), ("large", "large")],
)
def test_a_name_or_an_alias_means_its_model(name: str | None, model: str) -> None:
    assert ROUTER.choose(name) == model


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ModelNotFoundError, match=r"'medium'.*default, large, small, tiny") as error:
        ROUTER.choose("medium")

    assert error.value.param == "model"


def test_a_request_to_embed_has_a_default_model_of_its_own() -> None:
    router = Router({"small": (), "vectors": ("v",)}, "small", "vectors")

    assert router.choose_embedder(None) == "vectors"
    assert router.choose_embedder("v") == "vectors"
    # Whether it can embed is not the router's question.
    assert router.choose_embedder("small") == "small"


def test_without_an_embedding_model_a_request_to_embed_is_refused() -> None:
    with pytest.raises(ModelNotFoundError, match=r"No embedding model.*task: embed"):
        ROUTER.choose_embedder(None)
