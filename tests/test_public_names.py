"""The names of ``sp_hf``: known to type checkers, quick to import, each with an example that runs."""

from __future__ import annotations

import ast
import doctest
import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

import sp_hf
from sp_hf.encoders.encoder import Encoding
from sp_hf.evaluation.tasks import TASKS


def imported_for_type_checkers() -> dict[str, str]:
    """{name: module below the package} of the imports under ``if TYPE_CHECKING:``."""
    tree = ast.parse(Path(sp_hf.__file__).read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names:
            assert alias.asname == alias.name  # or a type checker takes it for private
            found[alias.name] = node.module
    return found


def test_what_type_checkers_see_is_what_there_is():
    assert imported_for_type_checkers() == sp_hf._HOME
    assert sorted(sp_hf.__all__) == sorted(sp_hf._HOME) == sorted(dir(sp_hf))
    for name, module in sp_hf._HOME.items():
        assert getattr(sp_hf, name) is getattr(importlib.import_module(f"sp_hf.{module}"), name)


def test_a_name_that_is_not_there_is_told_with_those_that_are():
    with pytest.raises(AttributeError, match="no attribute 'pretrian'; it has Encoder, .*pretrain"):
        _ = sp_hf.pretrian


def test_a_function_is_not_hidden_by_a_module_of_its_name():
    """Importing ``sp_hf.x`` sets the attribute ``x`` of the package, whatever stood there."""
    modules = {path.stem for path in Path(sp_hf.__file__).parent.iterdir()}
    assert not modules & set(sp_hf.__all__)


@pytest.mark.parametrize("code", ["import sp_hf", "import sp_hf.cli; sp_hf.cli.main(['--help'])"])
def test_importing_and_help_load_nothing_heavy(code):
    heavy = "{'torch', 'transformers', 'datasets'} & set(sys.modules)"
    program = f"import sys; {code}; sys.exit(','.join({heavy}) or None)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Examples write into an empty folder, and draw PartScenes into it; what they register is forgotten after them."""
    for registry in (sp_hf.OBJECTIVES, TASKS):
        monkeypatch.setattr(registry, "_classes", registry.loaded)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


def examples_of(name: str) -> list[doctest.Example]:
    value: Any = getattr(sp_hf, name)
    described = value if inspect.isclass(value) or isinstance(value, Callable) else sp_hf
    return doctest.DocTestParser().get_examples(inspect.getdoc(described) or "")


@pytest.mark.parametrize("name", sp_hf.__all__)
def test_every_public_name_has_an_example_that_runs(name, elsewhere, capsys):
    value = getattr(sp_hf, name)
    examples = examples_of(name)
    assert examples and any(name in example.source for example in examples), f"{name} has no example of its use"
    module = sys.modules[value.__module__] if hasattr(value, "__module__") else sp_hf
    test = doctest.DocTest(examples, dict(vars(module)), name, module.__file__, None, None)
    failed, tried = doctest.DocTestRunner(verbose=False).run(test)
    assert (failed, tried) == (0, len(examples)), capsys.readouterr().out


def test_an_example_that_is_wrong_is_found(capsys):
    """Of the check above: it compares what is printed."""
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, None)
    assert doctest.DocTestRunner(verbose=False).run(test).failed == 1
    assert Encoding.__doc__ and ">>>" in Encoding.__doc__
