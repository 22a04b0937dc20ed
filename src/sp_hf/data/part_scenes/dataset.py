"""PartScenes: a procedural dataset in which the class is the arrangement of the parts.

Objects of toy blocks stand in lit, perspective scenes. All classes use the same nine pieces at the same sizes
(`objects.py`), so only where the pieces are tells the class; pose, size, textures, colours, surroundings and
occlusion are random. Scenes have the spatial structure of photos: a horizon, ground and walls in perspective, light
from one side, near things large and low (`backgrounds`, `render`). Everything is drawn on the
fly, offline, and a scene depends on (seed, split, index, size, variant, difficulty) alone.

Difficulties; classes, pieces, labels and what the columns mean are the same in all (`difficulty`, `stage`, `paints`):
    easy          the default: learnt within minutes by a small model. One large object about the middle, each kind of
                  part in a colour of its own, before a flat wall in the parts' patterns and mean colours, so that the
                  scene is alike everywhere to low-level cues. In "class-textures" and "cue-conflict" the wall carries
                  the texture, too
    medium        the scenes of "hard" with each kind of part in a colour of its own
    hard          any texture and colour on any part, any pose, perspective scenes with props and occluders; as
                  described above

A row:
    image         datasets.Image, PNG (lossless: JPEG blocks would betray alignment), RGB, size x size
    label         datasets.ClassLabel, 10 classes (CLASSES)
    fine_label    datasets.ClassLabel, 30 fine classes (FINE_CLASSES), three variations of each class
    segmentation  datasets.Image, PNG, 8-bit: 0 background, props and occluders; 1..8 the parts, in the order of PARTS;
                  no void pixels (255 never occurs)
    depth         datasets.Image, TIFF, 32-bit float ("F"): metres along the optical axis, at most 80 (the sky)
    part_boxes    list of {"part": ClassLabel whose ids are those of the segmentation, "box": [cx, cy, w, h]}: the
                  piece's whole extent, hidden or not, cut only by the image's border; normalised, x in image widths,
                  y in image heights

Variants, for out-of-distribution tests; a row is the scene of "standard" but for what the variant names:
    standard         as described
    new-textures     parts carry textures that the standard variant never uses
    new-backgrounds  skies, grounds, walls and floors that the standard variant never uses
    silhouettes      black objects on white, without props and occluders
    jumbled          the arrangement destroyed: the same pieces strewn at random. The label is that of the arrangement
                     that was there, so a model that goes by arrangement falls to chance
    class-textures   texture tells the class too: each class has one texture of its own, and all of its parts carry it,
                     in two hues of its own; in "easy", in the colours of the kinds of parts
    cue-conflict     the arrangement of one class in the texture of another, drawn at random from the other nine, as
                     in Geirhos et al. 2019 (arXiv:1811.12231). Two more columns, `shape` and `texture`, both ClassLabel
                     of CLASSES, name the two; `label` is that of the arrangement. To be shown to a model that has
                     learnt the classes from class-textures: which of the two does it go by?
"""

from __future__ import annotations

import functools
import io
import numbers
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, IterableDataset, List, NamedSplit, Value
from datasets.fingerprint import Hasher
from PIL import Image as PILImage

from ...errors import InputError
from .difficulty import DEFAULT, DIFFICULTIES, Difficulty
from .objects import CLASSES, FINE_CLASSES, PART_ORDER, PARTS, arrangement, class_of, jumble
from .posed_object import PART_IDS
from .raster import MATERIALS, NEW, PATTERNED, PATTERNED_MATERIALS, STANDARD, Material
from .render import Streams, render

# Raise it when any pixel or label changes: cached datasets of older versions are then not reused.
VERSION = 7
SPLITS: dict[str, int] = {"train": 10_000, "validation": 2_000, "test": 2_000}  # and their default numbers of images
VARIANTS: tuple[str, ...] = (
    "standard",
    "new-textures",
    "new-backgrounds",
    "silhouettes",
    "jumbled",
    "class-textures",
    "cue-conflict",
)
MIN_SIZE, MAX_SIZE = 32, 1024
_IMAGES_PER_SHARD = 128

FEATURES = Features(
    {
        "image": Image(),
        "label": ClassLabel(names=list(CLASSES)),
        "fine_label": ClassLabel(names=list(FINE_CLASSES)),
        "segmentation": Image(),
        "depth": Image(),
        "part_boxes": List({"part": ClassLabel(names=["background", *PARTS]), "box": List(Value("float32"), length=4)}),
    }
)
CUE_CONFLICT_FEATURES = Features(
    {**FEATURES, "shape": ClassLabel(names=list(CLASSES)), "texture": ClassLabel(names=list(CLASSES))}
)


def features_of(variant: str) -> Features:
    """The columns of a variant."""
    return CUE_CONFLICT_FEATURES if variant == "cue-conflict" else FEATURES


class Scene(NamedTuple):
    """One scene of S x S pixels with its n pieces in the image; see the module docstring for meanings and units."""

    image: np.ndarray  # uint8 [S, S, 3]
    label: int
    fine_label: int
    segmentation: np.ndarray  # uint8 [S, S]
    depth: np.ndarray  # float32 [S, S]
    part_ids: np.ndarray  # uint8 [n]
    part_boxes: np.ndarray  # float32 [n, 4] normalised (cx, cy, w, h)
    texture: int | None = None  # in cue conflict: the class whose texture the parts carry


def _check(split: str, size: int, num_images: int, seed: int, variant: str, difficulty: str) -> None:
    if split not in SPLITS:
        raise InputError(f"PartScenes has no split {split!r}; choose one of {', '.join(SPLITS)}.")
    if variant not in VARIANTS:
        raise InputError(f"PartScenes has no variant {variant!r}; choose one of {', '.join(VARIANTS)}.")
    if difficulty not in DIFFICULTIES:
        raise InputError(f"PartScenes has no difficulty {difficulty!r}; choose one of {', '.join(DIFFICULTIES)}.")
    for name, value in (("size", size), ("num_images", num_images), ("seed", seed)):
        if not isinstance(value, numbers.Integral):
            raise InputError(f"PartScenes' sizes, numbers and seeds are whole numbers; got {name}={value!r}.")
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise InputError(f"PartScenes draws images of {MIN_SIZE} to {MAX_SIZE} pixels; got size={size}.")
    if num_images < 1:
        raise InputError(f"PartScenes needs at least one image; got num_images={num_images}.")
    if not 0 <= seed < 2**63:
        raise InputError(f"PartScenes needs a seed from 0 to 2**63 - 1; got seed={seed}.")


def _generator(seed: int, split: str, index: int, stream: int) -> np.random.Generator:
    """Random numbers of one scene and purpose. None overlap: the key tells seed and split, and the upper words of the
    counter index and stream."""
    split_id = list(SPLITS).index(split)
    return np.random.Generator(np.random.Philox(key=[seed, split_id], counter=[0, 0, index, stream]))


@functools.lru_cache(maxsize=16)
def _shuffled_labels(seed: int, split: str, block: int) -> tuple[int, ...]:
    return tuple(_generator(seed, split, block, 5).permutation(len(FINE_CLASSES)).tolist())


def fine_label_of(seed: int, index: int, split: str = "train") -> int:
    """The fine class of a scene: every run of 30 scenes from a multiple of 30 holds each fine class once, shuffled."""
    block, place = divmod(index, len(FINE_CLASSES))
    return _shuffled_labels(seed, split, block)[place]


def texture_of(seed: int, index: int, split: str = "train") -> int:
    """The class whose texture a scene of "cue-conflict" carries: any but its own, equally likely."""
    others = len(CLASSES) - 1
    step = 1 + int(_generator(seed, split, index, 6).random() * others)
    return (class_of(fine_label_of(seed, index, split)) + step) % len(CLASSES)


def _material(variant: str, texture: int, level: Difficulty) -> Material:
    """What the parts are made of; texture: the class whose material they get, where a variant goes by classes."""
    if variant in ("class-textures", "cue-conflict"):
        return PATTERNED_MATERIALS[texture] if level.staged else MATERIALS[texture]
    if variant == "new-textures":
        return NEW._replace(painted=level.painted)
    return PATTERNED if level.staged else STANDARD._replace(painted=level.painted)


def render_scene(
    seed: int,
    index: int,
    size: int = 96,
    variant: str = "standard",
    split: str = "train",
    difficulty: str = DEFAULT,
) -> Scene:
    """Draw one scene; a pure function of its arguments.

    Args:
        seed: 0 to 2**63 - 1.
        index: 0 or more; the row of the dataset.
        size: side of the square image in pixels. The same scene is drawn at any size.
        variant: one of VARIANTS.
        split: "train", "validation" or "test"; different scenes.
        difficulty: one of DIFFICULTIES.

    Raises:
        ValueError: an argument is out of its range.
    """
    _check(split, size, index + 1, seed, variant, difficulty)
    fine_label = fine_label_of(seed, index, split)
    centres = arrangement(fine_label)
    if variant == "jumbled":
        centres = jumble(_generator(seed, split, index, 4).random((len(PART_ORDER), 3)))
    label, conflict = class_of(fine_label), variant == "cue-conflict"
    texture = texture_of(seed, index, split) if conflict else label
    drawn = render(
        centres,
        size,
        Streams(*(_generator(seed, split, index, stream) for stream in range(4))),
        _material(variant, texture, DIFFICULTIES[difficulty]),
        DIFFICULTIES[difficulty],
        new_background=variant == "new-backgrounds",
        silhouette=variant == "silhouettes",
        wall=PATTERNED if variant == "new-textures" else None,
    )
    corners = np.clip(drawn.boxes, 0, 1)
    extent = corners[:, 2:] - corners[:, :2]
    boxes = np.concatenate([(corners[:, :2] + corners[:, 2:]) / 2, extent], axis=1).astype(np.float32)
    seen = (extent > 0).all(1)
    ids = np.array(PART_IDS, np.uint8)
    return Scene(
        image=drawn.image,
        label=label,
        fine_label=fine_label,
        segmentation=drawn.segmentation,
        depth=drawn.depth,
        part_ids=ids[seen],
        part_boxes=boxes[seen],
        texture=texture if conflict else None,
    )


def _encode(array: np.ndarray, image_format: str, **options: Any) -> dict[str, Any]:
    buffer = io.BytesIO()
    PILImage.fromarray(array).save(buffer, image_format, **options)
    return {"bytes": buffer.getvalue(), "path": None}


def scene_row(scene: Scene) -> dict[str, Any]:
    """A scene as a row of the dataset, with its pictures encoded without loss (`features_of`)."""
    parts = zip(scene.part_ids.tolist(), scene.part_boxes.tolist(), strict=True)
    cues = {} if scene.texture is None else {"shape": scene.label, "texture": scene.texture}
    return {
        "image": _encode(scene.image, "PNG", compress_level=1),
        "label": scene.label,
        "fine_label": scene.fine_label,
        "segmentation": _encode(scene.segmentation, "PNG", compress_level=1),
        "depth": _encode(scene.depth, "TIFF", compression="tiff_adobe_deflate"),
        "part_boxes": [{"part": part, "box": box} for part, box in parts],
        **cues,
    }


def _rows(
    ranges: list[tuple[int, int]], seed: int, size: int, variant: str, split: str, difficulty: str
) -> Iterator[dict[str, Any]]:
    for start, stop in ranges:
        for index in range(start, stop):
            yield scene_row(render_scene(seed, index, size, variant, split, difficulty))


def _ranges(num_images: int) -> list[tuple[int, int]]:
    """Consecutive ranges of indices, a power of two of them so that ranks and workers share them evenly."""
    count = 1
    while count * 2 * _IMAGES_PER_SHARD <= num_images:
        count *= 2
    edges = [num_images * part // count for part in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def part_scenes(
    split: str = "train",
    *,
    size: int = 96,
    num_images: int | None = None,
    seed: int = 0,
    variant: str = "standard",
    difficulty: str = DEFAULT,
    streaming: bool = False,
    num_proc: int | None = None,
    cache_dir: str | None = None,
) -> Dataset | IterableDataset:
    """PartScenes as a `datasets` dataset with the columns of `features_of(variant)`.

    Map-style (`streaming=False`) draws all images on the first call and keeps them in datasets' Arrow cache (about
    15 KB an image at 96 px); later calls with the same arguments memory-map it. Streaming draws each image when it is
    asked for and writes nothing; its shards can be divided among ranks and workers, and a resumed stream redraws at
    most one shard. In both, an image column cast to `Image(decode=False)` yields {"bytes": PNG, "path": None}.

    Args:
        split: "train", "validation" or "test": disjoint streams of scenes, whatever their lengths.
        size: side of the square images in pixels, 32 to 1024.
        num_images: rows; None takes SPLITS' default. Row i is the same scene for every num_images.
        seed: another seed, another dataset.
        variant: one of VARIANTS.
        difficulty: one of DIFFICULTIES.
        streaming: an IterableDataset in place of a Dataset.
        num_proc: processes that draw a map-style dataset; None draws in this one.
        cache_dir: where a map-style dataset is kept; None takes datasets' cache.

    Raises:
        ValueError: unknown split or variant, or a size, number or seed out of its range.

    Example:
        >>> import sp_hf
        >>> scenes = sp_hf.part_scenes("validation", num_images=4, size=32)
        >>> len(scenes), scenes[0]["image"].size
        (4, (32, 32))
    """
    count = (SPLITS.get(split, 0) if num_images is None else num_images) or 0
    _check(split, size, count, seed, variant, difficulty)
    gen_kwargs = {"ranges": _ranges(count), "seed": seed, "size": size, "variant": variant, "split": split}
    gen_kwargs["difficulty"] = difficulty
    features = features_of(variant)
    if streaming:
        return IterableDataset.from_generator(_rows, features=features, gen_kwargs=gen_kwargs, split=NamedSplit(split))
    return Dataset.from_generator(
        _rows,
        features=features,
        cache_dir=cache_dir,
        gen_kwargs=gen_kwargs,
        num_proc=num_proc,
        split=NamedSplit(split),
        fingerprint="part-scenes-" + Hasher.hash([VERSION, num_images, gen_kwargs]),
    )
