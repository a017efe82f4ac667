"""How stream engines draw their tokens, checked on each that can run in this interpreter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from mm_orch.core.errors import RequestError
from mm_orch.core.guide import Guide, JsonObjectShape
from tests.contracts.streaming import (
    GREEDY,
    PROMPT,
    ModelReference,
    greedy,
    make,
    random_prompt,
    run,
)
from tests.tiny_models import EOS_TOKEN_ID, VOCAB_SIZE

if TYPE_CHECKING:
    from mm_orch.optimization.engines.contract import EngineFacts, StreamEngine


def test_no_stop_token_comes_before_min_tokens(
    engine: StreamEngine, reference: ModelReference
) -> None:
    whole, _ = reference.generate(make("a", PROMPT, GREEDY))
    # Some engines hold back the model's own end of text too, so it is named in any case.
    stop_token_ids = (EOS_TOKEN_ID, *whole[3:6])
    params = greedy(stop_token_ids=stop_token_ids, ignore_eos=False, min_tokens=10)
    sequence = make("a", PROMPT, params)
    expected, _ = reference.generate(sequence)

    told = run(engine, [sequence])

    assert len(told.tokens["a"]) >= 10
    assert told.tokens == {"a": expected}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 1.9),
        ("presence_penalty", -1.9),
        ("frequency_penalty", 1.9),
        ("repetition_penalty", 1.7),
        ("logit_bias", {77: 4.0, 201: 100.0}),
    ],
)
def test_what_changes_the_logits_does_what_it_says_or_is_refused(
    engine: StreamEngine,
    facts: EngineFacts,
    reference: ModelReference,
    field: str,
    value: object,
) -> None:
    prompt = random_prompt(3, 40)
    sequence = make("a", prompt, greedy(max_tokens=40, **{field: value}))

    told = run(engine, [sequence])

    if field in facts.unsupported:
        assert "a" not in told.tokens
        assert field in str(told.failures["a"])
    else:
        assert told.tokens == {"a": reference.generate(sequence)[0]}


@pytest.mark.parametrize(
    ("field", "value"), [("top_k", 1), ("top_p", 1e-6), ("min_p", 0.999), ("temperature", 1e-4)]
)
def test_a_filter_that_leaves_one_token_is_greedy(
    engine: StreamEngine, reference: ModelReference, field: str, value: float
) -> None:
    params = greedy(**{"temperature": 1.0, "seed": 3, field: value})

    told = run(engine, [make("a", PROMPT, params)])

    assert told.tokens["a"] == reference.generate(make("a", PROMPT, GREEDY))[0]


def test_draws_follow_the_filters(engine: StreamEngine, reference: ModelReference) -> None:
    params = greedy(max_tokens=1, num_logprobs=3)
    _, [logprob] = reference.generate(make("a", PROMPT, params))
    allowed = {token_id for token_id, _ in logprob.top}
    hot = greedy(max_tokens=1, temperature=2.0, top_k=3)

    told = run(
        engine, [make(str(n), PROMPT, msgspec.structs.replace(hot, seed=n)) for n in range(60)]
    )

    assert {tokens[0] for tokens in told.tokens.values()} == allowed


def test_the_same_seed_gives_the_same_text_alone_and_among_others(engine: StreamEngine) -> None:
    params = greedy(temperature=1.0, top_p=0.9, seed=5)
    other = greedy(temperature=1.3, seed=6)
    alone = run(engine, [make("x", PROMPT, params)]).tokens["x"]

    among = run(
        engine,
        [make("o", PROMPT[:9], other), make("x", PROMPT, params), make("p", PROMPT, other)],
    ).tokens

    assert among["x"] == alone
    assert among["p"] != alone


def test_log_probabilities_are_those_of_the_model(
    engine: StreamEngine, facts: EngineFacts, reference: ModelReference
) -> None:
    num_alternatives = 0 if facts.max_logprobs == 0 else 3
    for params in (
        greedy(num_logprobs=num_alternatives),
        # Told of the logits as they came, not as temperature and filters made them.
        greedy(num_logprobs=num_alternatives, temperature=0.5, top_k=2, seed=1),
    ):
        told = run(engine, [make("a", PROMPT, params)])
        tokens = told.tokens["a"]

        assert [one.token_id for one in told.logprobs["a"]] == tokens
        for place, one in enumerate(told.logprobs["a"]):
            asked = greedy(max_tokens=place + 1, num_logprobs=VOCAB_SIZE)
            _, [expected] = reference.generate(make("a", PROMPT, asked, tokens[:place]))
            by_token = dict(expected.top)
            assert one.logprob == pytest.approx(by_token[one.token_id], abs=1e-3)
            assert len(one.top) == num_alternatives
            for token_id, logprob in one.top:
                assert logprob == pytest.approx(by_token[token_id], abs=1e-3)


def test_more_alternatives_than_it_knows_are_refused(
    engine: StreamEngine, facts: EngineFacts
) -> None:
    if facts.max_logprobs is None:
        pytest.skip("it knows any number")

    told = run(engine, [make("a", PROMPT, greedy(num_logprobs=facts.max_logprobs + 1))])

    assert "num_logprobs" in str(told.failures["a"])
    assert not told.tokens


def test_a_guide_that_it_cannot_keep_is_refused(engine: StreamEngine, facts: EngineFacts) -> None:
    if facts.guides != "none":
        pytest.skip("it keeps guides")

    told = run(engine, [make("a", PROMPT, greedy(guide=Guide(shape=JsonObjectShape())))])

    assert isinstance(told.failures["a"], RequestError)
    assert not told.tokens


def test_without_being_asked_it_tells_no_log_probabilities(engine: StreamEngine) -> None:
    assert not run(engine, [make("a", PROMPT, GREEDY)]).logprobs
