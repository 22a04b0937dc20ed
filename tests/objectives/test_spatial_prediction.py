import numpy as np
import pytest
import torch
from torch import nn

from sp_hf.objectives import build_objective
from sp_hf.objectives.pair_head import PairHead
from sp_hf.objectives.where.spatial_prediction import SpatialPredictionConfig
from sp_hf.views.geometry import invert
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.pairs import ordered_pairs, pair_relations, relation_std
from sp_hf.views.sampler import ViewSampler
from sp_hf.views.spec import ViewSpec

from .harness import Step, TinyEncoder, TinyEncoding, make_batch, part_of

VIEWS = {"count": 3, "size": 16, "area": [0.05, 0.4], "flip": "own"}
TINY = {"name": "spatial_prediction", "views": VIEWS, "head_width": 32}


def build(**options):
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def test_ordered_pairs_are_all_pairs_of_distinct_views():
    first, second = ordered_pairs(4)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [
        (i, j) for i in range(4) for j in range(4) if i != j
    ]


@pytest.mark.parametrize("units", ["image", "view"])
def test_targets_by_hand(units):
    boxes = torch.tensor([[0.3, 0.4, 0.2, 0.4], [0.6, 0.3, 0.4, 0.2]], dtype=torch.float64)[None]
    flips = torch.tensor([[False, True]])
    there, back = pair_relations(boxes, flips, units)[0].tolist()
    unit = {"image": ((1, 1), (1, 1)), "view": ((0.2, 0.4), (0.4, 0.2))}[units]
    assert there == pytest.approx([0.3 / unit[0][0], -0.1 / unit[0][1], np.log(2), -np.log(2)])
    # Seen from the second, which is mirrored, the first lies to the right: 1 - 0.3 against 1 - 0.6.
    assert back == pytest.approx([0.3 / unit[1][0], 0.1 / unit[1][1], -np.log(2), np.log(2)])


def test_targets_tell_where_to_look_in_the_flipped_canvas():
    """An oracle: cut view j out of the image as view i shows it, from view i's box and the target alone."""
    ramp = torch.linspace(0, 255, 64).round()
    canvas = torch.stack([ramp.expand(64, 64), ramp[:, None].expand(64, 64), torch.zeros(64, 64)]).to(torch.uint8)[None]
    spec = ViewSpec(count=2, size=32, area=(0.1, 0.4), flip="own")
    batch = ViewSampler({"v": spec})(canvas.expand(8, -1, -1, -1), torch.ones(8), sample_keys(0, 0, 8))["v"]
    relations = pair_relations(batch.boxes, batch.flips, "image")
    assert batch.flips.any() and not batch.flips.all()
    for image, (there, _) in enumerate(relations):
        centres = []
        for view in (0, 1):
            x, y = batch.pixels[image, view, :2].mean(dim=(1, 2)).tolist()
            centres.append((1 - x if batch.flips[image, 0] else x, y))  # in the frame of view 0
        assert there[0].item() == pytest.approx(centres[1][0] - centres[0][0], abs=0.02)
        assert there[1].item() == pytest.approx(centres[1][1] - centres[0][1], abs=0.02)


@pytest.mark.parametrize("units", ["image", "view"])
def test_swapping_views_inverts_targets(units):
    boxes = torch.rand(3, 2, 4, dtype=torch.float64) * 0.4 + 0.2
    flips = torch.tensor([[True, True], [False, False], [True, True]])
    there, back = pair_relations(boxes, flips, units).unbind(1)
    torch.testing.assert_close(back, invert(there, units))


def test_permuting_views_permutes_pairs_and_leaves_the_loss():
    step = build()
    batch = make_batch(step.objective)
    views = batch.views["local"]
    order = [2, 0, 1]
    permuted = batch._replace(views={"local": views.each(lambda x: x[:, order])})
    torch.testing.assert_close(step(batch).loss, step(permuted).loss)
    embeddings = torch.randn(2, 3, 16)
    pairs = list(zip(*(index.tolist() for index in ordered_pairs(3)), strict=True))
    moved = [pairs.index((order[i], order[j])) for i, j in pairs]
    torch.testing.assert_close(step.objective.head(embeddings[:, order]), step.objective.head(embeddings)[:, moved])


@pytest.mark.parametrize("units", ["image", "view"])
@pytest.mark.parametrize("area", [(0.05, 0.4), (0.01, 0.1)])
def test_standardised_targets_have_unit_variance(units, area):
    step = build(units=units, views={**VIEWS, "count": 2, "area": area})
    spec = step.objective.config.views
    sampled = ViewSampler({"other": spec})(
        torch.zeros(3000, 3, 4, 4, dtype=torch.uint8), torch.ones(3000), sample_keys(5, 0, 3000)
    )["other"]
    targets = pair_relations(sampled.boxes, sampled.flips, units) / step.objective.target_std
    variance = targets.square().mean(dim=(0, 1))
    assert variance[:2].mean().item() == pytest.approx(1, rel=0.1)
    assert variance[2:].mean().item() == pytest.approx(1, rel=0.1)


def test_standard_deviation_of_uniform_positions():
    """Boxes of one size: centres uniform over 1 - w, so var(dx) = 2 (1 - w)^2 / 12, and the log ratio is 0."""
    spec = ViewSpec(count=2, size=16, area=(0.25, 0.25), aspect=(1.0, 1.0))
    position, scale = relation_std(spec, "image")
    assert position == pytest.approx(np.sqrt(2 * 0.5**2 / 12), rel=0.02)
    assert scale == 0.01  # the floor
    inner = ViewSpec(count=2, size=16, area=(0.25, 0.25), aspect=(1.0, 1.0), margin=0.1)  # in 0.8 of the side
    assert relation_std(inner, "image")[0] == pytest.approx(np.sqrt(2 * 0.3**2 / 12), rel=0.02)


def test_boxes_of_one_size_have_no_scale_to_explain():
    step = build(views={**VIEWS, "area": [0.05, 0.05], "aspect": None})
    output = step(make_batch(step.objective))
    assert output.loss.isfinite()
    assert output.logs["r2_scale"] == 0 and output.logs["r2_position"] != 0


def test_given_standard_deviations_win():
    step = build(target_std=[0.5, 2])
    assert step.objective.target_std.tolist() == [0.5, 0.5, 2, 2]
    step.objective.target_std[:] = 4.0
    batch = make_batch(step.objective)
    encodings = {"local": TinyEncoding(torch.zeros(4, 3, 16), torch.zeros(4, 3, 4, 16), (2, 2))}
    step.objective.head = nn.Sequential(PairHead(16, 4, 2))
    for parameter in step.objective.head.parameters():
        nn.init.zeros_(parameter)
    targets = pair_relations(batch.views["local"].boxes, batch.views["local"].flips, "image") / 4
    expected = nn.functional.smooth_l1_loss(torch.zeros_like(targets), targets)
    torch.testing.assert_close(step.objective(batch, encodings).loss, expected)


def features_of(boxes, flips):
    """[B, M, 4] boxes as seen, logs of the sides, in 16 numbers."""
    x = torch.where(flips, 1 - boxes[..., 0], boxes[..., 0])
    box = torch.stack([x, boxes[..., 1], boxes[..., 2].log(), boxes[..., 3].log()], dim=-1)
    return nn.functional.pad(box, (0, 12))


def train(objective, batch, encodings, steps=150):
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        output = objective(batch, encodings)
        output.loss.backward()
        optimizer.step()
    return output


@pytest.mark.parametrize(
    "head, loss, least", [("concat", "smooth_l1", 0.99), ("difference", "smooth_l1", 0.99), ("concat", "laplace", 0.95)]
)
def test_head_reads_boxes_off_features_that_hold_them(head, loss, least):
    """Features that contain the box (in the view's own frame) are enough."""
    objective = build(views={**VIEWS, "flip": "shared"}, head_width=64, head=head, loss=loss).objective
    batch = make_batch(objective, images=128, canvas=16)
    features = features_of(batch.views["local"].boxes, batch.views["local"].flips)
    output = train(objective, batch, {"local": TinyEncoding(features, features[:, :, None], (1, 1))})
    assert output.logs["r2_position"] > least
    assert output.logs["r2_scale"] > least
    if loss == "laplace":  # it knows how good it is: the mean distance of a Laplace distribution is its scale
        assert 0 < output.logs["spread_position"] < 0.2 and 0 < output.logs["spread_scale"] < 0.2
        assert 0.3 < output.logs["half_coverage"] < 0.7


def test_patch_head_reads_patch_boxes_off_features_that_hold_them():
    """The boxes by brute force: cut every view into its patches, from left to right as it is seen."""
    objective = build(views={**VIEWS, "flip": "shared"}, head_width=64, embedding="patch", patch_pairs=12).objective
    batch = make_batch(objective, images=96, canvas=16)
    boxes, flips = batch.views["local"].boxes, batch.views["local"].flips[..., None]
    patches = brute_force_patches(boxes, flips[..., 0], (2, 3))
    features = features_of(patches, flips)
    output = train(objective, batch, {"local": TinyEncoding(None, features, (2, 3))})
    assert output.logs["r2_position"] > 0.98
    assert output.logs["r2_scale"] > 0.98


def brute_force_patches(boxes, flips, grid):
    """[B, V, N, 4] in the unflipped image, one by one."""
    rows, columns = grid
    found = torch.empty(*boxes.shape[:2], rows * columns, 4)
    for b, view in np.ndindex(*boxes.shape[:2]):
        cx, cy, w, h = boxes[b, view].tolist()
        for row, column in np.ndindex(rows, columns):
            shown = columns - 1 - column if flips[b, view] else column
            x, y = cx - w / 2 + w * (shown + 0.5) / columns, cy - h / 2 + h * (row + 0.5) / rows
            found[b, view, row * columns + column] = torch.tensor([x, y, w / columns, h / rows])
    return found


def test_what_places_alone_tell_of_patches_is_not_counted():
    """Tokens that say where they lie in their view, and nothing of their view, have no R2 of position."""
    options = {"embedding": "patch", "patch_pairs": 8, "loss": "l2", "views": {**VIEWS, "count": 2, "flip": "none"}}
    objective = build(**options, head_width=64).objective
    batch = make_batch(objective, images=128, canvas=16)
    places = torch.tensor([[x, y, 0, 0] for y in (0.25, 0.75) for x in (0.25, 0.75)])
    tokens = nn.functional.pad(places, (0, 12)).expand(128, 2, 4, 16)
    output = train(objective, batch, {"local": TinyEncoding(None, tokens, (2, 2))}, steps=60)
    assert abs(output.logs["r2_position"]) < 0.1
    assert output.loss < 0.9  # of a variance of 1: position is half of it, and places tell a third of that


@pytest.mark.parametrize("units", ["image", "view"])
def test_standardised_patch_targets_have_unit_variance(units):
    options = {"units": units, "embedding": "patch", "patch_pairs": 8, "loss": "l2", "views": {**VIEWS, "count": 2}}
    objective = build(**options).objective
    sampled = ViewSampler({"other": objective.config.views})(
        torch.zeros(2000, 3, 4, 4, dtype=torch.uint8), torch.ones(2000), sample_keys(5, 0, 2000)
    )
    batch = make_batch(objective)._replace(views={"local": sampled["other"]}, keys=sample_keys(5, 0, 2000))
    for parameter in objective.head.parameters():
        nn.init.zeros_(parameter)
    loss = objective(batch, {"local": TinyEncoding(None, torch.zeros(2000, 2, 4, 16), (2, 2))}).loss
    assert loss.item() == pytest.approx(1, rel=0.1)


def test_patch_pairs_depend_on_the_key_alone():
    step = build(embedding="patch", patch_pairs=5)
    batch = make_batch(step.objective)
    loss = step(batch).loss
    assert torch.equal(step(batch).loss, loss)
    assert not torch.equal(step(batch._replace(keys=batch.keys + 1)).loss, loss)
    halves = [step(part_of(batch, part)).loss for part in (slice(0, 2), slice(2, 4))]
    torch.testing.assert_close(torch.stack(halves).mean(), loss)


@pytest.mark.parametrize(
    "options",
    [{"embedding": "patch"}, {"loss": "laplace"}, {"head": "difference"}, {"head": "difference", "head_depth": 1}],
)
def test_every_option_teaches_the_encoder(options):
    step = build(**options)
    batch = make_batch(step.objective)
    step(batch).loss.backward()
    reached = [name for name, p in step.encoder.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0]
    assert {"projection.weight", "position.weight", "block.linear1.weight", "norm.weight"} <= set(reached)
    assert not [name for name, p in step.objective.named_parameters() if p.grad is None]


def test_turned_patches_are_refused():
    turned = {"count": 2, "size": 16, "area": [0.05, 0.4], "rotation": 30.0}
    turned |= {"photometric": "none", "effective_resolution": None}
    with pytest.raises(ValueError, match="embedding is 'patch' with views of rotation 30.0: .* leave out the rotation"):
        build(embedding="patch", views=turned)
    objective = build(embedding="patch", views="lorot/image").objective
    batch = make_batch(build(views={**turned, "count": 3}).objective)
    with pytest.raises(ValueError, match="the views are turned; leave out their rotation"):
        objective(batch, {"local": TinyEncoding(None, torch.zeros(4, 3, 4, 16), (2, 2))})


def test_defaults_have_the_weights_that_they_had_before_there_were_options():
    assert {name: tuple(value.shape) for name, value in build().objective.state_dict().items()} == {
        "target_std": (4,),
        "head.first_layer.weight": (32, 32),
        "head.first_layer.bias": (32,),
        "head.rest.1.weight": (32, 32),
        "head.rest.1.bias": (32,),
        "head.rest.3.weight": (4, 32),
        "head.rest.3.bias": (4,),
    }
    assert build(loss="laplace").objective.head.rest[-1].out_features == 8


@pytest.mark.parametrize("embedding, used", [("cls", "cls"), ("mean_patch", "patches"), ("patch", "patches")])
def test_embedding_option_decides_what_is_read(embedding, used):
    objective = build(embedding=embedding).objective
    batch = make_batch(objective)
    cls = torch.randn(4, 3, 16, requires_grad=True)
    patches = torch.randn(4, 3, 5, 16, requires_grad=True)
    objective(batch, {"local": TinyEncoding(cls, patches, (1, 5))}).loss.backward()
    assert (cls.grad is not None) == (used == "cls")
    assert (patches.grad is not None) == (used == "patches")


def test_views_may_be_those_of_another_objective():
    objective = build(views="dino/local").objective
    assert objective.view_specs() == {"local": "dino/local"}
    assert objective.target_std.tolist() == pytest.approx(
        np.repeat(relation_std(ViewSpec(4, 96, (0.05, 0.4)), "image"), 2)
    )
    one_view = ViewSpec(count=1, size=16, area=(0.1, 0.2))
    views = ViewSampler({"v": one_view})(
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.ones(2), sample_keys(0, 0, 2)
    )
    batch = make_batch(build().objective, images=2)._replace(views={"local": views["v"]})
    with pytest.raises(ValueError, match="its view set has 1; give it at least 2"):
        objective(batch, {"local": TinyEncoding(torch.zeros(2, 1, 16), torch.zeros(2, 1, 4, 16), (2, 2))})


def test_defaults_are_four_small_views_with_one_flip_and_a_defence_against_blur():
    spec = SpatialPredictionConfig().views
    assert (spec.count, spec.flip, spec.area) == (4, "shared", (0.05, 0.4))
    assert spec.effective_resolution is not None


@pytest.mark.parametrize(
    "options, message",
    [
        ({"units": "pixels"}, "units is 'pixels'; choose one of 'image', 'view'"),
        ({"embedding": "pooled"}, "embedding is 'pooled'; choose one of 'cls', 'mean_patch', 'patch'"),
        ({"loss": "l1"}, "loss is 'l1'; choose one of 'smooth_l1', 'l2', 'laplace'"),
        ({"views": {**VIEWS, "count": 1}}, "its view set has 1; give it at least 2"),
        ({"views": {**VIEWS, "siez": 3}}, "siez"),
        ({"target_std": [1, 0]}, "target_std is 0.0; it must be greater than 0"),
        ({"head": "bilinear"}, "head is 'bilinear'; choose one of 'concat', 'difference'"),
        ({"head_depth": 0}, "head_depth is 0; it must be at least 1"),
        ({"head_depth": 1}, "head_depth is 1 with head: concat and .*: make it at least 2"),
        ({"head_depth": 1, "head": "difference", "loss": "laplace"}, "loss: laplace; one layer .*: make it at least 2"),
        ({"patch_pairs": 0}, "patch_pairs is 0; it must be at least 1"),
        ({"patch_pairs": 2.5}, "patch_pairs is 2.5; it must be a whole number of at least 1"),
        ({"beta": 0}, "beta is 0; it must be greater than 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)
