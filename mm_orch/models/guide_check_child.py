"""The process that tries guides: reads one a line, answers with the reason against it.

stdin   a Guide as JSON
stdout  a JSON string, empty where nothing is wrong; the process ends where a guide goes too far
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING

import msgspec

from mm_orch.core.errors import InvalidValueError
from mm_orch.core.guide import Guide
from mm_orch.models.grammar import make_matcher, write_grammar
from mm_orch.models.guide_check import MAX_COMPILE_S

if TYPE_CHECKING:
    import llguidance

# Half of what a process has, so that what is accepted here ends none that compiles it.
_STACK_BYTES = 4 << 20
_MAX_MEMORY_BYTES = 2 << 30
_NUM_BYTES = 256


class _Bytes:
    """A tokeniser with a token for each byte: whether a guide can be met depends on no other."""

    eos_token_id = _NUM_BYTES
    bos_token_id = None
    tokens = (*(bytes([byte]) for byte in range(_NUM_BYTES)), b"<end>")
    special_token_ids = (_NUM_BYTES,)

    def __call__(self, text: bytes) -> list[int]:
        return list(text)


def main() -> int:
    """Answer until standard input ends; returns the exit code."""
    # Ctrl-C in a terminal reaches the whole group, but the parent decides when this ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (_MAX_MEMORY_BYTES, _MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.stack_size(_STACK_BYTES)
    thread = threading.Thread(target=_serve)
    thread.start()
    thread.join()
    return 0


def _serve() -> None:
    from llguidance import LLTokenizer, TokenizerWrapper

    tokenizer = LLTokenizer(TokenizerWrapper(_Bytes()))
    for line in sys.stdin.buffer:
        guide = msgspec.json.decode(line, type=Guide)
        # The signal that comes then ends the process: nothing else stops the library.
        signal.setitimer(signal.ITIMER_PROF, MAX_COMPILE_S)
        reason = _find_reason(tokenizer, guide)
        signal.setitimer(signal.ITIMER_PROF, 0)
        sys.stdout.write(json.dumps(reason) + "\n")
        sys.stdout.flush()


def _find_reason(tokenizer: llguidance.LLTokenizer, guide: Guide) -> str:
    try:
        matcher = make_matcher(tokenizer, write_grammar(guide, lambda _: None))
    except InvalidValueError as error:
        return error.message.removesuffix(".")
    except (RecursionError, ValueError) as error:
        return f"it cannot be read: {error}"
    matcher.compute_bitmask()
    return "no value can be valid under it" if matcher.is_error() else ""
