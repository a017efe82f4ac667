from __future__ import annotations

import pytest

from mm_orch.gpus.visible import find_visible
from tests.fake_nvml import well_reading

THREE = [well_reading(index) for index in range(3)]


@pytest.mark.parametrize(
    ("visible", "seen"),
    [
        ("0,1,2", "012"),
        (" 2, 0", "20"),
        ("GPU-1a,GPU-0", "10"),
        ("gpu-1", "1"),
        ("", ""),
        ("-1", ""),
        # As for CUDA, what comes after a name of no GPU is not seen.
        ("1,7,0", "1"),
        ("1,1,0", "1"),
        ("MIG-1234,0", ""),
    ],
)
def test_the_server_uses_the_gpus_that_it_sees(visible: str, seen: str) -> None:
    assert "".join(gpu.gpu_id for gpu in find_visible(THREE, visible=visible)) == seen


def test_without_the_variable_all_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert find_visible(THREE) == tuple(THREE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert find_visible(THREE) == (THREE[1],)
