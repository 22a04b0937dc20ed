"""DCL and a task from a package outside of the repository, from pretraining to the card, and without the package."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys

import pytest
import torch
import yaml
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModel

import sp_hf
from sp_hf.cards.model_card import write_card
from sp_hf.cli import main
from sp_hf.errors import PluginError
from sp_hf.objectives import OBJECTIVES, ObjectiveConfig, build_objective, parse_entry
from sp_hf.run.folder import RunFolder
from tests.objectives.harness import Step, TinyEncoder, check_autocast, make_batch

from .conftest import installed

VIEWS = {"count": 2, "size": 16, "area": [0.3, 1.0]}
DCL_ENTRY = {"name": "dcl", "views": VIEWS, "embedding_size": 8}
RECIPE = {
    "encoder": "vit-micro-8",
    "image_size": 16,
    "objectives": [DCL_ENTRY, {"name": "spatial_prediction", "views": {**VIEWS, "flip": "shared"}, "head_width": 16}],
    "dataset": "part-scenes?size=32&num_images=16",
    "canvas_size": 32,
    "per_device_train_batch_size": 4,
    "max_steps": 4,
    "save_steps": 2,
    "logging_steps": 1,
    "use_cpu": True,
    "dataloader_num_workers": 0,
}
MISSING = r"objective 'dcl'; it was made with the package my-dcl, which is not installed: pip install my-dcl"


@pytest.fixture
def dcl(my_dcl):
    with installed(my_dcl):
        import my_dcl as module

        yield module


@pytest.fixture(scope="module")
def run(my_dcl, tmp_path_factory) -> RunFolder:
    """Made with the package, which is gone again; beside it a card, its evaluation, and the run resumed at half."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    made, resumed = RunFolder(folder / "run"), RunFolder(folder / "resumed")
    with installed(my_dcl):
        pretrain = ["pretrain", "--recipe", str(folder / "recipe.yaml"), "--output_dir"]
        assert main([*pretrain, str(made.path)]) == 0
        shutil.copytree(made.path, resumed.path)
        for later in (resumed.checkpoint(4), resumed.encoder, resumed.pretraining):
            shutil.rmtree(later)
        assert main([*pretrain, str(resumed.path), "--resume_from_checkpoint", "last"]) == 0
        assert main(["export", str(made.checkpoint(2)), str(folder / "exported")]) == 0
        images = ["--dataset", "part-scenes?size=32&num_images=24", "--num_workers", "0", "--no_cache"]
        evaluation = ["evaluate", f"mine={made.path}", "--tasks", "spread", *images]
        assert main([*evaluation, "--output_dir", str(folder / "evaluation")]) == 0
        write_card(made.path, folder / "card", "me/mine", evaluations=[folder / "evaluation"], run_snippets=False)
    return made


@pytest.mark.parametrize("temperature", [0.02, 0.5])
def test_its_loss_against_a_sum_written_out(dcl, temperature):
    first, second = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    views = [*first.tolist(), *second.tolist()]

    def cosine(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

    terms = []
    for i, view in enumerate(views):
        others = [math.exp(cosine(view, other) / temperature) for j, other in enumerate(views) if j % 5 != i % 5]
        terms.append(math.log(sum(others)) - cosine(view, views[(i + 5) % 10]) / temperature)
    assert dcl.dcl_loss(first, second, temperature).item() == pytest.approx(sum(terms) / 10, rel=1e-9)


class Standardised(nn.BatchNorm1d):
    """A norm at the end of the head, which makes small differences between images large."""

    def __init__(self):
        super().__init__(DCL_ENTRY["embedding_size"], affine=False, track_running_stats=False)

    def forward(self, x):
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])


def test_a_low_temperature_is_no_fault_under_autocast(dcl):
    """Rounding in the network moves this loss by more than any tolerance that suits a mean of squares."""
    torch.manual_seed(1)
    encoder = TinyEncoder()
    step = Step(build_objective({**DCL_ENTRY, "temperature": 0.05}, encoder), encoder)
    step.objective.head.append(Standardised())
    batch = make_batch(step.objective)
    exact = step(batch).loss.item()
    loss = check_autocast(step, batch)
    assert abs(loss.item() - exact) > 0.02 + 0.05 * exact
    loss.backward()


def test_the_run_resumes_to_the_same_weights(run):
    whole, resumed = (
        load_file(r.pretraining / "model.safetensors") for r in (run, RunFolder(run.path.parent / "resumed"))
    )
    assert whole.keys() == resumed.keys() and any(name.startswith("objectives.dcl.head") for name in whole)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    metrics = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    assert sum("loss/dcl" in line for line in metrics) == 4


def test_the_run_says_which_package_it_was_made_with(run):
    entries = [
        json.loads((folder / "config.json").read_text())["objectives"]
        for folder in (run.pretraining, run.checkpoint(2))
    ]
    entries.append(yaml.safe_load(run.recipe.read_text())["objectives"])
    for dcl, own in entries:
        assert dcl["package"] == "my-dcl" and "package" not in own
    assert json.loads(run.environment.read_text())["packages"]["my-dcl"] == "0.1.0"


def test_the_evaluation_and_the_card_know_them(run):
    results = json.loads((run.path.parent / "evaluation" / "results.json").read_text())
    spread = results["tasks"]["spread"]["results"]["mine"]["measures"]["spread"]
    assert 0 < spread["value"] < 1 and spread["n"] == 24
    card = ModelCard.load(run.path.parent / "card" / "README.md")
    assert "by DCL + Spatial Prediction" in card.content and "yeh2022decoupled" in card.content
    assert "dcl (weight 1, of the package my-dcl)" in card.content and "my-dcl 0.1.0" in card.content
    assert "dcl" in card.data.tags
    assert [result.metric_type for result in card.data.eval_results] == ["spread"]


def test_without_the_package_the_run_says_what_to_install(run, tmp_path, capsys):
    assert "dcl" not in OBJECTIVES and "my_dcl" not in sys.modules
    for use in (
        lambda: sp_hf.SPForPreTraining.from_pretrained(run.pretraining),
        lambda: sp_hf.export(run.path, tmp_path / "exported"),
        lambda: write_card(run.path, tmp_path / "card", "me/mine", run_snippets=False),
    ):
        with pytest.raises(PluginError, match=MISSING):
            use()
    again = ["pretrain", "--recipe", str(run.recipe), "--output_dir", str(run.path), "--resume_from_checkpoint", "last"]
    assert main(again) == 1
    assert "pip install my-dcl" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_without_the_package_its_encoder_loads_and_is_measured(run):
    for folder in (run.encoder, run.path.parent / "exported"):
        assert type(AutoModel.from_pretrained(folder)).__name__ == "ViTModel"
    program = f"import transformers; transformers.AutoModel.from_pretrained({str(run.encoder)!r}); import sys"
    alone = f"{program}; sys.exit(bool({{'sp_hf', 'my_dcl'}} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", alone], check=True)
    images = {"dataset": "part-scenes?size=32&num_images=24", "num_workers": 0, "no_cache": True}
    assert sp_hf.evaluate(f"mine={run.path}", tasks="knn", **images).metric("knn", "accuracy", "mine").n == 24
    with pytest.raises(ValueError, match="unknown task spread; .*One of another package needs that installed"):
        sp_hf.evaluate(run.path, tasks="spread", **images)


def test_one_of_a_script_trains_as_an_instance_by_its_class_or_name(dcl, tmp_path):
    """Without any metadata: registered in this process."""

    class Scripted(dcl.DCL):
        pass

    with installed():
        sp_hf.register_objective("scripted")(Scripted)
        views = {**DCL_ENTRY, "name": "scripted"}
        made = sp_hf.pretrain(
            "vit-micro-8",
            [views],
            output_dir=tmp_path / "run",
            **{name: value for name, value in RECIPE.items() if name not in ("encoder", "objectives", "max_steps")},
            max_steps=1,
        )
        config = sp_hf.SPForPreTraining.from_pretrained(RunFolder(made.output_dir).pretraining).config
        assert [entry["name"] for entry in config.objectives] == ["scripted"]
    with pytest.raises(PluginError, match="unknown objective 'scripted'"):
        sp_hf.SPForPreTraining.from_pretrained(RunFolder(made.output_dir).pretraining)


def test_its_options_are_checked_as_any_others(dcl):
    assert issubclass(dcl.DCLConfig, ObjectiveConfig)
    with pytest.raises(ValueError, match="objective 'dcl' has no option 'temprature'.*did you mean 'temperature'"):
        parse_entry({"name": "dcl", "temprature": 1})
