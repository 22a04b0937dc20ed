"""Models at hand, each with its probes: opened when first named, checked before that, let go when others come.

Of a shipped model the probes are read; to any other they are fitted when it is first asked, and its features are kept
in a cache. Who waits for a fit waits for this model alone: there is no lock but each model's own.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ..cards.model_index import DatasetName
from ..data.datasets import is_embedded
from ..encoders.checkpoint import read_config
from ..encoders.names import PRESETS
from ..evaluation.cache import FeatureCache, default_cache_dir
from ..evaluation.data import EvaluationData
from ..evaluation.model import EvaluatedModel, Preprocess, open_model, split_name
from ..evaluation.source import DataSource
from .hub_models import ModelError, check_architecture, check_hub_model
from .probe_set import ProbeSet, probes_of
from .shipped import SEED

MAX_BYTES = 700 * 2**20
SCENES = 256
_LARGEST = 560  # px: what a larger image costs on a CPU is no pleasure
_SCENE = 256  # px
Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class ShelfOptions:
    """What may be opened, and how much is kept.

    Args:
        models: that are offered, ``NAME=place`` or a place alone; always allowed, under their names.
        local_paths: allow folders of this machine, and presets. Never on a public Space.
        hub: allow ids of the Hub that pass :mod:`.hub_models`.
        capacity: models in memory.
        max_bytes: of the weights of a model of the Hub.
        dataset: to which probes are fitted, as after ``--dataset``; ``None``: drawn scenes.
        images: of it.
    """

    models: Sequence[str] = ()
    local_paths: bool = False
    hub: bool = True
    capacity: int = 6
    max_bytes: int = MAX_BYTES
    dataset: str | None = None
    images: int = SCENES

    def places(self) -> dict[str, str]:
        """Where each model that is offered is, by the name that visitors read and send."""
        return {label_of(text): split_name(text)[1] for text in self.models}


class Contestant:
    """A model that can be asked.

    Args:
        model: on its device.
        fit: makes its probes, once, when a question first needs them; told where to say what takes time.
    """

    def __init__(self, model: EvaluatedModel, fit: Callable[[Say], ProbeSet]) -> None:
        self.model, self._fit = model, fit
        self._probes: ProbeSet | None = None
        self._lock = threading.Lock()

    def probes(self, say: Say) -> ProbeSet:
        """Its probes; of two who ask first, one fits, and nobody else waits."""
        with self._lock:
            if self._probes is None:
                self._probes = self._fit(say)
            return self._probes


def label_of(text: str) -> str:
    """What a model is called: ``NAME=`` before it, the end of a path, or its id."""
    name, place = split_name(text)
    return name if name != place else Path(place).resolve().name if Path(place).exists() else place


class Shelf:
    """Models by name, with their probes; safe to share between threads."""

    def __init__(self, options: ShelfOptions) -> None:
        self.options, self._places = options, options.places()
        self._held: collections.OrderedDict[str, Contestant] = collections.OrderedDict()
        self._lock = threading.Lock()
        self._opening: dict[str, threading.Lock] = {}

    def __len__(self) -> int:
        return len(self._held)

    def open(self, name: str | None, say: Say) -> Contestant:
        """A model and its probes.

        Args:
            name: of a model that is offered, a Hub id, or what the options allow.
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
            with opening:  # of two visitors who ask first, one loads and fits; other models do not wait for it
                return self._find(name) or self._keep(name, self._load(name, say))
        finally:
            with self._lock:
                self._opening.pop(name, None)

    def _find(self, name: str) -> Contestant | None:
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
            return self._held.get(name)

    def _keep(self, name: str, contestant: Contestant) -> Contestant:
        with self._lock:
            self._held[name] = contestant
            if len(self._held) > self.options.capacity:
                self._held.popitem(last=False)
        return contestant

    def _load(self, name: str, say: Say) -> Contestant:
        place, is_visitors = self._places.get(name, name), self._check(name)
        say(f"{name}: loading")
        try:
            if is_visitors:
                check_architecture(name, read_config(place), self.options.max_bytes)
            opened = open_model(place, device=_device(), seed=SEED)
            if opened.size > _LARGEST:
                raise ModelError(f"{name} takes images of {opened.size} px; the limit is {_LARGEST} px.")
            model = EvaluatedModel(name, opened.encoder, Preprocess.squash(opened.size), source=opened.source)
            return Contestant(model, functools.partial(self._probes, model, probes_of(place)))
        except ModelError:
            raise
        except (ValueError, OSError) as error:  # of the loader: a sentence that names what is wrong
            raise ModelError(f"{name} cannot be loaded. {_first_sentence(error)}") from error

    def _probes(self, model: EvaluatedModel, shipped: Path, say: Say) -> ProbeSet:
        if shipped.is_file():
            return ProbeSet.load(shipped, model)
        dataset = self.options.dataset or f"part-scenes?size={_SCENE}&num_images={self.options.images}"
        source = DataSource(dataset, max_images=self.options.images)
        data = EvaluationData(source, cache=FeatureCache(default_cache_dir()))  # a second start fits in moments
        say(f"{model.name}: fitting probes to {len(data.train.rows)} images, once")
        name = DatasetName.of(data.train.images.description).type
        return ProbeSet.fit(model, data, "drawn scenes" if is_embedded(dataset) else name)

    def _check(self, name: str) -> bool:
        """May this be opened? True if it comes from somebody else."""
        if name in self._places:
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
