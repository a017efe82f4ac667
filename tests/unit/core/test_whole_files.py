from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mm_orch.core.whole_files import write_whole


def test_a_file_is_replaced_and_its_folder_made(tmp_path: Path) -> None:
    path = tmp_path / "made" / "a.json"

    write_whole(path, b"first")
    write_whole(path, b"second")

    assert path.read_bytes() == b"second"
    assert list(path.parent.iterdir()) == [path]


def test_others_may_read_what_they_could_read_before(tmp_path: Path) -> None:
    plain, whole = tmp_path / "plain", tmp_path / "whole"
    plain.write_bytes(b"")

    write_whole(whole, b"")

    assert whole.stat().st_mode == plain.stat().st_mode


def test_what_cannot_be_written_leaves_what_was_there_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"first")
    write = Path.write_bytes

    def fill_the_disk(draft: Path, content: bytes) -> int:
        write(draft, content[:1])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", fill_the_disk)
    with pytest.raises(OSError, match="No space left"):
        write_whole(path, b"second")

    assert path.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [path]


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()

    for path in (tmp_path / "file" / "a.json", tmp_path / "folder"):
        with pytest.raises(OSError, match=r"(?i)director|exists"):
            write_whole(path, b"")

    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "folder"]


def test_of_many_that_write_at_the_same_time_one_is_there_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    contents = [bytes([number]) * 100_000 for number in range(4)]
    all_written, replace = threading.Barrier(len(contents)), Path.replace

    def replace_together(draft: Path, target: Path) -> Path:
        all_written.wait(timeout=60)
        return replace(draft, target)

    monkeypatch.setattr(Path, "replace", replace_together)
    with ThreadPoolExecutor(len(contents)) as threads:
        for done in [threads.submit(write_whole, path, content) for content in contents]:
            done.result()

    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]
