"""Two processes on CPU give what one process gives on the same global batch: losses, gradients, centres.

Each process holds a part of the batch and wraps the objective in ``DistributedDataParallel``, which averages gradients
and refuses parameters that are not in the graph.
"""

import os
import tempfile

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import warm
from objectives.harness import Step, TinyEncoder, make_batch, part_of
from objectives.test_protocol import tiny
from torch.nn.parallel import DistributedDataParallel

from sp_hf.objectives import OBJECTIVES, build_objective
from sp_hf.objectives.centring import sinkhorn
from sp_hf.objectives.gather import all_reduce_sum, concat_all_gather
from sp_hf.objectives.heads import SyncBatchNorm

PROCESSES, IMAGES = 2, 6
VARIANTS = {
    "dino/sinkhorn": {"centring": "sinkhorn"},
    "dinov2/sinkhorn": {"centring": "sinkhorn"},
    "self_patch/sinkhorn": {"centring": "sinkhorn"},
    "pirl/queue": {"memory": "queue"},
    "spatial_prediction/laplace": {"loss": "laplace", "head": "difference"},
    "spatial_prediction/patch": {"embedding": "patch", "patch_pairs": 5},
}


def build(name):
    """In float64, so that only the order of summation differs."""
    torch.manual_seed(0)
    encoder = TinyEncoder()
    entry = {**tiny(name.partition("/")[0]), **VARIANTS.get(name, {})}
    step = Step(build_objective(entry, encoder), encoder).double()
    batch = make_batch(step.objective, images=IMAGES)
    views = {key: view._replace(pixels=view.pixels.double()) for key, view in batch.views.items()}
    return step, batch._replace(views=views)


def results(name, rank=None):
    """Loss, gradients and statistics of one step; with a rank, those of its part of the batch."""
    step, batch = build(name)
    model = step
    if rank is not None:
        batch = part_of(batch, slice(rank * IMAGES // PROCESSES, (rank + 1) * IMAGES // PROCESSES))
        model = DistributedDataParallel(step)
    output = model(batch)
    output.loss.backward()
    if rank is not None:
        dist.all_reduce(output.loss.detach())
    step.objective.after_optimizer_step()
    gradients = {key: p.grad for key, p in step.named_parameters() if p.grad is not None}
    return {"loss": output.loss.detach(), **gradients, **dict(step.objective.named_buffers())}


def batch_norm_results(rank=None):
    """Value, gradient of the input and of the scale, with unequal parts of the batch."""
    x = torch.linspace(-1, 2, 21, dtype=torch.float64).sin().view(7, 3)
    weights = torch.linspace(0, 3, 21, dtype=torch.float64).cos().view(7, 3)
    mine = {None: slice(0, 7), 0: slice(0, 5), 1: slice(5, 7)}[rank]
    part = x[mine].requires_grad_()
    norm = SyncBatchNorm(3).double()
    y = norm(part)
    (y * weights[mine]).sum().backward()
    return {"y": y.detach(), "input": part.grad, "scale": all_reduce_sum(norm.weight.grad)}


def sinkhorn_logits():
    """[7, 4], of very different sizes in the two parts."""
    sizes = torch.tensor([1, 1, 1, 1, 1, 40, 40])
    return torch.linspace(0, 9, 28, dtype=torch.float64).sin().view(7, 4) * sizes[:, None]


def work(rank, folder):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=PROCESSES)
    try:
        found = {name: results(name, rank) for name in (*OBJECTIVES, *VARIANTS)}
        found["batch_norm"] = batch_norm_results(rank)
        rows = torch.arange(3 - rank)[:, None] + 10 * rank  # 3 rows here, 2 there
        found["gathered"] = concat_all_gather(rows)
        uneven = sinkhorn_logits()[slice(0, 5) if rank == 0 else slice(5, 7)]
        found["sinkhorn"] = sinkhorn(uneven, 0.05)
        torch.save(found, os.path.join(folder, f"{rank}.pt"))
    finally:
        dist.destroy_process_group()


@pytest.fixture(scope="module")
def processes():
    """What each of the two processes found."""
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(work, args=(folder,), nprocs=PROCESSES, start_method=warm.START)
        yield [torch.load(os.path.join(folder, f"{rank}.pt")) for rank in range(PROCESSES)]


@pytest.mark.parametrize("name", (*OBJECTIVES, *VARIANTS))
def test_loss_gradients_and_statistics_equal_those_of_one_process(name, processes):
    expected = results(name)
    for found in processes:
        found = dict(found[name])
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            theirs = found[key] / PROCESSES if key == "loss" else found[key]
            torch.testing.assert_close(theirs, value, rtol=1e-6, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


def test_the_centre_has_moved(processes):
    assert processes[0]["dino"]["centre"].abs().sum() > 0
    assert torch.equal(processes[0]["dino"]["centre"], processes[1]["dino"]["centre"])


def test_a_memory_is_alike_on_all_processes_and_has_moved(processes):
    for name in ("pirl", "pirl/queue"):
        ours, theirs = (found[name]["memory.entries"] for found in processes)
        assert torch.equal(ours, theirs)
        assert not torch.equal(ours, build(name)[0].objective.memory.entries)


def test_batch_norm_of_unequal_parts_equals_that_of_the_whole(processes):
    expected = batch_norm_results()
    parts = [found["batch_norm"] for found in processes]
    for key in ("y", "input"):
        torch.testing.assert_close(torch.cat([part[key] for part in parts]), expected[key])
    torch.testing.assert_close(parts[0]["scale"], expected["scale"])


def test_sinkhorn_of_unequal_parts_equals_that_of_the_whole(processes):
    expected = sinkhorn(sinkhorn_logits(), 0.05)
    torch.testing.assert_close(torch.cat([found["sinkhorn"] for found in processes]), expected)


def test_rows_of_unequal_parts_are_gathered_in_rank_order(processes):
    for rank, found in enumerate(processes):
        gathered, start = found["gathered"]
        assert gathered.flatten().tolist() == [0, 1, 2, 10, 11]
        assert start == (0, 3)[rank]
