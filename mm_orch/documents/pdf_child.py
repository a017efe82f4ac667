"""The process that reads a PDF: the file comes on standard input, its pages go to standard output.

stdout  a Reading as JSON; where the file takes too much, the process ends without one
"""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.parent import die_with_parent

if TYPE_CHECKING:
    from pypdf import PdfReader

MAX_PAGES = 2000
_MAX_MEMORY_BYTES = 2 << 30


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a PDF holds.

    Attributes:
        pages: the text of each.
        fault: why it cannot be read; empty where it can.
    """

    pages: tuple[str, ...] = ()
    fault: str = ""


def main(max_chars: int, max_cpu_s: int) -> int:
    """Read one file; returns the exit code.

    Args:
        max_chars: of all pages.
        max_cpu_s: processor time; after it the kernel ends this process.
    """
    import resource

    die_with_parent()
    # The first bound ends it with a signal of its own, the second for certain.
    resource.setrlimit(resource.RLIMIT_CPU, (max_cpu_s, max_cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    logging.disable()
    sys.stdout.buffer.write(msgspec.json.encode(_read(max_chars)))
    return 0


def _read(max_chars: int) -> Reading:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PyPdfError

    try:
        reader = PdfReader(io.BytesIO(sys.stdin.buffer.read()))
        if reader.is_encrypted and not reader.decrypt(""):
            return Reading(fault="it is encrypted, and needs a password")
        return _read_pages(reader, max_chars)
    except DependencyError:
        return Reading(fault="it is encrypted")
    except MemoryError:
        return Reading(fault="it takes too much memory")
    except RecursionError:
        return Reading(fault="it is nested too deeply")
    except PyPdfError as error:
        # What else a damaged file makes of the library ends this process.
        return Reading(fault=f"it is damaged: {error}")


def _read_pages(reader: PdfReader, max_chars: int) -> Reading:
    num_pages = len(reader.pages)
    if num_pages > MAX_PAGES:
        return Reading(fault=f"it has {num_pages} pages, at most {MAX_PAGES} are read")
    pages: list[str] = []
    num_chars = 0
    for page in reader.pages:
        text = page.extract_text()
        num_chars += len(text)
        if num_chars > max_chars:
            return Reading(fault=f"it has more than {max_chars} characters")
        # Fonts without a table of their characters give what is none.
        pages.append(text.encode("utf-8", "replace").decode().replace("\0", " "))
    return Reading(pages=tuple(pages))
