"""Recipes and flags: flags win, a control is one flag, a typo is an error."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import yaml

from sp_hf.errors import UsageError
from sp_hf.objectives import OBJECTIVES, Objective, build_objective, parse_entry
from sp_hf.objectives.view_defaults import default_views
from sp_hf.run.recipe import RecipeError, merge_objectives, parse_run, read_recipe, resolve_run
from sp_hf.sweeps.plan import read_plan
from sp_hf.views.photometric import Photometric
from sp_hf.views.spec import ViewSpec

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
    with pytest.raises(UsageError, match="did you mean '--learning_rate'"):
        parse_run(["--recipe", str(recipe), "--learning_rat", "1"])
    with pytest.raises(RecipeError, match="must stay False"):
        parse_run(["--recipe", str(recipe), "--remove_unused_columns", "True"])
    with pytest.raises(UsageError, match="--max_steps.*'many'"):
        parse_run(["--recipe", str(recipe), "--max_steps", "many"])


# Recipes that extend others ---------------------------------------------------------------------------------------

BASE = """
learning_rate: 0.1
lr_scheduler_kwargs: {min_lr: 0.01, num_cycles: 2}
adam_beta2: 0.95
objectives:
  - {name: dino, prototypes: 128, local_views: {count: 2, size: 16, area: [0.1, 0.4]}}
  - {name: spatial_prediction, weight: 0.5}
"""


def write(folder: Path, **recipes: str) -> Path:
    """Recipes by name; returns the last one."""
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text)
    return folder / f"{name}.yaml"


def test_a_recipe_extends_another(tmp_path: Path) -> None:
    child = """
        extends: base.yaml
        learning_rate: 0.2
        lr_scheduler_kwargs: {num_cycles: null}
        adam_beta2: null
        objectives:
          - spatial_prediction
          - {name: dino, local_views: {size: 24}}
          - moco_v3
    """
    assert read_recipe(write(tmp_path, base=BASE, child=child)) == {
        "learning_rate": 0.2,
        "lr_scheduler_kwargs": {"min_lr": 0.01},
        "objectives": [
            {"name": "spatial_prediction", "weight": 0.5},
            {"name": "dino", "prototypes": 128, "local_views": {"count": 2, "size": 24, "area": [0.1, 0.4]}},
            {"name": "moco_v3"},
        ],
    }


def test_one_that_changes_no_objective_has_those_of_the_other_and_may_be_extended_itself(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    middle = write(tmp_path, base=BASE, middle="extends: base.yaml\nseed: 1\n")
    last = write(tmp_path / "below", last="extends: ../middle.yaml\nobjectives: [dino=2]\n")
    assert read_recipe(middle)["objectives"] == yaml.safe_load(BASE)["objectives"]
    found = read_recipe(last)
    assert found["seed"] == 1 and found["objectives"] == [{**yaml.safe_load(BASE)["objectives"][0], "weight": 2.0}]
    model, _, training = parse_run(["--recipe", str(last), "--use_cpu"])
    assert (model.objectives[0]["prototypes"], training.learning_rate) == (128, 0.1)


@pytest.mark.parametrize(
    ("recipes", "message"),
    [
        ({"a": "extends: a.yaml"}, r"in a circle: a.yaml -> a.yaml"),
        ({"b": "extends: a.yaml", "a": "extends: b.yaml"}, r"in a circle: a.yaml -> b.yaml -> a.yaml"),
        ({"a": "extends: gone.yaml"}, "no recipe at .*gone.yaml"),
        ({"b": "seed: 1", "a": "extends: [b.yaml]"}, "must name one file"),
        ({"b": "seed: 1", "a": "extends: b.yaml\nobjectives: [dino=x]"}, "not a number"),
    ],
)
def test_what_cannot_be_extended(tmp_path: Path, recipes: dict[str, str], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_recipe(write(tmp_path, **recipes))


def test_null_in_views_of_a_recipe_that_extends_another_takes_away_what_the_objective_has(tmp_path: Path) -> None:
    child = "extends: base.yaml\nobjectives: [{name: dino, local_views: {photometric: null, count: 4}}]"
    model, _, _ = parse_run(["--recipe", str(write(tmp_path, base=BASE, child=child)), "--use_cpu"])
    spec = parse_entry(model.objectives[0])[1].local_views
    assert (spec.count, spec.size, spec.photometric) == (4, 16, Photometric.none())


def test_a_sweep_changes_recipes_that_extend_others(tmp_path: Path) -> None:
    """A sweep's runs name recipes that extend others; what a run changes lies on top of all of them."""
    sweep = """
        seeds: [0]
        runs: {one: {recipe: middle.yaml, objectives: [{name: dino, prototypes: 8}]}}
        evaluate: {tasks: [knn]}
        evaluations: [[one]]
        measures: {knn/accuracy: kNN}
    """
    path = write(tmp_path, base=BASE, middle="extends: base.yaml\nseed: null\n", sweep=sweep)
    (entry,) = read_plan(path).runs["one"].options["objectives"]
    assert (entry["prototypes"], entry["local_views"]["count"]) == (8, 2)


# Options as Python gives them ---------------------------------------------------------------------------------------


def test_options_given_in_python_win_over_a_recipe_file_or_mapping(recipe: Path) -> None:
    options = {"objectives": "dino", "learning_rate": 0.1}
    for base in (recipe, yaml.safe_load(recipe.read_text())):
        model, _, training = resolve_run(options, base)
        assert model.objectives == [{"name": "dino", "prototypes": 128}]
        assert (model.encoder, training.learning_rate) == ("vit-tiny-16", 0.1)
    with pytest.raises(RecipeError, match="unknown option 'learnin_rate'; did you mean 'learning_rate'"):
        resolve_run({"learnin_rate": 1})
    with pytest.raises(RecipeError, match="max_steps.*many"):
        resolve_run({"max_steps": "many"}, recipe)


def test_flags_with_hyphens_and_old_names(recipe: Path, caplog: pytest.LogCaptureFixture) -> None:
    flags = ["--validation-dataset-config=a", "--image-column", "b", "--no-hub-card"]
    _, data, training = parse_run(["--recipe", str(recipe), *flags])
    assert (data.validation_dataset_config, data.image_column, training.hub_card) == ("a", "b", False)
    for old in ("--validation_split", "--validation-split"):
        _, data, _ = parse_run([old, "test", "--use_cpu"])
        assert data.validation_dataset_split == "test"
    assert "--validation_split is now called --validation_dataset_split" in caplog.text


def _check_views(recipe: str, entry: dict, objective: Objective) -> None:
    """Print what the views of a recipe's objective are, and see that what it does not say is the default."""
    for option, default in default_views(type(objective.config)).items():
        spec, said = getattr(objective.config, option), entry.get(option, {})
        print(f"{recipe} {entry['name']}.{option}: {spec if isinstance(spec, str) else spec and spec.to_dict()}")
        if not isinstance(spec, ViewSpec):
            assert spec == said
            continue
        for field in {field.name for field in dataclasses.fields(ViewSpec)} - said.keys() - {"size"}:
            assert getattr(spec, field) == getattr(default, field), (option, field)
        for field in said.keys() - {"photometric", "grid"}:
            wanted = said[field]
            assert getattr(spec, field) == (tuple(wanted) if isinstance(wanted, list) else wanted)
        if spec.photometric == Photometric.none() != default.photometric:
            assert said.get("photometric") == "none", f"{option} has no jitter, which the recipe does not say"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_recipe_in_the_repo_is_whole(path: Path) -> None:
    """It parses, and all of its objectives can be built on its kind of encoder."""

    model, _, _ = parse_run(["--recipe", str(path), "--use_cpu"])

    class Sizes:
        hidden_size, num_hidden_layers, supports_token_control = 32, 2, True
        image_side = 224
        patch_size = 14 if "dinov2" in str(model.encoder) else int(model.encoder.rsplit("-", 1)[1])

        def nearest_size(self, size: float) -> int:
            return round(size / self.patch_size) * self.patch_size

        def patches_of(self, size: int) -> tuple[int, int]:
            assert size % self.patch_size == 0
            return size // self.patch_size, size // self.patch_size

    for entry in model.objectives:
        small = {"prototypes": 8, "head_width": 8, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
        small |= {"num_labels": 3}  # read from the dataset where a recipe leaves it open
        options = OBJECTIVES[entry["name"]].config_class.__dataclass_fields__
        objective = build_objective({**entry, **{k: v for k, v in small.items() if k in options}}, Sizes())
        specs = objective.view_specs()
        assert specs
        _check_views(path.stem, entry, objective)
    assert path.read_text().startswith("#"), "the header says the command, the cost and the result"
    assert yaml.safe_load(path.read_text())


def test_a_key_stands_once_but_what_is_merged_in_may_be_overridden(tmp_path: Path) -> None:
    shared = "lr_scheduler_kwargs: &base {min_lr: 0.1, num_cycles: 1}\n"
    found = read_recipe(write(tmp_path, a=shared + "fsdp_config: {<<: *base, min_lr: 0.2, <<: *base}\n"))
    assert found["fsdp_config"] == {"min_lr": 0.2, "num_cycles": 1}
    for text in ("seed: 1\n'seed': 2\n", "fsdp_config: {a: 1, a: 2}\n", "fsdp_config: [{<<: {a: 3}, a: 1, a: 2}]\n"):
        with pytest.raises(RecipeError, match="'(seed|a)' stands there a second time, in line [12]$"):
            read_recipe(write(tmp_path, b=text))
