"""What --torch_compile makes of a step: one graph, made once, for views and for every objective.

A graph break waits for the device, and a recompilation costs a minute. I-JEPA alone draws the sizes of its blocks on
the host, where shapes come from.
"""

import pytest
import torch
from torch._dynamo.testing import CompileCounter

import sp_hf
from sp_hf.objectives import OBJECTIVES
from sp_hf.objectives.base import Progress
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.photometric import Photometric
from sp_hf.views.sampler import ViewSampler

from .test_protocol import tiny

QUICK = ("mae", "spatial_prediction")
BREAKS = ("ijepa",)
SIDE = 48


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.compiler.reset()
    torch.manual_seed(0)
    yield
    torch.compiler.reset()


def canvases_of(step):
    generator = torch.Generator().manual_seed(step)
    canvases = torch.randint(256, (4, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    return canvases, torch.rand(4, generator=generator) + 0.5, sample_keys(0, 4 * step, 4)


def check_forward(name):
    encoder = sp_hf.resolve_encoder("vit-micro-8", image_size=SIDE, token_control=True)
    model = sp_hf.SPForPreTraining(sp_hf.SPConfig(encoder.config, [tiny(name)]), encoder).train()
    sampler, graphs = ViewSampler(model.view_specs), CompileCounter()
    compiled = torch.compile(model, backend=graphs, fullgraph=True)
    for step in range(3):
        canvases, aspects, keys = canvases_of(step)
        ids, labels = torch.arange(4), torch.arange(4) % 3 if model.needs_labels else None
        views = sampler(canvases, aspects, keys, model.propose_boxes(canvases, aspects, ids))
        progress = Progress(step, 10, 5)
        model.set_progress(progress)
        for _ in range(2 if name in QUICK else 1):  # accumulated forwards
            loss = compiled(views=views, keys=keys, ids=ids, labels=labels).loss
        assert loss.isfinite()
        model.before_optimizer_step()
        model.after_optimizer_step(progress)
        assert graphs.frame_count == 1


@pytest.mark.parametrize("name", QUICK)
def test_a_forward_is_one_graph_made_once(name):
    check_forward(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OBJECTIVES.own if name not in (*QUICK, *BREAKS)])
def test_every_forward_is_one_graph_made_once(name):
    check_forward(name)


def test_views_are_one_graph_made_once_and_what_they_are_without_it():
    specs = {
        "wide": sp_hf.ViewSpec(2, 24, (0.4, 1.0), photometric=Photometric.dino_global()),
        "tiles": sp_hf.ViewSpec(2, 16, (0.1, 0.3), effective_resolution=(0.3, 1.0), flip="shared"),
    }
    sampler, graphs = ViewSampler(specs), CompileCounter()
    compiled = torch.compile(sampler, backend=graphs, fullgraph=True)
    for step in range(3):
        found, expected = compiled(*canvases_of(step)), sampler(*canvases_of(step))
        for name in specs:
            assert torch.equal(found[name].boxes, expected[name].boxes)
            torch.testing.assert_close(found[name].pixels, expected[name].pixels, rtol=0, atol=1e-3)
    assert graphs.frame_count == 1
