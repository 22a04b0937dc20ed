"""Builds or loads the :class:`~sp_hf.encoders.encoder.Encoder` that ``--encoder`` names.

===============================  =======================================================
``vit-small-16``                 a fresh ViT (:data:`sp_hf.encoders.presets.PRESETS`)
``config.json``, ``folder``      fresh, where the folder holds a configuration and no weights
``folder``, ``owner/name``       the weights of a folder or of a Hub repository, verified
===============================  =======================================================

Python code may also give a model itself: :mod:`sp_hf.encoders.given`.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from safetensors import safe_open
from transformers import PreTrainedConfig, PreTrainedModel

from ..boundary import reading_checkpoint
from ..errors import InputError
from .checkpoint import commit_of, read_config
from .configuration_sp_vit import SPViTConfig
from .encoder import Encoder
from .given import encoder_of
from .initialisation import INITIALISATIONS, RECORDED_AS, check_initialisation, has_own_scheme
from .model_types import facts_of
from .names import PRESETS, check_name, config_file
from .presets import build_preset

__all__ = ["PRESETS", "build_preset", "resolve_encoder"]

logger = logging.getLogger(__name__)

WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")


def resolve_encoder(
    name: str | os.PathLike | PreTrainedModel | Encoder,
    *,
    image_size: int | None = None,
    revision: str | None = None,
    token_control: bool = False,
    initialisation: str | None = None,
) -> Encoder:
    """Build or load the encoder that ``name`` stands for.

    Args:
        name: preset, ``config.json``, folder, or Hub id; or a headless vision model of transformers or an ``Encoder``,
            whose weights are copied.
        image_size: pixels a side for which a preset's table of positions is made (224 where ``None``); not for others.
        revision: branch, tag or commit of a Hub repository.
        token_control: make it an ``SPViTModel`` (ViT and ViT-MAE only).
        initialisation: of a fresh encoder, see :mod:`sp_hf.encoders.initialisation`; ``None``: what its configuration
            records, else ``"xavier"``.

    Raises:
        ValueError: an unknown preset, an unsupported model type, a checkpoint that is not whole, or an initialisation
            for one that brings its weights.
        FileNotFoundError: a path that does not exist, or a folder without ``config.json``.
        TypeError: an object that is no vision model.

    Example:
        >>> import sp_hf
        >>> sp_hf.resolve_encoder("vit-micro-8", image_size=48).describe()
        'ViTModel, 1.2 M parameters, 6 layers, 128 wide, patches of 8 px'
    """
    if not isinstance(name, (str, os.PathLike)):
        options = {"image_size": image_size, "revision": revision, "initialisation": initialisation}
        for option, value in options.items():
            if value is not None:
                raise InputError(f"{option}={value!r} means nothing for a {type(name).__name__}; leave it out")
        return encoder_of(name, token_control=token_control)
    name = os.fspath(name)
    check_name(name)
    if name in PRESETS:
        return _fresh(build_preset(name, image_size=image_size or 224), token_control, initialisation)
    if image_size is not None:
        raise InputError(f"image_size={image_size} is for presets; {name} brings its own")
    path = Path(name).expanduser()
    if path.suffix == ".json" or (path.is_dir() and not _has_weights(path)):
        logger.info("%s: a configuration without weights, the encoder starts fresh", name)
        return _fresh(_read_config(path), token_control, initialisation)
    if initialisation is not None:
        raise InputError(
            f"initialisation={initialisation!r} is for fresh encoders; {name} brings its weights: leave it out"
        )
    return Encoder.load(path if path.is_dir() else str(name), revision=revision, token_control=token_control)


def starts_fresh(name: str | os.PathLike | PreTrainedModel | Encoder) -> bool:
    """Whether a name that :func:`resolve_encoder` takes brings no weights: a preset, or a configuration alone."""
    if not isinstance(name, (str, os.PathLike)):
        return False
    path = Path(name).expanduser()
    return os.fspath(name) in PRESETS or path.suffix == ".json" or (path.is_dir() and not _has_weights(path))


def check_encoder(name: str | os.PathLike | PreTrainedModel | Encoder, revision: str | None = None) -> None:
    """Refuse a name that stands for no encoder, without its weights: quick, where reading images may take minutes.

    Raises:
        InputError, NotFoundError, CheckpointError, HubError: as :func:`resolve_encoder`.
    """
    if not isinstance(name, (str, os.PathLike)) or os.fspath(name) in PRESETS:
        return
    name = os.fspath(name)
    check_name(name)
    path = Path(name).expanduser()
    if path.suffix == ".json" or path.is_dir():
        facts_of(_read_config(path))
        for file in path.glob("*.safetensors"):
            with reading_checkpoint(name), safe_open(file, framework="pt"):  # its header, and that its length fits
                pass
        return
    facts_of(read_config(name, revision))


def loaded_commit(name: str | os.PathLike | PreTrainedModel | Encoder, revision: str | None = None) -> str | None:
    """The commit that ``revision`` of a Hub repository stood for when it was loaded: a branch may move on.

    Returns:
        The commit, by the local cache; ``revision`` itself for anything that is not on the Hub.
    """
    if not isinstance(name, (str, os.PathLike)) or name in PRESETS:
        return revision
    return commit_of(os.fspath(name), revision)


def _fresh(config: PreTrainedConfig, token_control: bool, initialisation: str | None) -> Encoder:
    if token_control and config.model_type != SPViTConfig.model_type:
        if config.model_type not in ("vit", "vit_mae"):
            raise InputError(f"token control needs a ViT configuration, not model type {config.model_type!r}")
        config = SPViTConfig.from_vit(config)
    scheme = check_initialisation(initialisation or getattr(config, RECORDED_AS, None) or INITIALISATIONS[0])
    if scheme != "stock" and not has_own_scheme(config):
        if initialisation is not None:
            raise InputError(
                f"initialisation={scheme!r} is for plain vision transformers; {config.model_type!r} starts as its class"
                " makes it: initialisation='stock', or leave it out"
            )
        logger.info("%s: its weights start as its class makes them", config.model_type)
        scheme = "stock"
    setattr(config, RECORDED_AS, scheme)
    return Encoder.from_config(config)


def _has_weights(folder: Path) -> bool:
    return any(file.suffix in WEIGHT_SUFFIXES for file in folder.iterdir())


def _read_config(path: Path) -> PreTrainedConfig:
    return read_config(str(config_file(path)))
