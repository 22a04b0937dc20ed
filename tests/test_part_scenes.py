"""PartScenes: determinism, exact labels (geometric oracles), variants, the datasets, and why arrangement counts."""

from __future__ import annotations

import colorsys
import hashlib
import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from datasets import ClassLabel, Image
from datasets.distributed import split_dataset_by_node

from sp_hf.data.part_scenes.backgrounds import MAX_DEPTH, Camera
from sp_hf.data.part_scenes.dataset import (
    CLASSES,
    DEFAULT,
    DIFFICULTIES,
    FEATURES,
    FINE_CLASSES,
    PARTS,
    VARIANTS,
    Scene,
    features_of,
    part_scenes,
    render_scene,
)
from sp_hf.data.part_scenes.objects import (
    PART_EXTENTS,
    PART_ORDER,
    arrangement,
    arrangement_distance,
    class_of,
)
from sp_hf.data.part_scenes.paints import MEAN, PAINTS, TONES
from sp_hf.data.part_scenes.posed_object import OUTLINES, piece_masks, plane_coordinates, pose_object, project_boxes
from sp_hf.data.part_scenes.raster import (
    MATERIALS,
    NEW_TEXTURES,
    PATTERNED,
    PATTERNED_MATERIALS,
    PATTERNS,
    TEXTURES,
    signed_distance,
)
from sp_hf.data.part_scenes.stage import paint_stage
from sp_hf.evaluation.controls.low_level_cues import LowLevelCues
from sp_hf.evaluation.features import ProbeImages, extract_features
from sp_hf.evaluation.where.relative_geometry.protocol import RelativeGeometryProtocol
from sp_hf.evaluation.where.shortcut_audit.task import audit
from sp_hf.views.keyed_random import sample_keys


def _same(first: Scene, second: Scene) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


# ------------------------------------------------------------------------------------------------ vocabulary
def test_every_class_is_an_arrangement_of_the_same_pieces() -> None:
    assert len(CLASSES) == 10 and len(FINE_CLASSES) == 30
    for fine in range(len(FINE_CLASSES)):
        assert arrangement(fine).shape == (len(PART_ORDER), 2)
        assert FINE_CLASSES[fine].startswith(CLASSES[class_of(fine)] + "/")


def test_pieces_of_an_arrangement_stand_on_the_ground_and_hardly_overlap() -> None:
    grid = np.stack(np.meshgrid(np.linspace(-1.4, 1.4, 141), np.linspace(0, 2.6, 131)), -1)
    for fine in range(0, len(FINE_CLASSES), 3):
        centres = arrangement(fine)
        inside = np.stack(
            [
                signed_distance(part, *np.moveaxis(grid - c, -1, 0)) < 0
                for part, c in zip(PART_ORDER, centres, strict=True)
            ]
        )
        assert (inside.sum(0) > 1).sum() < 0.04 * inside.any(0).sum(), FINE_CLASSES[fine]
        assert min(y - PART_EXTENTS[p][1] for p, (_, y) in zip(PART_ORDER, centres, strict=True)) == pytest.approx(
            0, abs=0.05
        )


def test_mirroring_makes_no_class_of_another() -> None:
    pairs = itertools.combinations(range(len(FINE_CLASSES)), 2)
    distance = {pair: arrangement_distance(arrangement(pair[0]), arrangement(pair[1])) for pair in pairs}
    assert min(distance.values()) > 0.2
    assert min(d for (a, b), d in distance.items() if class_of(a) != class_of(b)) > 0.35
    some = arrangement(4)
    assert arrangement_distance(some, some * [-1, 1] + 0.3) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("part", PARTS)
def test_signed_distance_vanishes_on_the_outline_and_fills_the_box(part: str) -> None:
    half_width, half_height = PART_EXTENTS[part]
    points = OUTLINES[PART_ORDER.index(part)]
    assert np.abs(signed_distance(part, points[:, 0], points[:, 1])).max() < 1e-6
    u, v = np.meshgrid(np.linspace(-0.7, 0.7, 701), np.linspace(-0.7, 0.7, 701))
    inside = signed_distance(part, u, v) < 0
    assert np.abs(u[inside]).max() == pytest.approx(half_width, rel=0.06)
    assert v[inside].max() == pytest.approx(half_height, abs=0.01)


@pytest.mark.parametrize("name", list(TEXTURES | NEW_TEXTURES | PATTERNS))
def test_textures_are_weights_that_vary(name: str) -> None:
    texture = (TEXTURES | NEW_TEXTURES | PATTERNS)[name]
    u, v = np.meshgrid(np.linspace(-0.4, 0.4, 60, dtype=np.float32), np.linspace(-0.4, 0.4, 60, dtype=np.float32))
    weight = texture(u, v, 5.0, 0.7, 0.8 / 60)
    assert weight.min() >= 0 and weight.max() <= 1
    if name != "plain":
        assert weight.std() > 0.15


# --------------------------------------------------------------------------------------------------- scenes
@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_a_scene_depends_on_its_arguments_alone(difficulty: str) -> None:
    first = render_scene(7, 123, 64, difficulty=difficulty)
    render_scene(0, 5, difficulty=difficulty)
    assert _same(first, render_scene(7, 123, 64, difficulty=difficulty))
    others = [
        render_scene(8, 123, 64, difficulty=difficulty),
        render_scene(7, 124, 64, difficulty=difficulty),
        render_scene(7, 123, 64, split="test", difficulty=difficulty),
    ]
    assert all(not np.array_equal(first.image, other.image) for other in others)
    assert all(not np.array_equal(a.depth, b.depth) for a, b in itertools.combinations([first, *others], 2))


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_shapes_types_and_ranges(difficulty: str) -> None:
    scene = render_scene(0, 0, 80, difficulty=difficulty)
    assert scene.image.shape == (80, 80, 3) and scene.image.dtype == np.uint8
    assert scene.segmentation.shape == (80, 80) and scene.segmentation.dtype == np.uint8
    assert scene.depth.shape == (80, 80) and scene.depth.dtype == np.float32
    assert scene.part_boxes.dtype == np.float32 and scene.part_boxes.shape == (len(scene.part_ids), 4)
    for index in range(40):
        for variant in VARIANTS:
            scene = render_scene(1, index, 48, variant, difficulty=difficulty)
            assert np.isfinite(scene.depth).all() and 0 < scene.depth.min() and scene.depth.max() <= MAX_DEPTH
            assert scene.segmentation.max() <= len(PARTS)
            assert scene.label == class_of(scene.fine_label)
            corners = np.concatenate([scene.part_boxes[:, :2] - scene.part_boxes[:, 2:] / 2,
                                      scene.part_boxes[:, :2] + scene.part_boxes[:, 2:] / 2])  # fmt: skip
            assert corners.min() > -1e-6 and corners.max() < 1 + 1e-6


def test_fine_classes_are_balanced_and_shuffled() -> None:
    labels = [render_scene(3, index, 32).fine_label for index in range(90)]
    assert all(sorted(labels[start : start + 30]) == list(range(30)) for start in (0, 30, 60))
    assert labels[:30] != labels[30:60] != labels[60:]


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_boxes_enclose_the_pixels_of_their_parts(difficulty: str) -> None:
    gaps = []
    for index in range(40):
        scene = render_scene(2, index, 128, "silhouettes", difficulty=difficulty)  # no occluders
        for part, box in zip(scene.part_ids, scene.part_boxes, strict=True):
            if (scene.part_ids == part).sum() > 1:
                continue
            rows, columns = np.nonzero(scene.segmentation == part)
            seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 128
            truth = np.concatenate([box[:2] - box[2:] / 2, box[:2] + box[2:] / 2])
            assert (seen[:2] >= truth[:2] - 1.1 / 128).all() and (seen[2:] <= truth[2:] + 1.1 / 128).all()
            gaps.append(np.abs(seen - truth).max() * 128)
    assert np.median(gaps) < 1.0  # and touch them where nothing hides the part


def test_depth_is_that_of_planes_seen_by_a_pinhole_camera() -> None:
    """Inverse depth of a plane is affine in image coordinates: of the object in x alone, as it stands upright; of the
    ground in y alone; and the two meet where the object touches the ground."""
    tested = 0
    for index in range(60):
        scene = render_scene(4, index, 96, "silhouettes", difficulty="hard")  # nothing stands in front
        inverse = 1 / scene.depth.astype(np.float64)
        rows, columns = np.nonzero(scene.segmentation)
        slope, offset = np.polyfit(columns + 0.5, inverse[rows, columns], 1)
        np.testing.assert_allclose(slope * (columns + 0.5) + offset, inverse[rows, columns], rtol=1e-5)
        ground = [row for row in range(50, 96) if np.ptp(inverse[row]) < 1e-6 and inverse[row, 0] > 2 / MAX_DEPTH]
        ground = [row for row in ground if inverse[row, 0] > 1.01 * inverse[row - 1, 0]]  # not a wall
        if len(ground) < 4:
            continue
        steepness, start = np.polyfit(np.array(ground) + 0.5, inverse[ground, 0], 1)
        np.testing.assert_allclose(steepness * (np.array(ground) + 0.5) + start, inverse[ground, 0], rtol=1e-5)
        foot = (inverse[rows, columns] - start) / steepness  # the row where the ground is as near as this pixel
        above = foot - (rows + 1)
        assert above.min() > -1
        if rows.max() < 95:
            assert above.min() < 2
        tested += 1
    assert tested > 10


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_the_object_stands_in_front_of_its_surroundings(difficulty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    painted = [render_scene(5, index, 64, "silhouettes", difficulty=difficulty) for index in range(60)]
    monkeypatch.setattr("sp_hf.data.part_scenes.render.paint_object", lambda *_: None)
    for index, scene in enumerate(painted):
        bare = render_scene(5, index, 64, "silhouettes", difficulty=difficulty)
        inside = scene.segmentation > 0
        assert (scene.depth[inside] < bare.depth[inside] * 1.0001).all(), index
        assert np.array_equal(scene.depth[~inside], bare.depth[~inside])


def test_props_and_occluders_hide_only_what_is_behind_them() -> None:
    """The silhouettes' labels are those of the same scene without props and occluder."""
    hidden = 0
    for index in range(40):
        scene, bare = (
            render_scene(5, index, 64, difficulty="hard"),
            render_scene(5, index, 64, "silhouettes", difficulty="hard"),
        )
        assert (scene.depth <= bare.depth).all()
        in_front = (scene.depth < bare.depth) & (bare.segmentation > 0)
        assert (scene.segmentation == np.where(in_front, 0, bare.segmentation)).all()
        assert in_front.sum() < 0.6 * (bare.segmentation > 0).sum()
        hidden += in_front.any()
    assert 5 < hidden < 30  # occluders stand in half of the scenes


def test_masks_agree_with_the_projection_of_the_outlines() -> None:
    rng = np.random.default_rng(0)
    for fine in range(0, 30, 4):
        pose, camera = pose_object(arrangement(fine), 200, rng)
        boxes = project_boxes(pose, camera)
        masks = piece_masks(pose, plane_coordinates(pose, camera), boxes)
        for part, mask, box in zip(PART_ORDER, masks, boxes * 200, strict=True):
            if mask is None or box.min() < 1 or box.max() > 199 or part in ("ring", "wheel", "star"):
                continue
            # Area by pixels against area by the formula of the shape, through the local scale of the projection.
            half_width, half_height = PART_EXTENTS[part]
            area = {"triangle": 2.0, "dome": math.pi}.get(part, 4.0) * half_width * half_height
            piece = PART_ORDER.index(part)
            middle_z = pose.z0 + pose.centres[piece, 0] * math.sin(pose.yaw)
            scale = abs(np.linalg.det(pose.axes[piece])) * pose.z0 * math.cos(pose.yaw) / middle_z**3
            bend = 1 - pose.x0 / pose.z0 * math.tan(pose.yaw)
            assert mask.coverage.sum() == pytest.approx(area * scale * bend * 200**2, rel=0.08), part


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_a_scene_is_the_same_at_any_size(difficulty: str) -> None:
    for index in range(5):
        large, small = (
            render_scene(6, index, 192, difficulty=difficulty),
            render_scene(6, index, 64, difficulty=difficulty),
        )
        np.testing.assert_allclose(large.part_boxes, small.part_boxes, atol=1e-6)
        assert (large.segmentation[1::3, 1::3] == small.segmentation).mean() > 0.98
        mean = large.image.reshape(64, 3, 64, 3, 3).mean((1, 3))
        assert np.abs(mean - small.image).mean() < 12


# ----------------------------------------------------------------------------------------------- difficulties
HARD = {  # sha256 of scenes as they were when no other difficulty existed
    "standard": "ebc56ff27e471ea88fa3520f79f48fc7d4a9b90d3f30e2825f89432c1f12c063",
    "new-textures": "105ade03c1d770c7de4b6697c6ff4ac65b54d9159d430372a1551490432e64f0",
    "new-backgrounds": "df3f660e9c7684bb5ab8efe3d382c2322bbe64b4339eac829942b66b47be60bf",
    "silhouettes": "2241cadf2c2ecc4fb90b85f3468514da96a9e3baed4efaaa8ded5d1270085630",
    "jumbled": "6e4c8e37ed5ef9f15475339c4eda85210bfa24ca01237968908a3a5d25faabd2",
    "class-textures": "2fb28eb7a1d6883eea75a085ad9797224828fce6c4d74d59e5ed379398fbbe5f",
    "cue-conflict": "d597485ae79aea5bd8d4374528ec182c14e4fef582ef0424043eee37c4169a08",
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_hard_scenes_are_those_of_the_first_version_bit_by_bit(variant: str) -> None:
    digest = hashlib.sha256()
    for index, (size, split) in itertools.product(range(12), ((40, "train"), (64, "test"))):
        scene = render_scene(11, index, size, variant, split, "hard")
        for array in (scene.image, scene.segmentation, scene.depth, scene.part_ids, scene.part_boxes):
            digest.update(np.ascontiguousarray(array).tobytes())
        digest.update(bytes([scene.label, scene.fine_label]))
    assert digest.hexdigest() == HARD[variant]


def test_easy_is_the_default_and_difficulties_differ_in_looks_not_in_labels() -> None:
    assert DEFAULT == "easy" and list(DIFFICULTIES) == ["easy", "medium", "hard"]
    assert _same(render_scene(9, 3, 48), render_scene(9, 3, 48, difficulty="easy"))
    for index in range(10):
        easy, medium, hard = (render_scene(9, index, 48, difficulty=level) for level in DIFFICULTIES)
        assert easy.fine_label == medium.fine_label == hard.fine_label
        assert np.array_equal(medium.segmentation, hard.segmentation) and np.array_equal(medium.depth, hard.depth)
        assert np.array_equal(medium.image[_outside(hard.part_boxes, 48)], hard.image[_outside(hard.part_boxes, 48)])
        assert not np.array_equal(medium.image, hard.image) and not np.array_equal(easy.image, medium.image)


def test_easy_depth_is_that_of_an_upright_object_before_a_wall() -> None:
    for index in range(20):
        scene = render_scene(4, index, 96)
        rows, columns = np.nonzero(scene.segmentation)
        inverse = 1 / scene.depth[rows, columns].astype(np.float64)
        slope, offset = np.polyfit(columns + 0.5, inverse, 1)
        np.testing.assert_allclose(slope * (columns + 0.5) + offset, inverse, rtol=1e-5)
        wall = scene.depth[scene.segmentation == 0]
        assert np.ptp(wall) == 0 and wall[0] > scene.depth[rows, columns].max()


def test_paints_are_equally_bright_and_a_kind_of_part_has_one_hue() -> None:
    np.testing.assert_allclose(PAINTS.mean(-1), np.tile(TONES, (len(PART_ORDER), 1)), rtol=1e-5)
    hues = np.array([colorsys.rgb_to_hsv(*paint)[0] for paint in PAINTS[:, 0].tolist()])
    apart = np.abs((hues[:, None] - hues + 0.5) % 1 - 0.5)
    same = np.array([[a == b for a in PART_ORDER] for b in PART_ORDER])
    assert apart[same].max() < 1e-6 and apart[~same].min() > 0.12


def test_the_easy_wall_is_alike_everywhere_and_as_bright_and_contrasted_as_the_object() -> None:
    walls = np.stack(
        [paint_stage(Camera(0.5, 1.0, 48), 3.0, PATTERNED, False, np.random.default_rng(i)).image for i in range(150)]
    )
    tiles = walls.reshape(150, 3, 3, 16, 3, 16).mean((0, 3, 5))  # [3, 3, 3]
    assert np.abs(tiles - tiles.mean((1, 2), keepdims=True)).max() < 0.015
    scenes = [render_scene(2, index, 64) for index in range(100)]
    inside, outside = (
        np.concatenate([s.image[(s.segmentation > 0) == side] for s in scenes]) / 255 for side in (True, False)
    )
    np.testing.assert_allclose(inside.mean(0), outside.mean(0), atol=0.02)  # each channel
    assert inside.mean(1).std() == pytest.approx(outside.mean(1).std(), rel=0.2)


def test_the_mean_paint_is_that_of_the_pixels_of_an_object() -> None:
    scenes = [render_scene(2, index, 64, "class-textures") for index in range(100)]
    inside = np.concatenate([s.image[s.segmentation > 0] for s in scenes]) / 255
    hue = inside.mean(0) / inside.mean()
    np.testing.assert_allclose(hue, MEAN[0] / MEAN[0].mean(), atol=0.03)


@pytest.mark.parametrize("variant", ["standard", "class-textures"])
def test_low_level_cues_hardly_tell_where_a_crop_of_an_easy_scene_is(variant: str) -> None:
    sides = []
    for split, seed in (("train", 0), ("validation", 1)):
        images = np.stack([render_scene(0, index, 96, variant, split).image for index in range(300)])
        canvases = torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        sample = ProbeImages(canvases, torch.ones(300), sample_keys(seed, 0, 300), None, [], split)
        spec = RelativeGeometryProtocol().view_spec(32)
        sides.append(extract_features(LowLevelCues(), sample, {"crops": spec})["crops"])
    assert audit(*sides)["r2_position_all_cues"].value < 0.1


# -------------------------------------------------------------------------------------------------- variants
@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_variants_keep_the_arrangement_and_change_what_they_name(difficulty: str) -> None:
    for index in range(10):
        scenes = {variant: render_scene(9, index, 64, variant, difficulty=difficulty) for variant in VARIANTS}
        standard, textures = scenes["standard"], scenes["new-textures"]
        for variant, scene in scenes.items():
            assert scene.label == standard.label and scene.fine_label == standard.fine_label
            assert np.array_equal(scene.part_boxes, standard.part_boxes) == (variant != "jumbled")
        black = scenes["silhouettes"]
        parts = black.segmentation > 0  # with those that an occluder hides in the others
        outside = _outside(standard.part_boxes, 64)
        assert np.array_equal(textures.segmentation, standard.segmentation)
        assert np.array_equal(textures.image[outside], standard.image[outside])
        assert not np.array_equal(textures.image[parts], standard.image[parts])
        background = scenes["new-backgrounds"]
        assert np.array_equal(background.segmentation, standard.segmentation)
        assert (background.image != standard.image)[~parts].mean() > 0.5
        assert np.ptp(black.image, axis=-1).max() == 0
        assert (black.image[outside] == 255).all()
        assert (black.image[parts] < 140).all()


def test_the_texture_of_a_class_and_of_a_conflict_is_on_all_parts_and_nothing_else_changes() -> None:
    right = []
    for index in range(20):
        standard = render_scene(9, index, 64, difficulty="hard")
        outside = _outside(standard.part_boxes, 64)
        for variant in ("class-textures", "cue-conflict"):
            scene = render_scene(9, index, 64, variant, difficulty="hard")
            assert np.array_equal(scene.image[outside], standard.image[outside])
            assert np.array_equal(scene.segmentation, standard.segmentation)
            texture = scene.label if variant == "class-textures" else scene.texture
            hue, saturation = _hues(scene.image[scene.segmentation > 0])
            middles = np.array([material.hues for material in MATERIALS]).mean(-1)  # [materials, 2]
            apart = np.abs((hue[:, None, None] - middles + 0.5) % 1 - 0.5).min(-1)  # [pixels, materials]
            explained = np.average(apart < 0.026, axis=0, weights=saturation)
            right.append(explained.argmax() == texture)
    assert np.mean(right) > 0.85  # mixtures of the two hues, and hues under glaring light, explain the rest
    assert standard.texture is None


def _hues(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values = np.array([colorsys.rgb_to_hsv(*(pixel / 255)) for pixel in pixels])
    return values[:, 0], values[:, 1]


def test_every_other_texture_conflicts_equally_often() -> None:
    scenes = [render_scene(9, index, 32, "cue-conflict") for index in range(600)]
    table = np.zeros((10, 10))
    for scene in scenes:
        table[scene.label, scene.texture] += 1
    assert (np.diag(table) == 0).all() and table.sum(0).min() > 36  # 60 expected, 7 standard deviation
    for materials in (MATERIALS, PATTERNED_MATERIALS):
        assert len(materials) == len(CLASSES) and len({material.textures for material in materials}) == 10
    again = render_scene(9, 3, 48, "cue-conflict"), render_scene(9, 3, 48, "cue-conflict", "test")
    assert again[0].texture == scenes[3].texture
    assert [render_scene(9, i, 32, "cue-conflict", "test").texture for i in range(9)] != [s.texture for s in scenes[:9]]


def _outside(boxes: np.ndarray, size: int) -> np.ndarray:
    """Pixels [S, S] at least one pixel away from every box [n, 4]."""
    x, y = np.meshgrid(*2 * [(np.arange(size) + 0.5) / size])
    inside = [(abs(x - cx) < w / 2 + 1.5 / size) & (abs(y - cy) < h / 2 + 1.5 / size) for cx, cy, w, h in boxes]
    return ~np.any(inside, axis=0)


# --------------------------------------------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "train, validation, test"),
        ({"variant": "sketch"}, "standard, new-textures, .*, class-textures, cue-conflict"),
        ({"difficulty": "simple"}, "easy, medium, hard"),
        ({"size": 8}, "32 to 1024 pixels; got size=8"),
        ({"size": 64.5}, "whole numbers; got size=64.5"),
        ({"num_images": 0}, "num_images=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments_name_the_value_and_the_choices(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part_scenes(**arguments)
    if "num_images" not in arguments:
        with pytest.raises(ValueError, match=message):
            render_scene(**{"seed": 0, "index": 0, **arguments})


# -------------------------------------------------------------------------------------------------- datasets
@pytest.fixture(scope="module")
def map_style(tmp_path_factory: pytest.TempPathFactory):
    return part_scenes("test", size=40, num_images=260, seed=1, cache_dir=str(tmp_path_factory.mktemp("cache")))


def test_rows_hold_the_scenes_without_loss(map_style) -> None:
    assert map_style.features == FEATURES and len(map_style) == 260
    assert isinstance(map_style.features["image"], Image) and isinstance(map_style.features["label"], ClassLabel)
    assert next(iter(map_style.features)) == "image"
    for index in (0, 150, 259):
        row, scene = map_style[index], render_scene(1, index, 40, split="test")
        assert row["image"].mode == "RGB" and np.array_equal(np.asarray(row["image"]), scene.image)
        assert np.array_equal(np.asarray(row["segmentation"]), scene.segmentation)
        assert row["depth"].mode == "F" and np.array_equal(np.asarray(row["depth"]), scene.depth)
        assert (row["label"], row["fine_label"]) == (scene.label, scene.fine_label)
        assert [part["part"] for part in row["part_boxes"]] == scene.part_ids.tolist()
        assert np.array_equal(np.float32([part["box"] for part in row["part_boxes"]]), scene.part_boxes)


def test_undecoded_rows_hold_png_bytes_and_rows_survive_pickling(map_style) -> None:
    undecoded = map_style.cast_column("image", Image(decode=False))[3]["image"]
    assert undecoded["bytes"].startswith(b"\x89PNG") and undecoded["path"] is None
    assert pickle.loads(pickle.dumps(map_style))[3]["image"] == map_style[3]["image"]


def test_a_second_call_reuses_the_drawn_images(tmp_path, monkeypatch) -> None:
    arguments = {"size": 32, "num_images": 4, "cache_dir": str(tmp_path)}
    first = part_scenes(**arguments)
    monkeypatch.setattr("sp_hf.data.part_scenes.dataset.render_scene", lambda *_: pytest.fail("drawn again"))
    assert part_scenes(**arguments)[2] == first[2]


def test_arguments_that_change_the_images_are_cached_apart(tmp_path) -> None:
    base = {"size": 32, "num_images": 2, "cache_dir": str(tmp_path)}
    changes = [
        {},
        {"size": 33},
        {"seed": 1},
        {"variant": "jumbled"},
        {"difficulty": "hard"},
        {"split": "validation"},
        {"num_images": 3},
    ]
    datasets = [part_scenes(**{**base, **change}) for change in changes]
    assert len({dataset._fingerprint for dataset in datasets}) == len(changes)
    assert len({dataset[0]["image"].tobytes() for dataset in datasets}) == len(changes) - 1  # num_images alone does not


def test_streaming_yields_the_same_rows(map_style) -> None:
    stream = part_scenes("test", size=40, num_images=260, seed=1, streaming=True)
    assert stream.features == FEATURES and stream.num_shards == 2
    assert [row["fine_label"] for row in stream] == map_style["fine_label"]
    assert next(iter(stream)) == map_style[0]


def test_a_stream_is_divided_among_ranks_and_resumes() -> None:
    stream = part_scenes(size=32, num_images=260, streaming=True).select_columns(["image", "fine_label"])
    stream = stream.cast_column("image", Image(decode=False))
    everything = [row["image"]["bytes"] for row in stream]
    ranks = [[row["image"]["bytes"] for row in split_dataset_by_node(stream, rank, 2)] for rank in (0, 1)]
    assert sorted(ranks[0] + ranks[1]) == sorted(everything) and not set(ranks[0]) & set(ranks[1])
    rows = iter(stream)
    seen = [next(rows)["image"]["bytes"] for _ in range(150)]
    state = stream.state_dict()
    stream.load_state_dict(state)
    assert seen + [row["image"]["bytes"] for row in stream] == everything


def test_only_cue_conflict_has_columns_for_shape_and_texture(tmp_path) -> None:
    conflict = part_scenes(size=32, num_images=5, variant="cue-conflict", cache_dir=str(tmp_path))
    assert set(conflict.column_names) - set(FEATURES) == {"shape", "texture"}
    assert conflict.features["shape"].names == conflict.features["texture"].names == list(CLASSES)
    for index, row in enumerate(conflict):
        scene = render_scene(0, index, 32, "cue-conflict")
        assert row["shape"] == row["label"] == scene.label and row["texture"] == scene.texture
    assert next(iter(part_scenes(size=32, num_images=1, variant="cue-conflict", streaming=True))) == conflict[0]
    for variant in VARIANTS[:-1]:
        assert features_of(variant) == FEATURES
    plain = part_scenes(size=32, num_images=1, variant="class-textures", cache_dir=str(tmp_path))
    assert plain.features == FEATURES and "shape" not in plain[0]


# ------------------------------------------------------------------------------------- arrangement is what counts
def _patch_codes(images: np.ndarray, centroids: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """8x8 patches at stride 4, contrast-normalised and quantised to the nearest of 64 of them: codes [N, g, g]."""
    grey = images.mean(-1).astype(np.float32)
    patches = np.lib.stride_tricks.sliding_window_view(grey, (8, 8), axis=(1, 2))[:, ::4, ::4]
    patches = patches.reshape(*patches.shape[:3], 64)
    patches = patches - patches.mean(-1, keepdims=True)
    patches /= np.linalg.norm(patches, axis=-1, keepdims=True) + 40
    if centroids is None:
        flat = patches.reshape(-1, 64)
        centroids = flat[np.random.default_rng(0).choice(len(flat), 64, replace=False)]
    score = patches @ centroids.T - 0.5 * (centroids**2).sum(-1)
    return score.argmax(-1), centroids


def _histograms(codes: np.ndarray, images: np.ndarray) -> np.ndarray:
    patches = np.stack([np.bincount(c.ravel(), minlength=64) for c in codes])
    colours = np.stack([[np.histogram(image[..., c], 8, (0, 256))[0] for c in range(3)] for image in images])
    return np.sqrt(np.concatenate([patches, colours.reshape(len(images), -1)], axis=1))


def _layout(scene: Scene) -> np.ndarray:
    """Pairwise (|dx|, dy) between all nine pieces: arrangement, blind to mirroring, from the boxes alone."""
    difference = scene.part_boxes[:, None, :2] - scene.part_boxes[None, :, :2]
    upper = np.triu_indices(len(PART_ORDER), 1)
    return np.concatenate([np.abs(difference[..., 0][upper]), difference[..., 1][upper]])


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_a_bag_of_patches_is_not_enough(difficulty: str) -> None:
    """Order-free patch and colour statistics stay near chance (10 %), where the places of the parts tell all."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    train = [render_scene(0, index, 64, difficulty=difficulty) for index in range(700)]
    test = [render_scene(0, index, 64, split="test", difficulty=difficulty) for index in range(400)]
    whole = [[s for s in scenes if len(s.part_ids) == len(PART_ORDER)] for scenes in (train, test)]

    def accuracy(features: list[np.ndarray], scenes: list[list], strength: float) -> float:
        scale = preprocessing.StandardScaler().fit(features[0])
        model = linear_model.LogisticRegression(C=strength, max_iter=200)
        model.fit(scale.transform(features[0]), [s.label for s in scenes[0]])
        return model.score(scale.transform(features[1]), [s.label for s in scenes[1]])

    images = [np.stack([s.image for s in scenes]) for scenes in (train, test)]
    train_codes, centroids = _patch_codes(images[0], None)
    codes = [train_codes, _patch_codes(images[1], centroids)[0]]
    bag = accuracy([_histograms(c, i) for c, i in zip(codes, images, strict=True)], [train, test], 0.003)
    layout = accuracy([np.stack([_layout(s) for s in scenes]) for scenes in whole], whole, 1.0)
    assert bag < 0.25
    assert layout > 0.9


def test_patches_tell_the_texture_of_a_conflict_and_not_its_shape() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model")
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    train = [render_scene(0, index, 48, "class-textures", difficulty="hard") for index in range(400)]
    test = [render_scene(0, index, 48, "cue-conflict", "test", difficulty="hard") for index in range(300)]
    codes, centroids = _patch_codes(np.stack([s.image for s in train]), None)
    x = _histograms(codes, [s.image for s in train])
    scale = preprocessing.StandardScaler().fit(x)
    model = linear_model.LogisticRegression(C=0.003, max_iter=200).fit(scale.transform(x), [s.label for s in train])
    codes, _ = _patch_codes(np.stack([s.image for s in test]), centroids)
    found = model.predict(scale.transform(_histograms(codes, [s.image for s in test])))
    assert (found == [s.texture for s in test]).mean() > 0.2
    assert (found == [s.label for s in test]).mean() < 0.15


@pytest.mark.parametrize("difficulty", list(DIFFICULTIES))
def test_the_parts_seen_tell_little_about_the_class(difficulty: str) -> None:
    """The oracle bag: visible area of every part. Its class means differ by little beside its spread."""
    scenes = [render_scene(0, index, 48, difficulty=difficulty) for index in range(400)]
    areas = np.array([[(s.segmentation == part).mean() for part in range(1, len(PARTS) + 1)] for s in scenes])
    labels = np.array([s.label for s in scenes])
    means = np.stack([areas[labels == label].mean(0) for label in range(len(CLASSES))])
    between, total = means.var(0), areas.var(0)
    assert (between / total < 0.15).all(), between / total
