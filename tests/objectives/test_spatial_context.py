import numpy as np
import pytest
import torch
from torch import nn

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.spatial_context import ContextModule, context_loss, explained_variance

from .harness import Step, TinyEncoder, make_batch

VIEWS = {"count": 3, "size": 16, "area": [0.05, 0.4], "flip": "shared"}
TINY = {"name": "spatial_context", "views": VIEWS, "head_width": 32}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_loss_equals_a_loop():
    predictions = torch.randn(2, 3, 5, dtype=torch.float64)
    features = torch.randn(2, 3, 5, dtype=torch.float64) * 4 + 2
    errors = []
    for b, p in np.ndindex(2, 3):
        feature = features[b, p].numpy()
        target = (feature - feature.mean()) / np.sqrt(feature.var() + 1e-5)
        errors.append(((predictions[b, p].numpy() - target) ** 2).mean())
    assert context_loss(predictions, features).item() == pytest.approx(np.mean(errors), rel=1e-10)


def test_targets_cannot_shrink_the_loss_by_their_scale():
    predictions, features = torch.randn(4, 2, 8), torch.randn(4, 2, 8)
    torch.testing.assert_close(
        context_loss(predictions, features), context_loss(predictions, 100 * features), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("depth", [2, 3])
def test_context_module_is_an_mlp_on_feature_and_relation(depth):
    module = ContextModule(5, 7, depth)
    first = nn.Linear(9, 7)
    with torch.no_grad():
        first.weight.copy_(torch.cat([module.from_features.weight, module.from_relation.weight], dim=1))
        first.bias.copy_(module.from_features.bias)
    embeddings, relations = torch.randn(2, 3, 5), torch.randn(2, 6, 4)
    pairs = [(i, j) for i in range(3) for j in range(3) if i != j]
    expected = [
        module.rest(first(torch.cat([embeddings[:, i], relations[:, p]], dim=-1))) for p, (i, _) in enumerate(pairs)
    ]
    torch.testing.assert_close(module(embeddings, relations), torch.stack(expected, dim=1))


def test_each_pair_predicts_the_teachers_features_of_its_second_view():
    step = build()
    batch = make_batch(step.objective)
    seen = {}

    def head(embeddings, relations):
        seen.update(embeddings=embeddings, relations=relations)
        teacher = step.teacher(batch.views["local"].pixels.flatten(0, 1)).cls.unflatten(0, (4, 3)).detach()
        return nn.functional.layer_norm(teacher[:, [1, 2, 0, 2, 0, 1]], (16,))

    step.objective.head.forward = head
    output = step(batch)
    assert output.loss.item() < 1e-10
    assert output.logs["explained_variance"].item() == pytest.approx(1)
    boxes = batch.views["local"].boxes[0]
    offset = boxes[2, 1] - boxes[0, 1]  # pair (0, 2) is the second; dy does not depend on flips
    assert seen["relations"][0, 1, 1].item() == pytest.approx(
        (offset / step.objective.relation_std[1]).item(), rel=1e-4
    )


def test_relations_matter():
    step = build()
    batch = make_batch(step.objective)
    moved = batch._replace(views={"local": batch.views["local"]._replace(boxes=batch.views["local"].boxes.flip(1))})
    assert step(batch).loss != step(moved).loss


def test_predicting_the_mean_explains_nothing():
    features = torch.randn(64, 4, 8)
    mean = nn.functional.layer_norm(features, (8,)).mean(dim=(0, 1)).expand(64, 4, 8)
    assert explained_variance(mean, features).item() == pytest.approx(0, abs=1e-5)


def test_a_fixed_target_is_an_option():
    assert build(momentum=[1, 1]).objective.teacher_momentum() == (1.0, 1.0)
    assert build().objective.teacher_momentum() == (0.996, 1.0)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"units": "px"}, "units is 'px'; choose one of 'image', 'view'"),
        ({"views": {**VIEWS, "count": 1}}, "spatial_context compares pairs of views, but its view set has 1"),
        ({"momentum": [1]}, r"momentum is \[1\]; give two numbers"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


OBJECTS = {"patches": "objects", "momentum": [1, 1]}


def test_views_lie_on_objects_more_than_random_ones():
    """Share of the views' area on the true masks of scenes, by an encoder of random weights."""
    import sp_hf
    from sp_hf.data.canvas import make_canvas
    from sp_hf.model.configuration import SPConfig
    from sp_hf.model.modeling import SPForPreTraining
    from sp_hf.views.keyed_random import sample_keys
    from sp_hf.views.sampler import ViewSampler

    scenes = sp_hf.part_scenes("train", size=96, num_images=40)
    encoder = sp_hf.resolve_encoder("vit-micro-8", image_size=96)
    canvases = torch.from_numpy(np.stack([make_canvas(row["image"], 96)[0] for row in scenes]))
    masks = torch.from_numpy(np.stack([np.asarray(row["segmentation"]) > 0 for row in scenes]))
    shares = []
    for options in ({}, OBJECTS):
        model = SPForPreTraining(SPConfig(encoder.config, [{**TINY, "momentum": [1, 1], **options}]), encoder)
        given = model.propose_boxes(canvases, torch.ones(40), torch.arange(40))
        views = ViewSampler(model.view_specs)(canvases, torch.ones(40), sample_keys(0, 0, 40), given)
        boxes = views["spatial_context/local"].boxes
        corners = torch.cat([boxes[..., :2] - boxes[..., 2:] / 2, boxes[..., :2] + boxes[..., 2:] / 2], dim=-1)
        edges = (corners * masks.shape[-1]).round().long()
        on = [masks[b, t:d, e:r].float().mean() for b in range(40) for e, t, r, d in edges[b].tolist()]
        shares.append(torch.stack(on).view(40, 3).mean(dim=1))
    difference = shares[1] - shares[0]
    assert difference.mean() > 2 * difference.std() / 40**0.5


def test_objects_are_looked_for_once_an_image_and_by_the_fixed_encoder():
    step = build(**OBJECTS)
    canvases = torch.randint(0, 256, (3, 3, 48, 48), dtype=torch.uint8)
    asked = []
    step.teacher.register_forward_pre_hook(lambda module, args: asked.append(len(args[0])))
    arguments = step.teacher, canvases, torch.ones(3)
    first = step.objective.propose_boxes(*arguments, torch.tensor([4, 9, 7]))
    again = step.objective.propose_boxes(*arguments, torch.tensor([9, 4, 8]))
    step.objective.propose_boxes(*arguments, None)
    assert asked == [3, 1, 3]
    (found,), (later,) = first.values(), again.values()
    assert torch.equal(later[:2], found[[1, 0]])


def test_random_patches_propose_nothing():
    assert build().objective.proposes == () and build().objective.view_specs()["local"].boxes is None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"patches": "objects"}, r"momentum is \(0.996, 1.0\); set it to \[1, 1\]"),
        ({**OBJECTS, "views": "dino/local"}, "give a plain view spec"),
        ({"patches": "parts"}, "patches is 'parts'; choose one of"),
    ],
)
def test_bad_choices_of_patches_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
