"""What is kept of a process's last words."""

from __future__ import annotations

import asyncio
import sys

from mm_orch.workers.log_tail import LogTail

NUM_LEAKS = 30


async def last_words_of(script: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stderr=asyncio.subprocess.PIPE
    )
    tail = LogTail(process, name="it")
    await process.wait()
    words = await tail.last_words()
    tail.close()
    return words


async def test_the_last_lines_are_kept() -> None:
    words = await last_words_of(
        "import sys\nfor number in range(30): print('line', number, file=sys.stderr)"
    )

    assert words.splitlines()[1:] == [f"  | line {number}" for number in range(10, 30)]


async def test_the_reason_is_not_drowned_by_what_extensions_say_at_the_end() -> None:
    leaks = [f" - leaked type {number}" for number in range(NUM_LEAKS)]
    said = [
        "nanobind: leaked 30 types!",
        *leaks,
        " - ... skipped remainder",
        "See https://nanobind.",
    ]

    words = await last_words_of(
        f"import sys\nfor line in {['the reason', *said]}: print(line, file=sys.stderr)"
    )

    assert words == "\n  | the reason"
