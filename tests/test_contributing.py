"""CONTRIBUTING.md is kept true: its four touches, applied to a copy of the repository, make an objective that runs."""

import os
import re
import shutil
import subprocess
import sys

import pytest
from contributing_page import REPOSITORY, code_blocks

REGISTRY = "src/sp_hf/objectives/__init__.py"
RECIPE = "recipes/absolute_position_vit_tiny.yaml"
TEST = "tests/objectives/test_absolute_position.py"


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the repository with the page's four touches, and nothing else."""
    root = tmp_path_factory.mktemp("repository")
    for folder in ("src", "tests", "recipes"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(REPOSITORY / folder, root / folder, ignore=ignored)
    shutil.copy(REPOSITORY / "pyproject.toml", root)
    for path, code in code_blocks().items():
        if path == REGISTRY:
            imported, heading, line = re.fullmatch(r"(.*?\n)\n(_OWN.*?\n)(.*\n)", code, flags=re.DOTALL).groups()
            registry = (root / path).read_text()
            assert registry.count(heading) == 1
            registry = registry.replace(heading, f"{imported}\n{heading}{line}")
            (root / path).write_text(registry)
        else:
            assert not (root / path).exists()
            (root / path).write_text(code)
    return root


def run(copy, *command):
    own = {"PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1", "HF_DATASETS_CACHE": str(copy / "cache")}
    environment = {**os.environ, **own}
    done = subprocess.run([sys.executable, *command], cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_page_has_four_touches():
    assert list(code_blocks()) == ["src/sp_hf/objectives/where/absolute_position.py", REGISTRY, TEST, RECIPE]


def test_the_new_objective_passes_its_tests_and_those_of_the_protocol(copy):
    tests = ["tests/objectives/test_protocol.py", TEST, "tests/training/test_recipe.py"]
    output = run(copy, "-m", "pytest", "-q", "-k", "absolute_position", "-p", "no:cacheprovider", *tests)
    passed = int(re.search(r"(\d+) passed", output).group(1))
    assert passed > 5  # its own, its recipe's, and several of the protocol's


def test_the_new_objective_trains_beside_another(copy, tmp_path):
    sp = "spatial_prediction"
    flags = ["--objectives", sp, "absolute_position", "--output_dir", str(tmp_path / "run"), "--use_cpu"]
    tiny = ["--dataset", "part-scenes?size=32&num_images=4", "--per_device_train_batch_size", "2", "--max_steps", "2"]
    tiny += ["--logging_steps", "1"]
    run(copy, "-m", "sp_hf.cli", "pretrain", "--recipe", RECIPE, "--encoder", "vit-micro-32", *flags, *tiny)
    metrics = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "absolute_position" in metrics and sp in metrics
    assert (tmp_path / "run" / "encoder" / "model.safetensors").exists()
