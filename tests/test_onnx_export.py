"""The ONNX export: run by onnxruntime alone it computes what torch does, at any batch size, or is not written."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_encoders import TINY
from transformers import AutoImageProcessor, AutoModel

from sp_hf.cli import main
from sp_hf.encoders import onnx_export
from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.onnx_export import export_onnx
from sp_hf.errors import PackageError, RunError

onnxruntime = pytest.importorskip("onnxruntime", reason="pip install onnx onnxruntime onnxscript")
pytest.importorskip("onnxscript", reason="pip install onnx onnxruntime onnxscript")


@pytest.mark.parametrize("kind", ["vit", "dinov2", "convnext"])
def test_it_computes_what_torch_computes(kind: str, tmp_path: Path) -> None:
    Encoder(TINY[kind].build(0)).save_stock(tmp_path)
    file = export_onnx(tmp_path)
    assert file == tmp_path / "onnx" / "model.onnx"
    processor, model = AutoImageProcessor.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path).eval()
    images = torch.randint(0, 256, (5, 3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    pixels = processor(list(images), return_tensors="pt")["pixel_values"]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    for batch in (1, 5):
        (found,) = session.run(None, {"pixel_values": pixels[:batch].numpy()})
        with torch.no_grad():
            expected = model(pixels[:batch]).last_hidden_state
        torch.testing.assert_close(torch.from_numpy(found), expected, rtol=1e-3, atol=1e-4)


def test_a_graph_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Encoder(TINY["vit"].build(0)).save_stock(tmp_path)
    monkeypatch.setattr(onnx_export, "_graph_of", _of_other_weights(onnx_export._graph_of))
    with pytest.raises(RunError, match="differs from torch by .* the limit is 0.001"):
        export_onnx(tmp_path)
    assert not (tmp_path / "onnx").exists()


def _of_other_weights(graph_of):
    def made(model: torch.nn.Module, pixels: torch.Tensor) -> bytes:
        with torch.no_grad():
            weight = next(parameter for parameter in model.parameters() if parameter.ndim > 1)
            weight.mul_(1.05)
            graph = graph_of(model, pixels)
            weight.div_(1.05)
        return graph

    return made


def test_what_is_missing_is_said_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(onnx_export.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        PackageError, match=r"needs onnx, onnxruntime, onnxscript: pip install onnx onnxruntime onnxscript"
    ):
        export_onnx(tmp_path)
    assert main(["export", str(tmp_path), str(tmp_path / "out"), "--onnx"]) == 1
    assert "pip install onnx onnxruntime onnxscript" in capsys.readouterr().err and not (tmp_path / "out").exists()
