"""The wheel in an environment that has nothing of the repository: whole, and README's first commands run from it."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from sp_hf.data.part_scenes.dataset import render_scene

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = importlib.util.spec_from_file_location("wheel_script", ROOT / "scripts" / "wheel.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.build(tmp_path_factory.mktemp("dist"))


def test_it_holds_every_file_of_the_package(wheel: Path) -> None:
    sources = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "sp_hf").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name for name in names if not name.startswith("sp_hf-")} == sources
    sdist = next(wheel.parent.glob("sp_hf-*.tar.gz"))
    inside = {name.partition("/")[2] for name in tarfile.open(sdist).getnames()}
    assert {f"src/{name}" for name in sources} | {"README.md", "LICENSE", "pyproject.toml"} <= inside


def test_nothing_is_installed_from_where_it_is_not() -> None:
    """The package is on no index: what we publish or show installs it from a clone or a wheel."""
    texts = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "spaces").rglob("*.md")]
    texts += [
        *(ROOT / "model_cards").rglob("*.md"),
        *(ROOT / "src").rglob("*.md"),
        *(ROOT / "src").rglob("*.py"),
        *(ROOT / "spaces").rglob("*.txt"),
    ]
    for file in texts:
        text = file.read_text(encoding="utf-8")
        assert not re.search(
            r"pip install ['\"]?sp[-_]hf(?! @ )|pypi\.org/project/sp[-_]hf|^sp[-_]hf\b.*==", text, re.M
        ), file


class EmptyEnvironment:
    """A virtual environment with the wheel; this one's packages, but not this repository, are lent by a .pth file."""

    def __init__(self, wheel: Path, folder: Path) -> None:
        self.home = folder
        venv.create(folder / "venv", with_pip=False)
        self.bin = folder / "venv" / "bin"
        pip = [sys.executable, "-m", "pip", "--python", str(self.bin / "python"), "install", "--quiet"]
        subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True)
        site = next((folder / "venv" / "lib").glob("python*/site-packages"))
        lent = [path for path in sys.path if path.endswith("-packages")]
        (site / "lent.pth").write_text("\n".join(lent) + "\n")  # paths alone: their own .pth files are not read

    def run(self, *command: str) -> str:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "HF_"))}
        environment = {**kept, "PATH": f"{self.bin}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1"}
        command = (str(self.bin / command[0]), *command[1:])
        done = subprocess.run(command, cwd=self.home, env=environment, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        return done.stdout


def first_line(start: str) -> list[str]:
    """Of README's commands, the words of the first that begins so."""
    return shlex.split(next(line for line in README.splitlines() if line.startswith(start)), comments=True)


@pytest.mark.slow
def test_the_first_commands_of_the_readme_run_from_it(wheel: Path, tmp_path: Path) -> None:
    empty = EmptyEnvironment(wheel, tmp_path)
    where = empty.run("python", "-c", "import sp_hf; print(sp_hf.__file__)")
    assert Path(where.strip()).is_relative_to(tmp_path)
    for side, i in itertools.product(("images", "others"), range(8)):
        folder = tmp_path / "path" / "to" / side / "ab"[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(render_scene(0, i, 64).image).save(folder / f"{i}.png")
    small = "--encoder vit-micro-8 --max_steps 1 --per_device_train_batch_size 2 --use_cpu --dataloader_num_workers 0"
    empty.run(*first_line("sp-hf pretrain "), *small.split())
    load = next(code for code in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "runs/mine/encoder" in code)
    code = f"from PIL import Image\nimage = Image.new('RGB', (80, 60))\n{load}\nprint(tuple(tokens.shape))"
    assert empty.run("python", "-c", code).strip() == "(1, 785, 128)"
    words = ["vit-micro-8" if word == "facebook/dinov2-small" else word for word in first_line("sp-hf evaluate ")]
    said = empty.run(*words, "--tasks", "knn", "--num_workers", "0", "--no_cache", "--size", "64")
    assert "knn (what)" in said and (tmp_path / "out" / "results.json").is_file()
