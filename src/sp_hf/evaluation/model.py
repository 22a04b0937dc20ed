"""A model under evaluation: its encoder, its own preprocessing of whole images, and what identifies both.

Whole images go through the model's own image processor (resize, crop), so that it sees what it was made for; crops and
tiles are cut by :mod:`sp_hf.views`. Pixels are kept as uint8 after the processor's resize and before its normalisation,
which the encoder does.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, PreTrainedModel
from transformers.utils import logging as transformers_logging

from ..encoders.checkpoint import weights_digest
from ..encoders.encoder import Encoder
from ..encoders.loading import resolve_encoder
from ..encoders.names import PRESETS
from ..errors import InputError
from ..run.folder import RunFolder
from .controls.raw_pixels import RawPixels
from .once import Once

RANDOM = "random initialisation"
PIXELS = "raw pixels"
CUES = "low-level cues"

Role = Literal["model", "random", "pixels", "cues"]
_BICUBIC = 3


class Preprocess:
    """From a decoded image to the pixels a model sees, by a Hugging Face image processor.

    Args:
        processor: resizes and, where it does, crops.
        size: side in px of the square that comes out; ``None``: the processor's own. A processor that crops keeps the
            ratio of crop to resize.

    Raises:
        ValueError: the processor yields no square, or no size can be set on it.
    """

    def __init__(self, processor: Any, size: int | None = None) -> None:
        self._processor = copy.deepcopy(processor)
        if size is not None:
            _set_size(self._processor, size)
        shape = self(Image.new("RGB", (80, 60))).shape
        if shape[1] != shape[2]:
            raise InputError(f"the image processor makes {shape[2]} x {shape[1]} px; name a square one with --size")
        self.size: int = shape[1]

    @classmethod
    def squash(cls, size: int, **statistics: list[float]) -> Preprocess:
        """The whole image squashed to a square: what encoders trained here are saved with.

        Args:
            size: side of the square in px.
            statistics: ``image_mean`` and ``image_std``, which the encoder applies and the processor only tells.
        """
        with _quiet():
            from transformers import ViTImageProcessor  # here, as its import is what transformers remarks on

            return cls(ViTImageProcessor(size={"height": size, "width": size}, resample=_BICUBIC, **statistics))

    @functools.cached_property
    def identity(self) -> str:
        """Equal for processors that do the same."""
        fields = self._processor.to_dict()
        return json.dumps(fields, sort_keys=True, default=str)

    def __call__(self, image: Image.Image) -> np.ndarray:
        """RGB image to uint8 [3, S, S]."""
        pixels = self._processor(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        return np.ascontiguousarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _set_size(processor: Any, size: int) -> None:
    sides = {name: value for name, value in dict(processor.size).items() if value}
    crop = dict(getattr(processor, "crop_size", None) or {})
    crops = bool(getattr(processor, "do_center_crop", False)) and bool(crop.get("height"))
    if "shortest_edge" in sides:
        edge = round(sides["shortest_edge"] * size / crop["height"]) if crops else size
        processor.size = type(processor.size)(**{**sides, "shortest_edge": edge})
        processor.do_center_crop, processor.crop_size = True, {"height": size, "width": size}
    elif {"height", "width"} <= set(sides):
        processor.size = type(processor.size)(height=size, width=size)
        if crops:
            processor.crop_size = {"height": size, "width": size}
    else:
        raise InputError(f"cannot set the size of an image processor whose size is {sides}")


@dataclasses.dataclass(eq=False)
class EvaluatedModel:
    """A frozen encoder, as tasks see it.

    Args:
        name: in tables; unique in a run.
        encoder: in evaluation mode (or put into it around every task), on its device.
        preprocess: of whole images.
        role: ``"model"``, or one of the controls.
        source: Hub id or folder of the stock checkpoint, for tasks that train it; ``None`` if there is none.
    """

    name: str
    encoder: Any  # an Encoder, or a control: a FrozenEncoder and an nn.Module
    preprocess: Preprocess
    role: Role = "model"
    source: str | None = None
    _squashed: Once[int, EvaluatedModel] = dataclasses.field(default_factory=Once, init=False, repr=False)

    def __post_init__(self) -> None:
        self.encoder.patches_of(self.size)  # raises where the encoder cannot take it

    @property
    def size(self) -> int:
        """Side of whole images in px."""
        return self.preprocess.size

    @property
    def device(self) -> torch.device:
        first = next(self.encoder.parameters(), None)
        return torch.device("cpu") if first is None else first.device

    def squashed(self, size: int | None = None) -> EvaluatedModel:
        """The same model seeing whole images, squashed to a square of ``size`` px (``None``: its own size).

        Raises:
            ValueError: the encoder cannot take the size.
        """
        side = size or self.size
        return self._squashed.get(side, lambda: dataclasses.replace(self, preprocess=Preprocess.squash(side)))

    @functools.cached_property
    def weights(self) -> str | None:
        """:func:`~sp_hf.encoders.checkpoint.weights_digest` of the folder it comes from, if it comes from one."""
        return None if self.source is None else weights_digest(self.source)

    def describe(self) -> str:
        describe = getattr(self.encoder, "describe", None)
        return describe() if describe else type(self.encoder).__name__

    @functools.cached_property
    def identity(self) -> str:
        """Digest of the architecture and of every weight: equal for equal encoders, whatever they are called."""
        digest = hashlib.sha256(type(self.encoder).__name__.encode())
        if isinstance(self.encoder, Encoder):
            fields = {k: v for k, v in self.encoder.config.to_dict().items() if not k.startswith("_")}
            channels = (self.encoder.image_mean, self.encoder.image_std)
            digest.update(json.dumps([type(self.encoder.model).__name__, fields, channels], default=str).encode())
        for name, value in sorted({**vars(self.encoder)}.items()):
            if isinstance(value, int | float | str):
                digest.update(f"{name}={value}".encode())
        for name, tensor in self.encoder.state_dict().items():
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:20]


def split_name(text: str) -> tuple[str, str]:
    """``"DINO=runs/dino"`` to what tables call it and where it is; without a name it is called by its place."""
    name, equals, place = text.partition("=")
    return (name, place) if equals and name and place and not Path(text).exists() else (text, text)


def open_model(
    model: str | os.PathLike | PreTrainedModel | Encoder,
    *,
    size: int | None = None,
    device: torch.device | str = "cpu",
    seed: int = 0,
) -> EvaluatedModel:
    """A model by Hub id, folder, run folder (its ``encoder/``), or preset (at random initialisation), or one in memory.

    Args:
        model: as above, or ``NAME=`` and that. Of a model in memory the weights are copied, and images are preprocessed
            as by the image processor of the checkpoint that it was loaded from, else squashed to its native size.
        size: side in px of whole images; ``None``: its image processor's own.
        device: where it runs.
        seed: of a preset's weights.

    Raises:
        ValueError, FileNotFoundError, TypeError: see :func:`~sp_hf.encoders.loading.resolve_encoder` and
            :class:`Preprocess`.
    """
    if size is not None and size < 1:
        raise InputError(f"size is {size} px; it must be at least 1")
    if not isinstance(model, (str, os.PathLike)):
        encoder = resolve_encoder(model)
        origin = getattr(encoder.model, "name_or_path", "") if isinstance(model, PreTrainedModel) else ""
        statistics = {"image_mean": list(encoder.image_mean), "image_std": list(encoder.image_std)}
        squash = Preprocess.squash(size or native_size(encoder), **statistics)
        preprocess = _own_preprocess(origin, encoder, size) if origin else squash
        return EvaluatedModel(type(encoder.model).__name__, encoder.to(device).eval(), preprocess)
    name, place = split_name(os.fspath(model))
    inside = RunFolder(Path(place)).encoder
    source = str(inside if inside.is_dir() else place)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoder = resolve_encoder(source, image_size=size) if source in PRESETS else resolve_encoder(source)
    is_checkpoint = source not in PRESETS
    preprocess = _own_preprocess(source, encoder, size) if is_checkpoint else Preprocess.squash(native_size(encoder))
    return EvaluatedModel(name, encoder.to(device).eval(), preprocess, source=source if is_checkpoint else None)


def native_size(encoder: Encoder) -> int:
    """Side in px of the square images that an encoder was made for."""
    return encoder.dimensions.image_size[0]


def _own_preprocess(source: str, encoder: Encoder, size: int | None) -> Preprocess:
    if encoder.config.model_type == "timm_wrapper":
        from ..encoders.timm_wrapper import image_processor

        return Preprocess(image_processor(encoder.config), size)
    try:
        with _quiet():
            processor = AutoImageProcessor.from_pretrained(source, trust_remote_code=False)
    except OSError:  # a checkpoint without one
        return Preprocess.squash(size or native_size(encoder))
    return Preprocess(processor, size)


def random_initialisation(model: EvaluatedModel, seed: int, name: str = RANDOM) -> EvaluatedModel:
    """The floor: the same architecture and preprocessing, freshly initialised; global random state is left alone."""
    encoder = model.encoder
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = Encoder.from_config(copy.deepcopy(encoder.config), encoder.image_mean, encoder.image_std)
    return EvaluatedModel(name, fresh.to(model.device).eval(), model.preprocess, role="random")


def raw_pixels(model: EvaluatedModel) -> EvaluatedModel:
    """The control without an encoder, on what ``model`` sees."""
    return EvaluatedModel(PIXELS, RawPixels().eval(), model.preprocess, role="pixels")


class _quiet:
    """transformers' note that an image processor falls back to PIL is not news here."""

    def __enter__(self) -> None:
        self._verbosity = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()

    def __exit__(self, *_: object) -> None:
        transformers_logging.set_verbosity(self._verbosity)
