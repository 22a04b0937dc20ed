"""Counts the image files of a folder by format, those that are read and those that cannot be, and says so.

``datasets`` knows an image by its suffix, and its list is older than AVIF, HEIC and JPEG XL. Those are read where
Pillow can, by itself or by a plug-in that is installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

logger = logging.getLogger(__name__)

_PLUGINS = {  # suffix: (the module that teaches Pillow to read it, how it is installed)
    ".avif": ("pillow_avif", "pillow-avif-plugin"),
    ".heic": ("pillow_heif", "pillow-heif"),
    ".heif": ("pillow_heif", "pillow-heif"),
    ".jxl": ("pillow_jxl", "pillow-jxl-plugin"),
}
_OURSELVES = (".csv", ".jsonl", ".parquet")  # metadata files of datasets
_NEVER_MEANT = (".ds_store", "thumbs.db", "desktop.ini")


class FolderCount(NamedTuple):
    """How many files a folder holds, with all below it.

    Args:
        images: that are read, by suffix.
        unused: that are not, by what they are.
        suffixes: of all files.
    """

    images: Counter[str]
    unused: Counter[str]
    suffixes: set[str]


def image_suffixes() -> frozenset[str]:
    """Suffixes of the files that are read as images; ``datasets`` is told of those that it does not know."""
    from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
    from PIL import Image

    Image.init()
    for suffix, (module, _) in _PLUGINS.items():
        if suffix not in Image.registered_extensions() and importlib.util.find_spec(module) is not None:
            plugin = importlib.import_module(module)
            if hasattr(plugin, "register_heif_opener"):
                plugin.register_heif_opener()
        if suffix in Image.registered_extensions() and suffix not in ImageFolder.EXTENSIONS:
            ImageFolder.EXTENSIONS.append(suffix)
    return frozenset(ImageFolder.EXTENSIONS)


def count_files(folder: Path) -> FolderCount:
    """Look at every name in a folder; opens nothing."""
    readable, count = image_suffixes(), FolderCount(Counter(), Counter(), set())
    for place, _, names in os.walk(folder):
        for name in names:
            suffix = os.path.splitext(name.lower())[1]
            if name.lower() in _NEVER_MEANT or name.startswith("."):
                continue
            if not os.path.exists(os.path.join(place, name)):
                count.unused["broken links"] += 1
                continue
            count.suffixes.add(".tar.gz" if name.lower().endswith(".tar.gz") else suffix)
            if suffix in readable:
                count.images[suffix] += 1
            elif suffix not in _OURSELVES:
                count.unused[suffix or "without a suffix"] += 1
    return count


def tell(folder: Path, count: FolderCount) -> None:
    """Log what is read of a folder of images, and warn of what is not."""
    logger.info("%s: %d images (%s)", folder, count.images.total(), _listed(count.images))
    if not count.unused:
        return
    install = sorted({_PLUGINS[suffix][1] for suffix in count.unused if suffix in _PLUGINS})
    hint = f"; to read them: pip install {' '.join(install)}" if install else ""
    logger.warning("%s: %d files are NOT used (%s)%s", folder, count.unused.total(), _listed(count.unused), hint)


def _listed(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
