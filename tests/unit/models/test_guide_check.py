"""What is refused before anything is generated, and that nothing takes the server with it."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from mm_orch.core.guide import Guide, JsonObjectShape, JsonSchemaShape, Tag, TagsShape
from mm_orch.models.guide_check import GuideChecker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from subprocess import Popen


@pytest.fixture(scope="module")
def checker() -> Iterator[GuideChecker]:
    checker = GuideChecker()
    yield checker
    checker.close()


PRIMES = (999983, 999979, 999961, 999959, 999953)


def guide_of(schema: object) -> Guide:
    return Guide(shape=JsonSchemaShape(json.dumps(schema)))


def chain_of(length: int) -> dict[str, Any]:
    """A schema whose references lead through so many objects."""
    links = {
        f"a{number}": {
            "type": "object",
            "properties": {"b": {"$ref": f"#/$defs/a{number + 1}"}},
        }
        for number in range(length)
    }
    return {"$ref": "#/$defs/a0", "$defs": {**links, f"a{length}": {"type": "integer"}}}


def test_an_ordinary_schema_is_taken(checker: GuideChecker) -> None:
    assert checker.find_reason(guide_of({"type": "object", "properties": {"a": {}}})) == ""
    assert checker.find_reason(Guide(shape=JsonObjectShape())) == ""
    assert checker.find_reason(guide_of(chain_of(40))) == ""


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "text"}, "Invalid type: text"),
        ({"$ref": "#/nowhere"}, "nowhere"),
        ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
        ({"type": "string", "format": "smell"}, "smell"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types"),
        ({"$ref": "#"}, "no value can be valid"),
        ({"const": "x" * 100_000}, "at most 100000"),
        # These two would keep the library busy for minutes, or end the process.
        ({"allOf": [{"type": "integer", "multipleOf": p} for p in PRIMES]}, "0.5 s"),
        (chain_of(1000), "nested too deeply"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_cannot_be_kept_to_is_refused_with_the_reason(
    checker: GuideChecker, schema: object, words: str
) -> None:
    reason = checker.find_reason(guide_of(schema))

    assert words in reason
    assert len(reason) < 320
    # Whatever became of the child, the next one is judged.
    assert checker.find_reason(guide_of({"type": "string"})) == ""


def test_a_guide_of_several_schemas_is_judged_as_a_whole(checker: GuideChecker) -> None:
    def tags(*, is_lenient: bool) -> Guide:
        schema = json.dumps({"type": "object", "not": {}})
        good = Tag(begin="a", schema='{"type": "object"}', end="b")
        bad = Tag(begin="c", schema=schema, end="d", is_lenient=is_lenient)
        return Guide(shape=TagsShape(tags=(good, bad)))

    assert "not" in checker.find_reason(tags(is_lenient=False))
    assert checker.find_reason(tags(is_lenient=True)) == ""


async def test_a_closed_checker_has_left_no_process() -> None:
    checker = GuideChecker()
    checker.find_reason(Guide(shape=JsonObjectShape()))
    child = checker._child

    await checker.aclose()
    checker.close()

    assert child is not None
    assert child.returncode is not None


def kill_child(checker: GuideChecker) -> Popen[bytes]:
    assert checker.find_reason(Guide(shape=JsonObjectShape())) == ""
    child = checker._child
    assert child is not None
    child.kill()
    child.wait()
    return child


def test_a_child_that_was_killed_while_idle_is_replaced_and_the_next_guide_is_judged() -> None:
    with closing(GuideChecker()) as checker:
        child = kill_child(checker)

        assert "smell" in checker.find_reason(guide_of({"type": "string", "format": "smell"}))

        assert checker._child is not child


def test_a_child_that_ends_as_it_is_asked_fails_no_more_than_that_guide(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with closing(GuideChecker()) as checker:
        child = kill_child(checker)
        with monkeypatch.context() as moment:
            # As if it had lived until just before it is written to.
            moment.setattr(checker, "_ensure_child", lambda: child)
            assert "too much memory" in checker.find_reason(guide_of({"type": "string"}))

        assert checker.find_reason(guide_of({"type": "integer"})) == ""
