"""What a resumed run must keep, told apart from what it may change."""

from __future__ import annotations

import dataclasses

import pytest
from transformers import TrainingArguments

from sp_hf.objectives import to_entry
from sp_hf.objectives.where.spatial_prediction import SpatialPredictionConfig
from sp_hf.run.contract import FREE, OF_TRANSFORMERS, contract_of, differences, own_options


def test_every_name_is_an_options() -> None:
    assert own_options() >= FREE
    assert {field.name for field in dataclasses.fields(TrainingArguments)} >= OF_TRANSFORMERS
    assert not OF_TRANSFORMERS & own_options()


def test_what_the_issue_names_is_in_it() -> None:
    kept = (own_options() - FREE) | OF_TRANSFORMERS
    assert kept >= {
        *("dataset", "dataset_split", "dataset_revision", "streaming", "shuffle_block", "seed", "data_seed"),
        *("canvas_size", "per_device_train_batch_size", "gradient_accumulation_steps", "objectives", "encoder"),
        *("optim", "learning_rate", "base_learning_rate", "weight_decay", "weight_decay_end", "layer_decay", "freeze"),
        *("stochastic_depth", "max_grad_norm", "grad_clipping", "lr_scheduler_type", "warmup_steps", "bf16"),
    }
    options = {name: 1 for name in kept | FREE}
    assert contract_of(options, {"steps": 8}) == {**{name: 1 for name in kept}, "steps": 8}


def entry(**options: object) -> dict:
    return to_entry("spatial_prediction", SpatialPredictionConfig(**options))


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"seed": 1}, {"seed": 1}, []),
        ({"seed": 1}, {"seed": 2}, ["seed: 1 before, 2 now"]),
        ({"seed": 1, "gone": 3}, {"seed": 1, "new": 4}, []),  # options of other versions
        ({"freeze": None}, {"freeze": "layers:1"}, ["freeze: nothing before, layers:1 now"]),
        ({"c": {"a": [1, 2], "b": 3}}, {"c": {"a": [1, 5], "b": 4}}, ["c.a: [1, 2] before, [1, 5] now", "c.b: 3 b"]),
    ],
)
def test_differences(before: dict, now: dict, said: list) -> None:
    found = differences(before, now)
    assert len(found) == len(said) and all(f.startswith(s) for f, s in zip(found, said, strict=True))


def test_differences_of_objectives_are_named_one_by_one() -> None:
    found = differences({"objectives": [entry(beta=1.0, weight=2.0)]}, {"objectives": [entry(beta=0.25, weight=3.0)]})
    assert found == [
        "objectives.spatial_prediction.beta: 1.0 before, 0.25 now",
        "objectives.spatial_prediction.weight: 2.0 before, 3.0 now",
    ]
    old = entry()
    del old["beta"]  # of a version that had no such option
    assert differences({"objectives": [old]}, {"objectives": [entry()]}) == []
    dino = {"name": "dino"}
    order = differences({"objectives": [dino, entry()]}, {"objectives": [entry(), dino]})  # that of their weights, too
    assert order == ['objectives.in this order: ["dino", "spatial_prediction"] before, '
                     '["spatial_prediction", "dino"] now']  # fmt: skip
