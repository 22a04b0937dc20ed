"""Build the sdist, and the wheel from it: what ``make wheel`` does. Needs setuptools, and no network.

python scripts/wheel.py dist
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = ("pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "CHANGELOG.md")


def build(folder: Path) -> Path:
    """Both into the folder, from a copy of the sources, so that nothing is left among them.

    Args:
        folder: made if need be.

    Returns:
        The wheel.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="sp-hf-wheel-") as temporary:
        copy = Path(temporary) / "sp_hf"
        shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        for name in FILES:
            shutil.copyfile(ROOT / name, copy / name)
        os.mkdir(sources := Path(temporary) / "sdist")
        command = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
        subprocess.run([sys.executable, "-c", command, str(sources)], cwd=copy, check=True, stdout=subprocess.DEVNULL)
        sdist = next(sources.glob("*.tar.gz"))
        pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index", "--no-build-isolation"]
        subprocess.run([*pip, "--wheel-dir", str(sources), str(sdist)], check=True)
        for made in (sdist, wheel := next(sources.glob("*.whl"))):
            shutil.copyfile(made, folder / made.name)
    return folder / wheel.name


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default="dist", help="where to (default: dist)")
    print(build(Path(parser.parse_args(argv).folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
