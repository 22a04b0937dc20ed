"""Every objective on a real ViT, alone and in one weighted sum."""

import pytest
import torch

from sp_hf.encoders.configuration_sp_vit import SPViTConfig
from sp_hf.encoders.encoder import Encoder
from sp_hf.model.configuration import SPConfig
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.objectives import OBJECTIVES, Progress, build_objective
from sp_hf.views.sampler import ViewSampler

from .harness import PATCH, Step, make_batch
from .test_protocol import tiny

CONFIG = SPViTConfig(
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    patch_size=PATCH,
    image_size=32,
)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_all_trainable_parameters_of_a_vit_get_gradient(name):
    encoder = Encoder.from_config(CONFIG)
    step = Step(build_objective(tiny(name), encoder), encoder)
    step.objective.set_progress(Progress(1, 10, 2))
    output = step(make_batch(step.objective))
    output.loss.backward()
    assert output.loss.isfinite()
    assert not [key for key, p in step.named_parameters() if p.requires_grad and p.grad is None]


@pytest.fixture
def together():
    entries = [{**tiny(name), "weight": 0.5 + i} for i, name in enumerate(OBJECTIVES)]
    return SPForPreTraining(SPConfig(CONFIG, entries, teacher_momentum=(0.9, 1.0)))


def sample(model, images=4):
    keys = torch.arange(images)
    canvases = torch.randint(0, 256, (images, 3, 48, 48), dtype=torch.uint8)
    ids = torch.arange(images)
    return ViewSampler(model.view_specs)(canvases, torch.ones(images), keys), keys, ids % 3, ids


def test_all_of_them_in_one_weighted_sum(together):
    inputs = sample(together)
    output = together(*inputs)
    expected = sum((0.5 + i) * output.losses[name] for i, name in enumerate(OBJECTIVES))
    torch.testing.assert_close(output.loss.detach(), expected)
    output.loss.backward()
    assert not [key for key, p in together.named_parameters() if p.requires_grad and p.grad is None]


def test_all_of_them_come_back_from_a_folder(together, tmp_path):
    together.set_progress(Progress(3, 10, 2))
    inputs = sample(together)
    together(*inputs)
    together.after_optimizer_step(Progress(3, 10, 2))
    together.save_pretrained(tmp_path)
    again = SPForPreTraining.from_pretrained(tmp_path).train()
    for key, value in together.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
    assert torch.equal(again(*inputs).loss, together(*inputs).loss)
