"""What an evaluation computes once, and when it lets go of it."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from typing import ClassVar, Literal

import pytest
import torch
from transformers import ViTConfig, ViTModel

from sp_hf.encoders.encoder import Encoder
from sp_hf.errors import InputError
from sp_hf.evaluation.data import EvaluationData
from sp_hf.evaluation.measure import Measure
from sp_hf.evaluation.model import EvaluatedModel, Preprocess
from sp_hf.evaluation.once import Once
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.suite import run_suite
from sp_hf.evaluation.task import Task, TaskResult, once_a_task

SIZES = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def tiny_model(name="mine"):
    vit = ViTModel(ViTConfig(**SIZES, image_size=16, patch_size=4), add_pooling_layer=False)
    return EvaluatedModel(name, Encoder(vit).eval(), Preprocess.squash(16))


class Opened:
    """What a task has opened."""


@dataclasses.dataclass(frozen=True)
class Counting(Task):
    """Reads canvases, and opens something of its own; notes both."""

    name: ClassVar[str] = "counting"
    kind: ClassVar[Literal["what", "where"]] = "where"
    headline: ClassVar[tuple[str, ...]] = ("zero",)
    controls: ClassVar[tuple] = ()

    side: int = 8
    declared: bool = True
    log: list = dataclasses.field(default_factory=list, compare=False)

    @once_a_task
    def opened(self, data, key=0):
        opened = Opened()
        self.log.append(weakref.ref(opened))
        return opened

    def prepare(self, data):
        self.opened(data)

    def canvas_sizes(self, model, data):
        return (self.side,) if self.declared else ()

    def run(self, model, data):
        assert self.opened(data) is self.log[0]()
        self.log.append(weakref.ref(data.canvases(data.validation, self.side)))
        return TaskResult({"zero": Measure.of(torch.zeros(3))})


@pytest.fixture
def data():
    return EvaluationData(DataSource("part-scenes?size=32&num_images=12", max_images=12))


def test_a_value_is_made_once_a_key_and_again_after_it_was_dropped():
    made: list[int] = []
    once: Once[int, list[int]] = Once()
    for key in (1, 2, 1, 2):
        once.get(key, lambda key=key: made.append(key) or [key])
    assert made == [1, 2] and [value for value in once] == [[1], [2]]
    once.drop(lambda key: key == 1)
    once.get(2, lambda: pytest.fail("kept"))
    assert once.get(1, lambda: [7]) == [7]


def test_a_value_that_could_not_be_made_is_asked_for_again():
    once: Once[int, int] = Once()
    with pytest.raises(InputError):
        once.get(1, lambda: (_ for _ in ()).throw(InputError("not yet")))
    assert once.get(1, lambda: 3) == 3


def test_what_a_task_opens_is_its_own_and_gone_with_it(data):
    first, second = Counting(side=8), Counting(side=8)  # equal, and yet each its own
    models = [tiny_model(name=name) for name in ("a", "b")]
    alive = []

    def after(report):
        gc.collect()
        alive.append([task.log[0]() is not None for task in (first, second)])

    run_suite(models, [first, second], data, after=after)
    assert alive == [[False, True], [False, False]]
    assert first.opened(data.for_task(), 1) is not first.opened(data.for_task(), 1)


def test_canvases_stay_for_the_tasks_that_say_they_need_them_and_are_freed_with_the_last(data):
    tasks = [Counting(side=8), Counting(side=16), Counting(side=8), Counting(side=4, declared=False)]
    alive = []

    def after(report):
        gc.collect()
        alive.append([task.log[-1]() is not None for task in tasks if len(task.log) > 2])

    run_suite([tiny_model(name=name) for name in ("a", "b")], tasks, data, after=after)
    assert alive == [[True], [True, False], [False] * 3, [False] * 4]
    assert tasks[0].log[1] is tasks[0].log[2] is tasks[2].log[1]  # one object, for both models and both tasks


def test_what_is_kept_of_a_model_is_dropped_with_its_squashed_ones(data, monkeypatch):
    model, computed = tiny_model(), []
    compute = EvaluationData._compute
    monkeypatch.setattr(EvaluationData, "_compute", lambda *args: computed.append(args[1]) or compute(*args))
    squashed = model.squashed(24)
    assert model.squashed(24) is squashed and squashed.size == 24 and squashed.encoder is model.encoder
    for _ in range(2):
        for asked in (model, squashed):
            data.features(asked, data.validation)
    assert computed == [model, squashed]
    data.forget(model)
    data.features(squashed, data.validation)
    assert computed == [model, squashed, squashed]
