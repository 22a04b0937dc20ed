"""Which models may be opened, how many are kept, and what visitors are told."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from huggingface_hub import CommitOperationAdd, HfApi, close_session, constants
from loopback_hub import LoopbackHub
from tiny_encoders import TINY
from transformers import ViTConfig

from sp_hf.encoders.encoder import Encoder
from sp_hf.space import shelf as shelf_module
from sp_hf.space.hub_models import ModelError, check_architecture, check_hub_model
from sp_hf.space.probes import Probes
from sp_hf.space.shelf import Shelf, ShelfOptions, label_of

LIMIT = 10_000


def quiet(_: str) -> None:
    """Nobody waits."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    found = []
    for seed in range(4):
        found.append(tmp_path_factory.mktemp("models") / f"model-{seed}")
        Encoder(TINY["vit"].build(seed)).save_stock(found[-1])
    return found


@pytest.fixture(scope="module")
def hub() -> HfApi:
    patch = pytest.MonkeyPatch()
    patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    patch.setattr(constants, "HF_HUB_OFFLINE", False)
    patch.setenv("no_proxy", "127.0.0.1")
    close_session()
    with LoopbackHub() as hub:
        owner = HfApi(endpoint=hub.url, token=hub.add_user("ann", orgs={"lab": "write"}))
        files = {
            "good": {"model.safetensors": b"0" * LIMIT, "config.json": b"{}"},
            "large": {"model-00001-of-00002.safetensors": b"0" * LIMIT, "model-00002-of-00002.safetensors": b"1"},
            "pickled": {"pytorch_model.bin": b"0" * 10, "config.json": b"{}"},
            "wordy": {"model.safetensors": b"0", "config.json": b" " * (2**20 + 1)},
            "secret": {"model.safetensors": b"0"},
        }
        for name, content in files.items():
            owner.create_repo(f"lab/{name}", private=name == "secret")
            operations = [CommitOperationAdd(file, data) for file, data in content.items()]
            owner.create_commit(f"lab/{name}", operations, commit_message="files")
        hub.log.clear()
        api = HfApi(endpoint=hub.url, token=False)
        api.loopback = hub
        yield api
        close_session()
    patch.undo()


def test_a_model_of_the_hub_that_may_be_loaded(hub):
    check_hub_model("lab/good", LIMIT, hub)
    assert not [request for request in hub.loopback.log if request.user]  # asked without a token


@pytest.mark.parametrize(
    "name, reason",
    [
        ("lab/large", "MB of weights; the limit"),
        ("lab/pickled", "no safetensors"),
        ("lab/wordy", "configuration of more than 1 MB"),
        ("lab/secret", "no public model lab/secret"),
        ("lab/nowhere", "no public model lab/nowhere"),
        ("../../etc/passwd", "not the id of a model"),
        ("/etc", "not the id of a model"),
        ("one-word", "not the id of a model"),
        ("a/b/c", "not the id of a model"),
        ("https://example.org/x", "not the id of a model"),
        ("X=lab/good", "not the id of a model"),
        ("lab/<script>", "not the id of a model"),
    ],
)
def test_models_of_the_hub_that_may_not(hub, name, reason):
    with pytest.raises(ModelError, match=reason):
        check_hub_model(name, LIMIT, hub)


def test_a_hub_that_does_not_answer():
    with pytest.raises(ModelError, match="cannot be asked about lab/good"):
        check_hub_model("lab/good", LIMIT, HfApi(endpoint="http://127.0.0.1:9", token=False))


def test_a_configuration_that_asks_for_all_memory_is_refused_before_it_gets_any():
    check_architecture("a/b", ViTConfig(), 400 * 2**20)
    with pytest.raises(ModelError, match="MB of memory; the limit is"):
        check_architecture("a/b", ViTConfig(hidden_size=2**16, intermediate_size=2**18), 400 * 2**20)
    with pytest.raises(ModelError, match="1000000000 layers"):
        check_architecture("a/b", ViTConfig(num_hidden_layers=10**9), 400 * 2**20)


def test_folders_only_where_they_are_allowed(folders, monkeypatch):
    asked = []
    monkeypatch.setattr(shelf_module, "check_hub_model", lambda name, limit: asked.append(name))
    public = Shelf(ShelfOptions(models=[str(folders[0])]))
    assert public.open(str(folders[0]), quiet).model.name == "model-0"  # offered by whoever runs it
    for name in (str(folders[1]), "vit-large-4", str(folders[1].parent)):
        with pytest.raises(ModelError, match="not one of the models here"):
            public.open(name, quiet)
    monkeypatch.chdir(folders[1].parent.parent)
    with pytest.raises(ModelError, match="not one of the models here"):  # reads like an id, and is a folder
        public.open(f"{folders[1].parent.name}/{folders[1].name}", quiet)
    assert not asked
    assert Shelf(ShelfOptions(local_paths=True)).open(str(folders[1]), quiet).model.name == "model-1"


def test_no_name_and_a_broken_model(tmp_path):
    shelf = Shelf(ShelfOptions(local_paths=True))
    with pytest.raises(ModelError, match="Name a model"):
        shelf.open("  ", quiet)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be loaded"):
        shelf.open(str(tmp_path), quiet)
    assert len(shelf) == 0


def test_the_least_recently_used_model_goes(folders):
    names = [str(folder) for folder in folders]
    shelf = Shelf(ShelfOptions(local_paths=True, capacity=2))
    first = shelf.open(names[0], quiet)
    shelf.open(names[1], quiet)
    assert shelf.open(names[0], quiet) is first
    shelf.open(names[2], quiet)  # 1 goes
    assert len(shelf) == 2 and shelf.open(names[0], quiet) is first
    opened: list[str] = []
    shelf.open(names[1], opened.append)
    assert opened == ["model-1: loading"]


def test_visitors_who_ask_at_once_wait_for_one_load(folders, monkeypatch):
    loads, gate = [], threading.Barrier(6)

    def load(self, name, say):
        loads.append(name)
        return Probes(None, None)

    monkeypatch.setattr(Shelf, "_load", load)
    shelf = Shelf(ShelfOptions(local_paths=True))

    def visit(_: int) -> Probes:
        gate.wait()
        return shelf.open("same", quiet)

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(visit, range(6)))
    assert loads == ["same"] and len({id(probes) for probes in found}) == 1


def test_labels(folders):
    assert label_of("DINO + SP=runs/x") == "DINO + SP"
    assert label_of("facebook/dinov2-small") == "facebook/dinov2-small"
    assert label_of(str(folders[2])) == "model-2"


def test_models_see_whole_images_squashed(folders):
    probes = Shelf(ShelfOptions(local_paths=True)).open(str(folders[0]), quiet)
    from PIL import Image

    picture = Image.new("RGB", (200, 100), "black")
    picture.paste("white", (100, 0, 200, 100))
    pixels = torch.from_numpy(probes.model.preprocess(picture))
    assert tuple(pixels.shape) == (3, 32, 32) and probes.crop_size == 32
    assert pixels[:, :, :14].max() < 40 and pixels[:, :, 18:].min() > 215
