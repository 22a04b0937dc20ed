"""Modules for evaluate: by hand, against scipy, scikit-learn and sp_hf's own geometry, alone, and their refusals."""

import ast
import doctest
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
import yaml
from scipy.stats import kendalltau
from sklearn.metrics import r2_score

from sp_hf import metrics
from sp_hf.views.geometry import apply_relation, box_iou, log_scale, relation


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """evaluate copies modules into a cache and imports them from there: a cache of our own, forgotten at the end."""
    folder = tmp_path_factory.mktemp("evaluate")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluate.config, "HF_MODULES_CACHE", folder / "modules")
        patch.setattr(evaluate.config, "HF_METRICS_CACHE", folder / "metrics")
        patch.setattr(sys, "path", list(sys.path))
        yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "evaluate_modules"]:
        del sys.modules[name]


def load(name, **options):
    return evaluate.load(metrics.path(name), keep_in_memory=True, **options)


def crop_pairs(n, *, noise, seed=0):
    """First boxes, second boxes and noisy relations in image units: float64 [n, 4] each."""
    generator = np.random.default_rng(seed)
    first, second = (
        torch.from_numpy(np.hstack([generator.uniform(0.2, 0.8, (n, 2)), generator.uniform(0.1, 0.5, (n, 2))]))
        for _ in range(2)
    )
    return first, second, relation(first, second) + noise * torch.from_numpy(generator.normal(size=(n, 4)))


def permutations(m, n, seed):
    generator = np.random.default_rng(seed)
    return [generator.permutation(n).tolist() for _ in range(m)]


INPUTS = {
    "jigsaw": {"predictions": permutations(6, 9, 0), "references": permutations(6, 9, 1)},
    "relative_geometry": dict(
        zip(
            ("first_boxes", "references", "predictions"),
            (rows.tolist() for rows in crop_pairs(6, noise=0.1)),
            strict=True,
        )
    ),
    "shape_bias": {
        "predictions": ["cat", "elephant", "clock", "dog", "dog", "cat"],
        "shape_labels": ["cat", "cat", "cat", "dog", "dog", "dog"],
        "texture_labels": ["elephant", "elephant", "elephant", "clock", "dog", "cat"],
    },
    "mean_corruption_error": {
        "corruptions": ["fog", "fog", "fog", "snow", "snow", "snow"],
        "severities": [1, 3, 5, 5, 3, 1],
        "predictions": [0.2, 0.3, 0.6, 0.7, 0.5, 0.3],
        "references": [0.4, 0.5, 0.8, 0.9, 0.8, 0.7],
    },
}


def bad(name, message, **changes):
    return pytest.param(name, changes, message, id=f"{name}: {message}")


# Every metric


def test_every_folder_is_listed():
    folder = Path(metrics.path("jigsaw")).parent
    assert sorted(path.parent.name for path in folder.glob("*/app.py")) == sorted(metrics.METRICS) == sorted(INPUTS)
    with pytest.raises(ValueError, match="'jigsow'.*jigsaw, mean_corruption_error"):
        metrics.path("jigsow")


@pytest.mark.parametrize("name", metrics.METRICS)
def test_readme_is_a_card_whose_examples_are_true(name):
    text = (Path(metrics.path(name)) / "README.md").read_text()
    _, front, body = text.split("---", 2)
    front = yaml.safe_load(front)
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk", "sdk_version", "app_file", "pinned", "description"} <= set(
        front
    )
    assert (front["sdk"], front["app_file"], front["tags"]) == ("gradio", "app.py", ["evaluate", "metric"])
    sections = ["Metric description", "How to use", "Inputs", "Output values", "Examples", "Limitations", "Citation"]
    assert re.findall(r"^## (.*)$", body, re.M) == sections
    assert load(name).citation in body
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", body, re.M | re.S))
    test = doctest.DocTestParser().get_doctest(code, {}, name, None, 0)
    result = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(test)
    assert result.attempted >= 5 and result.failed == 0


@pytest.mark.parametrize("name", metrics.METRICS)
def test_batches_and_rows_add_up_to_the_whole(name):
    inputs, metric = INPUTS[name], load(name)
    expected = metric.compute(**inputs)
    for start in (0, 2):
        metric.add_batch(**{key: rows[start : 2 if start == 0 else None] for key, rows in inputs.items()})
    assert metric.compute() == expected
    singular = {"predictions": "prediction", "references": "reference"}
    for index in range(6):
        metric.add(**{singular.get(key, key): rows[index] for key, rows in inputs.items()})
    assert metric.compute() == expected
    assert evaluate.load(metrics.path(name)).compute(**inputs) == expected  # through the disk


@pytest.mark.parametrize("name", metrics.METRICS)
def test_order_of_rows_does_not_matter(name):
    inputs = INPUTS[name]
    backwards = load(name).compute(**{key: rows[::-1] for key, rows in inputs.items()})
    assert flat(backwards) == pytest.approx(flat(load(name).compute(**inputs)))


def flat(values, prefix=""):
    """Nested values as one level, for approx."""
    items = {}
    for key, value in values.items():
        items |= flat(value, f"{prefix}{key}/") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return items


@pytest.mark.parametrize("name", metrics.METRICS)
def test_inputs_of_different_lengths_are_refused(name):
    for key, rows in INPUTS[name].items():
        with pytest.raises(ValueError, match="[Mm]ismatch|don't match"):
            load(name).compute(**INPUTS[name] | {key: rows[:-1]})


def test_alone_in_a_fresh_process(cache, tmp_path):
    """Copies of the folders, without sp_hf: metrics load, and apps compute their example."""
    for name in metrics.METRICS:
        shutil.copytree(metrics.path(name), tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    script = """
import importlib.util, json, sys, types
sys.modules["sp_hf"] = None  # importing it now fails
sys.modules["transformers"] = None  # which evaluate imports where it can: seconds
sys.modules["gradio"] = types.SimpleNamespace(Error=RuntimeError, Interface=None)
import evaluate
del sys.modules["transformers"]
results = {}
for name, inputs in json.loads(sys.stdin.read()).items():
    results[name] = evaluate.load(name).compute(**inputs)
    spec = importlib.util.spec_from_file_location(f"{name}_app", f"{name}/app.py")
    app = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(app)
    assert set(app.compute(app.EXAMPLE)) >= set(results[name]), name
print(json.dumps(results))
"""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PYTHONPATH"))}
    environment |= {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps(INPUTS),
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout) == {name: load(name).compute(**inputs) for name, inputs in INPUTS.items()}


@pytest.mark.parametrize("name", metrics.METRICS)
def test_requirements_are_what_is_imported(name):
    folder = Path(metrics.path(name))
    tree = ast.parse((folder / f"{name}.py").read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert not any(isinstance(node, ast.ImportFrom) for node in ast.walk(tree))
    required = set(re.findall(r"^\w+", (folder / "requirements.txt").read_text(), re.M))
    assert imported - set(sys.stdlib_module_names) <= required == {"evaluate", "datasets", "numpy"}


# Relative geometry


@pytest.mark.parametrize("units", ["image", "view"])
def test_relative_geometry_agrees_with_scikit_learn_and_our_geometry(units):
    first, second, _ = crop_pairs(200, noise=0)
    truth = relation(first, second, units)
    predicted = truth + 0.2 * torch.from_numpy(np.random.default_rng(1).normal(size=(200, 4)))
    values = load("relative_geometry").compute(predictions=predicted, references=second, first_boxes=first, units=units)
    assert values == pytest.approx(
        {
            "r2_x": r2_score(truth[:, 0], predicted[:, 0]),
            "r2_y": r2_score(truth[:, 1], predicted[:, 1]),
            "r2_position": r2_score(truth[:, :2], predicted[:, :2], multioutput="variance_weighted"),
            "r2_scale": r2_score(log_scale(truth), log_scale(predicted)),
            "mae_x": (predicted - truth)[:, 0].abs().mean().item(),
            "mae_y": (predicted - truth)[:, 1].abs().mean().item(),
            "mae_scale": (log_scale(predicted) - log_scale(truth)).abs().mean().item(),
            "iou": box_iou(apply_relation(first, predicted, units), second).mean().item(),
            "chance_iou": box_iou(first, second).mean().item(),
        }
    )


def test_relative_geometry_of_the_truth_and_of_the_mean():
    first, second, truth = crop_pairs(50, noise=0)
    perfect = load("relative_geometry").compute(predictions=truth, references=second, first_boxes=first)
    assert perfect.pop("chance_iou") < 0.5
    assert perfect == pytest.approx({key: 0 if "mae" in key else 1 for key in perfect}, abs=1e-12)
    mean = truth.mean(0).expand(50, 4)
    constant = load("relative_geometry").compute(predictions=mean, references=second, first_boxes=first)
    assert [constant[f"r2_{name}"] for name in ("x", "y", "position", "scale")] == pytest.approx([0] * 4, abs=1e-12)


def test_relative_geometry_by_hand():
    """One pair right; one whose second box is predicted half a box too far right and twice too wide."""
    first, second = [[0.5, 0.5, 0.2, 0.2]] * 2, [[0.5, 0.5, 0.2, 0.2], [0.7, 0.6, 0.4, 0.4]]
    predicted = [[0, 0, 0, 0], [0.4, 0.1, math.log(4), math.log(2)]]
    values = load("relative_geometry").compute(predictions=predicted, references=second, first_boxes=first)
    assert values == pytest.approx(
        {
            "r2_x": 1 - 0.2**2 / (2 * 0.1**2),  # dx: 0 and 0.2, predicted 0 and 0.4
            "r2_y": 1.0,
            "r2_position": 1 - 0.2**2 / (2 * 0.1**2 + 2 * 0.05**2),
            "r2_scale": 1 - 0.5**2 / (2 * 0.5**2),  # in ln 2: 0 and 1, predicted 0 and 1.5
            "mae_x": 0.1,
            "mae_y": 0.0,
            "mae_scale": math.log(2) / 4,
            "iou": (1 + 0.4 / 0.8) / 2,  # x from 0.5 to 1.3 against 0.5 to 0.9
            "chance_iou": (1 + 0.02 / 0.18) / 2,  # 0.1 x 0.2 of the first box lies in the second
        }
    )


# Jigsaw


@pytest.mark.parametrize("n", [2, 4, 9, 16])
def test_jigsaw_agrees_with_scipy(n):
    predicted, truth = permutations(40, n, 0), permutations(40, n, 1)
    predicted[:5] = truth[:5]
    values = load("jigsaw").compute(predictions=predicted, references=truth)
    assert values["kendall_tau"] == pytest.approx(
        np.mean([kendalltau(a, b).statistic for a, b in zip(predicted, truth, strict=True)])
    )
    assert values["tile_accuracy"] == pytest.approx(np.mean(np.array(predicted) == np.array(truth)))
    assert values["exact_accuracy"] == sum(map(list.__eq__, predicted, truth)) / 40


def test_jigsaw_by_hand():
    """Right; one neighbouring pair exchanged (1 of 6 pairs discordant); backwards, with no tile in place."""
    values = load("jigsaw").compute(
        predictions=[[2, 0, 3, 1], [0, 2, 1, 3], [3, 2, 1, 0]], references=[[2, 0, 3, 1], [0, 1, 2, 3], [0, 1, 2, 3]]
    )
    assert values["tile_accuracy"] == pytest.approx((4 + 2 + 0) / 12)
    assert values["exact_accuracy"] == pytest.approx(1 / 3)
    assert values["kendall_tau"] == pytest.approx((1 + 4 / 6 - 1) / 3)


@pytest.mark.parametrize("truth", [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_jigsaw_chance_is_the_mean_over_all_permutations(truth):
    everything = list(itertools.permutations(range(4)))
    values = load("jigsaw").compute(predictions=everything, references=[truth] * len(everything))
    for name in ("tile_accuracy", "exact_accuracy", "kendall_tau"):
        assert values[name] == pytest.approx(values[f"chance_{name}"], abs=1e-12)


def test_jigsaw_takes_arrays_and_tensors():
    inputs = INPUTS["jigsaw"]
    expected = load("jigsaw").compute(**inputs)
    for convert in (np.array, torch.tensor):
        assert load("jigsaw").compute(**{key: convert(rows) for key, rows in inputs.items()}) == expected


# Shape bias


def test_shape_bias_by_hand():
    """Of five conflicts two go by shape, two by texture, one by neither; the dog with a dog's texture is none."""
    values = load("shape_bias").compute(**INPUTS["shape_bias"])
    assert values == {
        "shape_bias": 0.5,
        "coverage": 0.8,
        "shape_decisions": 2,
        "texture_decisions": 2,
        "images": 5,
        "per_class": {
            "cat": {"shape_bias": 0.5, "coverage": pytest.approx(2 / 3), "images": 3},
            "dog": {"shape_bias": 0.5, "coverage": 1.0, "images": 2},
        },
    }


def test_shape_bias_of_numbers_is_that_of_names():
    names = sorted({label for column in INPUTS["shape_bias"].values() for label in column})
    numbers = {key: [names.index(label) for label in column] for key, column in INPUTS["shape_bias"].items()}
    expected = load("shape_bias").compute(**INPUTS["shape_bias"])
    values = load("shape_bias").compute(**numbers)
    assert values["per_class"] == {names.index(name): value for name, value in expected["per_class"].items()}
    assert values | {"per_class": None} == expected | {"per_class": None}


def test_shape_bias_exchanges_with_its_labels():
    inputs = INPUTS["shape_bias"]
    predicted = ["cat", "elephant", "cat", "dog", "dog", "dog"]
    bias = load("shape_bias").compute(**inputs | {"predictions": predicted})
    exchanged = load("shape_bias").compute(
        predictions=predicted, shape_labels=inputs["texture_labels"], texture_labels=inputs["shape_labels"]
    )
    assert bias["shape_bias"] == 0.8 and exchanged["shape_bias"] == pytest.approx(0.2)
    assert bias["coverage"] == exchanged["coverage"] == 1


def test_shape_bias_is_undefined_without_decisions():
    values = load("shape_bias").compute(predictions=[9, 1], shape_labels=[1, 1], texture_labels=[2, 1])
    assert math.isnan(values["shape_bias"]) and math.isnan(values["per_class"][1]["shape_bias"])
    assert values["coverage"] == 0 and values["images"] == 1


# Mean corruption error


def test_mean_corruption_error_by_hand():
    inputs = INPUTS["mean_corruption_error"]
    values = load("mean_corruption_error").compute(**inputs, clean_error=0.1, baseline_clean_error=0.3)
    fog, snow = 1.1 / 1.7, 1.5 / 2.4
    relative_fog, relative_snow = (1.1 - 0.3) / (1.7 - 0.9), (1.5 - 0.3) / (2.4 - 0.9)
    assert flat(values) == pytest.approx(
        {
            "mce": (fog + snow) / 2,
            "relative_mce": (relative_fog + relative_snow) / 2,
            "per_corruption/fog/ce": fog,
            "per_corruption/fog/relative_ce": relative_fog,
            "per_corruption/snow/ce": snow,
            "per_corruption/snow/relative_ce": relative_snow,
        }
    )
    plain = load("mean_corruption_error").compute(**inputs)
    assert set(plain) == {"mce", "per_corruption"} and set(plain["per_corruption"]["fog"]) == {"ce"}
    assert plain["mce"] == values["mce"]


def test_mean_corruption_error_of_the_baseline_is_one():
    inputs = INPUTS["mean_corruption_error"]
    values = load("mean_corruption_error").compute(
        **inputs | {"predictions": inputs["references"]}, clean_error=0.3, baseline_clean_error=0.3
    )
    assert set(flat(values).values()) == {1.0}


# Refusals

BOX, FLAT = [0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.0]
RATES = [0.2, 0.3, 0.6, 0.7, 0.5]


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        bad("relative_geometry", "no pairs", predictions=[], references=[], first_boxes=[]),
        bad("relative_geometry", r"predictions\[5\].*four numbers", predictions=[BOX] * 5 + [BOX[:3]]),
        bad("relative_geometry", r"references\[0\].*finite", references=[[0.5, math.nan, 1, 1]] + [BOX] * 5),
        bad("relative_geometry", r"predictions\[2\].*finite", predictions=[BOX] * 2 + [[math.inf] * 4] + [BOX] * 3),
        bad("relative_geometry", r"first_boxes\[1\].*above 0", first_boxes=[BOX, FLAT] + [BOX] * 4),
        bad("relative_geometry", r"references\[1\].*above 0", references=[BOX, FLAT] + [BOX] * 4),
        bad("relative_geometry", "true dx is the same for all 6", first_boxes=[BOX] * 6, references=[BOX] * 6),
        bad("relative_geometry", r"predictions\[0\].*beyond 100", predictions=[[0, 0, -101, 0]] + [BOX] * 5),
        bad("relative_geometry", "units is 'pixels'", units="pixels"),
        bad("jigsaw", "no puzzles", predictions=[], references=[]),
        bad("jigsaw", r"references\[0\].*two tiles", predictions=[[0]], references=[[0]]),
        bad(
            "jigsaw", r"predictions\[1\].*permutation of 0 to 1", predictions=[[0, 1], [1, 1]], references=[[0, 1]] * 2
        ),
        bad("jigsaw", r"references\[0\].*permutation", predictions=[[0, 1]], references=[[1, 2]]),
        bad("jigsaw", r"predictions\[0\].*permutation", predictions=[[0.2, 1.9]], references=[[0, 1]]),
        bad("jigsaw", r"predictions\[0\].*permutation", predictions=[[0, None]], references=[[0, 1]]),
        bad("jigsaw", r"references\[1\].*has 2 tiles", predictions=[[0, 1]] * 2, references=[[0, 1], [0, 1, 2]]),
        bad("jigsaw", r"predictions\[0\].*has 2 tiles", predictions=[[0, 1, 2]], references=[[0, 1]]),
        bad("shape_bias", "is empty", predictions=[], shape_labels=[], texture_labels=[]),
        bad("shape_bias", "all 2 images", predictions=[1, 2], shape_labels=[1, 2], texture_labels=[1, 2]),
        bad("shape_bias", r"predictions\[0\] is 0.7", predictions=[0.7], shape_labels=[1], texture_labels=[2]),
        bad("shape_bias", r"texture_labels\[1\] is None", texture_labels=["elephant", None] + ["cat"] * 4),
        bad("mean_corruption_error", "no error rates", **dict.fromkeys(INPUTS["mean_corruption_error"], [])),
        bad("mean_corruption_error", "'fog' lacks severity 3", severities=[1, 2, 5, 5, 2, 3]),
        bad("mean_corruption_error", "'fog' at severity 1 is given twice", severities=[1, 1, 5, 5, 3, 1]),
        bad("mean_corruption_error", r"severities\[0\] is 1.5", severities=[1.5, 3, 5, 5, 3, 1]),
        bad("mean_corruption_error", "predictions has 40.0.*per cent", predictions=[40.0, *RATES]),
        bad("mean_corruption_error", "references has nan", references=[math.nan, *RATES]),
        bad("mean_corruption_error", "references has -0.1", references=[-0.1, *RATES]),
        bad("mean_corruption_error", "baseline's error is 0 under 'fog'", references=[0, 0, 0, 0.7, 0.5, 0.3]),
        bad("mean_corruption_error", "one clean error is missing", clean_error=0.1),
        bad("mean_corruption_error", "baseline_clean_error has 30", clean_error=0.1, baseline_clean_error=30),
        bad("mean_corruption_error", "does not rise under 'fog'", clean_error=0.1, baseline_clean_error=0.6),
    ],
)
def test_bad_input_is_refused(name, changes, message):
    with pytest.raises(ValueError, match=message):
        load(name).compute(**INPUTS[name] | changes)
