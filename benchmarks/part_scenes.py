"""PartScenes: how fast it is drawn, and whether a bag of patches is enough to tell its classes (it must not be).

    python benchmarks/part_scenes.py                       # speed and arrangement, about 2 minutes on one core
    python benchmarks/part_scenes.py --only speed
    python benchmarks/part_scenes.py --only arrangement --train 3000 --test 1500
    python benchmarks/part_scenes.py --only learned        # a network of small receptive field beside one that sees all
    python benchmarks/part_scenes.py --only sheet          # draws docs/images/part_scenes.png

All of them at the default difficulty, or at that of `--difficulty`.

Arrangement: logistic regression (scikit-learn) on standardised features. Order-free: histograms of 8x8 patches coded by
k-means with whitening (Coates & Ng 2012) and of colours; the same on the object's pixels alone; the visible area of
each part (the best that any bag of parts can know). Seeing arrangement: histograms of gradients in the cells of a grid
over the object's box; the parts' areas in the cells; the places of the boxes relative to each other. Objects are
mirrored at random, so features with a left and a right are trained on both mirror images.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from sp_hf.data.part_scenes.dataset import (
    CLASSES,
    DEFAULT,
    DIFFICULTIES,
    FEATURES,
    FINE_CLASSES,
    PARTS,
    VARIANTS,
    Scene,
    fine_label_of,
    part_scenes,
    render_scene,
    scene_row,
)

SIZE = 96
PATCH, STRIDE, CODES = 8, 4, 256


# -------------------------------------------------------------------------------------------------------- speed
def _best(function: Callable[[int], object], count: int, repeats: int = 3) -> float:
    """Calls a second of CPU time on one core, the best of several repeats; each call gets its number."""
    best = math.inf
    for repeat in range(repeats):
        start = time.process_time()
        for index in range(count):
            function(repeat * count + index)
        best = min(best, time.process_time() - start)
    return count / best


def speed(difficulty: str) -> None:
    """Images a second of CPU time, by size; encoding apart; and a map-style dataset from nothing."""
    for size in (64, 96, 128, 224):
        render_scene(0, 0, size, difficulty=difficulty)
        pace = _best(lambda i, s=size: render_scene(0, i, s, difficulty=difficulty), 300)
        print(f"render {size:4d} px          {pace:7.0f} images/s")
    scenes = [render_scene(0, index, SIZE, difficulty=difficulty) for index in range(300)]
    print(f"encode   96 px          {_best(lambda i: scene_row(scenes[i % 300]), 300):7.0f} images/s (PNG, PNG, TIFF)")
    rows = _best(lambda i: FEATURES.encode_example(scene_row(render_scene(1, i, SIZE, difficulty=difficulty))), 300)
    print(f"rows     96 px          {rows:7.0f} images/s (render and encode)")
    with tempfile.TemporaryDirectory() as folder:
        start, wall = time.process_time(), time.perf_counter()
        dataset = part_scenes(num_images=2000, difficulty=difficulty, cache_dir=folder)
        cpu, wall = time.process_time() - start, time.perf_counter() - wall
        kilobytes = dataset.dataset_size / 2000 / 1000
        print(
            f"part_scenes(num_images=2000): {cpu:.1f} s of CPU, {wall:.1f} s of wall time, {kilobytes:.1f} kB an image"
        )


# -------------------------------------------------------------------------------------------------- arrangement
def _patches(scene: Scene) -> np.ndarray:
    """Contrast-normalised grey patches, [g * g, PATCH * PATCH]."""
    grey = scene.image.mean(-1) / 255
    windows = np.lib.stride_tricks.sliding_window_view(grey, (PATCH, PATCH))[::STRIDE, ::STRIDE]
    flat = windows.reshape(-1, PATCH * PATCH)
    flat = flat - flat.mean(1, keepdims=True)
    return flat / (flat.std(1, keepdims=True) + 0.05)


def fit_codebook(scenes: list[Scene]) -> Callable[[Scene], np.ndarray]:
    """k-means on whitened patches; returns what gives a scene's codes [g * g]."""
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.decomposition import PCA
    from sklearn.pipeline import make_pipeline

    sample = np.concatenate([_patches(scene)[::5] for scene in scenes[:1000]])
    means = MiniBatchKMeans(CODES, n_init=1, random_state=0, batch_size=4096, max_iter=40)
    model = make_pipeline(PCA(40, whiten=True, random_state=0), means).fit(sample)
    return lambda scene: model.predict(_patches(scene))


def bag(scene: Scene, codes: np.ndarray) -> np.ndarray:
    colours = [np.histogram(scene.image[..., channel], 16, (0, 256))[0] for channel in range(3)]
    return np.sqrt(np.concatenate([np.bincount(codes, minlength=CODES), *colours]))


def object_bag(scene: Scene, codes: np.ndarray) -> np.ndarray:
    side = math.isqrt(len(codes))
    centres = PATCH // 2 + STRIDE * np.arange(side)
    inside = (scene.segmentation > 0)[np.ix_(centres, centres)]
    return np.sqrt(np.bincount(codes[inside.ravel()], minlength=CODES))


def part_areas(scene: Scene) -> np.ndarray:
    areas = np.array([(scene.segmentation == part).mean() for part in range(1, len(PARTS) + 1)])
    return np.concatenate([areas, areas / (areas.sum() + 1e-9), [areas.sum()]])


def _object_crop(scene: Scene, picture: np.ndarray, side: int, resample: int) -> np.ndarray:
    """The object's box, resampled to a square."""
    boxes = scene.part_boxes
    low, high = (boxes[:, :2] - boxes[:, 2:] / 2).min(0), (boxes[:, :2] + boxes[:, 2:] / 2).max(0)
    box = tuple((np.concatenate([low, high]) * picture.shape[0]).tolist())
    return np.asarray(Image.fromarray(picture).resize((side, side), resample, box=box), dtype=np.float32)


def gradient_grid(scene: Scene, mirror: bool) -> np.ndarray:
    grey = _object_crop(scene, scene.image.mean(-1).astype(np.uint8), 64, Image.Resampling.BILINEAR)
    grey = grey[:, ::-1] if mirror else grey
    down, right = np.gradient(grey)
    angle = (np.arctan2(down, right) % math.pi / math.pi * 8).astype(int) % 8
    maps = np.where(angle[..., None] == np.arange(8), np.hypot(down, right)[..., None], 0)
    cells = maps.reshape(8, 8, 8, 8, 8).sum((1, 3))
    return np.sqrt(cells / (cells.mean() + 1e-6)).ravel()


def part_grid(scene: Scene, mirror: bool) -> np.ndarray:
    parts = _object_crop(scene, scene.segmentation, 32, Image.Resampling.NEAREST)
    parts = parts[:, ::-1] if mirror else parts
    maps = parts[..., None] == np.arange(len(PARTS) + 1)
    return maps.reshape(8, 4, 8, 4, -1).mean((1, 3)).ravel()


def box_relations(scene: Scene, mirror: bool) -> np.ndarray:
    """(|dx|, dy) between all pieces; a piece outside the image counts as at the image's middle."""
    from sp_hf.data.part_scenes.posed_object import PART_IDS

    places = np.full((len(PART_IDS), 2), 0.5)
    free = list(range(len(PART_IDS)))
    for part, box in zip(scene.part_ids, scene.part_boxes, strict=True):
        slot = next(s for s in free if PART_IDS[s] == part)
        free.remove(slot)
        places[slot] = box[:2]
    difference = places[:, None] - places[None]
    upper = np.triu_indices(len(places), 1)
    return np.concatenate([np.abs(difference[..., 0][upper]), difference[..., 1][upper]])


def _report(name: str, train: np.ndarray, test: np.ndarray, labels: dict[str, tuple[np.ndarray, np.ndarray]]) -> None:
    """Fit, for the strength of regularisation that does best on a fifth of the training data, and print accuracies."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    cells = []
    for train_labels, test_labels in labels.values():
        repeat = len(train) // len(train_labels)
        targets = np.tile(train_labels, repeat)
        held = np.tile(np.arange(len(train_labels)) % 5 == 0, repeat)
        models = [
            make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=300)) for c in (3e-4, 3e-3, 3e-2, 1.0)
        ]
        scores = [model.fit(train[~held], targets[~held]).score(train[held], targets[held]) for model in models]
        accuracy = models[int(np.argmax(scores))].fit(train, targets).score(test, test_labels)
        interval = 1.96 * math.sqrt(accuracy * (1 - accuracy) / len(test_labels))
        cells.append(f"{100 * accuracy:5.1f} +- {100 * interval:3.1f}")
    print(f"{name:44s} {train.shape[1]:6d}   {'   '.join(cells)}", flush=True)


def arrangement(train_count: int, test_count: int, difficulty: str) -> None:
    """Accuracy of order-free statistics beside features that see arrangement."""
    train = [render_scene(0, index, SIZE, difficulty=difficulty) for index in range(train_count)]
    test = [render_scene(0, index, SIZE, "standard", "test", difficulty) for index in range(test_count)]
    labels = {
        field: (np.array([getattr(s, field) for s in train]), np.array([getattr(s, field) for s in test]))
        for field in ("label", "fine_label")
    }
    chance, fine_chance = 100 / len(CLASSES), 100 / len(FINE_CLASSES)
    print(
        f"n = {train_count} train, {test_count} test; chance {chance:.1f} % (class), {fine_chance:.1f} % (fine class)"
    )
    print(f"{'features':44s} {'dim':>6s}   {'class %':>12s}   {'fine class %':>12s}")
    codebook = fit_codebook(train)
    codes = [[codebook(scene) for scene in scenes] for scenes in (train, test)]
    for name, order_free in (
        ("order-free: patches and colours", bag),
        ("order-free: patches on the object", object_bag),
    ):
        features = [
            np.stack([order_free(s, c) for s, c in zip(scenes, coded, strict=True)])
            for scenes, coded in zip((train, test), codes, strict=True)
        ]
        _report(name, *features, labels)
    _report(
        "order-free: visible area of each part", *[np.stack([part_areas(s) for s in x]) for x in (train, test)], labels
    )
    for name, seeing in (
        ("arrangement: gradients on the object's grid", gradient_grid),
        ("arrangement: parts on the object's grid", part_grid),
        ("arrangement: places of the part boxes", box_relations),
    ):
        both = np.concatenate([np.stack([seeing(s, mirror) for s in train]) for mirror in (False, True)])
        _report(name, both, np.stack([seeing(s, False) for s in test]), labels)


# ------------------------------------------------------------------------------------------------------ learned
def learned(train_count: int, test_count: int, epochs: int, difficulty: str) -> None:
    """Two small convolutional networks, trained alike: one averages over patches of 7 px, one sees the whole."""
    import torch
    from torch import nn

    size = 64
    torch.manual_seed(0)

    def load(count: int, split: str, variant: str = "standard") -> tuple[torch.Tensor, torch.Tensor]:
        scenes = [render_scene(0, index, size, variant, split, difficulty) for index in range(count)]
        images = torch.from_numpy(np.stack([s.image for s in scenes])).permute(0, 3, 1, 2)
        return images, torch.tensor([s.label for s in scenes])

    def layer(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Module:
        convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())

    pool = nn.AdaptiveAvgPool2d
    networks = {
        "bag of 7x7 patches": nn.Sequential(
            layer(3, 32, 3, 2), layer(32, 64), layer(64, 96, 1), pool(1), nn.Flatten(), nn.Linear(96, 10)
        ),
        "whole image": nn.Sequential(
            layer(3, 24, 3, 2), layer(24, 48), nn.MaxPool2d(2), layer(48, 96), layer(96, 96), nn.MaxPool2d(2),
            layer(96, 160), layer(160, 160), pool(4), nn.Flatten(), nn.Dropout(0.3), nn.Linear(2560, 10),
        ),
    }  # fmt: skip
    images, labels = load(train_count, "train")
    tests = {variant: load(test_count, "test", variant) for variant in VARIANTS}
    print(f"n = {train_count} train at {size} px, {epochs} epochs; {test_count} test of each variant; chance 10 %")
    for name, network in networks.items():
        optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=epochs * (train_count // 64))
        for _ in range(epochs):
            network.train()
            for batch in torch.randperm(train_count)[: train_count // 64 * 64].view(-1, 64):
                pixels = images[batch] / 127.5 - 1
                pixels = torch.where(torch.rand(64, 1, 1, 1) < 0.5, pixels.flip(-1), pixels)
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(pixels), labels[batch]).backward()
                optimizer.step()
                schedule.step()
        network.eval()
        with torch.no_grad():
            scores = {
                variant: torch.cat([network(part / 127.5 - 1).argmax(1) for part in x.split(100)]).eq(y).float().mean()
                for variant, (x, y) in tests.items()
            }
        print(f"{name:20s}", "  ".join(f"{variant} {100 * score:.1f}" for variant, score in scores.items()), flush=True)


# -------------------------------------------------------------------------------------------------------- sheet
def sheet(path: Path, difficulty: str, size: int = 80) -> None:
    """A picture: a column for each class; scenes, variants, part segmentation and depth."""
    from matplotlib import colormaps

    wanted = range(0, len(FINE_CLASSES), 3)
    indices = [next(i for i in range(30) if fine_label_of(3, i) == fine) for fine in wanted]
    later = [next(i for i in range(30, 60) if fine_label_of(3, i) == fine + 1) for fine in wanted]
    drawn = {v: [render_scene(3, i, size, v, difficulty=difficulty) for i in indices] for v in VARIANTS}
    standard = drawn.pop("standard")
    others = (level for level in DIFFICULTIES if level != difficulty)
    rows = {
        difficulty: [s.image for s in standard],
        "another\nscene": [render_scene(3, i, size, difficulty=difficulty).image for i in later],
        **{v.replace("-", "\n"): [s.image for s in scenes] for v, scenes in drawn.items()},
        **{level: [render_scene(3, i, size, difficulty=level).image for i in indices] for level in others},
        "parts": [_coloured(s.segmentation) for s in standard],
        "depth": [np.uint8(255 * colormaps["magma"](1.2 / s.depth)[..., :3]) for s in standard],
    }
    margin_x, margin_y = 92, 18
    canvas = Image.new("RGB", (margin_x + size * len(CLASSES), margin_y + size * len(rows)), "white")
    pen = ImageDraw.Draw(canvas)
    for column, name in enumerate(CLASSES):
        pen.text((margin_x + size * (column + 0.5), margin_y / 2), name, "black", anchor="mm", font_size=13)
    for row, (name, pictures) in enumerate(rows.items()):
        pen.text((6, margin_y + size * (row + 0.5)), name, "black", anchor="lm", font_size=13, spacing=2)
        for column, picture in enumerate(pictures):
            canvas.paste(Image.fromarray(picture), (margin_x + size * column, margin_y + size * row))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(64).save(path, optimize=True)
    print(f"wrote {path} ({path.stat().st_size // 1000} kB)")


def _coloured(segmentation: np.ndarray) -> np.ndarray:
    from matplotlib import colormaps

    palette = np.concatenate([[[0.93] * 3], colormaps["tab10"].colors])
    return np.uint8(255 * palette[segmentation])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("speed", "arrangement", "learned", "sheet"))
    parser.add_argument("--difficulty", choices=tuple(DIFFICULTIES), default=DEFAULT)
    parser.add_argument("--train", type=int, default=3000, help="training images")
    parser.add_argument("--test", type=int, default=1500, help="test images")
    parser.add_argument("--epochs", type=int, default=6, help="of `learned`")
    default_sheet = Path(__file__).parents[1] / "docs" / "images" / "part_scenes.png"
    parser.add_argument("--sheet", type=Path, default=default_sheet, help="where `--only sheet` writes")
    arguments = parser.parse_args()
    if arguments.only in (None, "speed"):
        speed(arguments.difficulty)
    if arguments.only in (None, "arrangement"):
        arrangement(arguments.train, arguments.test, arguments.difficulty)
    if arguments.only == "learned":
        learned(arguments.train, arguments.test, arguments.epochs, arguments.difficulty)
    if arguments.only == "sheet":
        sheet(arguments.sheet, arguments.difficulty)


if __name__ == "__main__":
    main()
