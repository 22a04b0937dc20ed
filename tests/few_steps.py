"""Two steps of training by four methods, on any encoder."""

from __future__ import annotations

import torch

from sp_hf.encoders.encoder import Encoder
from sp_hf.model.configuration import SPConfig
from sp_hf.model.modeling import SPForPreTraining
from sp_hf.objectives import Progress
from sp_hf.views.sampler import ViewSampler

METHODS: dict[str, dict[str, object]] = {  # their views' sizes are left open
    "dino": {"name": "dino", "prototypes": 24, "head_width": 32, "head_bottleneck": 8, "local_views": {"count": 2}},
    "moco_v3": {"name": "moco_v3", "head_width": 32, "embedding_size": 8},
    "simclr": {"name": "simclr", "head_width": 32, "embedding_size": 8},
    "spatial_prediction": {"name": "spatial_prediction", "views": {"count": 2}, "head_width": 32},
}


def train(encoder: Encoder, objective: dict[str, object], steps: int = 2) -> SPForPreTraining:
    """Steps of plain SGD on noise: losses are finite, gradients reach the deepest weight, the first layer moves."""
    model = SPForPreTraining(SPConfig(encoder.config, [objective], encoder.image_mean, encoder.image_std), encoder)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)
    before = encoder.patch_projection().weight.detach().clone()
    deepest = [p for p in encoder.parameters() if p.requires_grad][-1]
    for step in range(steps):
        keys = torch.arange(4) + 4 * step
        canvases = torch.randint(0, 256, (4, 3, 64, 64), dtype=torch.uint8)
        views = ViewSampler(model.view_specs)(canvases, torch.ones(4), keys)
        loss = model.train()(views, keys, ids=torch.arange(4)).loss
        assert loss.isfinite()
        optimizer.zero_grad()
        loss.backward()
        if deepest.requires_grad:
            assert deepest.grad is not None
        optimizer.step()
        model.after_optimizer_step(Progress(step, steps, 1))
    frozen = not encoder.patch_projection().weight.requires_grad  # as MoCo v3 asks
    assert frozen or not torch.equal(encoder.patch_projection().weight, before)
    return model
