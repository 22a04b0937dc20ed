"""Detection and instance segmentation: how objects are read, average precision, its bootstrap, detectors that learn."""

from __future__ import annotations

import builtins

import datasets
import numpy as np
import pytest
import torch

import sp_hf
from sp_hf.data.part_scenes.dataset import render_scene, scene_row
from sp_hf.errors import DataError, InputError, PackageError

pytest.importorskip("pycocotools", reason="average precision needs pip install pycocotools")

from sp_hf.evaluation.what.detection.average_precision import AveragePrecision  # noqa: E402
from sp_hf.evaluation.what.detection.coco import Matches, decode_masks, encode_masks, match, polygon_masks  # noqa: E402
from sp_hf.evaluation.what.detection.heads import Answers, box_answers, box_detector, mask_answers  # noqa: E402
from sp_hf.evaluation.what.detection.object_task import ObjectTask  # noqa: E402
from sp_hf.evaluation.what.detection.objects import (  # noqa: E402
    ImageObjects,
    category_names,
    read_objects,
    read_parts,
)
from sp_hf.evaluation.what.detection.pyramid import SimplePyramid, as_map  # noqa: E402
from sp_hf.evaluation.what.detection.task import Detection  # noqa: E402
from sp_hf.evaluation.what.detection.training import Recipe, box_targets, mask_targets, train  # noqa: E402

SIZE = (60, 80)


def some_objects(rng: np.random.Generator, count: int, classes: int = 3) -> ImageObjects:
    extent = rng.uniform(0.1, 0.4, (count, 2))
    centre = extent / 2 + rng.random((count, 2)) * (1 - extent)
    boxes = np.concatenate([centre, extent], 1).astype(np.float32)
    return ImageObjects(SIZE, boxes, rng.integers(0, classes, count), np.zeros(count, bool))


def noisy(truth: ImageObjects, rng: np.random.Generator, noise: float) -> Answers:
    """Its objects, moved, some of another class, and one box that is none."""
    boxes = np.concatenate([truth.boxes * (1 + noise * rng.standard_normal(truth.boxes.shape)), [[0.5, 0.5, 0.2, 0.2]]])
    labels = np.concatenate([np.where(rng.random(len(truth)) < noise, 0, truth.labels), [1]])
    order = np.argsort(-(scores := rng.random(len(labels))))
    return Answers(*(torch.from_numpy(np.asarray(x)[order]) for x in (scores, labels, boxes.astype(np.float32))))


@pytest.fixture(scope="module")
def images() -> tuple[list[ImageObjects], list[Answers]]:
    rng = np.random.default_rng(0)
    truth = [some_objects(rng, count) for count in (3, 0, 5, 2, 4, 1)]
    return truth, [noisy(one, rng, 0.05) for one in truth]


def reference_ap(truth: list[ImageObjects], answers: list[Answers], classes: int) -> float:
    """COCO's protocol written out another way: greedy matching and precision at each recall, image by image."""
    by_class = []
    for c in range(classes):
        asked = sum(int((one.labels == c).sum()) for one in truth)
        if not asked:
            continue
        for threshold in np.arange(0.5, 0.999, 0.05):
            found = []
            for one, answer in zip(truth, answers, strict=True):
                free = [corners(box) for box, label in zip(one.boxes, one.labels, strict=True) if label == c]
                for score, label, box in zip(answer.scores, answer.labels, answer.boxes.numpy(), strict=True):
                    if label == c:
                        best = max(free, key=lambda other: iou(corners(box), other), default=None)
                        hit = best is not None and iou(corners(box), best) >= threshold
                        if hit:
                            free.remove(best)
                        found.append((float(score), hit))
            hits = np.array([hit for _, hit in sorted(found, reverse=True)], float)
            right, place = np.cumsum(hits), np.arange(1, len(hits) + 1)
            recall, precision = right / asked, right / place
            at = [precision[recall >= r - 1e-12].max(initial=0) for r in np.linspace(0, 1, 101)]
            by_class.append(np.mean(at))
    return float(np.mean(by_class))


def corners(box) -> tuple[float, ...]:
    cx, cy, w, h = (float(x) * side for x, side in zip(box, (SIZE[1], SIZE[0]) * 2, strict=True))
    return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2


def iou(a, b) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (a, b))
    return common / (area - common)


# --- average precision ------------------------------------------------------------------------------------------


def test_average_precision_is_cocos(images):
    truth, answers = images
    measure = AveragePrecision.of_matches(match(answers, truth, 3, "bbox"))
    assert 0.1 < measure.value < 0.95, "neither trivial"
    assert measure.value == pytest.approx(reference_ap(truth, answers, 3), abs=1e-9)


def test_a_resample_is_the_average_precision_of_the_images_drawn(images):
    truth, answers = images
    counts = torch.tensor([[2, 0, 1, 0, 3, 0], [0, 1, 1, 1, 0, 0]], dtype=torch.float64)
    got = AveragePrecision.of_matches(match(answers, truth, 3, "bbox"))._of_counts(counts)
    for row, value in zip(counts.int().tolist(), got.tolist(), strict=True):
        drawn = [image for image, times in enumerate(row) for _ in range(times)]
        # equal scores of an image drawn twice are matched alike, so their order is of no account
        again = match([answers[i] for i in drawn], [truth[i] for i in drawn], 3, "bbox")
        assert value == pytest.approx(AveragePrecision.of_matches(again).value, abs=0.02)


def test_interval_and_classes(images):
    truth, answers = images
    measure = AveragePrecision.of_matches(match(answers, truth, 4, "bbox"))
    estimate = measure.estimate(resamples=200)
    assert estimate.low < estimate.value < estimate.high
    assert measure.interval == "bootstrap" and measure.n == 6
    assert measure.groups()[3] is None, "a class without objects counts nowhere"
    assert measure.value == pytest.approx(np.mean([group for group in measure.groups() if group is not None]))


def test_perfect_and_no_answers(images):
    truth, _ = images
    perfect = [
        Answers(torch.ones(len(one)), torch.from_numpy(one.labels), torch.from_numpy(one.boxes)) for one in truth
    ]
    assert AveragePrecision.of_matches(match(perfect, truth, 3, "bbox")).value == pytest.approx(1)
    nothing = [Answers(torch.zeros(0), torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))] * len(truth)
    assert AveragePrecision.of_matches(match(nothing, truth, 3, "bbox")).value == 0


def test_what_covers_a_crowd_is_neither_right_nor_wrong(images):
    truth, answers = images
    crowd = [ImageObjects(one.size, one.boxes, one.labels, np.ones(len(one), bool)) for one in truth]
    perfect = [
        Answers(torch.ones(len(one)), torch.from_numpy(one.labels), torch.from_numpy(one.boxes)) for one in truth
    ]
    matches: list[Matches] = match(perfect, crowd, 3, "bbox")
    assert all(not m.true.any() and not m.false.any() and not m.objects.any() for m in matches)


def test_masks_are_matched_by_their_pixels():
    mask = np.zeros((2, 8, 8), bool)
    mask[0, :4], mask[1, 4:, 4:] = True, True
    boxes = np.array([[0.5, 0.25, 1, 0.5], [0.75, 0.75, 0.5, 0.5]], np.float32)
    truth = [ImageObjects((8, 8), boxes, np.array([0, 1]), np.zeros(2, bool), tuple(encode_masks(mask)))]
    half = mask.copy()
    half[0, 3] = False  # three rows of four: an IoU of 0.75
    answer = [Answers(torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), masks=torch.from_numpy(half))]
    matches = match(answer, truth, 2, "segm")
    assert matches[0].true[:, 0].tolist() == [True] * 6 + [False] * 4 and matches[1].true.all()
    np.testing.assert_array_equal(decode_masks(truth[0].masks, (8, 8)), mask)


# --- objects ----------------------------------------------------------------------------------------------------


def test_objects_in_both_layouts_and_formats():
    lists = {"bbox": [[8, 6, 16, 12], [0, 0, 80, 60]], "category": [2, 0]}
    records = [{"bbox": box, "category": c} for box, c in zip(lists["bbox"], lists["category"], strict=True)]
    cornered = {"bbox": [[8, 6, 24, 18], [0, 0, 80, 60]], "category": [2, 0]}
    for value, box_format in ((lists, "xywh"), (records, "xywh"), (cornered, "xyxy")):
        objects = read_objects(value, SIZE, box_format)
        np.testing.assert_allclose(objects.boxes, [[0.2, 0.2, 0.2, 0.2], [0.5, 0.5, 1, 1]], rtol=1e-6)
        assert objects.labels.tolist() == [2, 0] and not objects.crowd.any()
    assert len(read_objects({"bbox": [], "category": []}, SIZE)) == len(read_objects([], SIZE)) == 0


def test_objects_that_cannot_be_read_are_named():
    with pytest.raises(InputError, match="does not lie in its image of 80x60 px as xywh.*xyxy"):
        read_objects({"bbox": [[40, 30, 70, 50]], "category": [0]}, SIZE, "xywh")
    with pytest.raises(DataError, match="need a field category.*they have: bbox"):
        read_objects({"bbox": [[0, 0, 1, 1]]}, SIZE)
    with pytest.raises(DataError, match="no segmentation"):
        read_objects({"bbox": [[0, 0, 1, 1]], "category": [0]}, SIZE, with_masks=True)
    with pytest.raises(InputError, match="box_format is 'cxcywh'; it must be one of xywh, xyxy"):
        Detection(box_format="cxcywh")
    with pytest.raises(InputError, match="encoder is 'thawed'; it must be frozen or fine-tuned"):
        Detection(encoder="thawed")


def test_polygons_become_masks():
    (mask,) = decode_masks(polygon_masks([[[10, 5, 30, 5, 30, 25, 10, 25]]], SIZE), SIZE)
    assert mask.sum() == pytest.approx(20 * 20, rel=0.06) and mask[6:24, 11:29].all() and not mask[30:].any()


def test_parts_of_a_scene_have_their_own_pixels():
    scene = render_scene(0, 0, 64)
    row = scene_row(scene)
    objects = read_parts(row["part_boxes"], row["segmentation"])
    masks = decode_masks(objects.masks, objects.size)
    assert masks.sum(0).max() == 1, "no pixel belongs to two"
    union = masks.any(0)
    assert (scene.segmentation[union] > 0).all() and union.sum() > 0.95 * (scene.segmentation > 0).sum()
    for mask, box, label in zip(masks, objects.boxes, objects.labels, strict=True):
        assert set(scene.segmentation[mask].tolist()) == {label + 1}
        y, x = np.nonzero(mask)
        low, high = (box[:2] - box[2:] / 2) * 64, (box[:2] + box[2:] / 2) * 64
        inside = (x + 1 >= low[0]) & (x <= high[0]) & (y + 1 >= low[1]) & (y <= high[1])
        assert inside.mean() > 0.9


def test_names_of_categories():
    names = datasets.ClassLabel(names=["cat", "dog"])
    columns = {"bbox": datasets.List(datasets.List(datasets.Value("float32"))), "category": datasets.List(names)}
    assert category_names(columns) == category_names(datasets.List(columns | {"category": names})) == ["cat", "dog"]
    assert category_names({"category": datasets.List(datasets.Value("int64"))}) is None


def test_without_pycocotools_the_line_that_installs_it_is_told(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("pycocotools"):
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PackageError, match="pip install pycocotools"):
        ObjectTask.prepare(Detection(), None)


# --- detectors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("features", [3, 40])  # raw pixels have three
def test_a_pyramid_has_its_scales_also_of_an_odd_grid(features):
    pyramid = SimplePyramid(torch.nn.Identity(), features, 32, (4, 2, 1, 0.5))
    maps = pyramid(as_map(torch.randn(2, 15, features), (3, 5))).feature_maps
    assert [tuple(m.shape) for m in maps] == [(2, 32, 16, 24), (2, 32, 8, 12), (2, 32, 4, 6), (2, 32, 2, 3)]


def test_a_map_keeps_the_places_of_its_tokens():
    tokens = torch.arange(6.0).reshape(1, 6, 1)
    assert as_map(tokens, (2, 3))[0, 0].tolist() == [[0, 1, 2], [3, 4, 5]]


class Outputs:
    def __init__(self, **fields):
        self.__dict__.update(fields)


def test_answers_of_boxes_are_the_best_pairs_of_query_and_class():
    logits = torch.tensor([[[0.0, 2.0], [1.0, -9.0]]])
    boxes = torch.tensor([[[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2]]])
    (answer,) = box_answers(Outputs(logits=logits, pred_boxes=boxes))
    assert answer.labels.tolist() == [1, 0, 0, 1]
    np.testing.assert_allclose(answer.boxes[:, 0], [0.1, 0.5, 0.1, 0.5])
    np.testing.assert_allclose(answer.scores, torch.tensor([2.0, 1.0, 0.0, -9.0]).sigmoid())


def test_scores_of_masks_fall_with_their_doubt():
    classes = torch.tensor([[[4.0, 0.0, 0.0], [4.0, 0.0, 0.0]]])  # the last is none
    masks = torch.full((1, 2, 2, 2), -5.0)
    masks[0, 0, 0], masks[0, 1, 1] = 0.1, 5.0
    (answer,) = mask_answers(Outputs(class_queries_logits=classes, masks_queries_logits=masks), [(4, 4)])
    assert answer.masks.shape == (4, 4, 4)
    assert answer.labels[0] == 0 and answer.masks[0, 3].all() and not answer.masks[0, 0].any(), "the surer one first"
    assert answer.scores[0] > 1.5 * answer.scores[1]


def test_targets_leave_crowds_out():
    masks = np.zeros((2, 8, 8), bool)
    masks[0, :, :4], masks[1, :, 4:] = True, True
    boxes = np.array([[0.25, 0.5, 0.5, 1], [0.75, 0.5, 0.5, 1]], np.float32)
    one = ImageObjects((8, 8), boxes, np.array([1, 2]), np.array([False, True]), tuple(encode_masks(masks)))
    (labels,) = box_targets([one], torch.device("cpu"))["labels"]
    assert labels["class_labels"].tolist() == [1] and labels["boxes"].tolist() == [[0.25, 0.5, 0.5, 1]]
    targets = mask_targets([one], 4, torch.device("cpu"))
    assert targets["class_labels"][0].tolist() == [1]
    assert targets["mask_labels"][0][0].tolist() == [[1, 1, 0, 0]] * 4


@pytest.mark.slow
def test_a_detector_finds_squares_whose_place_is_in_the_map():
    """A map that is bright where the object is: a few steps find it, and a map of nothing does not."""
    rng = np.random.default_rng(0)
    truth, maps = [], torch.zeros(64, 4, 4, 4)
    for image in range(64):
        row, column, kind = rng.integers(4), rng.integers(4), rng.integers(2)
        maps[image, kind, row, column] = 1
        box = np.array([[(column + 0.5) / 4, (row + 0.5) / 4, 0.25, 0.25]], np.float32)
        truth.append(ImageObjects((64, 64), box, np.array([kind]), np.zeros(1, bool)))
    aps = []
    for seen in (maps, torch.zeros_like(maps)):
        torch.manual_seed(0)
        detector = box_detector(torch.nn.Identity(), 4, 2, (4, 4))
        recipe = Recipe(epochs=12, batch_size=8, learning_rate=1e-3, encoder_learning_rate=1e-4, seed=0)

        def batch_of(index, seen=seen):
            targets = box_targets([truth[i] for i in index], torch.device("cpu"))
            return {"pixel_values": seen[torch.from_numpy(index)], **targets}

        bar = Outputs(update=lambda: None)
        train(detector, None, batch_of, 64, recipe, bar)
        with torch.inference_mode():
            answers = box_answers(detector.eval()(pixel_values=seen))
        aps.append(AveragePrecision.of_matches(match(answers, truth, 2, "bbox"), slice(0, 1)).value)
    assert aps[0] > 0.8 and aps[1] < 0.3


@pytest.mark.parametrize("task", ["detection", "instance-segmentation"])
def test_the_task_on_scenes(task, tmp_path):
    flag = task.replace("-", "_")
    results = sp_hf.evaluate(
        "vit-micro-8",
        tasks=task,
        dataset="part-scenes?size=32&num_images=8",
        size=32,
        num_workers=0,
        no_cache=True,
        output_dir=tmp_path,
        **{f"{flag}_epochs": 1, f"{flag}_batch_size": 4},
    )
    for model in results.models:
        value = results.metric(task, "ap", model).value
        assert 0 <= value <= 1
    assert (tmp_path / f"{task}.png").stat().st_size > 1000
    details = next(iter(results.data["tasks"][task]["results"].values()))["details"]
    assert details["train_images"] == 8 and details["steps"] == 2
    assert len(details["ap_by_class"]) == 8


@pytest.mark.slow
def test_a_fine_tuned_encoder_is_a_copy():
    encoder = sp_hf.resolve_encoder("vit-micro-8", image_size=32)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    results = sp_hf.evaluate(
        encoder,
        tasks="detection",
        dataset="part-scenes?size=32&num_images=8",
        num_workers=0,
        no_cache=True,
        detection_epochs=1,
        detection_encoder="fine-tuned",
    )
    assert results.models
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())
