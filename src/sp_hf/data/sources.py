"""What a dataset string means: a Hub id, a folder, files, a glob pattern or a URL.

Answers with the arguments of ``datasets.load_dataset``. Only its packaged builders are named (images, parquet,
arrow, WebDataset), so nothing here runs code from a dataset.
"""

from __future__ import annotations

import dataclasses
import glob
import os
from pathlib import Path
from typing import Any

from ..access_tokens import without_queries
from ..errors import DataError
from .image_formats import count_files, tell

_BUILDERS = {
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".tar": "webdataset",
    ".tar.gz": "webdataset",
    ".tgz": "webdataset",
    ".zip": "imagefolder",
}
_SPLIT_OF_FOLDER = {
    "train": "train",
    "training": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


class DatasetLoadError(DataError):
    """A dataset, folder, split or option that is not there; names what was tried and what there is."""


class NoSuchSplit(DatasetLoadError):
    """A dataset that is there, and has no split of this name."""


@dataclasses.dataclass(frozen=True)
class Source:
    """Where images come from.

    Args:
        description: in words, for logs and errors.
        arguments: of ``datasets.load_dataset``; only ``path`` if ``saved_to_disk``.
        saved_to_disk: a folder that ``Dataset.save_to_disk`` wrote.
        if_missing: what to add when it cannot be loaded.
    """

    description: str
    arguments: dict[str, Any]
    saved_to_disk: bool = False
    if_missing: str = ""


def locate(dataset: str, config: str | None = None, revision: str | None = None) -> Source:
    """Decide what the string names: a URL, a folder, a file, a pattern, or else a Hub dataset.

    Raises:
        DatasetLoadError: no such folder or file, nothing matches, or a kind of file that holds no images; also
            ``config`` or ``revision`` given for something that is not on the Hub.
    """
    path = Path(dataset).expanduser()
    if "://" in dataset:
        address = without_queries(dataset)
        source = Source(f"URL {address}", {"path": _builder_of(address), "data_files": dataset})
    elif path.is_dir():
        source = _locate_folder(path.resolve())
    elif path.is_file():
        source = Source(f"file {path.resolve()}", {"path": _builder_of(path.name), "data_files": _exact([path])})
    elif glob.has_magic(dataset):
        source = _locate_pattern(dataset, str(path))
    else:
        check_place(dataset)
        words = f"Hub dataset {dataset}" + (f" ({config})" if config else "") + (f" at {revision}" if revision else "")
        arguments = {"path": dataset, "name": config, "revision": revision}
        return Source(words, arguments, if_missing=f"; nor is there a file or folder {path.absolute()}")
    reject_hub_options(source.description, config, revision)
    return source


def check_place(dataset: str) -> None:
    """Refuse a path that is not there; opens nothing, and takes any other string for good.

    Raises:
        DatasetLoadError: it is not there.
    """
    path = Path(dataset).expanduser()
    if "://" not in dataset and not path.exists() and not glob.has_magic(dataset) and _looks_local(dataset):
        raise DatasetLoadError(f"no such file or folder: {dataset!r} (looked at {path.absolute()})")


def reject_hub_options(description: str, config: str | None, revision: str | None) -> None:
    """``config`` and ``revision`` mean nothing off the Hub: an error, rather than silence."""
    for name, value in (("config", config), ("revision", revision)):
        if value is not None:
            raise DatasetLoadError(f"{name}={value!r} belongs to a Hub dataset, not to the {description}; leave it out")


def _locate_folder(folder: Path) -> Source:
    description = f"folder {folder}"
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return Source(description, {"path": str(folder)}, saved_to_disk=True)
    files = count_files(folder)
    if files.images:
        tell(folder, files)
        # Splits are named explicitly: left to itself, datasets takes a class folder "train-station" for a split.
        return Source(description, {"path": "imagefolder", "data_files": _split_folders(folder)})
    builders = sorted({_BUILDERS[suffix] for suffix in files.suffixes if suffix in _BUILDERS})
    if len(builders) == 1:
        return Source(description, {"path": builders[0], "data_dir": str(folder)})
    kinds = f"files of several kinds ({', '.join(builders)})" if builders else "no images, parquet, arrow or tar files"
    raise DatasetLoadError(f"the {description} holds {kinds}; name the files with a pattern, as in 'folder/*.parquet'")


def _split_folders(folder: Path) -> dict[str, list[str]]:
    """Patterns by split: subfolders are splits if all of them are called like splits, else everything is "train"."""
    children = [child for child in sorted(folder.iterdir()) if child.is_dir() and not child.name.startswith(".")]
    splits = [_SPLIT_OF_FOLDER.get(child.name.lower()) for child in children]
    if not children or None in splits:
        return {"train": [f"{glob.escape(str(folder))}/**"]}
    patterns: dict[str, list[str]] = {}
    for child, split in zip(children, splits, strict=True):
        patterns.setdefault(str(split), []).append(f"{glob.escape(str(child))}/**")
    return patterns


def _locate_pattern(dataset: str, pattern: str) -> Source:
    files = sorted(Path(name) for name in glob.glob(pattern, recursive=True) if os.path.isfile(name))
    if not files:
        raise DatasetLoadError(f"no file matches the pattern {dataset!r} (looked in {Path.cwd()})")
    builders = sorted({_builder_of(file.name) for file in files})
    if len(builders) > 1:
        raise DatasetLoadError(f"the pattern {dataset!r} matches files of several kinds ({', '.join(builders)})")
    return Source(f"files {dataset}", {"path": builders[0], "data_files": _exact(files)})


def _exact(files: list[Path]) -> list[str]:
    return [glob.escape(str(file.resolve())) for file in files]


def _looks_local(dataset: str) -> bool:
    suffix = _suffix(dataset)
    is_path = dataset.startswith((".", "~", "/")) or dataset.endswith("/") or dataset.count("/") > 1 or "\\" in dataset
    return is_path or suffix in _BUILDERS


def _builder_of(name: str) -> str:
    suffix = _suffix(name)
    if suffix not in _BUILDERS:
        raise DatasetLoadError(f"cannot read {name!r} as a dataset: expected a file ending in {', '.join(_BUILDERS)}")
    return _BUILDERS[suffix]


def _suffix(name: str) -> str:
    lower = name.lower()
    return ".tar.gz" if lower.endswith(".tar.gz") else os.path.splitext(lower)[1]
