"""The Space's folder agrees with what is tested here; ZeroGPU's decorator is used as its documentation says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from sp_hf.space import shipped

ROOT = Path(__file__).parents[2]
SPACE = ROOT / "spaces" / "spatial_probes"


def pins(path: Path) -> dict[str, str]:
    lines = (re.match(r"([\w-]+)==([^\s;#]+)", line) for line in path.read_text(encoding="utf-8").splitlines())
    return {match.group(1).lower(): match.group(2) for match in lines if match}


def test_pinned_versions_are_those_tested():
    tested, card = pins(ROOT / "constraints.txt"), (SPACE / "README.md").read_text(encoding="utf-8")
    front = yaml.safe_load(card.split("---")[1])
    assert front["sdk"] == "gradio" and front["sdk_version"] == tested["gradio"]
    assert (SPACE / front["app_file"]).is_file() and len(front["short_description"]) <= 60
    required = pins(SPACE / "requirements.txt")
    assert required and {name: tested.get(name, version) for name, version in required.items()} == required


def test_everything_the_package_imports_is_required():
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8").split("dependencies = [")[1].split("]")[0]
    assert {re.match(r"[\w-]+", name).group().lower() for name in re.findall(r'"(.+?)"', project)} == set(
        pins(SPACE / "requirements.txt")
    )


def test_photographs_are_small_and_say_where_they_come_from():
    photographs = shipped.photographs()
    told = (photographs[0].parent / "SOURCES.md").read_text(encoding="utf-8")
    assert len(photographs) >= 5
    for path in photographs:
        assert path.stat().st_size < 80_000 and max(Image.open(path).size) <= 480
        row = next(line for line in told.splitlines() if f"`{path.name}`" in line)
        assert "CC0" in row or "public domain" in row


def test_on_zero_gpu_calls_cross_without_the_callback_and_errors_keep_their_words(monkeypatch):
    gradio = pytest.importorskip("gradio", reason="the Space needs Gradio: pip install gradio")
    from sp_hf.space import accelerator

    crossed = []

    def gpu(duration: int):
        def decorate(function):
            def call(*args):
                crossed.append(args)
                return function(*args)

            return call

        return decorate

    monkeypatch.setattr(accelerator, "GPU", gpu)

    @accelerator.on_gpu
    def compute(name, say):
        say(f"computing {name}")
        if name == "bad":
            raise ValueError("no such thing")
        return name.upper()

    assert compute("model", print) == "MODEL" and crossed == [("model",)]
    with pytest.raises(gradio.Error, match="no such thing"):
        compute("bad", print)
    monkeypatch.setattr(accelerator, "GPU", None)
    assert accelerator.on_gpu(len) is len
