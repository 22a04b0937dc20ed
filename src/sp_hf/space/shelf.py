"""Models at hand: opened when first named, checked before they are read, the least recently used ones let go."""

from __future__ import annotations

import collections
import dataclasses
import threading
from collections.abc import Sequence
from pathlib import Path

import torch

from ..encoders.checkpoint import read_config
from ..encoders.presets import PRESETS
from ..evaluation.model import EvaluatedModel, Preprocess, open_model, split_name
from .hub_models import ModelError, check_architecture, check_hub_model
from .probes import SCENES, Probes, Say, Scenes

MAX_BYTES = 700 * 2**20
_LARGEST = 560  # px: what a larger image costs on a CPU is no pleasure


@dataclasses.dataclass(frozen=True)
class ShelfOptions:
    """What may be opened, and how much is kept.

    Args:
        models: names that are offered; always allowed.
        local_paths: allow folders of this machine, and presets. Never on a public Space.
        hub: allow ids of the Hub that pass :mod:`.hub_models`.
        capacity: models in memory.
        max_bytes: of the weights of a model of the Hub.
        scenes: to which probes are fitted.
    """

    models: Sequence[str] = ()
    local_paths: bool = False
    hub: bool = True
    capacity: int = 3
    max_bytes: int = MAX_BYTES
    scenes: int = SCENES

    def choices(self) -> list[tuple[str, str]]:
        """What is offered: what visitors read, and what it stands for."""
        return [(label_of(text), text) for text in self.models]


def label_of(text: str) -> str:
    """What a model is called: ``NAME=`` before it, the end of a path, or its id."""
    name, place = split_name(text)
    return name if name != place else Path(place).resolve().name if Path(place).exists() else place


class Shelf:
    """Models by name, with their probes; safe to share between threads."""

    def __init__(self, options: ShelfOptions) -> None:
        self.options = options
        self._scenes = Scenes(options.scenes)
        self._held: collections.OrderedDict[str, Probes] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}

    def __len__(self) -> int:
        return len(self._held)

    def open(self, name: str | None, say: Say) -> Probes:
        """A model and its probes.

        Args:
            name: Hub id, preset, or what the options offer or allow.
            say: told what takes time.

        Raises:
            ModelError: it cannot be had; says why.
        """
        name = (name or "").strip()
        if not name:
            raise ModelError("Name a model: choose one, or type the id of one on the Hub, owner/name.")
        held = self._find(name)
        if held is not None:
            return held
        with self._lock:
            opening = self._opening.setdefault(name, threading.Lock())
        try:
            with opening:  # of two visitors who ask first, one loads; other models do not wait for it
                return self._find(name) or self._keep(name, self._load(name, say))
        finally:
            with self._lock:
                self._opening.pop(name, None)

    def _find(self, name: str) -> Probes | None:
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._held.get(name)

    def _keep(self, name: str, probes: Probes) -> Probes:
        with self._lock:
            self._held[name] = probes
            full = len(self._held) > self.options.capacity
            if full:
                self._held.popitem(last=False)
        if full:
            self._scenes.forget()  # what it holds of the model that goes
        return probes

    def _load(self, name: str, say: Say) -> Probes:
        is_visitors = self._check(name)
        say(f"{label_of(name)}: loading")
        try:
            if is_visitors:
                check_architecture(name, read_config(name), self.options.max_bytes)
            model = open_model(name, device=_device())
            if model.size > _LARGEST:
                raise ModelError(f"{name} takes images of {model.size} px; the limit is {_LARGEST} px.")
            squashed = EvaluatedModel(label_of(name), model.encoder, Preprocess.squash(model.size), source=model.source)
        except ModelError:
            raise
        except (ValueError, OSError) as error:  # of the loader: a sentence that names what is wrong
            raise ModelError(f"{name} cannot be loaded. {_first_sentence(error)}") from error
        return Probes(squashed, self._scenes)

    def _check(self, name: str) -> bool:
        """May this be opened? True if it comes from somebody else."""
        if name in self.options.models:
            return False
        is_here = name in PRESETS or Path(name).expanduser().exists()
        if self.options.local_paths and is_here:
            return False
        if not self.options.hub or is_here:
            raise ModelError(f"“{name[:80]}” is not one of the models here.")
        check_hub_model(name, self.options.max_bytes)
        return True


def _device() -> torch.device:
    """A GPU if there is one; on ZeroGPU, ``spaces`` lets models be moved to it at any time."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _first_sentence(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]
