"""Recipes and flags: flags win, a control is one flag, a typo is an error."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from sp_hf.objectives import OBJECTIVES, build_objective
from sp_hf.run.recipe import RecipeError, merge_objectives, parse_run

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.yaml"))


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "encoder: vit-tiny-16\nlearning_rate: 1e-3\nuse_cpu: true\nteacher_momentum: [0.9, 1.0]\nobjectives:\n"
        "  - {name: dino, prototypes: 128}\n  - {name: spatial_prediction, weight: 0.5}\n"
    )
    return path


def test_recipe_is_read(recipe: Path) -> None:
    model, data, training = parse_run(["--recipe", str(recipe)])
    assert model.encoder == "vit-tiny-16" and data.dataset == "part-scenes"
    assert training.learning_rate == 1e-3  # YAML reads 1e-3 as a string
    assert model.teacher_momentum == [0.9, 1.0]
    assert Path(training.output_dir) == Path("runs/mine")
    assert model.objectives == [
        {"name": "dino", "prototypes": 128},
        {"name": "spatial_prediction", "weight": 0.5},
    ]


def test_flags_win(recipe: Path) -> None:
    flags = ["--encoder", "vit-small-16", "--learning_rate", "0.1", "--dataset", "photos", "--max_steps", "7"]
    model, data, training = parse_run(["--recipe", str(recipe), *flags])
    assert (model.encoder, data.dataset) == ("vit-small-16", "photos")
    assert (training.learning_rate, training.max_steps) == (0.1, 7)


def test_naming_an_objective_keeps_the_recipes_options(recipe: Path) -> None:
    model, _, _ = parse_run(["--recipe", str(recipe), "--objectives", "dino"])
    assert model.objectives == [{"name": "dino", "prototypes": 128}]
    model, _, _ = parse_run(["--recipe", str(recipe), "--objectives", "dino", "spatial_prediction=2"])
    assert model.objectives[1] == {"name": "spatial_prediction", "weight": 2.0}


@pytest.mark.parametrize(
    ("text", "message"),
    [("learnin_rate: 1\n", "did you mean 'learning_rate'"), ("- a\n", "mapping"), ("a: [\n", "YAML")],
)
def test_a_wrong_recipe_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message):
        parse_run(["--recipe", str(path)])


def test_a_missing_recipe_names_its_neighbours(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="mine.yaml"):
        parse_run(["--recipe", str(recipe.with_name("mein.yaml"))])


@pytest.mark.parametrize(
    ("chosen", "message"),
    [(["dino=much"], "not a number"), (["dyno"], "did you mean 'dino'"), ([{"weight": 1}], "name")],
)
def test_a_wrong_objective_is_refused(chosen: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        merge_objectives(chosen, [])


def test_a_wrong_flag_is_refused(recipe: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean '--learning_rate'"):
        parse_run(["--recipe", str(recipe), "--learning_rat", "1"])
    with pytest.raises(RecipeError, match="must stay False"):
        parse_run(["--recipe", str(recipe), "--remove_unused_columns", "True"])
    with pytest.raises(SystemExit):
        parse_run(["--recipe", str(recipe), "--max_steps", "many"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_in_the_repo_is_whole(path: Path) -> None:
    """It parses, and all of its objectives can be built on its kind of encoder."""

    class Sizes:
        hidden_size, num_hidden_layers, supports_token_control = 32, 2, True
        patch_size = 14 if "dinov2" in path.stem else 8 if "micro-8" in path.read_text() else 16

        def patches_of(self, size: int) -> tuple[int, int]:
            assert size % self.patch_size == 0
            return size // self.patch_size, size // self.patch_size

    model, _, _ = parse_run(["--recipe", str(path), "--use_cpu"])
    for entry in model.objectives:
        small = {"prototypes": 8, "head_width": 8, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
        small |= {"num_labels": 3}  # read from the dataset where a recipe leaves it open
        options = OBJECTIVES[entry["name"]].config_class.__dataclass_fields__
        objective = build_objective({**entry, **{k: v for k, v in small.items() if k in options}}, Sizes())
        assert objective.view_specs()
    assert path.read_text().startswith("#"), "the header says the command, the cost and the result"
    assert yaml.safe_load(path.read_text())
