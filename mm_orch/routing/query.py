"""A query as the router sees it: folded to one line, pasted material marked, names counted."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from mm_orch.routing.names import count_names

# Who pastes more than this asks at its beginning or its end.
_MAX_HEAD_CHARS = 1500
_MAX_TAIL_CHARS = 500
_SPACES = re.compile(r"\s+")
_HAN = re.compile(r"[\u4e00-\u9fff]")
# Quoted or pasted material speaks for nothing: what is asked stands outside it. Short quotes are
# names and titles.
_MATERIAL = re.compile(
    r"\"[^\"]{40,}\"|“[^”]{18,}”|```.*?```"
    r"|(?P<asked>(?:this|these|following|below|text|points|paragraph|sentences?|grammar|exercise"
    r"|my answer|program|json|regex|summari[sz]e|translate|shorten|rephrase|proofread|correct"
    r"|solve)[^:\n]{0,30}:) .{12,}$"
    r"|(?P<asked_zh>(?:润色|翻译|翻成|缩短|概括|总结|改写|英文|标题|语病|报错|段话|的话|下面|以下"
    r"|这道题|看看)[^:\n]{0,12}:).{4,}$",
    re.DOTALL,
)
MATERIAL_MARK = " ⟨text⟩ "


@dataclass(frozen=True, slots=True)
class Query:
    """A query, prepared.

    Attributes:
        text: one line in lower case and NFKC, long quotes and pastes replaced by a mark.
        num_names: names of people, places, firms and works in it, roughly.
        is_chinese: it holds a Chinese character.
    """

    text: str
    num_names: int
    is_chinese: bool


def prepare_query(query: str) -> Query:
    """Return the query as rules and features read it; of a long one its beginning and end."""
    if len(query) > _MAX_HEAD_CHARS + _MAX_TAIL_CHARS:
        query = f"{query[:_MAX_HEAD_CHARS]}\n{query[-_MAX_TAIL_CHARS:]}"
    text = unicodedata.normalize("NFKC", query).replace("\u2019", "'").strip()
    num_names = count_names(text)
    head, _, rest = text.lower().partition("\n")
    folded = f"{head}{MATERIAL_MARK}" if rest.strip() else head
    folded = _SPACES.sub(" ", _MATERIAL.sub(_mark_material, folded)).strip()
    return Query(folded, num_names, bool(_HAN.search(folded)))


def _mark_material(match: re.Match[str]) -> str:
    return f"{match.group('asked') or match.group('asked_zh') or ''}{MATERIAL_MARK}"
