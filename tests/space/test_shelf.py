"""Which models may be opened, how many are kept, and what visitors are told."""

from __future__ import annotations

import json
import shutil
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
from sp_hf.space.probe_set import Fitted, ProbeError, crop_size, probes_of
from sp_hf.space.shelf import Contestant, Shelf, ShelfOptions, label_of

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
    public = Shelf(ShelfOptions(models=[f"Mine={folders[0]}"]))
    assert public.open("Mine", quiet).model.name == "Mine"  # offered by whoever runs it, under this name alone
    for name in (str(folders[0]), str(folders[1]), "vit-large-4", str(folders[1].parent)):
        with pytest.raises(ModelError, match="not one of the models here"):
            public.open(name, quiet)
    monkeypatch.chdir(folders[1].parent.parent)
    with pytest.raises(ModelError, match="not one of the models here"):  # reads like an id, and is a folder
        public.open(f"{folders[1].parent.name}/{folders[1].name}", quiet)
    assert not asked
    assert Shelf(ShelfOptions(local_paths=True)).open(str(folders[1]), quiet).model.name == str(folders[1])


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
    assert opened == [f"{names[1]}: loading"]


def test_visitors_who_ask_at_once_wait_for_one_load_and_one_fit(folders, monkeypatch):
    loads, fits, gate = [], [], threading.Barrier(6)

    def load(self, name, say):
        loads.append(name)
        return Contestant(None, lambda say: fits.append(name) or "probes")

    monkeypatch.setattr(Shelf, "_load", load)
    shelf = Shelf(ShelfOptions(local_paths=True))

    def visit(_: int) -> Contestant:
        gate.wait()
        contestant = shelf.open("same", quiet)
        assert contestant.probes(quiet) == "probes"
        return contestant

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(visit, range(6)))
    assert loads == fits == ["same"] and len({id(contestant) for contestant in found}) == 1


def test_while_one_model_is_fitted_others_are_asked(folders, monkeypatch):
    begun, may_end = threading.Event(), threading.Event()

    def slow(say):
        begun.set()
        assert may_end.wait(20)
        return "slow"

    monkeypatch.setattr(
        Shelf, "_load", lambda self, name, say: Contestant(None, slow if name == "slow" else lambda _: name)
    )
    shelf = Shelf(ShelfOptions(local_paths=True))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(lambda: shelf.open("slow", quiet).probes(quiet))
        assert begun.wait(20)
        assert shelf.open("quick", quiet).probes(quiet) == "quick" and not waiting.done()
        may_end.set()
        assert waiting.result(20) == "slow"


def test_labels(folders):
    assert label_of("DINO + SP=runs/x") == "DINO + SP"
    assert label_of("facebook/dinov2-small") == "facebook/dinov2-small"
    assert label_of(str(folders[2])) == "model-2"


def test_probes_beside_a_model_are_read_and_others_are_fitted(folders, tmp_path, monkeypatch):
    monkeypatch.setenv("SP_HF_CACHE", str(tmp_path / "features"))
    for index in (0, 1):
        shutil.copytree(folders[index], tmp_path / f"m{index}")
    shelf = Shelf(ShelfOptions(models=[str(tmp_path / "m0"), str(tmp_path / "m1")], hub=False, images=24))
    said: list[str] = []
    fitted = shelf.open("m0", quiet).probes(said.append)
    assert fitted.fitted == Fitted("drawn scenes", 24, 0) and "m0: fitting probes to 24 images, once" in said
    assert crop_size(shelf.open("m0", quiet).model) == 16
    fitted.scored({"tiles": 4.2}).save(probes_of(tmp_path / "m0"))
    again = Shelf(shelf.options).open("m0", quiet).probes(fail)
    assert again.fitted.scores == {"tiles": 4.2}
    for name in ("scale", "weights"):
        assert torch.equal(getattr(again.cells, name), getattr(fitted.cells, name))
        assert torch.equal(getattr(again.relation, name), getattr(fitted.relation, name))
    shutil.copyfile(probes_of(tmp_path / "m0"), probes_of(tmp_path / "m1"))
    with pytest.raises(ProbeError, match="of other weights"):
        shelf.open("m1", quiet).probes(quiet)
    probes_of(tmp_path / "m1").write_bytes(b"damaged")
    with pytest.raises(ProbeError, match="holds no probes"):
        shelf.open("m1", quiet).probes(quiet)


def fail(text: str) -> None:
    raise AssertionError(text)


def test_models_see_whole_images_squashed(folders):
    model = Shelf(ShelfOptions(local_paths=True)).open(str(folders[0]), quiet).model
    from PIL import Image

    picture = Image.new("RGB", (200, 100), "black")
    picture.paste("white", (100, 0, 200, 100))
    pixels = torch.from_numpy(model.preprocess(picture))
    assert tuple(pixels.shape) == (3, 32, 32)
    assert pixels[:, :, :14].max() < 40 and pixels[:, :, 18:].min() > 215
