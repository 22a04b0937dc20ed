"""Packages that are installed for a test: a module and its metadata in a folder on the path, and taken away again."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sp_hf.evaluation.tasks import TASKS
from sp_hf.objectives import OBJECTIVES
from tests.contributing_page import code_blocks

METADATA = "import setuptools.build_meta as build; build.prepare_metadata_for_build_wheel({!r})"


@contextlib.contextmanager
def installed(*folders: Path) -> Iterator[None]:
    """With these folders on the path; what was imported from them and registered is forgotten at the end."""
    known, before = [(registry, registry.loaded) for registry in (OBJECTIVES, TASKS)], set(sys.modules)
    sys.path[:0] = map(str, folders)
    importlib.invalidate_caches()
    try:
        yield
    finally:
        del sys.path[: len(folders)]
        for registry, classes in known:
            registry._classes, registry._reported = classes, set()
        for name in set(sys.modules) - before:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if file.startswith(tuple(map(str, folders))):
                del sys.modules[name]


@pytest.fixture(scope="session")
def my_dcl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package of CONTRIBUTING.md, its metadata written by the build backend that it names."""
    source, built, site = map(tmp_path_factory.mktemp, ("my-dcl", "built", "site-packages"))
    for path, code in code_blocks("my-dcl").items():
        (source / path).write_text(code)
    subprocess.run([sys.executable, "-c", METADATA.format(str(built))], cwd=source, check=True, capture_output=True)
    (information,) = built.glob("*.dist-info")
    shutil.copytree(information, site / information.name)
    shutil.copy(source / "my_dcl.py", site)
    return site


def lay_package(folder: Path, name: str, entry_points: str, code: str = "") -> Path:
    """A package ``name`` with a module of the same name, and the given ``entry_points.txt``."""
    module = name.replace("-", "_")
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (information / "RECORD").write_text(f"{module}.py,,\n")
    (information / "entry_points.txt").write_text(entry_points)
    (folder / f"{module}.py").write_text(code)
    return folder
