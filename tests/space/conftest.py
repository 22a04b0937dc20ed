"""The app, really running on a free port of this machine: three tiny models, one of which has its probes with it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported: it asks nobody anything
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "src" / "sp_hf" / "space" / "examples"
PHOTO = str(EXAMPLES / "2-cat.jpg")
SCENES = 24
NAMES = ["Tiny ViT", "Tiny DINOv2", "Tiny too"]


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Folders of two ViTs and of a DINOv2."""
    from tiny_encoders import TINY

    from sp_hf.encoders.encoder import Encoder

    folders = []
    for seed, kind in enumerate(("vit", "dinov2", "vit")):
        folders.append(tmp_path_factory.mktemp("models") / f"tiny-{kind}")
        Encoder(TINY[kind].build(seed)).save_stock(folders[-1])
    return [str(folder) for folder in folders]


@pytest.fixture(scope="session")
def app(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Served as to the public: no folders but those that are offered, and no Hub."""
    pytest.importorskip("gradio", reason="the Space needs Gradio: pip install gradio")
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    patch.setenv("SP_HF_CACHE", str(tmp_path_factory.mktemp("features")))
    from sp_hf.space import shipped
    from sp_hf.space.leaderboard import Leaderboard
    from sp_hf.space.page import Content, build_page, serving
    from sp_hf.space.score import Benchmark
    from sp_hf.space.shelf import Shelf, ShelfOptions

    named = [f"{name}={folder}" for name, folder in zip(NAMES, models, strict=True)]
    shelf = Shelf(ShelfOptions(models=named, hub=False, images=SCENES))
    benchmark = Benchmark({NAMES[0]: [5, 4, 6] * 10, NAMES[1]: [3, 4, 2] * 10, NAMES[2]: [1, 2, 0] * 10}, "photographs")
    measured = [("Tiny ViT", model_with_results(tmp_path_factory.mktemp("results")))]
    measured.append(("Tiny DINOv2", model_with_card(tmp_path_factory.mktemp("card"))))
    results = Leaderboard(measured, hub=False)
    page = build_page(shelf, Content(shipped.photographs(), NAMES, benchmark, results=results))
    port = free_port()
    page.launch(
        prevent_thread_lock=True,
        quiet=True,
        server_name="127.0.0.1",
        server_port=port,
        allowed_paths=[str(EXAMPLES)],
        **serving(),
    )
    yield f"http://127.0.0.1:{port}"
    page.close()
    patch.undo()


def model_with_results(folder: Path) -> Path:
    """As ``sp-hf evaluate --push_results`` leaves a model's repository."""
    (folder / ".eval_results").mkdir()
    entry = "- dataset: {id: lab/where-bench, task_id: jigsaw-v1}\n  value: 41.5\n"
    notes = "  notes: tile_accuracy_3x3_apart, 95 % interval 40.1 to 42.9, sp-hf 0.1.0\n"
    (folder / ".eval_results" / "where-bench.yaml").write_text(entry + notes, encoding="utf-8")
    return folder


def model_with_card(folder: Path) -> Path:
    """With so many results in its card that their table is wider than a phone."""
    metrics = [
        {"type": f"r2_position_{i}", "name": f"relative-geometry: r2 position {i}", "value": i / 100} for i in range(12)
    ]
    task = {"type": "image-feature-extraction"}
    result = {"task": task, "dataset": {"name": "photographs", "type": "photographs"}, "metrics": metrics}
    fields = {"model-index": [{"name": "tiny", "results": [result]}]}
    (folder / "README.md").write_text(f"---\n{json.dumps(fields)}\n---\n", encoding="utf-8")
    return folder
