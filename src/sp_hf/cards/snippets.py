"""The snippets of a model card, executed when the card is made: what does not run is not published.

They are run in a fresh process, in a folder that holds the model and an image, with the model's folder in place of its
Hub id; what they print is printed in the card.
"""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from ..data.part_scenes.dataset import render_scene
from ..encoders.encoder import Encoder
from ..errors import RunError

_TIMEOUT = 600

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
pip install sp-hf
sp-hf evaluate {repo_id} --tasks relative-geometry --max_images 60 --dataset "part-scenes?num_images=60" """

_CLASSIFIERS = ("ViTModel", "DeiTModel", "Dinov2Model", "Dinov2WithRegistersModel", "BeitModel", "ConvNextModel")


class SnippetError(RunError):
    """A snippet of a card does not run."""


@dataclasses.dataclass(frozen=True)
class Snippet:
    """A piece of a card that was executed.

    Args:
        title: above it.
        language: ``"python"`` or ``"bash"``.
        code: with the repository's id in it.
        output: what it printed; empty if that is not shown.
    """

    title: str
    language: str
    code: str
    output: str = ""


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
    made = []
    if not encoder.facts.feature_map:
        made.append(Snippet("Patch features", "python", _FEATURES.format(**fields)))
    if model_class in _CLASSIFIERS:
        made.append(Snippet("Fine-tuning", "python", _FINETUNE.format(**fields)))
    made.append(Snippet("What it knows of where things are", "bash", _WHERE.format(**fields).strip()))
    return made


def execute(snippet: Snippet, repo_id: str, model: Path) -> Snippet:
    """Run it with the model's folder for its id; returns it with what it printed.

    Raises:
        SnippetError: it fails; with the end of its error.
    """
    with tempfile.TemporaryDirectory() as folder:
        Image.fromarray(render_scene(0, 0, 224).image).save(Path(folder) / "photo.jpg", quality=92)
        code = snippet.code.replace(repo_id, str(model.resolve()))
        if snippet.language == "python":
            arguments = [sys.executable, "-c", code]
        else:
            line = next(line for line in code.splitlines() if line.startswith("sp-hf "))
            arguments = [sys.executable, "-m", "sp_hf.cli", *shlex.split(line)[1:], "--no_cache", "--num_workers", "0"]
        environment = {**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}
        done = subprocess.run(arguments, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT)
    if done.returncode:
        end = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise SnippetError(f"the snippet {snippet.title!r} does not run, so no card is written:\n{end}")
    shown = done.stdout.strip() if snippet.language == "python" else ""
    return dataclasses.replace(snippet, output=shown)
