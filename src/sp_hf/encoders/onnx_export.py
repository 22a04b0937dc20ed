"""A stock encoder as ONNX, in ``onnx/model.onnx`` beside its weights, where optimum and transformers.js look for it.

    pixel_values  float32 [B, 3, H, W], as the image processor makes them  ->  last_hidden_state

B is free, H and W are the image processor's. The graph is run by onnxruntime and compared with torch before it is kept.
Needs ``pip install onnx onnxruntime onnxscript``.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import os
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel

from ..errors import PackageError, RunError
from ..whole_file import write_whole

TOLERANCE = 1e-3
"""Largest difference from torch, relative to the standard deviation of the output."""
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_BATCH = 2


class _Tokens(nn.Module):
    """Pixels to ``last_hidden_state``: a tuple or a ModelOutput is no output of a graph."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: Tensor) -> Tensor:
        return self.model(pixel_values=pixel_values).last_hidden_state


def export_onnx(folder: str | os.PathLike[str]) -> Path:
    """Write ``onnx/model.onnx`` into the folder of a stock encoder.

    Args:
        folder: with ``config.json``, ``model.safetensors`` and ``preprocessor_config.json``.

    Returns:
        The file.

    Raises:
        PackageError: onnx, onnxscript or onnxruntime is not installed.
        RunError: what the graph computes is not what the model computes; then no file is left.
    """
    check_packages()
    folder = Path(folder)
    size = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))["size"]
    model = _Tokens(AutoModel.from_pretrained(folder, attn_implementation="eager")).float().eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(_BATCH, 3, size["height"], size["width"], generator=generator)
    graph = _graph_of(model, pixels)
    difference = _difference(model, graph, torch.cat([pixels, pixels.flip(0) * 0.5])[:3])  # another batch size
    if not difference <= TOLERANCE:
        raise RunError(
            f"the ONNX graph of {folder} differs from torch by {difference:.1g} of the output's standard deviation; the"
            f" limit is {TOLERANCE:g}, and none is written"
        )
    file = folder / "onnx" / "model.onnx"
    file.parent.mkdir(exist_ok=True)
    write_whole(file, graph)
    return file


def check_packages() -> None:
    """Refuse a missing package, before any work.

    Raises:
        PackageError: one is not installed.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise PackageError(f"an ONNX export needs {', '.join(missing)}: pip install {' '.join(missing)}")


def _graph_of(model: nn.Module, pixels: Tensor) -> bytes:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):  # the exporter reports its steps
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (pixels,),
            input_names=["pixel_values"],
            output_names=["last_hidden_state"],
            dynamic_shapes={"pixel_values": {0: torch.export.Dim("batch", min=1)}},
            dynamo=True,
            verbose=False,
        )
    if program is None:
        raise RunError("torch made no ONNX graph of this encoder")
    return program.model_proto.SerializeToString()


def _difference(model: nn.Module, graph: bytes, pixels: Tensor) -> float:
    """The largest difference from torch, in standard deviations of the output."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    (exported,) = session.run(["last_hidden_state"], {"pixel_values": pixels.numpy()})
    with torch.no_grad():
        expected = model(pixels)
    return float((torch.from_numpy(exported) - expected).abs().max() / expected.std())
