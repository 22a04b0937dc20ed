"""The two probes of a model that the Space asks: in which cell a tile belongs, and how two crops lie to each other.

They are those of ``sp-hf evaluate`` (:mod:`sp_hf.evaluation.where`), with the same puzzles and crops, of half a model's
own side. A set is saved beside its model: tensors, and in the header the images that it was fitted to and what it
scored on others.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..errors import InputError
from ..evaluation.data import EvaluationData
from ..evaluation.model import EvaluatedModel
from ..evaluation.where.jigsaw.features import apart_features
from ..evaluation.where.jigsaw.probe import CellProbe
from ..evaluation.where.jigsaw.task import Jigsaw
from ..evaluation.where.relative_geometry.probe import RelationProbe, embedding
from ..evaluation.where.relative_geometry.protocol import RelativeGeometryProtocol
from ..evaluation.whole_images import encode_pixels
from ..views.photometric import Photometric
from ..views.spec import ViewSpec
from ..whole_file import write_whole

GRID = 3
JIGSAW = Jigsaw(grids=(GRID,), regimes=("apart",))
PUZZLE = JIGSAW.puzzles()[0]
PHOTOMETRIC = Photometric.byol()
_FINEST_CANVAS = 256  # px: what drawn scenes have
_HEADER = "sp_hf_space"


class ProbeError(InputError):
    """Saved probes that are not for this model."""


@dataclasses.dataclass(frozen=True)
class Fitted:
    """What probes were fitted to.

    Args:
        images: the data in a line, without paths.
        count: of them.
        seed: of every choice.
        scores: on images that they were not fitted to, by name; empty where nobody looked.
    """

    images: str
    count: int
    seed: int
    scores: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class ProbeSet:
    """Of one model.

    Args:
        cells: of tiles encoded apart.
        relation: of crops.
        fitted: to what.
        sample: float32 [2 D], what the model makes of a certain picture: by this its probes know it again.
    """

    cells: CellProbe
    relation: RelationProbe
    fitted: Fitted
    sample: Tensor

    @classmethod
    def fit(cls, model: EvaluatedModel, data: EvaluationData, images: str) -> ProbeSet:
        """Fit both to the training side of some data.

        Args:
            model: on its device.
            data: its training side is used, all of it.
            images: what to call them.

        Raises:
            ValueError: too few images, or features that are not finite.
        """
        size, canvas = crop_size(model), canvas_size(model)
        tiles, _ = apart_features(
            model, data, data.train, PUZZLE, size=size, canvas_size=canvas, photometric=PHOTOMETRIC
        )  # [n, T, 2 D]
        cells = CellProbe.fit(tiles, torch.arange(PUZZLE.tiles).expand(tiles.shape[:2]), seed=data.seed)
        crops = data.crops(model, data.train, crop_spec(model), canvas)
        relation = RelationProbe.fit(embedding(crops), crops.boxes, seed=data.seed)
        return cls(cells, relation, Fitted(images, len(tiles), data.seed), sample_of(model))

    def scored(self, scores: dict[str, float]) -> ProbeSet:
        """With what it scored on other images."""
        return dataclasses.replace(self, fitted=dataclasses.replace(self.fitted, scores=scores))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file, whole or not at all."""
        tensors = {
            "cells.scale": self.cells.scale,
            "cells.weights": self.cells.weights,
            "relation.scale": self.relation.scale,
            "relation.weights": self.relation.weights,
            "relation.penalties": self.relation.penalties,
            "sample": self.sample,
        }
        header = {**dataclasses.asdict(self.fitted), "penalty": self.cells.penalty, "protocol": protocol()}
        content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {_HEADER: json.dumps(header)})
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(Path(path), content)

    @classmethod
    def load(cls, path: str | os.PathLike[str], model: EvaluatedModel) -> ProbeSet:
        """Read what :meth:`save` wrote.

        Raises:
            ProbeError: it is of other weights, of another protocol, or damaged.
        """
        try:
            with safe_open(path, "pt") as file:
                header: dict[str, Any] = json.loads(file.metadata()[_HEADER])
                of: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ProbeError(
                f"{path} holds no probes of the Space ({error}); remove it, and they are fitted"
            ) from error
        penalty, made = header.pop("penalty"), header.pop("protocol")
        if made != protocol() or not _is_same(of["sample"], sample_of(model)):
            raise ProbeError(f"the probes in {path} are of other weights or another protocol; remove them")
        relation = RelationProbe(of["relation.scale"], of["relation.weights"], of["relation.penalties"])
        return cls(CellProbe(of["cells.scale"], of["cells.weights"], penalty), relation, Fitted(**header), of["sample"])


def sample_of(model: EvaluatedModel) -> Tensor:
    """Class token and mean patch token of a fixed picture, float32 [2 D]."""
    picture = torch.rand(1, 3, model.size, model.size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        encoding = encode_pixels(model, picture)
        return torch.cat([encoding.cls.float(), encoding.patches.float().mean(1)], dim=-1)[0].cpu()


def _is_same(a: Tensor, b: Tensor) -> bool:
    """But for the rounding of other machines and versions."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0.02, atol=0.02 * float(a.abs().mean()))


def probes_of(folder: str | os.PathLike[str]) -> Path:
    """Where the probes of a model's folder are: beside it, as any safetensors in it are taken for its weights."""
    place = Path(folder)
    return place.with_name(f"{place.name}.probes.safetensors")


def crop_size(model: EvaluatedModel) -> int:
    """Side in px at which a model is shown tiles and crops: half its own, or the least that it takes from there on."""
    return JIGSAW.tile_size_for(model)


def canvas_size(model: EvaluatedModel) -> int:
    """Side in px of the images that these are cut from."""
    return min(GRID * crop_size(model), _FINEST_CANVAS)


def crop_spec(model: EvaluatedModel) -> ViewSpec:
    """The crops that the second probe is fitted to."""
    return RelativeGeometryProtocol().view_spec(crop_size(model))


def protocol() -> str:
    """A digest of all that is asked, but for the images: equal for probes that can be compared."""
    asked = {
        "puzzle": dataclasses.asdict(PUZZLE),
        "photometric": dataclasses.asdict(PHOTOMETRIC),
        "crops": RelativeGeometryProtocol().to_dict(),
        "canvas": _FINEST_CANVAS,
    }
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
