"""The app, really running on a free port of this machine, with two tiny models."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported: it asks nobody anything
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"

EXAMPLES = Path(__file__).parents[2] / "spaces" / "spatial_probes" / "examples"
SCENES = 24


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two folders, of a ViT and of a DINOv2."""
    from tiny_encoders import TINY

    from sp_hf.encoders.encoder import Encoder

    folders = []
    for kind in ("vit", "dinov2"):
        folders.append(tmp_path_factory.mktemp("models") / f"tiny-{kind}")
        Encoder(TINY[kind].build(0)).save_stock(folders[-1])
    return [str(folder) for folder in folders]


@pytest.fixture(scope="session")
def app(models: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its address. Served as to the public: no folders but the two that are offered, and no Hub."""
    pytest.importorskip("gradio", reason="the Space needs Gradio: pip install 'sp-hf[demo]'")
    patch = pytest.MonkeyPatch()
    patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
    patch.setenv("SP_HF_CACHE", str(tmp_path_factory.mktemp("features")))
    from sp_hf.space.page import build_page, serving
    from sp_hf.space.shelf import Shelf, ShelfOptions

    shelf = Shelf(ShelfOptions(models=[f"Tiny ViT={models[0]}", f"Tiny DINOv2={models[1]}"], hub=False, scenes=SCENES))
    port = free_port()
    page = build_page(shelf, sorted(EXAMPLES.iterdir()))
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


@pytest.fixture(scope="session")
def choices(models: list[str]) -> list[str]:
    """What the app's two models are called in requests."""
    return [f"Tiny ViT={models[0]}", f"Tiny DINOv2={models[1]}"]
