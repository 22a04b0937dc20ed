"""Segmentation: decoding, targets, classifier and mIoU against references, and encoders whose answer is known."""

import io

import numpy as np
import pytest
import torch
from dense_samples import GRID, SIDE, GridMeans, blocks, constant, encoded, evaluation, model, save
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, jaccard_score
from sklearn.neighbors import KNeighborsRegressor
from torch.nn import functional as F

from sp_hf.data.annotations import AnnotationError, decode_annotation, upright_size
from sp_hf.data.canvas import UnreadableImage
from sp_hf.evaluation.cache import FeatureCache
from sp_hf.evaluation.probes.softmax_regression import shuffled_batches, train_softmax
from sp_hf.evaluation.probes.standardise import Standardisation
from sp_hf.evaluation.source import DataSource
from sp_hf.evaluation.what.dense import patch_targets
from sp_hf.evaluation.what.dense.dense_task import Tokens, TrainingTokens, training_tokens
from sp_hf.evaluation.what.dense.metrics import intersection_and_union, mean_iou, pixel_accuracy
from sp_hf.evaluation.what.dense.patch_targets import class_fractions, token_of_pixel, upsampled, upsampled_argmax
from sp_hf.evaluation.what.segmentation.head import TAUS, fit_segmentation, token_miou, whitening_of
from sp_hf.evaluation.what.segmentation.in_context import InContextSegmentation, Memory
from sp_hf.evaluation.what.segmentation.task import Segmentation

COLOURS = np.array([[20, 30, 40], [200, 40, 60], [60, 180, 220], [250, 250, 10]])


# Annotations are read as they are


def test_ids_of_an_indexed_png_are_not_its_colours():
    ids = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.frombytes("P", (4, 3), ids.tobytes())
    image.putpalette([value for i in range(256) for value in (255 - i, 7, i // 2)])
    file = io.BytesIO()
    image.save(file, "PNG")
    assert Image.open(file).mode == "P"
    np.testing.assert_array_equal(decode_annotation(file.getvalue()), ids)


@pytest.mark.parametrize(
    ("values", "image_format"),
    [
        (np.array([[0, 255], [11, 3]], np.uint8), "PNG"),
        (np.array([[0, 65535], [300, 3]], np.uint16), "PNG"),
        (np.array([[0, 70000], [300, 3]], np.int32), "TIFF"),
        (np.array([[0.25, 80.0], [np.nan, 1e-3]], np.float32), "TIFF"),
    ],
)
def test_values_are_kept(values, image_format):
    read = decode_annotation(encoded(values, image_format))
    assert read.dtype == (np.float32 if values.dtype == np.float32 else np.int64)
    np.testing.assert_array_equal(read, values)


def test_orientation_is_applied_to_annotations_and_sizes():
    ids = np.arange(6, dtype=np.uint8).reshape(2, 3)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    cell = encoded(ids, exif=exif)
    np.testing.assert_array_equal(decode_annotation(cell), np.rot90(ids, -1))
    assert upright_size(cell) == (2, 3)


def test_what_holds_no_ids_is_refused():
    with pytest.raises(AnnotationError, match="RGB pixels.*one number a pixel"):
        decode_annotation(encoded(np.zeros((4, 4, 3), np.uint8)))
    with pytest.raises(AnnotationError, match="JPEG.*does not keep values"):
        decode_annotation(encoded(np.zeros((8, 8), np.uint8), "JPEG"))
    whole = encoded(np.random.default_rng(0).integers(0, 255, (32, 32)).astype(np.uint8))
    with pytest.raises(UnreadableImage):
        decode_annotation({"bytes": whole["bytes"][:300], "path": None})
    with pytest.raises(UnreadableImage, match="neither bytes nor a path"):
        decode_annotation({"bytes": None, "path": None})


# Between pixels and tokens


@pytest.mark.parametrize("shape", [(8, 12), (7, 5), (2, 3), (13, 4)])
def test_fractions_are_those_of_counting(shape):
    generator = np.random.default_rng(0)
    classes = generator.integers(-1, 3, shape)
    grid = (4, 3)
    expected = np.zeros((12, 3))
    pixels = np.zeros(12)
    for y in range(shape[0]):
        for x in range(shape[1]):
            row, column = int((y + 0.5) / shape[0] * 4), int((x + 0.5) / shape[1] * 3)
            token = row * 3 + column
            assert token_of_pixel(shape, grid)[y, x] == token
            pixels[token] += 1
            if classes[y, x] >= 0:
                expected[token, classes[y, x]] += 1
    expected /= np.maximum(pixels, 1)[:, None]
    np.testing.assert_allclose(class_fractions(classes, grid, 3), expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(9, 31), (96, 96), (3, 2)])
def test_upsampling_is_torchs(shape, monkeypatch):
    monkeypatch.setattr(patch_targets, "_VALUES_AT_ONCE", 500)  # several pieces
    values = torch.randn(5, 6, 4, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(values[None], size=shape, mode="bilinear", align_corners=False)[0]
    pieces = list(upsampled(values, shape))
    torch.testing.assert_close(torch.cat([part for _, part in pieces], dim=1), expected)
    offsets = torch.tensor([[0.0] * 5, [0.0, 3.0, 0, 0, 0]])
    found = upsampled_argmax(values, shape, offsets)
    np.testing.assert_array_equal(found[0], expected.argmax(0).numpy())
    np.testing.assert_array_equal(found[1], (expected + offsets[1][:, None, None]).argmax(0).numpy())
    assert len(pieces) > 1 or shape == (3, 2)


# Metrics


def test_miou_and_accuracy_are_those_of_scikit_learn():
    generator = np.random.default_rng(0)
    classes, sums, all_truth, all_predicted = 6, [], [], []
    for shape in [(10, 12), (7, 9), (20, 3)]:
        truth = generator.integers(-1, 4, shape)  # classes 4 and 5 never occur
        predicted = np.where(generator.random(shape) < 0.6, truth.clip(0), generator.integers(0, classes, shape))
        sums.append(intersection_and_union(predicted, truth, classes))
        all_truth.append(truth[truth >= 0])
        all_predicted.append(predicted[truth >= 0])
    truth, predicted = np.concatenate(all_truth), np.concatenate(all_predicted)
    sums = np.stack(sums, axis=1).astype(float)  # [2, n, C]
    there = np.isin(np.arange(classes), truth)
    expected = jaccard_score(truth, predicted, labels=[0, 1, 2, 3], average=None)
    found = mean_iou(sums, there)
    np.testing.assert_allclose(found.groups(), expected)
    assert found.value == pytest.approx(expected.mean())
    assert pixel_accuracy(sums).value == pytest.approx(accuracy_score(truth, predicted))
    assert found.n == 3


def test_void_pixels_do_not_count():
    truth = np.array([[0, 1], [-1, -1]])
    a = intersection_and_union(np.array([[0, 0], [0, 0]]), truth, 2)
    b = intersection_and_union(np.array([[0, 0], [1, 1]]), truth, 2)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, [[1, 0], [2, 1]])


def test_miou_of_tokens_agrees_with_pixels_where_tokens_are_pixels():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(4, (300,), generator=generator)
    logits = torch.randn(300, 4, generator=generator) + 1.5 * F.one_hot(truth, 4)
    expected = jaccard_score(truth.numpy(), logits.argmax(1).numpy(), average="macro")
    assert token_miou(logits, F.one_hot(truth, 4).float()) == pytest.approx(expected)


# The classifier


def test_softmax_regression_on_fractions_is_scikit_learns_with_weights():
    generator = torch.Generator().manual_seed(0)
    n, classes, decay = 400, 3, 0.01
    x = torch.randn(n, 5, generator=generator)
    scores = x @ torch.randn(5, classes, generator=generator) + 0.5
    fractions = scores.softmax(-1) * torch.rand(n, 1, generator=generator)  # rows sum to their weights
    weights, biases = train_softmax(x, fractions, classes, [(0.5, decay)], shuffled_batches(n, n, 1500, 0))
    rows, labels = x.repeat_interleave(classes, 0).numpy(), np.tile(np.arange(classes), n)
    reference = LogisticRegression(C=1 / (decay * n), tol=1e-8, max_iter=2000)
    reference.fit(rows, labels, sample_weight=fractions.flatten().numpy())
    found = (x @ weights[0] + biases[0]).softmax(-1)
    np.testing.assert_allclose(found.numpy(), reference.predict_proba(x.numpy()), atol=2e-3)


def test_classes_and_their_one_hot_fractions_are_the_same():
    generator = torch.Generator().manual_seed(0)
    x, labels = torch.randn(60, 4, generator=generator), torch.randint(3, (60,), generator=generator)
    batches = shuffled_batches(60, 16, 40, 0)
    a = train_softmax(x, labels, 3, [(0.1, 0.0), (0.3, 0.1)], batches)
    b = train_softmax(x, F.one_hot(labels, 3).float(), 3, [(0.1, 0.0), (0.3, 0.1)], batches)
    torch.testing.assert_close(a, b)
    assert sorted(torch.cat(batches[:4]).tolist()) == list(range(60))


def test_whitened_tokens_vary_alike_in_all_directions():
    mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(0))
    x = torch.randn(5000, 6, generator=torch.Generator().manual_seed(1)) @ mix
    x = (x - x.mean(0)) / x.std(0)
    values = torch.linalg.eigvalsh(x.T @ x / len(x))
    whitened = torch.linalg.eigvalsh((x @ whitening_of(x)).T @ (x @ whitening_of(x)) / len(x))
    torch.testing.assert_close(whitened, values / (values + 0.01), atol=1e-4, rtol=1e-3)


def test_adjustment_takes_out_frequencies_where_features_say_little():
    """One weak feature, classes 9 : 1: plain answers one class, adjusted both, and gains mIoU."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(4000, generator=generator) < 0.1).long()
    x = (torch.randn(4000, 1, generator=generator) + 1.2 * labels[:, None]).float()
    held_out = torch.arange(4000) % 5 == 0
    targets = F.one_hot(labels, 2).float()
    training = TrainingTokens(x, targets, torch.ones(4000), Standardisation(torch.zeros(1), torch.ones(1)), held_out)
    head = fit_segmentation(training, seed=0)
    torch.testing.assert_close(head.prior, targets.mean(0))
    plain, adjusted = head.logits(x), head.logits(x) + head.adjustment()
    torch.testing.assert_close(head.adjustment(), -head.tau * head.prior.log())
    assert head.tau in TAUS
    assert head.tau > 0
    assert token_miou(adjusted, targets) > token_miou(plain, targets) + 0.03
    reference = LogisticRegression(C=1e6).fit(x.numpy(), labels.numpy())
    np.testing.assert_allclose(plain.softmax(-1).numpy(), reference.predict_proba(x.numpy()), atol=0.02)


def test_drawn_tokens_have_targets_and_whole_images_are_held_out():
    values = np.arange(20 * 6 * 2, dtype=np.float16).reshape(20, 6, 2)
    tokens = Tokens(values, np.arange(20), (2, 3))
    weights = np.array([0, 1, 0.5, 0, 1, 1], np.float32)

    def target(row):
        return np.full((6, 1), row, np.float32), weights

    training = training_tokens(tokens, target, seed=0)
    assert len(training.x) == 20 * 4
    assert set(training.weights.tolist()) == {0.5, 1.0}
    rows = training.targets[:, 0]
    held_out = {int(row) for row in rows[training.held_out]}
    assert len(held_out) == 4
    assert not held_out & {int(row) for row in rows[~training.held_out]}
    back = (training.x * training.standardise.scale + training.standardise.mean).round()
    expected = torch.from_numpy(values[:, [1, 2, 4, 5]].reshape(-1, 2).astype(np.float32))
    torch.testing.assert_close(back, expected)
    few = training_tokens(tokens, target, seed=0, max_tokens=50)
    assert 20 < len(few.x) < 50
    assert torch.equal(few.x, training_tokens(tokens, target, seed=0, max_tokens=50).x)


# The task


def scenes(n, classes=3, seed=0, void=None):
    """Images of coloured blocks, a class a colour, and their ids at the resolution of tokens."""
    ids = np.random.default_rng(seed).integers(0, classes, (n, GRID, GRID))
    images = [encoded(blocks(COLOURS[one])) for one in ids]
    if void is not None:
        ids[:, 0, 0] = void
    return images, [encoded(one.astype(np.uint8)) for one in ids]


def test_an_encoder_that_tells_the_class_scores_100_and_a_constant_one_the_floor(tmp_path):
    source = save(tmp_path / "data", {"train": scenes(15), "validation": scenes(12, seed=1)}, "segmentation")
    data, task = evaluation(source), Segmentation()
    task.prepare(data)
    perfect = task.run(model(), data)
    for name in ("miou", "miou_adjusted", "pixel_accuracy"):
        assert perfect.measures[name].value == 1.0
        assert perfect.measures[name].n == 12
    assert perfect.details["iou_by_class"] == {"0": 1.0, "1": 1.0, "2": 1.0}
    floor = task.run(constant(), data)
    for name in ("miou", "pixel_accuracy"):
        assert floor.measures[name].value == pytest.approx(floor.measures[name].chance)
        assert floor.measures[name].chance == perfect.measures[name].chance
    assert 0.05 < floor.measures["miou"].value < 0.2
    pictures = task.draw({"perfect": perfect, "constant": floor}, tmp_path)
    assert all(picture.path.stat().st_size > 1000 for picture in pictures)
    assert len(pictures) == 2


def test_void_is_what_the_option_says(tmp_path):
    sides = {"train": scenes(15, void=11), "validation": scenes(12, seed=1, void=11)}
    data = evaluation(save(tmp_path, sides, "annotation"))
    ignored = Segmentation(void=(11,)).run(model(), data)
    assert ignored.measures["miou"].value == 1.0
    assert list(ignored.details["iou_by_class"]) == ["0", "1", "2"]
    assert ignored.measures["pixel_accuracy"].denominators.sum() == 12 * (GRID * GRID - 1)
    counted = Segmentation().run(model(), data)
    assert list(counted.details["iou_by_class"]) == ["0", "1", "2", "11"]
    assert counted.measures["miou"].value < 0.9


def test_annotations_of_any_resolution_and_unreadable_images(tmp_path):
    """At four pixels a token, interpolation blurs only the borders; broken files are left out on both sides."""
    images, _ = train = scenes(16)
    ids = np.random.default_rng(0).integers(0, 3, (16, GRID, GRID))
    fine = [encoded(np.kron(one, np.ones((SIDE // GRID, SIDE // GRID))).astype(np.uint8)) for one in ids]
    broken = {"bytes": b"no image", "path": None}
    sides = {"train": ([*images[:-1], broken], train[1]), "validation": (images, [*fine[:-2], broken, broken])}
    result = Segmentation().run(model(), evaluation(save(tmp_path, sides, "mask")))
    assert result.details["train_images"] == 15
    assert result.measures["miou"].n == 14
    assert 0.5 < result.measures["miou"].value < 1


def test_a_second_run_reads_the_cache_and_says_the_same(tmp_path):
    source = save(tmp_path / "data", {"train": scenes(12), "validation": scenes(12, seed=1)}, "segmentation")
    metrics = []
    for hits in (0, 2):
        cache = FeatureCache(tmp_path / "cache")
        metrics.append(Segmentation().run(model(), evaluation(source, cache)).measures["miou"].value)
        assert cache.hits == hits
    assert metrics[0] == metrics[1]


def test_part_scenes_needs_no_options():
    source = DataSource(dataset="part-scenes?size=32&num_images=24")
    result = Segmentation().run(model(GridMeans()), evaluation(source))
    assert result.measures["miou"].n == 24
    assert list(result.details["iou_by_class"])[:3] == ["background", "block", "beam"]


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ({"train": scenes(9), "validation": scenes(5)}, "9 training images.*10 or more"),
        ({"train": scenes(12, 1), "validation": scenes(5, 1)}, "two classes or more.*hold \\[0\\]"),
        ({"train": scenes(12, 2), "validation": scenes(5, 4)}, "no training image has.*: 2, 3;.*--segmentation_images"),
        (
            {"train": scenes(12), "validation": (scenes(2)[0], [encoded(np.full((4, 4), 255, np.uint8))] * 2)},
            "every pixel.*is void",
        ),
        (
            {"train": (scenes(12)[0], [encoded(np.zeros((4, 4), np.float32), "TIFF")] * 12), "validation": scenes(5)},
            "floats hold no class ids.*--segmentation_target_column",
        ),
        (
            {"train": (scenes(12)[0], [encoded(np.zeros((4, 8), np.uint8))] * 12), "validation": scenes(5)},
            "8x4 px does not fit its image of 16x16 px",
        ),
        (
            {"train": (scenes(12)[0], [{"bytes": b"-", "path": None}] * 12), "validation": scenes(5)},
            "not one annotation",
        ),
    ],
)
def test_annotations_that_cannot_do_are_refused_before_any_feature(tmp_path, sides, message):
    data = evaluation(save(tmp_path, sides, "segmentation"))
    with pytest.raises(ValueError, match=message):
        Segmentation().prepare(data)


def test_a_missing_column_names_the_flag(tmp_path):
    source = save(tmp_path, {"train": scenes(12), "validation": scenes(5)}, "somewhere_else")
    with pytest.raises(ValueError, match="--segmentation_target_column.*--segmentation_dataset.*somewhere_else"):
        Segmentation().prepare(evaluation(source))
    named = Segmentation(target_column="somewhere_else")
    named.prepare(evaluation(source))
    other = Segmentation(dataset=str(tmp_path), target_column="somewhere_else")  # the run itself is on other images
    assert other.run(model(), evaluation(DataSource("part-scenes?num_images=12"))).measures["miou"].value == 1.0


def test_sizes_a_model_cannot_take_are_refused(tmp_path):
    with pytest.raises(ValueError, match="15 px cannot be divided"):
        Segmentation(size=15).check(model(), evaluation(DataSource("part-scenes?num_images=12")))
    with pytest.raises(ValueError, match="size is 0"):
        Segmentation(size=0)


# In context


def test_neighbours_vote_as_scikit_learn_weighs_them():
    generator = torch.Generator().manual_seed(0)
    bank, queries = torch.randn(60, 8, generator=generator), torch.randn(9, 8, generator=generator)
    fractions = torch.rand(60, 3, generator=generator)
    memory = Memory(F.normalize(bank, dim=-1), fractions, neighbours=5, temperature=0.1)
    reference = KNeighborsRegressor(
        5, metric="cosine", algorithm="brute", weights=lambda distance: np.exp((1 - distance) / 0.1)
    ).fit(bank.numpy(), fractions.numpy())
    np.testing.assert_allclose(memory.logits(queries), reference.predict(queries.numpy()), atol=1e-4)
    torch.testing.assert_close(memory.prior, fractions.sum(0) / fractions.sum())


def test_in_context_known_colours_are_segmented_and_constant_tokens_get_chance(tmp_path):
    random = np.random.default_rng(0)
    sides = {}
    for side, count in (("train", 20), ("validation", 6)):
        ids = [random.integers(0, len(COLOURS), (GRID, GRID)) for _ in range(count)]
        # directions of colours, as similarity does not know their length
        images = [encoded(blocks(COLOURS[i])) for i in ids]
        sides[side] = (images, [encoded(np.kron(i, np.ones((4, 4))).astype(np.uint8)) for i in ids])
    data, task = evaluation(save(tmp_path / "s", sides, "mask")), InContextSegmentation(memory=200, neighbours=5)
    task.prepare(data)
    result = task.run(model(GridMeans(lambda colours: colours - 0.5)), data)
    assert result.measures["miou"].value > 0.7 and result.details["memory"] == 200
    nothing = task.run(constant(), data).measures["miou"]
    assert nothing.value < result.measures["miou"].value / 2
    (picture,) = task.draw({"means": result}, tmp_path)
    assert picture.path.name == "in_context_segmentation.png" and task.draw({}, tmp_path) == []
    with pytest.raises(ValueError, match="memory of k or more"):
        InContextSegmentation(memory=10)
