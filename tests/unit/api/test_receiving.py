"""Uploads that are received at the same time: bounded before their bodies are read."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from mm_orch.api.receiving import ReceivingPlaces
from mm_orch.api.settings import ApiSettings
from mm_orch.core.errors import QueueFullError
from tests.unit.api.face import Face
from tests.unit.api.served import call, serve
from tests.unit.api.test_documents import UPLOAD
from tests.unit.storage.document_scene import open_documents

if TYPE_CHECKING:
    from pathlib import Path

MAX_BYTES = 160
BODY = b'{"content": "Herons nest in alders."}'


async def test_a_third_large_upload_of_a_caller_is_refused_before_its_body_is_read(
    tmp_path: Path,
) -> None:
    async with open_documents(tmp_path) as documents:
        face = Face(documents=documents, settings=ApiSettings(max_request_bytes=MAX_BYTES))
        body = BODY.ljust(MAX_BYTES)
        async with (
            serve(face.app) as port,
            call(port) as first,
            call(port) as second,
            call(port) as third,
        ):
            head = (f"Content-Length: {MAX_BYTES}", "Expect: 100-continue")
            for slow in (first, second):
                slow.send_head(UPLOAD, *head)
                # It is told to go on when its body is asked for.
                assert (await slow.read_head()).status == 100

            third.send_head(UPLOAD, *head)
            refused = await third.read_reply()
            first.writer.write(body)
            taken = await first.read_reply()
            first.send(UPLOAD, BODY)
            again = await first.read_reply()

    assert (refused.status, refused.json["error"]["code"]) == (503, "queue_full")
    assert refused.headers["retry-after"] == "1"
    assert (taken.status, again.status) == (200, 200)


def test_other_callers_have_room_beside_one_until_all_have_much() -> None:
    places = ReceivingPlaces(MAX_BYTES)
    with ExitStack() as held:
        # Without a length it may be as long as any; with a wrong one it is received no further.
        held.enter_context(places.take("a", None))
        held.enter_context(places.take("a", "9999"))
        with pytest.raises(QueueFullError, match=r"Uploads of 320 bytes .* of 320 bytes in all"):
            held.enter_context(places.take("a", "1"))
        held.enter_context(places.take("b", "160"))
        held.enter_context(places.take("b", "150"))
        # Ten bytes of room are left for the smallest.
        held.enter_context(places.take("c", "10"))
        with pytest.raises(QueueFullError, match="640 bytes in all"):
            held.enter_context(places.take("d", "1"))
    with places.take("a", "160"), places.take("a", "160"):
        pass


def test_small_uploads_are_bounded_in_number() -> None:
    places = ReceivingPlaces(MAX_BYTES)
    with ExitStack() as held:
        for _ in range(32):
            held.enter_context(places.take("a", "1"))
        with pytest.raises(QueueFullError):
            held.enter_context(places.take("a", "1"))
