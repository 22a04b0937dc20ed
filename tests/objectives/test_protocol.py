"""What must hold of every objective. Each ``test_<name>.py`` gives a small entry of its own, ``TINY``.

It says ``DRAWS = True`` where the objective draws more than its views at random, and ``BATCH_WIDE = True`` where its
paper has it draw masks, or paste pixels, for the batch as a whole.
"""

import copy
import dataclasses
import importlib
import json

import pytest
import torch
from torch import nn

from sp_hf.objectives import OBJECTIVES, Objective, ObjectiveConfig, Progress, build_objective, parse_entry, to_entry
from sp_hf.objectives.base import Encode, ObjectiveOutput, TokenMask
from sp_hf.views.spec import ViewSpec

from .harness import Step, TinyEncoder, check_autocast, make_batch, part_of

every_objective = pytest.mark.parametrize("name", OBJECTIVES.own)
PROGRESS = Progress(step=30, total_steps=100, steps_per_epoch=10)


def module_of(name):
    """``test_<name>.py``."""
    return importlib.import_module(f"{__package__}.test_{name}")


def tiny(name):
    """The small entry in ``test_<name>.py``."""
    return module_of(name).TINY


def build(name, seed=0):
    torch.manual_seed(seed)
    encoder = TinyEncoder()
    step = Step(build_objective(tiny(name), encoder), encoder)
    step.objective.set_progress(PROGRESS)
    return step, make_batch(step.objective)


@every_objective
def test_entry_survives_json_with_and_without_options(name):
    for entry in ({"name": name}, tiny(name)):
        _, config = parse_entry(entry)
        whole = to_entry(name, config)
        assert whole.keys() == {"name", *(field.name for field in dataclasses.fields(config))}
        again = parse_entry(json.loads(json.dumps(whole)))[1]
        assert again == config
        assert to_entry(name, again) == whole


@every_objective
def test_class_says_what_it_is(name):
    kind = OBJECTIVES[name]
    assert issubclass(kind, Objective) and issubclass(kind.config_class, ObjectiveConfig)
    assert kind.kind in ("what", "where")
    assert kind.__module__.split(".")[-2] == kind.kind
    assert kind.citation.startswith("@")
    weight = kind.config_class().weight
    assert weight == 1.0 or "weight: of the loss in a run's sum" in kind.config_class.__doc__  # and why it is another


@every_objective
def test_loss_is_a_finite_float32_scalar_and_logs_are_detached(name):
    step, batch = build(name)
    output = step(batch)
    assert output.loss.shape == () and output.loss.dtype == torch.float32 and output.loss.isfinite()
    for value in output.logs.values():
        assert value.shape == () and value.isfinite() and not value.requires_grad


@every_objective
def test_every_trainable_parameter_gets_gradient_and_no_teacher_does(name):
    step, batch = build(name)
    step(batch).loss.backward()
    unused = [key for key, p in step.named_parameters() if p.requires_grad and p.grad is None]
    assert not unused
    assert sum(p.grad.abs().sum() for p in step.encoder.parameters() if p.grad is not None) > 0
    for student, teacher in step.objective.ema_heads():
        assert all(not p.requires_grad and p.grad is None for p in teacher.parameters())
        assert len(list(student.parameters())) == len(list(teacher.parameters()))
    assert all(p.grad is None for p in step.teacher.parameters())


@every_objective
def test_who_asks_for_a_teacher_says_how_it_moves(name):
    step, batch = build(name)
    asks = any(request.tower == "teacher" for request in step.objective.prepared(batch)[1].values())
    assert asks == (step.objective.teacher_momentum() is not None)


@every_objective
def test_nothing_is_random_but_by_key(name):
    step, batch = build(name)
    state = torch.get_rng_state()
    first = step(batch).loss
    assert torch.equal(first, step(batch).loss)
    assert torch.equal(torch.get_rng_state(), state)
    other = batch._replace(keys=batch.keys.flip(0))
    assert torch.equal(step(other).loss, first) != getattr(module_of(name), "DRAWS", False)


@every_objective
def test_masks_and_pixels_of_an_image_do_not_depend_on_the_rest_of_the_batch(name):
    if getattr(module_of(name), "BATCH_WIDE", False):
        pytest.skip("drawn for the batch as a whole")
    step, batch = build(name)
    (whole, asked), (part, alone) = (step.objective.prepared(b) for b in (batch, part_of(batch, slice(1, 3))))
    assert asked.keys() == alone.keys() and whole.views.keys() == part.views.keys()
    for request in asked:
        mask, of_part = asked[request].mask or TokenMask(), alone[request].mask or TokenMask()
        for field in ("visible", "dropped", "masked", "context"):
            of_all, of_some = getattr(mask, field), getattr(of_part, field)
            assert of_all is of_some is None or torch.equal(of_all[1:3], of_some)
    for view in whole.views:
        assert torch.equal(whole.views[view].pixels[1:3], part.views[view].pixels)


@every_objective
def test_shared_views_stay_as_they_are(name):
    step, batch = build(name)
    before = {view: copy.deepcopy(views) for view, views in batch.views.items()}
    step(batch).loss.backward()
    for view, views in before.items():
        assert all(torch.equal(a, b) for a, b in zip(views, batch.views[view], strict=True) if a is not None)


@every_objective
def test_forward_moves_no_state_and_a_checkpoint_restores_the_loss(name):
    step, batch = build(name)
    before = copy.deepcopy(step.state_dict())
    loss = step(batch).loss
    for key, value in step.state_dict().items():
        assert torch.equal(value, before[key]), key
    fresh, _ = build(name, seed=1)
    fresh.objective.set_progress(Progress(90, 100, 10))  # all that moves must be in the checkpoint
    assert fresh(batch).loss != loss
    fresh.load_state_dict(before)
    assert torch.equal(fresh(batch).loss, loss)
    assert torch.equal(copy.deepcopy(fresh)(batch).loss, loss)


@every_objective
def test_loss_falls_on_one_batch(name):
    step, batch = build(name)
    optimizer = torch.optim.Adam([p for p in step.parameters() if p.requires_grad], lr=3e-3)
    losses = []
    for _ in range(40):  # running statistics settle first, as they move the target
        step(batch)
        step.objective.after_optimizer_step()
    for _ in range(40):
        optimizer.zero_grad()
        output = step(batch)
        output.loss.backward()
        step.objective.before_optimizer_step()
        optimizer.step()
        step.objective.after_optimizer_step()
        losses.append(output.loss.item())
    assert losses[-1] < 0.8 * losses[0]


@every_objective
def test_loss_under_autocast_is_float32_and_near_that_without(name):
    check_autocast(*build(name)).backward()


class Still(Objective):
    """Outputs that are 1: a mean of 512 squares, added up in float32 or as they come (bfloat16 knows no 257)."""

    kind = "what"
    widens = True

    def __init__(self, config, encoder):
        super().__init__(config, encoder)
        self.head = nn.Linear(encoder.hidden_size, 4)

    def view_specs(self):
        return {"view": ViewSpec(count=1, size=16, area=(0.3, 1.0))}

    def requests(self, batch):
        return {"view": Encode("view")}

    def forward(self, batch, encodings):
        outputs = self.head(encodings["view"].patches)
        squares = ((outputs.float() if self.widens else outputs) - 1).square().flatten()
        return ObjectiveOutput(sum(squares).float() / len(squares), {})


@pytest.mark.parametrize("widens", [True, False])
def test_a_loss_that_is_itself_computed_in_bfloat16_is_found(monkeypatch, widens):
    """Of the check above: it allows for rounding in the network, not in the loss."""
    monkeypatch.setattr(Still, "widens", widens)
    encoder = TinyEncoder()
    objective = Still(ObjectiveConfig(), encoder)
    step, batch = Step(objective, encoder), make_batch(objective, images=32)
    if widens:
        check_autocast(step, batch)
    else:
        with pytest.raises(AssertionError, match="rounding in encoder and heads explains"):
            check_autocast(step, batch)


@every_objective
def test_same_seed_same_weights_and_an_objective_after_it_changes_nothing(name):
    step, _ = build(name)
    torch.manual_seed(0)
    encoder = TinyEncoder()
    first = build_objective(tiny(name), encoder)
    build_objective(tiny(next(other for other in OBJECTIVES.own if other != name)), encoder)
    for key, value in first.state_dict().items():
        if not key.endswith(("temperature", "sigma")):  # moved by set_progress
            assert torch.equal(value, step.objective.state_dict()[key]), key


@every_objective
def test_can_be_built_without_memory(name):
    """transformers builds models on the meta device before it loads their weights."""
    with torch.device("meta"):
        objective = build_objective(tiny(name), TinyEncoder())
    assert all(parameter.is_meta for parameter in objective.parameters())
    real, batch = build(name)
    objective.to_empty(device="cpu")
    objective.load_state_dict(real.objective.state_dict())  # nothing it needs lives outside of its state
    loss = real(batch).loss
    real.objective = objective
    assert torch.equal(real(batch).loss, loss)


@every_objective
def test_the_encoder_is_not_kept(name):
    torch.manual_seed(0)
    encoder = TinyEncoder()
    objective = build_objective(tiny(name), encoder)
    assert not any(module is encoder for module in objective.modules())
    theirs = {id(p) for p in encoder.parameters()}
    assert not any(id(p) in theirs for p in objective.parameters())


@every_objective
def test_unknown_option_names_the_known_ones(name):
    with pytest.raises(ValueError, match=r"has no option 'wieght' \(did you mean 'weight'\?\); its options: weight, "):
        parse_entry({"name": name, "wieght": 2})


@every_objective
@pytest.mark.parametrize("weight", [-1, "1", None, float("nan")])
def test_bad_weight_is_refused(name, weight):
    with pytest.raises(ValueError, match=f"objective '{name}': weight is "):
        parse_entry({"name": name, "weight": weight})


def test_unknown_objective_names_the_known_ones():
    name = OBJECTIVES.own[-1]
    with pytest.raises(ValueError, match=rf"unknown objective '{name}s' \(did you mean '{name}'\?\); known: "):
        parse_entry({"name": f"{name}s"})
    with pytest.raises(ValueError, match="known: " + ", ".join(OBJECTIVES)):
        parse_entry({"name": 3})
    with pytest.raises(ValueError, match="has no name"):
        parse_entry({"weight": 1})
