"""What modules declare, read from source: the same as what is imported, without importing it."""

from __future__ import annotations

import dataclasses
import enum
import sys
import typing
from pathlib import Path
from typing import Any

import pytest
from transformers import HfArgumentParser
from transformers.trainer_utils import SchedulerType

from sp_hf import declared as module
from sp_hf.declared import DeclarationError, StandIn, declared
from sp_hf.evaluation import tasks
from sp_hf.evaluation.flags import options_of
from sp_hf.run import arguments, flags

HOUSE = {
    "__init__.py": "",
    "front.py": '''
from __future__ import annotations
import os.path, dataclasses, absent
import collections.abc as abc
from typing import TYPE_CHECKING, ClassVar
from absent.deep import Window, thing as renamed
from . import cellar
from .cellar import RED as WINE, Bottle
if TYPE_CHECKING:
    from .cellar import Shelf
raise RuntimeError("the module was run")
COUNT: int = 3
BOTH = (COUNT, WINE, cellar.WHITE)
TABLE = {kind.name: kind for kind in ()}
STOOD_IN = absent.torch.cuda.is_available()
ODD = 1 / 0
def keep(default, text: absent.Type) -> Window:
    return dataclasses.field(default=default, metadata={"help": f"{text} {os.path.sep}"})
@dataclasses.dataclass(frozen=True)
class Door(Bottle):
    """A door."""
    name: ClassVar[str] = "door"
    width: int | None = keep(COUNT, "wide")
    panes: tuple[Window, ...] = ()
    shelf: Shelf | None = None
    keys: abc.Mapping[str, renamed] | None = None
    if absent:
        never: int = 0
    @absent.no_grad()
    def open(self, how: absent.Way) -> None:
        raise RuntimeError
''',
    "cellar.py": '''
import enum, dataclasses
RED, WHITE = "red", "white"
RED = "red"
WHITE = "white"
class Shelf: ...
class Colour(str, enum.Enum):
    RED = "r"
@dataclasses.dataclass(frozen=True)
class Bottle:
    colour: Colour = Colour.RED
''',
}  # fmt: skip


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in HOUSE.items():
        (tmp_path / "house" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "house" / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(module, "_READ", ("house",))


def test_a_module_that_cannot_be_run_is_read(house):
    assert declared("house.front", "BOTH") == (3, "red", "white")
    door = declared("house.front", "Door")
    fields = {field.name: field for field in dataclasses.fields(door)}
    assert list(fields) == ["colour", "width", "panes", "shelf", "keys"]  # the base's first, no ClassVar
    assert (door.__doc__, door.name, fields["colour"].default.value) == ("A door.", "door", "r")
    assert (fields["width"].default, fields["width"].metadata["help"]) == (3, "wide /")
    hints = typing.get_type_hints(door)
    assert hints["width"] == int | None and hints["shelf"].__args__[0].__name__ == "Shelf"
    assert isinstance(declared("house.front", "STOOD_IN"), StandIn) and door(width=2).open() is None
    assert not {"house", "house.front", "house.cellar", "absent"} & set(sys.modules)


@pytest.mark.parametrize(
    ("where", "name", "message"),
    [
        ("house.front", "Window_", "front.py does not declare Window_"),
        ("house.front", "ODD", "ODD cannot be read .division by zero"),
        ("house.attic", "COUNT", "there is no module house.attic"),
        ("no_such_house.front", "COUNT", "there is no package no_such_house"),
    ],
)
def test_what_cannot_be_read_is_said(house, where, name, message):
    with pytest.raises(DeclarationError, match=message):
        declared(where, name)


def plain(value: Any) -> Any:
    """What can be compared of an action's attribute: enumerations by value, functions by name."""
    if isinstance(value, (list, tuple)) or type(value).__name__ == "dict_keys":
        return [plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.value
    return getattr(value, "__qualname__", value)


def test_flags_read_from_source_are_those_of_the_classes():
    assert declared("transformers.trainer_utils", "SchedulerType") is not SchedulerType
    read = flags.flag_parser()
    assert type(read).__mro__[2] is not HfArgumentParser  # the fast way was taken
    kinds = [getattr(arguments, name) for name in flags.CLASSES]
    expected = flags.run_parser(kinds, HfArgumentParser)
    assert len(read._actions) == len(expected._actions) > 150
    for one, other in zip(read._actions, expected._actions, strict=True):
        if one.dest == "parallelism_config":
            one.type = other.type  # accelerate's class: a stand-in, and nothing that a flag can give
        for name in ("option_strings", "dest", "nargs", "const", "default", "type", "choices", "required", "help"):
            assert plain(getattr(one, name)) == plain(getattr(other, name)), f"{one.dest}: {name}"


def test_tasks_read_from_source_have_the_options_of_the_classes():
    read = declared("sp_hf.evaluation.tasks", "_OWN")
    assert tuple(read) == tasks.TASKS.own
    assert declared("sp_hf.evaluation.tasks", "DEFAULT_TASKS") == tasks.DEFAULT_TASKS
    for name in read:
        kind = tasks.TASKS[name]
        assert read[name] is not kind and read[name].__doc__ == kind.__doc__
        expected, hints = options_of(kind), typing.get_type_hints(kind)
        others = typing.get_type_hints(read[name])
        assert list(options_of(read[name])) == list(expected)
        for flag, field in options_of(read[name]).items():
            assert (field.default, field.metadata) == (expected[flag].default, expected[flag].metadata)
            assert others[field.name] == hints[field.name]


def test_where_transformers_cannot_be_read_it_is_imported(monkeypatch):
    def unreadable(*_: str) -> None:
        raise DeclarationError

    monkeypatch.setattr(flags, "declared", unreadable)
    assert isinstance(flags.flag_parser(), HfArgumentParser)
    assert flags.read_flags(["--max-steps", "3"]) == {"max_steps": 3}
