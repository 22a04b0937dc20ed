import copy

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sp_hf.objectives import build_objective
from sp_hf.objectives.memory import MemoryBank
from sp_hf.objectives.where.pirl import PIRLConfig, nce_loss, similarities

from .harness import Step, TinyEncoder, make_batch, part_of

TINY = {
    "name": "pirl",
    "views": {"count": 1, "size": 16, "area": [0.2, 1.0]},
    "tiles": {"count": 4, "size": 8, "area": [0.6, 1.0], "grid": {"rows": 2, "columns": 2, "gap": 0.2}},
    "num_images": 8,
    "negatives": 16,
    "embedding_size": 8,
    "temperature": 0.5,
}
DRAWS = True


def build(**options):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    return Step(build_objective({**TINY, **options}, encoder), encoder)


def reference(query, own, negatives, temperature):
    """Equations 4 and 5 of the paper, for one image."""
    positive = np.exp(query @ own / temperature)
    others = np.exp(negatives @ query / temperature)
    total = positive + others.sum()
    return -np.log(positive / total) - np.log(1 - others / total).sum()


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_loss_equals_a_loop_over_images(temperature):
    generator = torch.Generator().manual_seed(0)
    q, own, negatives = (
        F.normalize(torch.randn(n, 5, dtype=torch.float64, generator=generator), dim=1) for n in (3, 3, 6)
    )
    same = torch.zeros(3, 6, dtype=torch.bool)
    same[1, 4] = True
    expected = 0.0
    for b in range(3):
        kept = negatives[~same[b]].numpy()
        expected += reference(q[b].numpy(), own[b].numpy(), kept, temperature) / 3
    assert nce_loss(similarities(q, own, negatives, same, temperature)).item() == pytest.approx(expected, rel=1e-9)


def test_a_negative_that_takes_all_gives_a_finite_loss_and_gradient():
    logits = torch.tensor([[0.0, 200.0, -torch.inf]], requires_grad=True)
    loss = nce_loss(logits)
    loss.backward()
    assert loss.isfinite() and logits.grad.isfinite().all()


def test_forward_compares_image_and_jigsaw_with_the_bank():
    step = build()
    batch = make_batch(step.objective)
    objective, pixels = step.objective, {name: v.pixels for name, v in batch.views.items()}
    image = F.normalize(objective.image_head(step.encoder(pixels["image"][:, 0]).cls), dim=-1)
    tiles = step.encoder(pixels["tiles"].flatten(0, 1)).cls.unflatten(0, (4, 4))
    _, order = prepared_order(step, batch)
    jigsaw = torch.stack([torch.cat([objective.tile_head(tiles[b, t]) for t in order[b]]) for b in range(4)])
    jigsaw = F.normalize(objective.jigsaw_head(jigsaw), dim=-1)
    memory = objective.memory.entries.double().numpy()
    expected = 0.0
    for b in range(4):
        negatives = np.delete(memory, b, axis=0)
        for query in (image[b], jigsaw[b]):
            expected += 0.5 * reference(query.detach().double().numpy(), memory[b], negatives, 0.5) / 4
    assert step(batch).loss.item() == pytest.approx(expected, rel=1e-4)


def prepared_order(step, batch):
    from sp_hf.views.keyed_random import permutation

    return step.objective, permutation(batch.keys, "pirl/order", 4)


def test_every_image_has_an_order_of_its_own():
    step = build()
    _, order = prepared_order(step, make_batch(step.objective, images=8))
    assert (order.sort(dim=1).values == torch.arange(4)).all()
    assert len({tuple(row) for row in order.tolist()}) > 1


def test_entries_move_once_a_step_towards_their_images():
    step = build()
    batch = make_batch(step.objective)
    before = step.objective.memory.entries.clone()
    step(batch)
    assert torch.equal(step.objective.memory.entries, before)
    step.objective.after_optimizer_step()
    image = F.normalize(step.objective.image_head(step.encoder(batch.views["image"].pixels[:, 0]).cls), dim=-1)
    torch.testing.assert_close(step.objective.memory.entries[:4], F.normalize(before[:4] + image, dim=-1))
    assert torch.equal(step.objective.memory.entries[4:], before[4:])


@pytest.mark.parametrize("memory", ["bank", "queue"])
def test_accumulated_parts_leave_the_memory_of_the_whole_batch(memory):
    whole = build(memory=memory)
    parts = copy.deepcopy(whole)
    batch = make_batch(whole.objective, images=6)
    whole(batch)
    parts(part_of(batch, slice(0, 2)))
    parts(part_of(batch, slice(2, 6)))
    for step in (whole, parts):
        step.objective.after_optimizer_step()
    torch.testing.assert_close(parts.objective.memory.entries, whole.objective.memory.entries)


def test_a_stream_has_a_queue_and_needs_no_numbers():
    step = build(num_images=None)
    batch = make_batch(step.objective)._replace(ids=None)
    output = step(batch)
    output.loss.backward()
    assert output.loss.isfinite()
    assert all(p.grad is not None for p in step.parameters() if p.requires_grad)
    before = step.objective.memory.entries.clone()
    step.objective.after_optimizer_step()
    image = F.normalize(step.objective.image_head(step.encoder(batch.views["image"].pixels[:, 0]).cls), dim=-1)
    torch.testing.assert_close(step.objective.memory.entries[:4], image)
    assert torch.equal(step.objective.memory.entries[4:], before[4:])
    assert step.objective.memory.pointer == 4


def test_negatives_are_drawn_by_key_where_the_bank_is_larger():
    step = build(num_images=400, negatives=32)
    batch = make_batch(step.objective)
    drawn, same = step.objective._negatives(batch)
    again, _ = step.objective._negatives(batch)
    other, _ = step.objective._negatives(batch._replace(keys=batch.keys + 1))
    assert drawn.shape == (32, 8) and same.shape == (4, 32)
    assert torch.equal(drawn, again) and not torch.equal(drawn, other)


def test_default_tiles_are_the_papers():
    tiles = PIRLConfig().tiles
    assert (tiles.count, tiles.size, tiles.area, tiles.grid.rows, tiles.grid.columns) == (9, 64, (0.6, 1.0), 3, 3)
    assert 85 * (1 - tiles.grid.gap) == pytest.approx(64)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"tiles": "dino/local"}, "give their spec"),
        ({"memory": "bank", "num_images": None}, "num_images is not given"),
        ({"memory": "none"}, "memory is 'none'; choose one of"),
        ({"temperature": 0}, "temperature is 0; it must be greater than 0"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_bank_needs_images_that_can_be_told_apart():
    step = build()
    with pytest.raises(ValueError, match="take memory: queue"):
        step(make_batch(step.objective)._replace(ids=None))
    assert isinstance(step.objective.memory, MemoryBank)
