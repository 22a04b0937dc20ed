"""Loads a dataset of images, as a ``datasets`` dataset, by the one string that names it.

====================================  =====================================================================
``part-scenes?size=96&seed=1``         the embedded procedural dataset, with its options (the default)
``food101``, ``org/name``              a dataset on the Hugging Face Hub (config, split and revision apart)
``photos/``                            a folder of images: subfolders called ``train``, ``test``, ... are its
                                       splits, others its classes; or what ``Dataset.save_to_disk`` wrote
``photos/*.parquet``, ``.arrow``        files or glob patterns, local or URLs
``shards/*.tar``                       WebDataset tars
====================================  =====================================================================

In place of the string Python code may give a dataset itself: see :mod:`sp_hf.data.given_images`.

Nothing here runs code from a dataset: no loading scripts, no pickles.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import inspect
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import datasets
import pyarrow
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ..access_tokens import without_queries
from ..boundary import reading_images
from ..errors import chain
from ..given import GIVEN, was_given
from ..hub_refusals import explain_hub
from .columns import describe_columns, find_image_column, find_label_column, require_column
from .given_images import GivenImages
from .image_rows import ImageRows
from .sources import DatasetLoadError, NoSuchSplit, Source, locate, reject_hub_options
from .text_labels import is_text, with_class_labels

EMBEDDED = "part-scenes"
_STREAM_SHARDS = 64  # of a dataset on disk that is read as a stream


@dataclasses.dataclass(frozen=True)
class LoadedImages:
    """A dataset of images whose column is known and not yet decoded.

    Args:
        dataset: rows of ``image_column`` (a ``{"bytes", "path"}`` dict), ``label_column`` and ``extra_columns``.
        image_column: name of the column of images.
        label_column: name of the column of whole-number labels, if there is one.
        label_names: the classes' names, where the dataset knows them.
        description: the source in one line, for logs and reports.
        fingerprint: differs between sources, splits, sets of columns and numbers of rows; equal between runs.
        num_images: number of rows; ``None`` where a stream does not know.
        extra_columns: kept too; those of type ``Image`` are not decoded either.
        columns: all that the source has, kept or not, in one line, for messages.
    """

    dataset: datasets.Dataset | datasets.IterableDataset | ImageRows
    image_column: str
    label_column: str | None
    label_names: list[str] | None
    description: str
    fingerprint: str
    num_images: int | None
    extra_columns: tuple[str, ...] = ()
    columns: str = ""

    @property
    def streaming(self) -> bool:
        return isinstance(self.dataset, datasets.IterableDataset)


def is_embedded(dataset: str | GivenImages | None) -> bool:
    """Whether it is PartScenes."""
    return isinstance(dataset, str) and dataset.partition("?")[0] == EMBEDDED


def load_images(
    dataset: Any = EMBEDDED,
    *,
    config: str | None = None,
    split: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    image_column: str | None = None,
    label_column: str | None = None,
    extra_columns: Sequence[str] = (),
) -> LoadedImages:
    """Load a dataset of images by one string (see the module's docstring), or take one that is an object.

    Args:
        dataset: Hub id, folder, file, glob pattern, URL, or ``part-scenes`` with options; or a ``datasets.Dataset``,
            ``IterableDataset`` or dict of them by split, a map-style torch dataset or a list of images.
        config: configuration of a Hub dataset.
        split: name of a split, or (not streaming) a slice such as ``"train[:1000]"``. Default: "train", or the
            only split there is.
        revision: branch, tag or commit of a Hub dataset.
        streaming: read as a stream, without preparing a copy on disk.
        image_column: needed only if not exactly one column is of type ``Image``.
        label_column: see :func:`~sp_hf.data.columns.find_label_column`; one of texts, which is named here, becomes
            ``ClassLabel`` (not of a stream).
        extra_columns: others to keep, for instance annotations.

    Raises:
        DatasetLoadError: the dataset, an option of it or its split is not there.
        ColumnError: the columns asked for are not there, or the image column is ambiguous.
        TypeError: an object that is no dataset of images.

    Example:
        >>> import numpy as np, sp_hf
        >>> images = sp_hf.load_images("part-scenes?size=32&num_images=4", split="test")
        >>> images.image_column, images.num_images
        ('image', 4)
        >>> sp_hf.load_images([np.zeros((24, 32, 3), np.uint8)] * 3).description  # images that you have
        'list of 3 images'
    """
    if not isinstance(dataset, (str, os.PathLike)):
        given = GivenImages.of(dataset)
        reject_hub_options(given.description, config, revision)
        rows, split = given.open(split, streaming)
        size = None if isinstance(rows, datasets.IterableDataset) else len(rows)
        return _with_columns(rows, given.description, split, size, image_column, label_column, extra_columns)
    dataset = os.fspath(dataset)
    if was_given(dataset):
        raise DatasetLoadError(
            f"the dataset was an object that Python code had ({dataset.removeprefix(GIVEN)}): name one with --dataset"
        )
    name, _, query = dataset.partition("?")
    if name == EMBEDDED:
        reject_hub_options(f"embedded dataset {EMBEDDED}", config, revision)
        split = split or "train"
        rows, num_images = _load_embedded(query, split, streaming)
        full = _with_difficulty(query)
        return _with_columns(rows, full, split, num_images, image_column or "image", label_column, extra_columns)
    source = locate(dataset, config, revision)
    rows, split = _load_split(source, split, streaming)
    num_images = _rows_of_stream(rows, split) if streaming else len(rows)
    return _with_columns(rows, source.description, split, num_images, image_column, label_column, extra_columns)


def _load_embedded(query: str, split: str, streaming: bool) -> tuple[Any, int | None]:
    """The rows, and how many they are."""
    from .part_scenes.dataset import SPLITS, part_scenes

    accepted = [name for name in inspect.signature(part_scenes).parameters if name not in ("split", "streaming")]
    options: dict[str, Any] = {key: _number(value) for key, value in parse_qsl(query, keep_blank_values=True)}
    unknown = sorted(set(options) - set(accepted))
    if unknown:
        raise DatasetLoadError(f"{EMBEDDED} has no option {', '.join(unknown)}; its options are {', '.join(accepted)}")
    try:
        rows = part_scenes(split, streaming=streaming, **options)
    except (TypeError, ValueError) as error:  # an option's value of the wrong type or out of its range
        raise DatasetLoadError(f"cannot make {EMBEDDED}?{query}, split {split!r}: {error}") from error
    return rows, options.get("num_images", SPLITS.get(split))


def _with_difficulty(query: str) -> str:
    """The embedded dataset's string with the difficulty said, the default one too."""
    from .part_scenes.dataset import DEFAULT

    is_stated = "difficulty" in dict(parse_qsl(query))
    return f"{EMBEDDED}?" + "&".join([query] * bool(query) + [f"difficulty={DEFAULT}"] * (not is_stated))


def _number(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _load_split(source: Source, split: str | None, streaming: bool) -> tuple[Any, str]:
    """Load, and choose the split: the rows, and the split's name."""
    is_slice = split is not None and any(character in split for character in "[+")
    if is_slice and (streaming or source.saved_to_disk):
        reader = "a stream" if streaming else "a folder that save_to_disk wrote"
        raise DatasetLoadError(f"split={split!r}: {reader} is read by whole splits only; name one")
    try:
        if source.saved_to_disk:
            splits = _load_from_disk(source.arguments["path"], streaming)
        else:
            wanted = split if is_slice else None
            with _quiet_datasets():
                splits = datasets.load_dataset(**source.arguments, split=wanted, streaming=streaming)
    except (DatasetsError, HfHubHTTPError, HFValidationError, OSError, ValueError, tarfile.TarError) as error:
        text = explain_hub(error, "it", source.arguments.get("revision")) if source.if_missing else None
        is_damaged = any(isinstance(one, (tarfile.TarError, EOFError, pyarrow.ArrowInvalid)) for one in chain(error))
        advice = "; a file of it may be damaged: copy or download it again" if is_damaged else source.if_missing
        raise DatasetLoadError(f"cannot load the {source.description}: {text or _in_short(error)}{advice}") from error
    if is_slice:
        return splits, str(split)
    chosen = split or (next(iter(splits)) if len(splits) == 1 else "train")
    if chosen not in splits:
        raise NoSuchSplit(f"the {source.description} has no split {chosen!r}; its splits: {', '.join(splits)}")
    return splits[chosen], chosen


@contextlib.contextmanager
def _quiet_datasets() -> Iterator[None]:
    """Without datasets' own report of an error, which it raises as well."""
    verbosity = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(verbosity)


def _in_short(error: BaseException) -> str:
    """The error and what caused it; datasets' messages can hold whole schemas."""
    text = str(error)
    if error.__cause__ is not None and str(error.__cause__) not in text:
        text += f" ({type(error.__cause__).__name__}: {error.__cause__})"
    text = without_queries(text)
    return text if len(text) <= 1000 else f"{text[:700]} [...] {text[-300:]}"


def _load_from_disk(path: str, streaming: bool) -> Mapping[str, Any]:
    loaded = datasets.load_from_disk(path)
    splits = loaded if isinstance(loaded, datasets.DatasetDict) else {str(loaded.split or "train"): loaded}
    if not streaming:
        return splits
    return {name: rows.to_iterable_dataset(min(len(rows), _STREAM_SHARDS) or 1) for name, rows in splits.items()}


def _with_columns(
    rows: Any,
    description: str,
    split: str,
    num_images: int | None,
    image_column: str | None,
    label_column: str | None,
    extra_columns: Sequence[str],
) -> LoadedImages:
    """Choose the columns, and keep ``datasets`` from decoding images itself."""
    if rows.features is None:  # a stream of a format without a schema: look at its first rows
        with reading_images(description):
            rows = rows._resolve_features()
    if label_column is not None and isinstance(rows, datasets.Dataset) and is_text(rows.features.get(label_column)):
        rows = with_class_labels(rows, label_column)
    features = rows.features
    image_column = find_image_column(features, image_column)
    label_column = find_label_column(features, label_column)
    for name in extra_columns:
        require_column(name, features, "extra_columns")
    kept = dict.fromkeys([image_column, *([label_column] if label_column else []), *extra_columns])
    rows = rows.select_columns(list(kept))
    for name in kept:
        is_image = name == image_column or isinstance(features[name], datasets.Image)
        if is_image and features[name] != datasets.Image(decode=False):
            rows = rows.cast_column(name, datasets.Image(decode=False))
    label = features[label_column] if label_column else None
    identity = "\n".join([description, split, describe_columns(features), str(num_images)])
    return LoadedImages(
        dataset=rows,
        image_column=image_column,
        label_column=label_column,
        label_names=list(label.names) if isinstance(label, datasets.ClassLabel) and label.names else None,
        description=f"{description}, split {split}" if split else description,
        fingerprint=hashlib.sha1(identity.encode(), usedforsecurity=False).hexdigest()[:16],
        num_images=num_images,
        extra_columns=tuple(extra_columns),
        columns=describe_columns(features),
    )


def _rows_of_stream(rows: datasets.IterableDataset, split: str) -> int | None:
    info = (rows.info.splits or {}).get(split)
    return info.num_examples or None if info is not None else None
