from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.benchmarking import process_tree
from mm_orch.benchmarking.server_process import HOST, ServerProcess, free_port
from mm_orch.core.errors import ServerStartError

if TYPE_CHECKING:
    from pathlib import Path

# Starts another process, then serves.
PARENT = """
import http.server, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
print(child.pid, flush=True)
http.server.test(http.server.SimpleHTTPRequestHandler, port=int(sys.argv[1]), bind="127.0.0.1")
"""


def start(folder: Path, *command: str, port: int = 1) -> ServerProcess:
    return ServerProcess(
        [sys.executable, "-c", *command],
        port=port,
        ready_path="/",
        log=folder / "log.txt",
        directory=folder,
    )


def test_a_server_is_ready_when_it_answers_and_gone_with_its_children_after(
    tmp_path: Path,
) -> None:
    port = free_port()
    with start(tmp_path, PARENT, str(port), port=port) as server:
        server.wait_until_ready(60)
        child = psutil.Process(int((tmp_path / "log.txt").read_text().split()[0]))
        assert server.url == f"http://{HOST}:{port}"
        assert child.is_running()
        assert server.cpu_s > 0
        assert (server.peak_memory_bytes or 0) > child.memory_info().rss

    assert not server.is_alive
    # It is no child of ours: this waits until it is gone, however that is known.
    _, alive = psutil.wait_procs([child], timeout=60)
    assert alive == []


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with (
        start(tmp_path, "print('no such model'); raise SystemExit(3)") as server,
        pytest.raises(ServerStartError, match=r"ended with 3\. It said: no such model"),
    ):
        server.wait_until_ready(60)


def test_a_server_that_never_answers_is_not_waited_for_without_end(tmp_path: Path) -> None:
    with (
        start(tmp_path, "import threading; threading.Event().wait()") as server,
        pytest.raises(ServerStartError, match="is not ready after 0 s"),
    ):
        server.wait_until_ready(0)


def test_this_process_has_memory_and_one_that_is_not_there_has_none() -> None:
    assert (process_tree.peak_memory_bytes(os.getpid()) or 0) > 1 << 20
    assert process_tree.peak_memory_bytes(2**22 + 1) is None
    assert process_tree.cpu_s(2**22 + 1) == 0
