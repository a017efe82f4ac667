from __future__ import annotations

import subprocess
import sys

_CODE = """
import gc
import mm_orch.server
from mm_orch.core.heap import settle
num_before = len(gc.get_objects())
settle()
print(num_before, len(gc.get_objects()), gc.get_freeze_count())
"""


def test_collections_after_it_pass_over_what_was_there_before() -> None:
    # In a process of its own: what is frozen stays so.
    result = subprocess.run(
        [sys.executable, "-c", _CODE], check=True, capture_output=True, text=True
    )
    num_before, num_after, num_frozen = map(int, result.stdout.split())
    assert num_before > 10_000
    assert num_after < num_before / 100
    assert num_frozen > num_before * 0.9
