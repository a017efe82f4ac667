"""PDFs, whole and damaged, are read in a process whose end touches nothing else."""

from __future__ import annotations

import asyncio
import io

import psutil
import pytest
from pypdf import PdfReader as Reader
from pypdf import PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject

from mm_orch.core.errors import InvalidValueError
from mm_orch.documents.pdf import PdfReader
from tests.pdf_files import make_pdf, write_pdf

PAGES = ["Lighthouses\nThe light of Merrow is (still) white.", "", "Second page: Gannet Holm."]
PASSWORD = "secret"  # noqa: S105 - opens a file of this test
SLOW = b"BT /F1 12 Tf " + b"(a) Tj 0 -1 Td " * 300_000 + b"ET"
# Nothing here takes so long; it ends a test that would hang.
PATIENCE_S = 60


async def test_the_text_of_each_page_is_read_and_says_its_page() -> None:
    file = await PdfReader().read(make_pdf(PAGES))

    lines = file.text.split("\n")
    assert file.media_type == "application/pdf"
    assert [line.strip() for line in lines[:2]] == PAGES[0].split("\n")
    for number, words in ((1, "Merrow"), (3, "Gannet")):
        assert file.page_at(file.text.index(words)) == number
    assert len(file.page_starts) == 3


async def test_a_pdf_that_anyone_may_open_is_read_though_it_is_encrypted() -> None:
    file = await PdfReader().read(make_pdf(PAGES, password=""))

    assert "Gannet Holm" in file.text


def with_cycle() -> bytes:
    """Return a PDF whose tree of pages has itself as a branch."""
    writer = PdfWriter(clone_from=Reader(io.BytesIO(make_pdf(PAGES))))
    root = writer.root_object
    pages = root["/Pages"].get_object()
    assert isinstance(pages, DictionaryObject)
    kids = pages["/Kids"]
    assert isinstance(kids, ArrayObject)
    kids.append(root.raw_get("/Pages"))
    written = io.BytesIO()
    writer.write(written)
    return written.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (make_pdf(PAGES, password=PASSWORD), "encrypted, and needs a password"),
        (make_pdf(["", ""]), "its 2 pages hold no text, only pictures"),
        (b"%PDF-1.7\n", "it is damaged"),
        (make_pdf(PAGES)[:300], "it is damaged"),
        (b"%PDF-1.7 " + b"[" * 100_000, "it is damaged|nested too deeply"),
        (b"%PDF-1.7\n1 0 obj << /Type /Catalog >> endobj\ntrailer << /Root 1 0 R >>", "damaged"),
    ],
)
async def test_what_cannot_be_read_is_told_in_words(content: bytes, words: str) -> None:
    with pytest.raises(InvalidValueError, match=rf"^The PDF cannot be read: .*({words})"):
        await PdfReader().read(content)


async def outcome_of(reader: PdfReader, content: bytes) -> str:
    """Return the text of a PDF, or why it cannot be read."""
    try:
        return (await reader.read(content)).text
    except InvalidValueError as error:
        return error.message


async def test_a_pdf_with_a_cycle_ends() -> None:
    async with asyncio.timeout(PATIENCE_S):
        outcome = await outcome_of(PdfReader(), with_cycle())

    assert "Gannet Holm" in outcome or outcome.startswith("The PDF cannot be read: ")


async def test_a_pdf_that_takes_too_long_is_given_up() -> None:
    async with asyncio.timeout(PATIENCE_S):
        with pytest.raises(InvalidValueError, match="takes more than 1 s of processor time"):
            await PdfReader(max_cpu_s=1).read(write_pdf([SLOW] * 3))


async def test_whoever_is_cancelled_leaves_no_process() -> None:
    reader = PdfReader()
    before = psutil.Process().children()
    reading = [asyncio.create_task(reader.read(write_pdf([SLOW] * 4))) for _ in range(4)]
    started: set[psutil.Process] = set()
    while len(started) < 2:
        await asyncio.sleep(0)
        started = set(psutil.Process().children()) - set(before)

    for task in reading:
        task.cancel()
    await asyncio.gather(*reading, return_exceptions=True)

    # Two at a time, and none is left.
    assert len(started) == 2
    assert not set(psutil.Process().children()) - set(before)
    # Their places are free again.
    assert "Gannet" in (await reader.read(make_pdf(PAGES))).text


async def test_damaged_bytes_never_do_more_than_fail() -> None:
    reader = PdfReader(max_cpu_s=10)
    whole = make_pdf(PAGES)
    damaged = [
        whole[:place] + bytes([whole[place] ^ 0x5A]) * 7 + whole[place + 7 :]
        for place in range(20, len(whole) - 7, len(whole) // 6)
    ]

    outcomes = [await outcome_of(reader, content) for content in damaged]

    assert all(outcomes)
    # The reader goes on as before.
    assert "Gannet" in await outcome_of(reader, whole)
