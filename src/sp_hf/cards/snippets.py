"""The snippets of a model card, run when the card is made.

Each runs in a fresh process without a network, in a folder that holds an image, with the model's folder in place of its
Hub id; what it prints is printed in the card. A snippet that fails is left out of the card; one that was not run, or
not to its end in time, is in it without what it prints, and the card does not claim that it ran.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import metadata, version
from pathlib import Path

from PIL import Image

from ..data.part_scenes.dataset import render_scene
from ..encoders.encoder import Encoder
from ..errors import RunError

logger = logging.getLogger(__name__)

_OF_LAUNCHERS = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # of the run that is pushed
TIME_LIMIT = 60.0
"""Seconds that one snippet may take; it takes a few, most of them to import torch."""

_FEATURES = """\
from PIL import Image
from transformers import AutoImageProcessor, AutoModel

model = AutoModel.from_pretrained("{repo_id}").eval()
processor = AutoImageProcessor.from_pretrained("{repo_id}")
inputs = processor(Image.open("photo.jpg"), return_tensors="pt")
tokens = model(**inputs).last_hidden_state  # [1, {prefix} + {patches}, {width}]
patches = tokens[:, {prefix}:]  # one vector a patch of {patch} px, row by row
print(tuple(patches.shape))"""

_FINETUNE = """\
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

model = AutoModelForImageClassification.from_pretrained("{repo_id}", num_labels=10)
processor = AutoImageProcessor.from_pretrained("{repo_id}")
inputs = processor([Image.open("photo.jpg")] * 2, return_tensors="pt")
output = model(**inputs, labels=torch.tensor([0, 1]))
output.loss.backward()  # or transformers' Trainer
print(tuple(output.logits.shape))"""

_WHERE = """\
sp-hf evaluate {repo_id} --tasks relative-geometry --dataset "part-scenes?num_images=60" --max_images 60"""

STOCK_PACKAGES = ("torch", "transformers", "pillow")
"""What the Python snippets import."""

_CLASSIFIERS = ("ViTModel", "DeiTModel", "Dinov2Model", "Dinov2WithRegistersModel", "BeitModel", "ConvNextModel")


class SnippetError(RunError):
    """A snippet of a card does not run."""


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A piece of a card that can be run.

    Args:
        title: above it.
        language: ``"python"`` or ``"bash"``.
        code: with the repository's id in it.
        needs: what must be installed for it, as Markdown; empty: :data:`STOCK_PACKAGES`.
        output: what it printed; empty if that is not shown.
        ran: whether it was run.
    """

    title: str
    language: str
    code: str
    needs: str = ""
    output: str = ""
    ran: bool = False


def snippets_for(repo_id: str, model_class: str, encoder: Encoder, image_size: int) -> list[Snippet]:
    """What to show of a model: patch features; fine-tuning where a stock class exists; the where-probe.

    Args:
        repo_id: ``owner/name``.
        model_class: name of the stock class.
        encoder: with its weights or without.
        image_size: side in px that the image processor makes.
    """
    rows, columns = encoder.patches_of(image_size)
    fields = {
        "repo_id": repo_id,
        "prefix": encoder.num_prefix_tokens,
        "patches": rows * columns,
        "width": encoder.hidden_size,
        "patch": encoder.patch_size,
    }
    snippets = []
    if not encoder.facts.feature_map:
        snippets.append(Snippet("Patch features", "python", _FEATURES.format(**fields)))
    if model_class in _CLASSIFIERS:
        snippets.append(Snippet("Fine-tuning", "python", _FINETUNE.format(**fields)))
    snippets.append(
        Snippet("What it knows of where things are", "bash", _WHERE.format(**fields), needs=_how_to_install())
    )
    return snippets


def _how_to_install() -> str:
    """This package, from where its own metadata says that it is to be had."""
    urls = (url.partition(", ") for url in metadata("sp-hf").get_all("Project-URL") or [])
    repository = next((address for label, _, address in urls if label == "Repository"), None)
    if repository:
        return f'It takes sp-hf: `pip install "sp-hf @ git+{repository}"`'
    return f"It takes sp-hf {version('sp-hf')}, from its source or from the wheel that `make wheel` makes of that"


def run_all(snippets: Sequence[Snippet], repo_id: str, model: Path) -> list[Snippet]:
    """Run snippets: those that run, with what they print; warns of those that fail or take too long."""
    results = []
    for snippet in snippets:
        try:
            results.append(execute(snippet, repo_id, model))
        except SnippetError as error:
            logger.warning("%s; the card goes without it", error)
        except subprocess.TimeoutExpired:
            logger.warning(
                "the snippet %r took over %.0f s: the card shows it, and does not say that it ran",
                snippet.title,
                TIME_LIMIT,
            )
            results.append(snippet)
    return results


def execute(snippet: Snippet, repo_id: str, model: Path) -> Snippet:
    """Run a snippet with the model's folder for its id; returns it with what it printed.

    Raises:
        SnippetError: it fails; with the end of its error.
        subprocess.TimeoutExpired: not done within :data:`TIME_LIMIT`.
    """
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(render_scene(0, 0, 224).image).save(Path(folder) / "photo.jpg", quality=92)
        code = snippet.code.replace(repo_id, str(model.resolve()))
        if snippet.language == "python":
            arguments = [sys.executable, "-c", code]
        else:
            arguments = [sys.executable, "-m", "sp_hf.cli", *shlex.split(code)[1:], "--no_cache", "--num_workers", "0"]
        environment = {name: value for name, value in os.environ.items() if name not in _OF_LAUNCHERS}
        environment |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        done = subprocess.run(
            arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIME_LIMIT
        )
    if done.returncode:
        end = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise SnippetError(f"the snippet {snippet.title!r} does not run:\n{end}")
    shown = done.stdout.strip() if snippet.language == "python" else ""
    return dataclasses.replace(snippet, output=shown, ran=True)
