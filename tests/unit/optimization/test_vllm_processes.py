"""What the vLLM engine does around vLLM's processes; none of it needs vLLM."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mm_orch.optimization.engines.contract import EngineSpec
from mm_orch.optimization.engines.vllm.engine import VllmEngine
from mm_orch.optimization.engines.vllm.environment import prepare_environment
from mm_orch.optimization.engines.vllm.lifeline import Lifeline
from mm_orch.optimization.engines.vllm.stderr_tap import StderrTap

ROOT = str(Path(__file__).parents[3])
_FAMILY = f"""
import multiprocessing, os, sys, time
sys.path.insert(0, {ROOT!r})
from mm_orch.optimization.engines.vllm.lifeline import Lifeline

def live(line, pipe):
    pipe.send(os.getpid())
    time.sleep(1000)

if __name__ == "__main__":
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("spawn").Process(target=live, args=(Lifeline(), theirs))
    child.start()
    print(ours.recv(), flush=True)
    time.sleep(1000)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_a_child_that_is_given_the_lifeline_dies_with_its_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "family.py"
    script.write_text(_FAMILY)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))

        parent.kill()

    gone, _ = psutil.wait_procs([child], timeout=20)
    assert gone


def test_a_lifeline_may_come_back_to_its_own_process() -> None:
    assert isinstance(pickle.loads(pickle.dumps(Lifeline())), Lifeline)  # noqa: S301 - made here


_OWNER = f"""
import os, sys, time
sys.path.insert(0, {ROOT!r})
from mm_orch.optimization.engines.vllm.leftovers import Leftovers

leftovers = Leftovers()
leftovers.add(sys.argv[1])
if sys.argv[2] == "ends":
    leftovers.remove()
    leftovers.remove()
print(leftovers._process.pid, flush=True)
time.sleep(1000 if sys.argv[2] == "is killed" else 0)
"""


@pytest.mark.parametrize("how", ["ends", "forgets", "is killed"])
def test_files_are_removed_however_their_owner_ends(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "a folder's name"
    folder.mkdir()
    (folder / "file").touch()
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER, str(folder), how],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as owner:
        assert owner.stdout is not None
        remover_id = int(owner.stdout.readline())
        if how == "is killed":
            # With everything that stayed with it, as the server does.
            os.killpg(owner.pid, signal.SIGKILL)

    if psutil.pid_exists(remover_id):
        psutil.wait_procs([psutil.Process(remover_id)], timeout=20)
    assert not folder.exists()
    assert tmp_path.exists()


def test_the_last_error_of_a_child_is_found_and_everything_is_passed_on(
    capfd: pytest.CaptureFixture[str],
) -> None:
    says = "import sys; sys.stderr.write('(Core pid=1) ValueError: too little memory: 1 GiB\\n')"
    with StderrTap() as stderr:
        subprocess.run([sys.executable, "-c", says], check=True)
        os.write(2, b"RuntimeError: Engine core initialization failed.\n")

    assert stderr.find_cause() == "ValueError: too little memory: 1 GiB"
    assert "too little memory" in capfd.readouterr().err


def test_each_computing_process_has_cores_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "environ", {"VLLM_CPU_KVCACHE_SPACE": "2"})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {4, 5, 6, 7, 9}, raising=False)
    spec = EngineSpec(
        model="m",
        directory="",
        context_length=64,
        eos_token_ids=(),
        num_threads=4,
        cache_directory=str(tmp_path),
        settings={"tensor_parallel_size": 2},
    )

    prepare_environment(spec, "/sockets")

    assert os.environ["VLLM_CPU_OMP_THREADS_BIND"] == "4,6|5,7"
    assert os.environ["VLLM_RPC_BASE_PATH"] == "/sockets"
    # It would overrule the configured bound.
    assert "VLLM_CPU_KVCACHE_SPACE" not in os.environ


def test_a_gpu_is_chosen_among_those_that_are_visible(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    spec = EngineSpec(
        model="m",
        directory="",
        context_length=64,
        eos_token_ids=(),
        device="cuda:1",
        cache_directory=str(tmp_path),
    )
    for visible, chosen in ((None, "1"), ("3,5", "5")):
        monkeypatch.setattr(
            os, "environ", {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
        )
        prepare_environment(spec, "/sockets")

        assert os.environ["CUDA_VISIBLE_DEVICES"] == chosen


def test_without_vllm_the_probe_says_how_to_have_it() -> None:
    availability = VllmEngine.probe()

    if not availability.is_available:
        assert "scripts/setup-engine vllm" in availability.remedy
        assert "optimization.vllm.python" in availability.remedy
