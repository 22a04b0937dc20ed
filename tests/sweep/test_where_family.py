"""The sweep of the where family has every pretext, beside DINO and alone, and all have one encoder budget."""

from pathlib import Path

import pytest

from sp_hf.encoders.loading import resolve_encoder
from sp_hf.objectives import OBJECTIVES, build_objective
from sp_hf.objectives.cost import encoder_forwards
from sp_hf.sweeps.plan import read_plan

SWEEP = Path(__file__).parents[2] / "recipes" / "sweeps" / "where_family.yaml"


def test_every_pretext_has_the_same_encoder_budget():
    plan = read_plan(SWEEP)
    where = [name for name in OBJECTIVES.own if OBJECTIVES[name].kind == "where"]
    entries = {}
    for run in plan.runs.values():
        entries |= {entry if isinstance(entry, str) else entry["name"]: entry for entry in run.options["objectives"]}
    options = plan.runs["DINO"].options
    side = options["image_size"]
    encoder = resolve_encoder(options["encoder"], image_size=side, token_control=True)
    encoder.train_mask_token()
    whole = {n: {"name": n} if isinstance(e, str) else e for n, e in entries.items()}
    built = {n: build_objective(entry, encoder) for n, entry in whole.items()}
    costs = {n: encoder_forwards(objective, side, encoder.patch_size).weighed for n, objective in built.items()}
    listed = {name: run.options["objectives"] for name, run in plan.runs.items()}
    names = {n: [e if isinstance(e, str) else e["name"] for e in of_run] for n, of_run in listed.items()}
    assert sorted(names.values()) == sorted([["dino"], *(["dino", n] for n in where), *([n] for n in where)])
    for name, run in plan.runs.items():
        budget = run.options["num_train_epochs"] * sum(costs[part] for part in names[name])
        assert budget == pytest.approx(95, rel=0.02), name
