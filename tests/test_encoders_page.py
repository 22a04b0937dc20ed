"""docs/encoders.md says of each model type what the encoder made of it says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import transformers
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "encoders.md").read_text(encoding="utf-8")
LINES = {match[1]: match[0] for match in re.finditer(r"^\| `([\w.-]+)` \|.*$", PAGE, flags=re.MULTILINE)}
FEW = ["vit", "donut-swin", "swinv2", "hiera", "resnet", "siglip2_vision_model", "glm_image_vision", "detr"]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("encoders_script", ROOT / "scripts" / "encoders.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_was_made_by_the_command_and_counts_its_lines() -> None:
    total, taken = (int(n) for n in re.search(r"Of (\d+) vision model types .* (\d+) are taken", PAGE).groups())
    refused = int(re.search(r"^(\d+) are refused", PAGE, flags=re.MULTILINE)[1])
    assert total == taken + refused == len(LINES)


@pytest.mark.parametrize("model_type", FEW)
def test_a_few_lines_are_current(script: ModuleType, model_type: str) -> None:
    assert script.row(model_type) == LINES[model_type]


@pytest.mark.slow
def test_all_lines_are_current(script: ModuleType) -> None:
    made_with = re.search(r"types of transformers ([\d.]+) ", PAGE)[1]
    if Version(transformers.__version__).release[:2] != Version(made_with).release[:2]:
        pytest.skip(f"the page is of transformers {made_with}, this is {transformers.__version__}")
    assert script.vision_types() == sorted(LINES)
    assert {name: script.row(name) for name in LINES} == LINES
