"""Names are clear, code is imported only when its name is asked for, and only code that is installed or registered."""

from __future__ import annotations

import dataclasses
import logging
import sys
from importlib import metadata

import pytest

import sp_hf
from sp_hf.errors import PluginError
from sp_hf.evaluation.command import parser
from sp_hf.evaluation.task import Task, option
from sp_hf.evaluation.tasks import TASKS, build_tasks
from sp_hf.objectives import OBJECTIVES, Objective, ObjectiveConfig, parse_entry, to_entry
from sp_hf.run.recipe import merge_objectives

from .conftest import installed, lay_package

GROUP = "[sp_hf.objectives]\n"
OWN = next(iter(OBJECTIVES.own))
MINE = "from sp_hf import Objective\nclass Mine(Objective):\n    kind = 'what'\n"


class Mine(Objective):
    kind = "where"


@pytest.fixture(autouse=True)
def forget():
    """What a test registers."""
    with installed():
        yield


def test_a_registered_class_is_known_and_forgotten():
    assert sp_hf.register_objective("mine")(Mine) is Mine
    assert OBJECTIVES["mine"] is Mine and "mine" in OBJECTIVES and list(OBJECTIVES) == [*OBJECTIVES.own, "mine"]
    assert parse_entry({"name": "mine", "weight": 2}) == (Mine, ObjectiveConfig(2))
    assert merge_objectives([Mine, "mine=3"], []) == [{"name": "mine"}, {"name": "mine", "weight": 3.0}]
    del OBJECTIVES["mine"]
    assert "mine" not in OBJECTIVES and list(OBJECTIVES) == list(OBJECTIVES.own)
    with pytest.raises(KeyError):
        OBJECTIVES["mine"]


def test_the_same_definition_run_again_takes_the_place_of_the_one_before():
    """As a notebook's cell does."""
    first, second = (type("Mine", (Objective,), {"kind": "what", "__module__": "notebook"}) for _ in range(2))
    for kind in (first, second):
        sp_hf.register_objective("mine")(kind)
    assert OBJECTIVES["mine"] is second


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(PluginError, match=f"objective '{OWN}' already, sp-hf's own; give yours another name"):
        sp_hf.register_objective(OWN)(Mine)
    sp_hf.register_objective("mine")(Mine)
    other = type("Other", (Mine,), {"__module__": "elsewhere"})
    with pytest.raises(PluginError, match=r"'mine' already, that of .*test_registry\.Mine; give yours another"):
        sp_hf.register_objective("mine")(other)
    with pytest.raises(PluginError, match=f"'{OWN}' is sp-hf's own and stays"):
        del OBJECTIVES[OWN]


@pytest.mark.parametrize("name", ["", "Mine", "dino/local", "a.b", "mine=2", "keys", "training", 3, None])
def test_a_name_that_recipes_cannot_hold_is_refused(name):
    with pytest.raises(PluginError, match="no objective can be called .*: give a word of a-z"):
        sp_hf.register_objective(name)(Mine)


class Plain:
    kind = "what"


class Kindless(Objective):
    pass


class Undecorated(Mine):
    class config_class(ObjectiveConfig):
        views: int = 3


class Clashing(Mine):
    @dataclasses.dataclass
    class config_class(ObjectiveConfig):
        package: str = ""


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Plain, r"test_registry.Plain'> is no subclass of sp_hf.Objective"),
        ("my_module:Mine", "'my_module:Mine' is no subclass"),
        (Kindless, r"Kindless\) must say kind = "),
        (Undecorated, "config_class must be a dataclass that extends"),
        (Clashing, "has an option 'package', which every entry has; rename it"),
    ],
)
def test_what_is_no_objective_is_refused(kind, message):
    with pytest.raises(PluginError, match=message):
        sp_hf.register_objective("mine")(kind)
    assert "mine" not in OBJECTIVES


@dataclasses.dataclass(frozen=True)
class Count(Task):
    name, kind, headline = "count", "what", ("count",)
    least: int = option(1, "of them")


class Loose(Count):
    pass


def changed(**attributes):
    return dataclasses.make_dataclass("Changed", [], bases=(Count,), frozen=True, namespace=attributes)


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("all", Count, "no task can be called 'all'"),
        ("Count", Count, "no task can be called 'Count'"),
        ("counts", Count, r"Count\) must say name = 'counts'"),
        ("count", Mine, "is no subclass of sp_hf.evaluation.task.Task"),
        ("count", Loose, "must be a dataclass"),
        ("knn", Count, "must say name = 'knn'"),
        ("count", changed(kind=1), "must say kind ="),
        ("count", changed(headline=()), "must say headline ="),
    ],
)
def test_what_is_no_task_is_refused(name, kind, message):
    with pytest.raises(PluginError, match=message):
        sp_hf.register_task(name)(kind)
    assert "count" not in TASKS


def test_a_registered_task_has_its_flags():
    sp_hf.register_task("count")(Count)
    assert parser().parse_args(["a", "--count_least", "3"]).count_least == 3
    assert build_tasks(["count"], {"count_least": 3}) == [Count(3)]
    with pytest.raises(TypeError, match="no option 'count_last'; did you mean 'count_least'"):
        sp_hf.evaluate("vit-micro-8", tasks="count", count_last=3)


def test_a_task_whose_flag_is_taken_is_refused():
    kind = dataclasses.make_dataclass("Max", [("images", int, option(1, "of it"))], bases=(Count,), frozen=True)
    kind.name = "max"
    sp_hf.register_task("max")(kind)
    with pytest.raises(PluginError, match="task 'max' has an option whose flag --max_images is taken"):
        parser()


def test_installed_packages_are_only_looked_at_for_unknown_names(tmp_path, monkeypatch):
    lay_package(tmp_path, "my-package", f"{GROUP}mine = my_package:Mine", MINE)
    with installed(tmp_path):
        with monkeypatch.context() as patch:
            patch.setattr(metadata, "entry_points", None)
            assert parse_entry({"name": OWN})[0] is OBJECTIVES[OWN] and OWN in OBJECTIVES
            to_entry(OWN, parse_entry({"name": OWN})[1])
        assert list(OBJECTIVES) == [*OBJECTIVES.own, "mine"] and "mine" in OBJECTIVES
        assert "my_package" not in sys.modules  # it is listed, and not imported
        with pytest.raises(PluginError, match="known: .*, mine. One of another package is known once"):
            parse_entry({"name": "something"})
        assert "my_package" not in sys.modules
        kind, config = parse_entry({"name": "mine"})
        assert kind is sys.modules["my_package"].Mine
        assert to_entry("mine", config) == {"name": "mine", "package": "my-package", "weight": 1.0}
    assert "mine" not in OBJECTIVES


def test_a_class_of_a_package_stands_for_its_name(tmp_path):
    lay_package(tmp_path, "my-package", f"{GROUP}mine = my_package:Mine", MINE)
    with installed(tmp_path):
        import my_package

        assert merge_objectives([my_package.Mine], []) == [{"name": "mine"}]
        with pytest.raises(ValueError, match=r"neither an objective.*register_objective\(\"its_name\"\)"):
            merge_objectives([type("Mine", (my_package.Mine,), {})], [])


def test_a_module_may_also_register_what_its_package_offers(tmp_path):
    code = MINE.replace("class", "import sp_hf\n@sp_hf.register_objective('mine')\nclass")
    lay_package(tmp_path, "my-package", f"{GROUP}mine = my_package:Mine", code)
    with installed(tmp_path):
        assert OBJECTIVES["mine"].__module__ == "my_package"
        del OBJECTIVES["mine"], sys.modules["my_package"]
        import my_package

        assert OBJECTIVES["mine"] is my_package.Mine


def test_a_name_that_two_packages_offer_is_refused_and_so_is_one_that_a_package_has(tmp_path):
    for name in ("first-package", "second-package"):
        lay_package(tmp_path / name, name, f"{GROUP}mine = {name.replace('-', '_')}:Mine", MINE)
    with installed(tmp_path / "first-package", tmp_path / "second-package"):
        with pytest.raises(PluginError, match="'mine' is offered by first-package, second-package; uninstall"):
            parse_entry({"name": "mine"})
        with pytest.raises(PluginError, match="the installed package first-package offers objective 'mine' already"):
            sp_hf.register_objective("mine")(Mine)


def test_a_package_that_takes_a_name_of_the_packages_own_is_told_and_not_used(tmp_path, caplog):
    lay_package(tmp_path, "my-package", f"{GROUP}{OWN} = my_package:Mine", "raise SystemError('imported')")
    with installed(tmp_path), caplog.at_level(logging.WARNING, "sp_hf"):
        assert list(OBJECTIVES) == list(OBJECTIVES) == list(OBJECTIVES.own)
        assert OBJECTIVES.available() == OBJECTIVES.loaded
    (said,) = caplog.messages  # once
    assert said.startswith(f"the installed package my-package offers objective '{OWN}', a name of sp-hf's own")


@pytest.mark.parametrize(
    ("code", "target", "message"),
    [
        ("import not_there", "my_package:Mine", "my_package:Mine cannot be imported: ModuleNotFoundError"),
        ("1 / 0", "my_package:Mine", "cannot be imported: ZeroDivisionError"),
        ("", "my_package:Mine", "cannot be imported: AttributeError: .*no attribute 'Mine'. Update the package"),
        ("Mine = 3", "my_package:Mine", "objective 'mine': 3 is no subclass of sp_hf.Objective"),
        (f"import sp_hf\n@sp_hf.register_objective({OWN!r})\nclass Mine: pass", "my_package:Mine", "no subclass"),
    ],
)
def test_a_package_that_cannot_be_had_is_named_when_it_is_asked_for_and_in_nobodys_way(
    tmp_path, caplog, code, target, message
):
    lay_package(tmp_path, "my-package", f"{GROUP}mine = {target}\n", code)
    with installed(tmp_path), caplog.at_level(logging.WARNING, "sp_hf"):
        with pytest.raises(PluginError, match=f"^the installed package my-package.*{message}"):
            parse_entry({"name": "mine"})
        assert OBJECTIVES.available() == OBJECTIVES.loaded
        assert "my-package" in caplog.text
        assert parse_entry({"name": OWN})


@pytest.mark.parametrize(
    "entry",
    [
        {"name": "evil"},
        {"name": "evil:Objective"},
        {"name": "evil.Objective", "package": "evil"},
        {"name": "mine", "package": "evil"},
        {"name": "mine", "package": "evil:Objective"},
        {"name": "mine", "package": ["evil"]},
        {"name": "mine", "package": "evil; touch here"},
    ],
)
def test_nothing_is_imported_for_what_a_configuration_says(tmp_path, entry):
    """A module on the path is not an installed package that offers something."""
    (tmp_path / "evil.py").write_text("raise SystemError('imported')")
    with installed(tmp_path):
        with pytest.raises(PluginError, match="unknown objective") as refusal:
            sp_hf.SPForPreTraining(sp_hf.SPConfig(sp_hf.resolve_encoder("vit-micro-8").config, [entry]))
        assert "evil" not in sys.modules
        assert "touch" not in str(refusal.value)  # nothing to paste into a shell


def test_an_installed_package_that_no_longer_offers_it_is_told_with_its_version(tmp_path):
    lay_package(tmp_path, "my-package", f"{GROUP}other = my_package:Mine", MINE)
    with installed(tmp_path):
        with pytest.raises(PluginError, match="the package my-package, whose version 1.0 is installed and does not"):
            parse_entry({"name": "mine", "package": "my-package"})
