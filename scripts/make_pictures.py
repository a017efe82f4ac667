"""Makes the pictures of the console in docs/images anew: real servers, real requests, Chromium.

usage: .venv/bin/python scripts/make_pictures.py      (some minutes)

The overview is of a server that several clients have kept busy for two minutes. The requests that
were slow for a reason are those of tests/e2e/test_slow_requests.py, which make each happen.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.e2e.console_browser import launched, show, watched  # noqa: E402 - needs the path
from tests.processes import start_server  # noqa: E402
from tests.streams import CHAT  # noqa: E402

if TYPE_CHECKING:
    from tests.processes import ServerProcess

IMAGES = ROOT / "docs/images"
EXPLAINED = "tests/e2e/test_slow_requests.py"
_BUSY_S = 120
_WAIT_S = 30_000
# Of README.md: what fits beside its text.
_VIEW: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
_QUESTIONS = (
    "Why is the sky blue?",
    "Tell me a story about the sea.",
    "How do I make green tea?",
    "What is machine learning?",
)


def main() -> int:
    """Make all pictures and put them into their folder; return 1 where a test failed."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        environment = os.environ | {"MUAI_SCREENSHOTS": folder}
        print(f"pictures: {EXPLAINED}", flush=True)
        tests = [sys.executable, "-m", "pytest", "-q", EXPLAINED]
        if subprocess.run(tests, cwd=ROOT, env=environment, check=False).returncode:
            return 1
        print(f"pictures: a server that is busy for {_BUSY_S} s", flush=True)
        show_overview(made / "console.png", made)
        for picture in sorted(made.glob("console*.png")):
            shutil.copy(picture, IMAGES / picture.name)
            print(f"pictures: {picture.name}")
    return 0


def show_overview(path: Path, folder: Path) -> None:
    """Take the picture of a busy server's overview."""
    server = start_server(folder)
    is_over = threading.Event()
    clients = [
        threading.Thread(target=_keep_asking, args=(server, question, is_over))
        for question in _QUESTIONS
    ]
    try:
        for client in clients:
            client.start()
        is_over.wait(_BUSY_S)
        with (
            launched() as browser,
            watched(browser, server, is_made_up=False, **_VIEW) as page,
        ):
            show(page, "overview")
            page.locator(".plot canvas").first.wait_for(timeout=_WAIT_S)
            page.screenshot(path=path)
    finally:
        is_over.set()
        for client in clients:
            client.join()
        server.stop()


def _keep_asking(server: ServerProcess, question: str, is_over: threading.Event) -> None:
    turns = [{"role": "user", "content": question}]
    while not is_over.is_set():
        body = {"messages": turns, "max_tokens": 60, "temperature": 0.2}
        server.request("POST", CHAT, body)


if __name__ == "__main__":
    sys.exit(main())
