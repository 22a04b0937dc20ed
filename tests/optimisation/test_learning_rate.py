"""A base learning rate follows the images of a step, and one kind of rate replaces the other."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from sp_hf.optimisation.learning_rate import scaled_learning_rate, without_other_rate
from sp_hf.run.recipe import RecipeError, parse_run
from sp_hf.sweeps.plan import read_plan

RECIPES = Path(__file__).parents[2] / "recipes"
PAPERS = {  # rate at the papers' batch
    "dino_sp_vit_small": (1024, 2e-3),
    "spatial_context_vit_small": (1024, 2e-3),
    "moco_v3_sp_vit_small": (4096, 2.4e-3),
    "mae_sp_vit_base": (4096, 2.4e-3),
    "drop_pos_vit_base": (4096, 2.4e-3),
    "supervised_vit_small": (1024, 1e-3),
}


def parse(recipe: Path, *flags: str):
    return parse_run(["--recipe", str(recipe), "--use_cpu", *flags])[2]


def written(folder: Path, **options: object) -> Path:
    path = folder / "some.yaml"
    path.write_text(yaml.safe_dump({"per_device_train_batch_size": 64, **options}))
    return path


@pytest.mark.parametrize(("recipe", "paper"), PAPERS.items(), ids=PAPERS)
def test_the_papers_rate_at_any_batch(recipe: str, paper: tuple[int, float]) -> None:
    batch, rate = paper
    flags = ("--per_device_train_batch_size", "32", "--gradient_accumulation_steps")
    at_paper = parse(RECIPES / f"{recipe}.yaml", *flags, str(batch // 32))
    assert at_paper.images_per_step == batch
    assert at_paper.learning_rate == pytest.approx(rate)
    assert parse(RECIPES / f"{recipe}.yaml", *flags, "2").learning_rate == pytest.approx(rate * 64 / batch)


def test_processes_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sp_hf.run.arguments import PretrainingArguments

    monkeypatch.setattr(PretrainingArguments, "world_size", property(lambda self: 8))
    assert parse(RECIPES / "mae_sp_vit_base.yaml").learning_rate == pytest.approx(1.5e-4 * 8 * 128 / 256)


def test_the_square_root_is_wrt_1024() -> None:
    assert scaled_learning_rate(4e-3, 2048, "sqrt") == pytest.approx(4e-3 * math.sqrt(2))
    assert scaled_learning_rate(4e-3, 1024, "sqrt") == 4e-3
    assert scaled_learning_rate(4e-3, 256, "linear") == 4e-3


def test_without_either_the_rate_is_the_default(tmp_path: Path) -> None:
    assert parse(written(tmp_path)).learning_rate == 5e-4


def test_a_flag_replaces_the_recipes_other_kind(tmp_path: Path) -> None:
    base = written(tmp_path, base_learning_rate=1e-3, learning_rate_scaling="sqrt")
    training = parse(base, "--learning_rate", "0.5")
    assert (training.learning_rate, training.base_learning_rate, training.learning_rate_scaling) == (
        0.5,
        None,
        "linear",
    )
    assert parse(base, "--learning-rate=0.5").learning_rate == 0.5
    assert parse(base, "--base_learning_rate", "2e-3").learning_rate == pytest.approx(2e-3 / 4)
    plain = written(tmp_path, learning_rate=0.1)
    assert parse(plain, "--base_learning_rate", "1e-3").learning_rate == pytest.approx(1e-3 / 4)
    resolved = written(tmp_path, base_learning_rate=1e-3, learning_rate=2.5e-4)  # as a run records it
    assert parse(resolved).base_learning_rate == 1e-3
    assert parse(resolved, "--learning_rate", "1").base_learning_rate is None


def test_other_options_stay() -> None:
    assert without_other_rate({"learning_rate": 1, "seed": 2}, {"seed"}) == {"learning_rate": 1, "seed": 2}


def test_a_sweep_replaces_it_too(tmp_path: Path) -> None:
    written(tmp_path, base_learning_rate=1e-3, objectives=["dino"])
    (tmp_path / "sweep.yaml").write_text(
        "seeds: [0]\nruns: {a: {recipe: some.yaml, learning_rate: 0.1}}\nevaluate: {tasks: [knn]}\n"
        "evaluations: [[a]]\nmeasures: {knn/accuracy: kNN}\n"
    )
    options = read_plan(tmp_path / "sweep.yaml").runs["a"].options
    assert options["learning_rate"] == 0.1 and "base_learning_rate" not in options


@pytest.mark.parametrize(
    ("options", "flags", "message"),
    [
        ({"base_learning_rate": 1e-3, "learning_rate": 1e-3}, (), "0.001 is not what .* gives at 64 .*0.00025"),
        ({}, ("--base_learning_rate", "1e-3", "--learning_rate", "1e-3"), "give one of the two"),
        ({"base_learning_rate": -1}, (), "base_learning_rate is -1; it must be a finite number, above 0"),
        ({"base_learning_rate": 1e-3, "learning_rate_scaling": "cubic"}, (), "'cubic' is unknown: linear or sqrt"),
        ({"learning_rate_scaling": "sqrt"}, (), "base_learning_rate, which is not given"),
        ({"base_learning_rate": 1e-3, "auto_find_batch_size": True}, (), "auto_find_batch_size"),
        ({"stochastic_depth": 1.0}, (), "stochastic_depth is 1.0; .* at least 0 and below 1"),
        ({"layer_decay": 1.1}, (), "layer_decay is 1.1; .* above 0 and at most 1"),
        ({"patch_embedding_factor": 0}, (), "patch_embedding_factor is 0; .* above 0"),
        ({"grad_clipping": "local"}, (), "'local' is unknown: global or per_parameter"),
        ({"freeze": "layers:0"}, (), "'layers:0' is unknown"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, options: dict, flags: tuple, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse(written(tmp_path, **options), *flags)
