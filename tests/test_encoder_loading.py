"""Presets, verified loading, and export to the stock classes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tiny_encoders import PATCH, SIZE, TINY, WIDTH
from torch import Tensor, nn
from transformers import PreTrainedModel, TrainingArguments

from sp_hf.encoders.checkpoint import CheckpointError
from sp_hf.encoders.encoder import IMAGENET_MEAN, IMAGENET_STD, Encoder
from sp_hf.encoders.loading import PRESETS, build_preset, resolve_encoder

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LETTERS = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def pixels(size: int = SIZE) -> Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def shaken(model: PreTrainedModel) -> PreTrainedModel:
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def edit_weights(folder: Path, edit) -> None:
    state = load_file(folder / "model.safetensors")
    edit(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def vit_folder(tmp_path) -> Path:
    Encoder(TINY["vit"].build(), MEAN, STD).save_stock(tmp_path)
    return tmp_path


# Presets


@pytest.mark.parametrize("name,millions", [("vit-tiny-16", 5.52), ("vit-small-16", 21.67), ("vit-base-16", 85.80)])
def test_presets_have_the_papers_sizes(name: str, millions: float):
    """DeiT-Ti/S (5.72, 22.05) and ViT-B (86.57) without their 1000-class heads, which hold 1001 * width parameters."""
    with torch.device("meta"):
        encoder = Encoder.from_config(build_preset(name))
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)
    assert (encoder.patch_size, encoder.patches_of(224)) == (16, (14, 14))


def test_every_preset_builds():
    assert {"vit-micro-8", "vit-tiny-4", "vit-small-8", "vit-base-16", "vit-large-14"} <= set(PRESETS)
    for name in PRESETS:
        patch = int(name.rsplit("-", 1)[1])
        config = build_preset(name, image_size=4 * patch)
        assert (config.patch_size, config.image_size) == (patch, 4 * patch)
        assert config.intermediate_size == 4 * config.hidden_size


def test_preset_overrides():
    config = build_preset("vit-micro-8", image_size=48, num_hidden_layers=2, hidden_dropout_prob=0.1)
    assert (config.num_hidden_layers, config.hidden_dropout_prob, config.image_size) == (2, 0.1, 48)


def test_presets_refuse_what_cannot_be():
    with pytest.raises(ValueError, match="'vit-tiny-15'.*micro.tiny.*4.8.14"):
        build_preset("vit-tiny-15")
    with pytest.raises(ValueError, match="image size 100.*patch size 16.*try 96"):
        build_preset("vit-tiny-16", image_size=100)


# What --encoder may say


def test_resolves_a_preset_under_the_global_seed():
    torch.manual_seed(0)
    first = resolve_encoder("vit-micro-8", image_size=32)
    torch.manual_seed(0)
    second = resolve_encoder("vit-micro-8", image_size=32, token_control=True)
    assert (first.supports_token_control, second.supports_token_control) == (False, True)
    assert all(torch.equal(value, second.state_dict()[key]) for key, value in first.state_dict().items())
    assert (first.image_mean, first.image_std) == (IMAGENET_MEAN, IMAGENET_STD)


@pytest.mark.parametrize("as_file", [True, False])
def test_resolves_a_configuration_without_weights(tmp_path, as_file: bool):
    TINY["dinov2"].build().config.save_pretrained(tmp_path)
    encoder = resolve_encoder(tmp_path / "config.json" if as_file else str(tmp_path))
    assert type(encoder.model).__name__ == "Dinov2Model"


@pytest.mark.parametrize("token_control", [False, True])
def test_resolves_a_folder_with_weights(vit_folder, token_control: bool):
    encoder = resolve_encoder(vit_folder, token_control=token_control).eval()
    assert encoder.supports_token_control == token_control
    assert torch.equal(encoder(pixels()).patches, Encoder(TINY["vit"].build(), MEAN, STD)(pixels()).patches)
    assert (encoder.image_mean, encoder.image_std) == (MEAN, STD)


def test_configuration_of_a_masked_autoencoder_takes_token_control(tmp_path):
    TINY["vit_mae"].build().config.save_pretrained(tmp_path)
    assert resolve_encoder(tmp_path, token_control=True).supports_token_control
    TINY["deit"].build().config.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="needs a ViT.*'deit'"):
        resolve_encoder(tmp_path, token_control=True)


@pytest.mark.parametrize("name", ["vit-tny-16", "resnet50"])
def test_unknown_names_say_what_is_known(name: str):
    with pytest.raises(ValueError, match=f"{name}.*neither a folder.*owner/name.*vit-<micro"):
        resolve_encoder(name)


@pytest.mark.parametrize("name", ["./missing", "/missing/folder", "a/b/c"])
def test_missing_folders(name: str):
    with pytest.raises(FileNotFoundError, match="no folder"):
        resolve_encoder(name)


def test_folder_without_configuration_points_to_the_encoder_inside(tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="did you mean .*encoder"):
        resolve_encoder(tmp_path)


def test_image_size_is_for_presets(vit_folder):
    with pytest.raises(ValueError, match="image_size=64 is for presets"):
        resolve_encoder(vit_folder, image_size=64)


# Verified loading


def test_every_weight_is_the_checkpoints(vit_folder):
    encoder = Encoder.load(vit_folder)
    expected = TINY["vit"].build().state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in encoder.model.state_dict().items())


def test_missing_entries_are_listed(vit_folder):
    def remove(state):
        for key in [key for key in state if ".1." in key and "query" in key] + ["layernorm.bias"]:
            del state[key]

    edit_weights(vit_folder, remove)
    with pytest.raises(CheckpointError, match=r"3 missing: layernorm.bias, layers.1.*q_proj.bias, layers.1.*q_proj.w"):
        Encoder.load(vit_folder)


def test_unexpected_entries_are_listed(vit_folder):
    edit_weights(vit_folder, lambda state: state.update({"adapter.weight": torch.zeros(2)}))
    with pytest.raises(CheckpointError, match="1 unexpected: adapter.weight"):
        Encoder.load(vit_folder)


def test_deeper_checkpoint_than_configuration_is_refused(vit_folder):
    config = json.loads((vit_folder / "config.json").read_text())
    (vit_folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 1}))
    with pytest.raises(CheckpointError, match="16 unexpected: .*layers?.1"):
        Encoder.load(vit_folder)


def test_misshapen_entries_are_refused(vit_folder):
    edit_weights(vit_folder, lambda state: state.update({"layernorm.bias": torch.zeros(WIDTH + 1)}))
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        Encoder.load(vit_folder)


def test_other_formats_than_safetensors_are_refused(vit_folder):
    state = load_file(vit_folder / "model.safetensors")
    (vit_folder / "model.safetensors").unlink()
    torch.save(state, vit_folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="no safetensors weights.*save_pretrained"):
        resolve_encoder(vit_folder)


def test_code_in_a_checkpoint_is_never_run(vit_folder):
    marker = vit_folder / "ran"
    (vit_folder / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    config = json.loads((vit_folder / "config.json").read_text())
    auto_map = {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}
    (vit_folder / "config.json").write_text(json.dumps({**config, "auto_map": auto_map}))
    assert type(Encoder.load(vit_folder).model).__name__ == "ViTModel"  # the stock class, whatever auto_map says
    (vit_folder / "config.json").write_text(json.dumps({**config, "auto_map": auto_map, "model_type": "evil"}))
    with pytest.raises(ValueError):
        Encoder.load(vit_folder)
    assert not marker.exists()


def test_unsupported_checkpoint(tmp_path):
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
    transformers.BertModel(transformers.BertConfig(**sizes, vocab_size=9)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert' cannot be used as an encoder: BertModel is no vision model"):
        Encoder.load(tmp_path)


def test_half_precision_checkpoint_trains_in_single_precision(tmp_path):
    TINY["dinov2"].build().to(torch.bfloat16).save_pretrained(tmp_path)
    assert {p.dtype for p in Encoder.load(tmp_path).parameters()} == {torch.float32}


def test_sharded_checkpoint(tmp_path):
    model = TINY["dinov2"].build()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = resolve_encoder(tmp_path).model.state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in model.state_dict().items())


def test_entries_that_the_model_computes_itself_are_left_out(tmp_path):
    """Older CLIP checkpoints store position_ids."""
    TINY["clip_vision_model"].build().save_pretrained(tmp_path)
    key = "vision_model.embeddings.position_ids"
    edit_weights(tmp_path, lambda state: state.update({key: torch.arange(17)[None]}))
    Encoder.load(tmp_path)


def config_of(name: str, **overrides: object):
    return TINY[name].build(**overrides).config


def two_towers(kind: str, vision: str):
    text = {**LETTERS, "vocab_size": 20}
    return getattr(transformers, f"{kind}Config")(text_config=text, vision_config=config_of(vision).to_dict())


_DECODER = {"decoder_hidden_size": 32, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2}
WITH_HEADS = {
    "ViTForImageClassification": ("vit", lambda: config_of("vit")),
    "ViTForMaskedImageModeling": ("vit", lambda: config_of("vit", encoder_stride=PATCH)),
    "DeiTForImageClassificationWithTeacher": ("deit", lambda: config_of("deit")),
    "Dinov2ForImageClassification": ("dinov2", lambda: config_of("dinov2")),
    "Dinov2WithRegistersForImageClassification": (
        "dinov2_with_registers",
        lambda: config_of("dinov2_with_registers"),
    ),
    "BeitForImageClassification": ("beit", lambda: config_of("beit_mean")),
    "IJepaForImageClassification": ("ijepa", lambda: config_of("ijepa")),
    "ViTMAEForPreTraining": ("vit", lambda: config_of("vit_mae", **_DECODER, decoder_intermediate_size=32)),
    "CLIPModel": ("vision_model", lambda: two_towers("CLIP", "clip_vision_model")),
    "CLIPVisionModelWithProjection": ("vision_model", lambda: config_of("clip_vision_model")),
    "SiglipModel": ("vision_model", lambda: two_towers("Siglip", "siglip_vision_model")),
    "SiglipForImageClassification": ("vision_model", lambda: two_towers("Siglip", "siglip_vision_model")),
    "ConvNextForImageClassification": ("convnext", lambda: config_of("convnext")),
}


@pytest.mark.parametrize("head", WITH_HEADS)
def test_encoder_is_taken_out_of_a_whole_model(tmp_path, head: str, caplog):
    inside, config = WITH_HEADS[head]
    whole = shaken(getattr(transformers, head)(config()))
    whole.save_pretrained(tmp_path)
    with caplog.at_level("WARNING", logger="sp_hf"):
        loaded = Encoder.load(tmp_path).model.state_dict()
    expected = whole.get_submodule(inside).state_dict()
    assert loaded and all(torch.equal(value, expected[key]) for key, value in loaded.items())
    assert "entries that are not the encoder's" in caplog.text


def test_masked_image_modelling_beit_brings_its_final_norm(tmp_path):
    config = config_of("beit_mean", use_mask_token=True, vocab_size=10)
    whole = shaken(transformers.BeitForMaskedImageModeling(config))
    whole.save_pretrained(tmp_path)
    assert torch.equal(Encoder.load(tmp_path).model.pooler.layernorm.weight, whole.layernorm.weight)


@pytest.mark.parametrize(
    "written,mean,std",
    [
        ({"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}, (0.1, 0.2, 0.3), None),
        ({"do_normalize": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}, (0.0,) * 3, (1.0,) * 3),
        (  # (x * 2 - 0.5) / 0.5 for x in [0, 1]
            {"rescale_factor": 2 / 255, "image_mean": [0.5] * 3, "image_std": [0.5] * 3},
            (0.25,) * 3,
            (0.25,) * 3,
        ),
        ({"do_rescale": False, "image_mean": [127.5] * 3, "image_std": [51.0] * 3}, (0.5,) * 3, (0.2,) * 3),
        (None, IMAGENET_MEAN, IMAGENET_STD),
    ],
)
def test_pixels_are_normalised_as_the_checkpoint_says(vit_folder, written: dict | None, mean, std):
    file = vit_folder / "preprocessor_config.json"
    file.unlink()
    if written is not None:
        file.write_text(json.dumps({"image_processor_type": "ViTImageProcessor", **written}))
    encoder = Encoder.load(vit_folder)
    assert (encoder.image_mean, encoder.image_std) == (mean, std or (0.4, 0.5, 0.6))


# Export

EXPORTED = ["sp_vit", *TINY]
STOCK_CLASS = {"sp_vit": "ViTModel", "vit_mae": "ViTModel"}


def encoder_of(name: str) -> Encoder:
    if name == "sp_vit":
        from sp_hf.encoders.checkpoint import with_token_control

        return Encoder(with_token_control(TINY["vit"].build()), MEAN, STD).eval()
    return Encoder(TINY[name].build(), MEAN, STD).eval()


@pytest.mark.parametrize("name", EXPORTED)
def test_export_is_the_stock_class_bit_for_bit(tmp_path, name: str):
    encoder = encoder_of(name)
    state = torch.get_rng_state()
    encoder.save_stock(tmp_path)
    assert torch.equal(state, torch.get_rng_state())
    loaded, report = transformers.AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    expected_class = STOCK_CLASS.get(name, type(encoder.model).__name__)
    assert type(loaded).__name__ == expected_class
    assert json.loads((tmp_path / "config.json").read_text())["architectures"] == [expected_class]
    tiny = TINY["vit" if name in STOCK_CLASS else name]
    with torch.no_grad():
        for size in (SIZE, SIZE // 2):
            encoding = encoder(pixels(size))
            cls, patches = tiny.reference(loaded.eval(), encoder.normalise(pixels(size)))
            assert torch.equal(encoding.patches, patches)
            torch.testing.assert_close(encoding.cls, cls, rtol=0, atol=1e-5 if name.startswith("conv") else 0)


@pytest.mark.parametrize("name", EXPORTED)
def test_export_loads_again(tmp_path, name: str):
    encoder = encoder_of(name)
    encoder.save_stock(tmp_path)
    again = resolve_encoder(tmp_path, token_control=name == "sp_vit").eval()
    assert (again.image_mean, again.image_std) == (MEAN, STD)
    assert torch.equal(again(pixels()).patches, encoder(pixels()).patches)
    assert list(again.state_dict()) == list(encoder.state_dict())


@pytest.mark.parametrize("name", ["sp_vit", "vit", "deit"])
def test_exported_pooler_is_the_class_token(tmp_path, name: str):
    encoder = encoder_of(name)
    encoder.save_stock(tmp_path)
    loaded = transformers.AutoModel.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(encoder.normalise(pixels())).pooler_output, encoder(pixels()).cls)


def test_export_leaves_the_encoder_as_it_was(tmp_path):
    encoder = encoder_of("sp_vit").train()
    config, weights = encoder.config.to_dict(), {k: v.clone() for k, v in encoder.state_dict().items()}
    encoder.save_stock(tmp_path)
    assert encoder.config.to_dict() == config and encoder.training
    assert all(torch.equal(value, weights[key]) for key, value in encoder.state_dict().items())


def test_export_of_gathered_weights(tmp_path):
    """Sharded training hands over the whole state; the model's own tensors are not looked at."""
    encoder = encoder_of("sp_vit")
    gathered = {key: value + 1 for key, value in encoder.model.state_dict().items()}
    encoder.save_stock(tmp_path, state_dict=gathered)
    loaded = transformers.AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(value, loaded[key]) for key, value in gathered.items())


def test_export_writes_an_image_processor(tmp_path):
    encoder_of("sp_vit").save_stock(tmp_path, image_size=24)
    written = json.loads((tmp_path / "preprocessor_config.json").read_text())
    assert (tuple(written["image_mean"]), tuple(written["image_std"])) == (MEAN, STD)
    assert written["size"] == {"height": 24, "width": 24}
    assert written["image_processor_type"] == "ViTImageProcessor"  # the name that works with and without torchvision


def test_image_processor_prepares_pixels_as_the_encoder_does(tmp_path):
    encoder = encoder_of("sp_vit")
    encoder.save_stock(tmp_path)
    try:
        processor = transformers.AutoImageProcessor.from_pretrained(tmp_path)
    except ImportError as error:  # transformers before 5.20 or so: AutoImageProcessor needs torchvision
        pytest.skip(str(error))
    image = torch.randint(0, 256, (SIZE, SIZE, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    prepared = processor(images=image.numpy(), return_tensors="pt")["pixel_values"]
    expected = encoder.normalise(image.permute(2, 0, 1)[None] / 255)
    torch.testing.assert_close(prepared, expected, atol=1e-6, rtol=1e-5)


LOAD_WITHOUT_SP_HF = """
import sys
sys.modules["sp_hf"] = None  # any import of it raises
import torch
from transformers import AutoModel
for folder in sys.argv[1:]:
    model, report = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values()), (folder, report)
    saved = torch.load(folder + "/outputs.pt", weights_only=True)
    with torch.no_grad():
        outputs = model.eval()(saved["pixel_values"])
    assert torch.equal(outputs.last_hidden_state, saved["last_hidden_state"]), folder
    if "pooler_output" in saved:
        assert torch.equal(outputs.pooler_output, saved["pooler_output"]), folder
    print(type(model).__name__)
"""


def test_export_loads_where_sp_hf_does_not_exist(tmp_path):
    """A fresh process, ``sp_hf`` blocked: same numbers, nothing newly initialised, no warning."""
    for name in ("sp_vit", "dinov2", "ijepa", "vit_mae"):
        encoder = encoder_of(name)
        encoder.save_stock(tmp_path / name)
        with torch.no_grad():
            normalised = encoder.normalise(pixels())
            saved = {"pixel_values": normalised, "last_hidden_state": encoder.model(normalised).last_hidden_state}
            if name != "ijepa":
                saved["pooler_output"] = encoder(pixels()).cls
        torch.save(saved, tmp_path / name / "outputs.pt")
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "warning"}
    folders = [str(tmp_path / name) for name in ("sp_vit", "dinov2", "ijepa", "vit_mae")]
    command = [sys.executable, "-c", LOAD_WITHOUT_SP_HF, *folders]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["ViTModel", "Dinov2Model", "IJepaModel", "ViTModel"]
    assert "LOAD REPORT" not in result.stderr and "newly initialized" not in result.stderr


class Squares(torch.utils.data.Dataset):
    """Two classes: bright above, or bright below."""

    def __len__(self) -> int:
        return 16

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        image = torch.zeros(3, SIZE, SIZE)
        image[:, : SIZE // 2] = float(index % 2 == 0)
        return {"pixel_values": image - 0.5, "labels": index % 2}


@pytest.mark.parametrize("name", ["sp_vit", "dinov2", "ijepa"])
def test_export_finetunes_with_the_stock_classifier_and_trainer(tmp_path, name: str):
    encoder = encoder_of(name)
    encoder.save_stock(tmp_path / "encoder")
    load = transformers.AutoModelForImageClassification.from_pretrained
    model, report = load(tmp_path / "encoder", num_labels=2, output_loading_info=True)
    assert all("classifier" in key for key in report["missing_keys"])  # the new head, nothing else
    before = {key: value.clone() for key, value in model.state_dict().items()}
    arguments = TrainingArguments(
        output_dir=str(tmp_path / "run"),
        max_steps=3,
        per_device_train_batch_size=8,
        learning_rate=1e-3,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    result = transformers.Trainer(model=model, args=arguments, train_dataset=Squares()).train()
    assert result.global_step == 3 and torch.isfinite(torch.tensor(result.training_loss))
    moved = [key for key, value in model.state_dict().items() if not torch.equal(value, before[key])]
    assert any("q_proj" in key or "query" in key for key in moved) and any("classifier" in key for key in moved)


def test_pooler_of_a_checkpoint_is_left_out(tmp_path, caplog):
    model = shaken(transformers.ViTModel(config_of("vit")))
    model.save_pretrained(tmp_path)
    encoder = Encoder.load(tmp_path)
    assert encoder.model.pooler is None and "pooler" in caplog.text
    assert not isinstance(encoder.model.embeddings.mask_token, nn.Parameter)
