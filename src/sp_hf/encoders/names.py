"""Which names can stand for an encoder: looked at without importing PyTorch, or opening anything.

Sizes tiny to large are those of ViT (Dosovitskiy et al. 2021, 2010.11929, table 1) and DeiT (Touvron et al. 2021,
2012.12877, table 1); micro is for demonstrations on a CPU.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, NotFoundError
from ..given import GIVEN, was_given

SIZES: dict[str, tuple[int, int, int]] = {  # (hidden size, layers, heads); the MLP is 4 times as wide
    "micro": (128, 6, 4),
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
}
PATCHES = (4, 8, 14, 16, 32)
PRESETS: tuple[str, ...] = tuple(f"vit-{size}-{patch}" for size in SIZES for patch in PATCHES)


def check_name(name: str) -> None:
    """Refuse what is neither a preset, nor a configuration or a folder with one, nor an id that the Hub could have.

    Raises:
        InputError: a single word that is no preset, or an object that only Python code had.
        NotFoundError: a path that does not exist, or a folder without ``config.json``.
    """
    if was_given(name):
        raise InputError(
            f"the encoder was an object that Python code had ({name.removeprefix(GIVEN)}): name one with --encoder"
        )
    if name in PRESETS:
        return
    path = Path(name).expanduser()
    if path.suffix == ".json" or path.is_dir():
        config_file(path)
    elif name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise NotFoundError(f"no folder {name}")
    elif "/" not in name:
        raise InputError(
            f"unknown encoder {name!r}: neither a folder, nor a Hub id (owner/name), nor a preset "
            f"(vit-<{'|'.join(SIZES)}>-<patch>, e.g. {', '.join(PRESETS[1:20:5])})"
        )


def config_file(path: Path) -> Path:
    """The ``config.json`` that a path is, or that is in it.

    Raises:
        NotFoundError: there is none; says in which folders below there is one.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        inside = [str(file_below.parent) for file_below in sorted(path.glob("*/config.json"))]
        hint = f"; did you mean {' or '.join(inside)}?" if inside else ""
        raise NotFoundError(f"no configuration at {file}{hint}")
    return file
