"""What others load from the Hub: pipeline() without a task, AutoBackbone, onnxruntime, timm's file, of a real push."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, constants
from loopback_hub import LoopbackHub
from test_push import hub, in_process, pushed, run, tiny_encoder  # noqa: F401
from tiny_encoders import TINY
from transformers import AutoModel

from sp_hf.cli import main
from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.timm_export import TOLERANCE

NO_ONNX = any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxruntime", "onnxscript"))
NO_TIMM = any(importlib.util.find_spec(name) is None for name in ("timm", "torchvision"))


@pytest.mark.skipif(NO_ONNX, reason="pip install onnx onnxruntime onnxscript")
def test_of_one_push_each_finds_its_own(hub: LoopbackHub, run: Path, tmp_path: Path) -> None:  # noqa: F811
    assert main(["push", str(run), "lab/model", "--no_run_snippets", "--onnx", "--timm"]) == 0
    files = pushed(hub, "lab/model")
    assert {"onnx/model.onnx", "timm/model.safetensors", "timm/config.json", "model.safetensors"} <= set(files)
    card = files["README.md"].decode()
    assert 'timm.create_model("hf-hub:lab/model", pretrained=True)' in card and "`onnx/model.onnx`" in card
    script = """
import sys
sys.modules["sp_hf"] = None
import onnxruntime, torch
from huggingface_hub import hf_hub_download
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline
photo = Image.linear_gradient("L").convert("RGB")
features = pipeline(model="lab/model")
assert features.task == "image-feature-extraction", features.task
model = AutoModel.from_pretrained("lab/model").eval()
inputs = AutoImageProcessor.from_pretrained("lab/model")(photo, return_tensors="pt")
with torch.no_grad():
    tokens = model(**inputs).last_hidden_state
assert torch.equal(torch.tensor(features(photo)), tokens)
session = onnxruntime.InferenceSession(hf_hub_download("lab/model", "onnx/model.onnx"))
(found,) = session.run(None, {"pixel_values": inputs["pixel_values"].numpy()})
torch.testing.assert_close(torch.from_numpy(found), tokens, rtol=1e-3, atol=1e-4)
"""
    in_process(script, hub, tmp_path / "home")


@pytest.mark.skipif(NO_TIMM, reason="needs timm and torchvision: pip install timm")
def test_timm_finds_its_own(
    hub: LoopbackHub,  # noqa: F811
    run: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import timm

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    assert main(["push", str(run), "lab/model", "--no-card", "--timm"]) == 0
    network = timm.create_model("hf-hub:lab/model", pretrained=True, cache_dir=tmp_path / "cache").eval()
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = AutoModel.from_pretrained(run / "encoder").eval()(pixels).last_hidden_state
        tokens = network.forward_features(pixels)
    assert (tokens - expected).abs().max() < TOLERANCE * expected.std()  # the run's encoder has another epsilon


def test_auto_backbone_where_the_stock_class_has_one(hub: LoopbackHub, tmp_path: Path) -> None:  # noqa: F811
    """transformers takes backbones from the Hub alone. The last map is the encoder's own patches."""
    kinds = ["dinov2", "dinov2_with_registers", "dinov3_vit"]
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = {}
    for kind in kinds:
        encoder = Encoder(TINY[kind].build(0)).eval()
        encoder.save_stock(tmp_path / kind)
        with torch.no_grad():
            expected[kind] = encoder(pixels).patches  # [B, N, D]
        name = f"lab/{kind.replace('_', '-')}"
        HfApi().create_repo(name)
        HfApi().upload_folder(folder_path=tmp_path / kind, repo_id=name)
    torch.save({"x": encoder.normalise(pixels), "patches": expected}, tmp_path / "x.pt")
    script = f"""
import sys
sys.modules["sp_hf"] = None
import torch
from transformers import AutoBackbone
saved = torch.load({str(tmp_path / "x.pt")!r}, weights_only=True)
for kind, patches in saved["patches"].items():
    backbone = AutoBackbone.from_pretrained("lab/" + kind.replace("_", "-"), out_indices=[-1]).eval()
    with torch.no_grad():
        (last,) = backbone(saved["x"]).feature_maps  # [B, D, rows, columns]
    assert torch.equal(last.flatten(2).transpose(1, 2), patches), kind
"""
    in_process(script, hub, tmp_path / "home")
