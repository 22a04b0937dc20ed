"""What comes with the package, and the command that puts it there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from tiny_encoders import TINY
from transformers import AutoModel

from sp_hf.encoders.encoder import Encoder
from sp_hf.run.folder import RunFolder
from sp_hf.space import shipped
from sp_hf.space.demo_runs import DemoRuns
from sp_hf.space.jigsaw import Cut, solve
from sp_hf.space.probe_set import probes_of
from sp_hf.space.shelf import Shelf, ShelfOptions
from sp_hf.space.typical import box_pairs, nearest_to_means
from sp_hf.space.uploads import open_upload
from sp_hf.space.where import locate, read_box

SCRIPT = Path(__file__).parents[2] / "scripts" / "flagship.py"
needs_models = pytest.mark.skipif(not shipped.models(), reason="no models are shipped: run scripts/flagship.py")


@pytest.fixture(scope="module")
def flagship():
    spec = importlib.util.spec_from_file_location("flagship", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def runs(folder: Path, kinds: tuple[str, str] = ("vit", "vit")) -> list[str]:
    """Folders of two runs, as far as the command looks."""
    for seed, kind in enumerate(kinds):
        Encoder(TINY[kind].build(seed)).save_stock(RunFolder(folder / str(seed)).encoder)
    with_sp, control, output = (str(folder / name) for name in "01m")
    return ["--with_sp", with_sp, "--control", control, "--no_cards", "--output_dir", output]


def test_a_pair_is_put_in_place_by_one_command(flagship, tmp_path, capsys):
    scenes = ["--dataset", "part-scenes?size=64&num_images=24", "--validation_dataset", "part-scenes?num_images=6"]
    assert flagship.main([*runs(tmp_path), *scenes, "--images", "24", "--puzzles", "6", "--title", "scenes"]) == 0
    root, said = tmp_path / "m", capsys.readouterr().out
    names = [text.partition("=")[0] for text in shipped.models(root)]
    assert names == list(shipped.FOLDERS)
    assert not list((root / "untrained").glob("*.safetensors"))
    stock = AutoModel.from_pretrained(root / "with-sp").state_dict()
    trained = AutoModel.from_pretrained(tmp_path / "0" / "encoder").state_dict()
    assert all(torch.equal(stock[name], value) for name, value in trained.items())
    benchmark, first = shipped.evidence(root), shipped.first_answers(root)
    assert list(benchmark.right) == names and len(benchmark) == 6 and benchmark.images == "scenes"
    assert benchmark.sentence() in said and "Too few puzzles" in said
    shelf = Shelf(ShelfOptions(models=shipped.models(root), hub=False))
    upload = open_upload(shipped.photographs()[0])
    puzzle, boxes = [(upload, Cut.of(first["seed"]))], [read_box(text, "") for text in first["boxes"]]
    for name in names:  # what was written down is what they answer
        contestant = shelf.open(name, print)
        probes = contestant.probes(pytest.fail)
        assert solve(contestant.model, probes, puzzle)[0].placed.tolist() == first["puzzle"][name]
        assert list(probes.fitted.scores.values()) == [round(benchmark.estimates()[name].value, 4)]
        assert locate(contestant.model, probes, upload, *boxes).predicted.tolist() == pytest.approx(
            first["where"][name], abs=1e-4
        )
        assert len(first["patches"][name]["similarity"]) == 4
    before = (root / shipped.FIRST).read_text()
    assert flagship.main(["--only_first", "--output_dir", str(root)]) == 0
    assert (root / shipped.FIRST).read_text() == before


def test_what_is_shown_at_first_is_nearest_to_the_means():
    scores = torch.tensor([[9, 5, 4, 0], [0, 2, 4, 8]])  # means 4.5 and 3.5
    assert nearest_to_means(scores) == 2  # 0.5^2 + 0.5^2
    assert nearest_to_means(torch.tensor([[9, 0, 4], [9, 0, 5]])) == 2


def test_pairs_of_crops_are_boxes_that_hardly_overlap():
    pairs = box_pairs(20)
    assert pairs == box_pairs(20) and len(set(pairs)) == 20
    for texts in pairs:
        first, second = (read_box(text, "first") for text in texts)
        low, high = (torch.maximum, torch.minimum)
        corners = [(box[:2] - box[2:] / 2, box[:2] + box[2:] / 2) for box in (first, second)]
        inter = (high(corners[0][1], corners[1][1]) - low(corners[0][0], corners[1][0])).clamp(min=0).prod()
        union = first[2:].prod() + second[2:].prod() - inter
        assert float(inter / union) <= 0.1 + 1e-9


def test_a_pair_of_two_architectures_is_none(flagship, tmp_path):
    scenes = ["--dataset", "part-scenes", "--validation_dataset", "part-scenes"]
    with pytest.raises(ValueError, match="SP must be all that differs"):
        flagship.main([*runs(tmp_path, ("vit", "dinov2")), *scenes])


@needs_models
def test_the_shipped_models_are_small_stock_and_whole():
    root = shipped.folder()
    weights = [path for path in root.glob("*/model.safetensors")]
    assert len(weights) == 2 and sum(path.stat().st_size for path in weights) <= 10 * 10**6
    assert sum(path.stat().st_size for path in root.rglob("*") if path not in weights) < 500_000
    for name in ("with-sp", "without-sp"):
        card = (root / name / "README.md").read_text(encoding="utf-8")
        assert "/work" not in card and "license:" in card
        AutoModel.from_pretrained(root / name)
    assert all(probes_of(root / place).is_file() for place in shipped.FOLDERS.values())
    assert len(shipped.evidence()) >= 200


def test_the_runs_of_the_demo_are_found_with_sp_first(tmp_path):
    assert DemoRuns.find(tmp_path) is None
    made = {"moco_v3-seed0": ["moco_v3"], "moco_v3-spatial_prediction-seed0": ["moco_v3", "spatial_prediction"]}
    for name, objectives in made.items():
        run = RunFolder(tmp_path / name)
        Encoder(TINY["vit"].build(0)).save_stock(run.encoder)
        entries = "\n".join(f"- name: {objective}" for objective in objectives)
        run.recipe.write_text(f"dataset: part-scenes?size=96&variant=cue-conflict\nobjectives:\n{entries}\n")
        run.environment.write_text("{}")
        run.metrics.write_text(json.dumps({"step": 1}) + "\n")
        assert (DemoRuns.find(tmp_path) is None) == (name == "moco_v3-seed0")
    found = DemoRuns.find(tmp_path)
    with_sp, control = (f"{tmp_path}/moco_v3{name}-seed0" for name in ("-spatial_prediction", ""))
    assert found.models == (f"MoCo v3 + SP={with_sp}", f"MoCo v3={control}")
    assert len(found.draw(tmp_path, (3, 8))) == 2 and found.evaluations == ()
