"""The cache of features: damaged entries, versions, and two processes that want the same entry."""

import json
import logging
import os
import threading

import numpy as np
import pytest

from sp_hf.evaluation import cache as cache_module
from sp_hf.evaluation.cache import FeatureCache

FEATURES = np.arange(12, dtype=np.float32).reshape(3, 4)
PARTS = {"model": "a"}


def computed(_):
    return {"cls": FEATURES, "rows": np.arange(3)}


def refused(_):
    raise AssertionError("it is there already")


def truncate(entry):
    os.truncate(entry / "cls.npy", (entry / "cls.npy").stat().st_size - 8)


def grow(entry):
    with open(entry / "cls.npy", "ab") as file:
        file.write(b"more")


def lose(entry):
    (entry / "rows.npy").unlink()


def scribble(entry):
    (entry / "meta.json").write_text("{")


def forget_sizes(entry):
    (entry / "meta.json").write_text(json.dumps({"parts": PARTS}))


@pytest.mark.parametrize("damage", [truncate, grow, lose, scribble, forget_sizes])
def test_a_damaged_entry_is_named_and_made_again(damage, tmp_path, caplog):
    cache = FeatureCache(tmp_path)
    cache.get(PARTS, computed)
    (entry,) = tmp_path.iterdir()
    damage(entry)
    with caplog.at_level(logging.WARNING, logger="sp_hf"):
        found = cache.get(PARTS, computed)
    assert str(entry) in caplog.text and "made again" in caplog.text
    np.testing.assert_array_equal(found["cls"], FEATURES)
    assert list(tmp_path.iterdir()) == [entry]  # nothing is left lying about
    np.testing.assert_array_equal(cache.get(PARTS, refused)["cls"], FEATURES)
    assert (cache.hits, cache.misses) == (1, 2)


def test_another_version_of_the_package_computes_anew(tmp_path, monkeypatch):
    cache = FeatureCache(tmp_path)
    cache.get(PARTS, computed)
    cache.get(PARTS, refused)
    versions = cache_module._versions()
    monkeypatch.setattr(cache_module, "_versions", lambda: ["999.0", *versions[1:]])
    cache.get(PARTS, computed)
    assert (cache.hits, cache.misses) == (1, 2) and len(list(tmp_path.iterdir())) == 2
    monkeypatch.undo()
    monkeypatch.setattr(cache_module, "FORMAT", cache_module.FORMAT + 1)
    cache.get(PARTS, computed)
    assert len(list(tmp_path.iterdir())) == 3


def test_two_at_once_both_get_the_whole_entry(tmp_path):
    """Both have computed before either has put its entry in place: the slower one finds the place taken."""
    both_computed, found, errors = threading.Barrier(2, timeout=30), {}, []

    def compute(folder):
        np.save(folder / "cls.npy", FEATURES)
        both_computed.wait()
        return {"cls": np.load(folder / "cls.npy", mmap_mode="r"), "rows": np.arange(3)}

    def one(name):
        try:
            found[name] = FeatureCache(tmp_path).get(PARTS, compute)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=one, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    for arrays in found.values():
        np.testing.assert_array_equal(arrays["cls"], FEATURES)
    assert len(list(tmp_path.iterdir())) == 1
    FeatureCache(tmp_path).get(PARTS, refused)
