"""Reads PDFs in a process of its own for each.

A PDF is a program of a kind: a damaged or malicious one takes any time and memory to read. The
process has bounds on both, and what becomes of it touches nothing else.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from itertools import accumulate
from pathlib import Path

import msgspec

from mm_orch.core.errors import InvalidValueError
from mm_orch.documents.pdf_child import Reading
from mm_orch.documents.reading import NO_TEXT, normalize
from mm_orch.documents.text import MAX_TEXT_CHARS, FileText

_MAX_CPU_S = 60
# Of the wall's clock, for each second of processor time: however busy the machine is.
_PATIENCE = 10.0
_MAX_AT_ONCE = 2
_MAX_FAULT_CHARS = 200
_BETWEEN_PAGES = "\n\n"
_PACKAGE_ROOT = str(Path(__file__).parents[2])
_START_CODE = (
    f"import sys; sys.path.insert(0, {_PACKAGE_ROOT!r}); "
    "from mm_orch.documents.pdf_child import main; sys.exit(main(*map(int, sys.argv[1:])))"
)


class PdfReader:
    """Reads a few PDFs at the same time; more wait.

    Args:
        max_cpu_s: processor time for one.
    """

    def __init__(self, max_cpu_s: int = _MAX_CPU_S) -> None:
        self._max_cpu_s = max_cpu_s
        self._places = asyncio.Semaphore(_MAX_AT_ONCE)

    async def read(self, content: bytes) -> FileText:
        """Return the text of a PDF; cancelling ends the process.

        Raises:
            InvalidValueError: it cannot be read, or holds no text; says why.
            DocumentLimitError: it holds too much.
        """
        async with self._places:
            reading = await _ask(content, self._max_cpu_s)
        return await asyncio.to_thread(_join, reading)


async def _ask(content: bytes, max_cpu_s: int) -> Reading:
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", _START_CODE, str(MAX_TEXT_CHARS), str(max_cpu_s)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(max_cpu_s * _PATIENCE):
            answer, _ = await child.communicate(content)
    except TimeoutError:
        return Reading(fault=_too_long(max_cpu_s))
    finally:
        if child.returncode is None:
            child.kill()
            # It cannot be kept from ending.
            await asyncio.shield(child.wait())
    try:
        return msgspec.json.decode(answer, type=Reading)
    except msgspec.MsgspecError:
        return Reading(fault=_reason_of_end(child.returncode or 0, max_cpu_s))


def _join(reading: Reading) -> FileText:
    if reading.fault:
        raise _unreadable(reading.fault)
    pages = [_clean(page) for page in reading.pages]
    if not any(pages):
        raise _unreadable(
            f"its {len(pages)} pages hold no text, only pictures",
            remedy="Have the text recognised (OCR) first.",
        )
    lengths = (len(page) + len(_BETWEEN_PAGES) for page in pages[:-1])
    starts = tuple(accumulate(lengths, initial=0))
    return FileText(normalize(_BETWEEN_PAGES.join(pages)), "application/pdf", starts)


def _clean(page: str) -> str:
    """Return a page's text without the control characters that PDFs' fonts leave in it."""
    return NO_TEXT.sub(" ", page.replace("\r\n", "\n").replace("\r", "\n")).strip()


def _reason_of_end(exit_code: int, max_cpu_s: int) -> str:
    match -exit_code:
        case signal.SIGXCPU:
            return _too_long(max_cpu_s)
        case signal.SIGKILL:
            return "reading it takes too long, or too much memory"
        case _:
            return "it is damaged"


def _too_long(max_cpu_s: int) -> str:
    return f"reading it takes more than {max_cpu_s} s of processor time"


def _unreadable(fault: str, remedy: str | None = None) -> InvalidValueError:
    return InvalidValueError(
        f"The PDF cannot be read: {fault[:_MAX_FAULT_CHARS]}.", param="file", remedy=remedy
    )
