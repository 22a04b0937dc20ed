"""The pretraining model: encode once, rebuild from config.json, gradient where it belongs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import ViTConfig

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.initialisation import RECORDED_AS
from sp_hf.encoders.modeling_sp_vit import SPViTModel  # noqa: F401  (registers its configuration)
from sp_hf.model.configuration import SPConfig
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.objectives.base import Batch, Progress
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.sampler import ViewSampler

BIG = {"count": 2, "size": 16, "area": [0.3, 1.0]}
SMALL = {"count": 3, "size": 8, "area": [0.1, 0.4]}
DINO = {"name": "dino", "global_views": BIG, "local_views": SMALL, "prototypes": 32, "head_width": 16}
SP = {"name": "spatial_prediction", "views": {**SMALL, "flip": "shared"}, "head_width": 16}
MOCO = {"name": "moco_v3", "views": BIG, "head_width": 16, "embedding_size": 8}
DROP_POS = {
    "name": "drop_pos",
    "views": {**BIG, "count": 1},
    "decoder_width": 16,
    "decoder_depth": 1,
    "decoder_heads": 2,
}
MAE = {"name": "mae", "views": {**BIG, "count": 1}, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}


def encoder_config(model_type: str = "vit") -> dict:
    sizes = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
    return {**ViTConfig(**sizes, image_size=16, patch_size=4).to_dict(), "model_type": model_type}


def build(*objectives: dict, model_type: str = "vit", **options) -> SPForPreTraining:
    torch.manual_seed(0)
    return SPForPreTraining(SPConfig(encoder_config(model_type), list(objectives), **options))


def batch(model: SPForPreTraining, images: int = 4, seed: int = 0) -> dict:
    generator = torch.Generator().manual_seed(seed)
    canvases = torch.randint(0, 256, (images, 3, 32, 32), generator=generator, dtype=torch.uint8)
    keys = sample_keys(seed, 0, images)
    return {"views": ViewSampler(model.view_specs)(canvases, torch.ones(images), keys), "keys": keys}


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """Every call of any encoder: (is it the student, shape of its pixels, is it masked)."""
    calls: list[tuple] = []
    original = Encoder.forward

    def spy(self, pixels, **options):
        calls.append((next(self.parameters()).requires_grad, tuple(pixels.shape), bool(options)))
        return original(self, pixels, **options)

    monkeypatch.setattr(Encoder, "forward", spy)
    return calls


def test_each_tower_and_resolution_is_encoded_once(forwards: list) -> None:
    model = build(DINO, SP, {**MOCO, "momentum": [0.996, 1.0]})
    model(**batch(model))
    students = [shape for student, shape, _ in forwards if student]
    teachers = [shape for student, shape, _ in forwards if not student]
    # DINO's and MoCo's 2 global views in one forward; DINO's 3 local and SP's 3 in another
    assert sorted(students) == [(4 * 4, 3, 16, 16), (4 * 6, 3, 8, 8)]
    assert teachers == [(4 * 4, 3, 16, 16)]


def test_shared_views_are_not_encoded_again(forwards: list) -> None:
    model = build(DINO, {**SP, "views": "dino/local"})
    assert sorted(model.view_specs) == ["dino/global", "dino/local"]
    output = model(**batch(model))
    assert sorted(shape for student, shape, _ in forwards if student) == [(8, 3, 16, 16), (12, 3, 8, 8)]
    assert output.losses.keys() == {"dino", "spatial_prediction"}


def test_masked_views_go_alone(forwards: list) -> None:
    model = build(DINO, MAE, model_type="sp_vit")
    model(**batch(model))
    assert [masked for student, _, masked in forwards if student].count(True) == 1
    assert len(forwards) == 4  # two sizes of DINO's, the teacher, MAE's


def test_loss_is_the_weighted_sum() -> None:
    model = build({**DINO, "weight": 0.5}, {**SP, "weight": 3.0})
    output = model(**batch(model))
    expected = 0.5 * output.losses["dino"] + 3.0 * output.losses["spatial_prediction"]
    torch.testing.assert_close(output.loss.detach(), expected)


def test_an_objective_more_leaves_the_others_as_they_were() -> None:
    """The control of DINO + SP is DINO alone: same initial weights, same views, same loss."""
    alone, both = build(DINO), build(DINO, SP)
    for name, value in alone.state_dict().items():
        assert torch.equal(value, both.state_dict()[name]), name
    one, two = alone(**batch(alone)), both(**batch(both))
    torch.testing.assert_close(one.losses["dino"], two.losses["dino"])


def test_student_receives_gradient_and_teacher_none() -> None:
    model = build(DINO, SP)
    model(**batch(model)).loss.backward()
    for name, parameter in model.named_parameters():
        if "teacher" in name:
            assert not parameter.requires_grad and parameter.grad is None, name
        elif parameter.requires_grad:
            assert parameter.grad is not None, name
    assert all(p.grad is not None for p in model.encoder.parameters() if p.requires_grad)


def test_teacher_follows_the_student_by_the_schedule() -> None:
    model = build(DINO, teacher_momentum=[0.5, 1.0])
    before = [p.clone() for p in model.teacher.parameters()]
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.add_(1.0)
    momentum = model.after_optimizer_step(Progress(step=5, total_steps=10, steps_per_epoch=1))
    assert momentum == pytest.approx(0.75)  # halfway along the cosine
    for old, new in zip(before, model.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.25)


def test_teacher_stays_in_evaluation_mode() -> None:
    model = build(DINO)
    model.train()
    assert model.encoder.training and not model.teacher.training


@pytest.mark.parametrize("objectives", [(DINO, SP), (MOCO,), (MAE,)])
def test_rebuilds_from_its_folder_alone(tmp_path: Path, objectives: tuple) -> None:
    model = build(*objectives, model_type="sp_vit").eval()
    model.after_optimizer_step(Progress(0, 10, 1))
    inputs = batch(model)
    model.save_pretrained(tmp_path)
    torch.manual_seed(99)
    again = SPForPreTraining.from_pretrained(tmp_path).eval()
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    for (name, ours), (_, theirs) in zip(model.named_buffers(), again.named_buffers(), strict=True):
        assert torch.equal(ours, theirs), name  # those that are not saved, too
    assert torch.equal(model(**inputs).loss, again(**inputs).loss)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]


def test_a_loaded_encoder_stays_as_it_is(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build(DINO).encoder
    source.save_stock(tmp_path)
    encoder = Encoder.load(tmp_path)
    model = SPForPreTraining(SPConfig(encoder.config, [DINO, SP]), encoder)
    for (name, ours), theirs in zip(model.encoder.named_parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    for ours, theirs in zip(model.teacher.parameters(), source.parameters(), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize(
    ("objectives", "message"),
    [
        ([], "empty"),
        ([{"name": "dyno"}], "did you mean 'dino'"),
        ([DINO, DINO], "listed twice"),
        ([MAE], "SPViTModel"),
        ([{**DINO, "global_views": {**BIG, "size": 18}}], "18"),
        ([DINO, {**SP, "views": "dino/locals"}], "dino/local"),
        ([DINO, MOCO], "teacher_momentum"),
        ([{**SP, "wieght": 2}], "did you mean 'weight'"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(objectives: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(*objectives)


def test_frozen_patch_projection_of_moco(tmp_path: Path) -> None:
    model = build(MOCO)
    before = model.encoder.patch_projection().weight.clone()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    model(**batch(model)).loss.backward()
    optimizer.step()
    assert torch.equal(model.encoder.patch_projection().weight, before)


def fresh(entry: dict, scheme: str = "xavier") -> SPForPreTraining:
    torch.manual_seed(0)
    return SPForPreTraining(SPConfig({**encoder_config("sp_vit"), RECORDED_AS: scheme}, [entry, SP]))


@pytest.mark.parametrize("entry", [MAE, DROP_POS, MOCO], ids=lambda entry: entry["name"])
def test_positions_of_a_fresh_encoder_stay_sines_and_cosines(entry: dict, tmp_path: Path) -> None:
    model = fresh(entry)
    table = model.encoder.model.embeddings.position_embeddings
    before = table.detach().clone()
    trained = [p for p in model.parameters() if p.requires_grad]
    model(**batch(model)).loss.backward()
    assert all(p.grad is not None for p in trained)  # DistributedDataParallel waits for every one
    torch.optim.AdamW(trained, lr=0.1, weight_decay=0.1).step()
    assert torch.equal(table, before)
    model.save_pretrained(tmp_path)
    again = SPForPreTraining.from_pretrained(tmp_path)
    assert [p.requires_grad for p in again.parameters()] == [p.requires_grad for p in model.parameters()]
    assert not again.encoder.model.embeddings.position_embeddings.requires_grad
    assert "encoder.model.embeddings.position_embeddings" in again._frozen


@pytest.mark.parametrize("case", ["stock", "switched off", "not asked for", "learned"])
def test_other_positions_are_learned(case: str, tmp_path: Path) -> None:
    model = {
        "stock": lambda: fresh(MAE, "stock"),
        "switched off": lambda: fresh({**MAE, "fixed_positions": False}),
        "not asked for": lambda: fresh(DINO),
        "learned": lambda: fresh(MAE),
    }[case]()
    if case == "learned":
        with torch.no_grad():
            model.encoder.model.embeddings.position_embeddings[0, 3, 5] += 1e-5
        model.encoder.save_stock(tmp_path / "encoder")
        encoder = Encoder.load(tmp_path / "encoder", token_control=True)
        model = SPForPreTraining(SPConfig(encoder.config, [MAE, SP]), encoder)
    assert model.encoder.model.embeddings.position_embeddings.requires_grad
    model.save_pretrained(tmp_path / "run")
    again = SPForPreTraining.from_pretrained(tmp_path / "run")
    assert again.encoder.model.embeddings.position_embeddings.requires_grad


def test_a_request_without_gradient_is_its_own_forward_and_leaves_none(forwards: list) -> None:
    model = build(DROP_POS, model_type="sp_vit")
    model(**batch(model))
    assert forwards == [(True, (4, 3, 16, 16), True), (True, (4, 3, 16, 16), False)]
    forwards.clear()
    shared = build({**DINO, "local_views": None}, DROP_POS, model_type="sp_vit")
    shared(**batch(shared))
    assert len(forwards) == 4  # DINO's student and teacher, DropPos with gradient and without


def test_autocast_does_not_take_the_gradient_of_a_weight_that_both_forwards_use(monkeypatch) -> None:
    """Autocast caches a weight's cast; in old releases of torch, one made without gradient served the other forward."""
    model = build(DROP_POS, model_type="sp_vit")
    objective = model.objectives["drop_pos"]
    wanted = objective.requests(Batch({"image": batch(model)["views"]["drop_pos/image"]}, batch(model)["keys"]))
    reverse = wanted._replace(encodes=dict(reversed(wanted.encodes.items())))
    monkeypatch.setattr(objective, "requests", lambda batch: reverse)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = model(**batch(model)).loss
    loss.backward()
    assert not [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]


def test_no_machine_in_the_configuration(tmp_path: Path) -> None:
    build(DINO).encoder.save_stock(tmp_path)
    encoder = Encoder.load(tmp_path)
    text = SPConfig(encoder.config, [DINO]).to_json_string()
    assert str(tmp_path) not in text
