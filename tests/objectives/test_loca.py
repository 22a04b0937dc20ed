import numpy as np
import pytest
import torch

from sp_hf.objectives import build_objective
from sp_hf.objectives.where.loca import cluster_loss, location_loss, places_in

from .harness import PATCH, Step, TinyEncoder, make_batch

TINY = {
    "name": "loca",
    "reference": {"size": 24, "area": [0.3, 0.9]},
    "query_views": {"size": 24},
    "local_views": {"count": 2, "size": 16},
    "attention_heads": 2,
    "sight_ratio": 0.5,
    "prototypes": 12,
    "head_width": 16,
    "head_bottleneck": 8,
    "student_temperature": 0.5,
}
DRAWS = True


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_places_by_hand():
    reference = torch.tensor([[0.5, 0.6, 0.4, 0.8]])  # x 0.3 .. 0.7, y 0.2 .. 1.0
    centres = torch.tensor([[[0.31, 0.21], [0.69, 0.21], [0.45, 0.99], [0.29, 0.5], [0.5, 0.19]]])
    assert places_in(reference, (4, 2), centres).tolist() == [[0, 1, 6, -1, -1]]


def test_a_query_that_shows_what_the_reference_shows_finds_its_own_patches():
    """By pixels: a picture of its own coordinates, in a reference, and in mirrored and smaller queries."""
    from sp_hf.objectives.where.loca import patch_centres
    from sp_hf.views.keyed_random import sample_keys
    from sp_hf.views.sampler import ViewSampler

    step = build()
    axis = torch.arange(192, dtype=torch.uint8)
    canvas = torch.stack([axis.expand(192, 192), axis[:, None].expand(192, 192), torch.zeros(192, 192).byte()])
    specs = {n: s.to_dict() | {"photometric": "none"} for n, s in step.objective.view_specs().items()}
    sampler = ViewSampler({name: type(step.objective.config.reference)(**spec) for name, spec in specs.items()})
    views = sampler(canvas.expand(16, -1, -1, -1).contiguous(), torch.ones(16), sample_keys(0, 0, 16))

    def shown(v):  # the image's x and y at the middle of each patch
        pixels = v.pixels * 255 / 192
        return (
            pixels.unfold(3, PATCH, PATCH).unfold(4, PATCH, PATCH).mean((-1, -2))[:, :, :2].flatten(3)
        )  # [B, V, 2, N]

    seen = shown(views["reference"])[:, 0]
    for name in ("query", "local"):
        grid = (views[name].pixels.shape[-1] // PATCH,) * 2
        places = places_in(views["reference"].boxes[:, 0], (3, 3), patch_centres(views[name], grid))
        assert (places >= 0).float().mean() > 0.2
        for b, q in (places >= 0).nonzero().tolist():
            query = shown(views[name])[b].transpose(1, 2).flatten(0, 1)[q]
            distance = (seen[b].T - query).abs() / views["reference"].boxes[b, 0, 2:]
            assert (distance[places[b, q]] <= 1 / 6 + 0.02).all()  # half a patch


def test_location_loss_is_the_mean_over_images_of_their_own_means():
    logits = torch.randn(3, 4, 5, dtype=torch.float64)
    places = torch.tensor([[0, -1, 4, 2], [-1, -1, -1, -1], [1, 1, -1, -1]])
    log_p = logits.log_softmax(-1).numpy()
    own = [-(log_p[0, 0, 0] + log_p[0, 2, 4] + log_p[0, 3, 2]) / 3, 0, -(log_p[2, 0, 1] + log_p[2, 1, 1]) / 2]
    assert location_loss(logits, places).item() == pytest.approx(np.mean(own))


def test_cluster_loss_by_hand():
    inside = torch.tensor([[True, False, True], [False, True, False]])
    logits, targets = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 4, dtype=torch.float64).softmax(-1)
    p = np.exp(logits.numpy() / 0.5)
    p /= p.sum(1, keepdims=True)
    h = -(targets.numpy() * np.log(p)).sum(1)
    mean = ((p[0] + p[1]) / 2 + p[2]) / 2
    expected = ((h[0] + h[1]) / 2 + h[2]) / 2 + (mean * np.log(mean)).sum()
    assert cluster_loss(logits, targets, inside, 0.5).item() == pytest.approx(expected)


def test_sight_is_a_run_of_the_reference():
    step = build()
    sight = step.objective.sight(make_batch(step.objective, images=64).keys)
    assert sight.shape == (64, 4) and (sight.diff(dim=1) == 1).all()
    assert sight.min() == 0 and sight.max() == 8


def test_the_classifier_sees_the_reference_through_the_tokens_in_sight_alone():
    step = build(local_views=None)
    batch = make_batch(step.objective)
    _, requests = step.objective.prepared(batch)
    encodings = {name: step._encode(batch, request) for name, request in requests.items()}
    loss = step.objective(batch, encodings).logs["location_loss"]
    sight = step.objective.sight(batch.keys)
    hidden = torch.ones(4, 9, dtype=torch.bool).scatter(1, sight, False)
    reference = encodings["reference"]
    for where, same in ((hidden, True), (~hidden, False)):
        other = torch.where(where[:, None, :, None], torch.randn_like(reference.patches), reference.patches)
        changed = {**encodings, "reference": reference._replace(patches=other)}
        assert torch.equal(step.objective(batch, changed).logs["location_loss"], loss) == same


def test_without_the_cluster_loss_there_is_no_head():
    step = build(cluster_weight=0, query_views=None)
    output = step(make_batch(step.objective))
    assert step.objective.ema_heads() == [] and "cluster_loss" not in output.logs
    assert torch.equal(output.loss.detach(), output.logs["location_loss"])


@pytest.mark.parametrize(
    "options, message",
    [
        ({"reference": "dino/global"}, "one view of each image"),
        ({"query_views": None, "local_views": None}, "nothing is asked"),
        ({"attention_heads": 3}, "must divide the width of the attention, 16"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
