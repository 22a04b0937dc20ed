"""Files are there whole, or as they were."""

from __future__ import annotations

import threading

import pytest

from sp_hf.whole_file import write_whole


def test_text_and_bytes_arrive_unchanged(tmp_path):
    write_whole(tmp_path / "a.txt", "Größe\n")
    write_whole(tmp_path / "b.bin", b"\0\xff")
    assert (tmp_path / "a.txt").read_bytes() == "Größe\n".encode()
    assert (tmp_path / "b.bin").read_bytes() == b"\0\xff"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_reader_never_meets_a_part(tmp_path):
    path, whole = tmp_path / "file", (b"0" * 2**20, b"1" * 2**21)
    write_whole(path, whole[0])
    done = threading.Event()

    def write() -> None:
        while not done.is_set():
            for content in whole:
                write_whole(path, content)

    writers = [threading.Thread(target=write) for _ in range(2)]  # of the same file, as two visitors
    for writer in writers:
        writer.start()
    try:
        assert all(path.read_bytes() in whole for _ in range(100))
    finally:
        done.set()
        for writer in writers:
            writer.join()


def test_what_cannot_be_written_leaves_the_old_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_whole(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_whole(path, "\ud800")
    path_of_a_folder = tmp_path / "folder"
    path_of_a_folder.mkdir()
    with pytest.raises(OSError):
        write_whole(path_of_a_folder, "new")
    assert path.read_text() == "old"
    assert {entry.name for entry in tmp_path.iterdir()} == {"file", "folder"}
