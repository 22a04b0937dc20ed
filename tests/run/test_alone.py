"""A run folder is of one process at a time, for as long as it lives."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from sp_hf.errors import FolderTakenError, InputError
from sp_hf.run.alone import alone_in
from sp_hf.run.folder import check_apart

FORK = multiprocessing.get_context("fork")


def _hold(folder: Path, inside: object, grandchild: bool) -> None:
    with alone_in(folder):
        if grandchild:  # as a worker that reads images, which outlives its parent for some seconds
            FORK.Process(target=time.sleep, args=(20,)).start()
        inside.set()
        time.sleep(600)


@pytest.mark.fault("two processes at once in one run folder, or a run folder among its images")
def test_a_second_one_is_refused_until_the_first_is_gone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    inside = FORK.Event()
    first = FORK.Process(target=_hold, args=(tmp_path, inside, True))
    first.start()
    assert inside.wait(60)
    with pytest.raises(FolderTakenError, match="another process is training in .*choose another"):
        with alone_in(tmp_path, patience=0.3):
            pytest.fail("two at once")
    assert "waiting for it" in caplog.text
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    for _ in range(2):
        with alone_in(tmp_path, patience=0.3):  # at once, although the fork of a fork lives on
            assert list(tmp_path.iterdir()) == []


def test_other_folders_are_free(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with alone_in(tmp_path / "a", patience=0), alone_in(tmp_path / "b", patience=0):
        pass


def test_where_there_are_no_locks_nobody_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with alone_in(tmp_path):
        pass


@pytest.mark.fault("two processes at once in one run folder, or a run folder among its images")
def test_a_run_does_not_write_pictures_among_its_images(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for output in (photos, photos / "runs" / "mine", tmp_path / "x" / ".." / "photos" / "a"):
        with pytest.raises(InputError, match="lies in the dataset's folder"):
            check_apart(output, str(photos), None)
        with pytest.raises(InputError, match="lies in the dataset's folder"):
            check_apart(output, "part-scenes", photos)
    check_apart(tmp_path / "photos-run", str(photos), "photos", [1])
    check_apart(tmp_path, str(photos))
