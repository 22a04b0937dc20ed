"""What a model makes of a view, in shapes alone: its class on the device ``meta``, where nothing is computed.

Letters: B images, N patch tokens, D hidden size.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import inspect
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from ..errors import InputError

BATCH = 2
OF_A_FORWARD = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ImportError)
"""What models raise that cannot take a view."""


class ViewError(InputError):
    """A model's forward takes no view of this size; the message is the model's own."""


class Look(NamedTuple):
    """Shapes of what a model makes of ``BATCH`` views of one size."""

    features: tuple[int, ...]  # [B, T, D], [B, D, rows, columns] or [B, rows, columns, D]
    pooled: tuple[int, ...] | None
    kwargs: Mapping[str, bool]  # that the forward was called with


class Trace(NamedTuple):
    """What happened inside, too."""

    stem: str  # dotted path of the first layer with weights that saw the pixels
    stem_grid: tuple[int, ...]  # [rows, columns] of its output; empty where that is no map
    stem_width: int
    pooled_norms: tuple[str, ...]  # layer norms of one vector an image
    unreached: tuple[str, ...]  # parameters without a gradient from features and pooled output


def features_of(outputs: Any) -> Tensor | None:
    """``last_hidden_state``; of a backbone the last of its feature maps."""
    maps = getattr(outputs, "feature_maps", None)
    last = getattr(outputs, "last_hidden_state", None)
    return maps[-1] if last is None and maps else last


class Shapes:
    """A model without weights, that is shown views of other sizes.

    Args:
        model_class, config, init_kwargs: how the model was built.

    Raises:
        ViewError: it cannot be built.
    """

    def __init__(
        self, model_class: type[PreTrainedModel], config: PreTrainedConfig, init_kwargs: Mapping[str, object]
    ) -> None:
        self._made_from = (model_class, config, init_kwargs)
        with _forward_errors(), torch.random.fork_rng(devices=[]), torch.device("meta"):
            twin: Any = model_class(copy.deepcopy(config), **init_kwargs)
        self.twin = twin.eval()
        asks = "interpolate_pos_encoding" in inspect.signature(model_class.forward).parameters
        self._asks: list[dict[str, bool]] = [{}, {"interpolate_pos_encoding": True}] if asks else [{}]
        self._seen: dict[tuple[int, int], Look | str] = {}
        self._unsteady: set[type[nn.Module]] = set()  # classes that changed while a view passed

    def __deepcopy__(self, memo: object) -> Shapes:
        return self  # nothing of it changes but what has been seen

    def __reduce__(self) -> tuple[type[Shapes], tuple]:
        return Shapes, self._made_from

    def look(self, height: int, width: int) -> Look:
        """Shapes for a view of this size.

        Raises:
            ViewError: the model takes none.
        """
        key = (height, width)
        if key not in self._seen:
            self._seen[key] = self._look(height, width)
        seen = self._seen[key]
        if isinstance(seen, str):
            raise ViewError(seen)
        return seen

    def _look(self, height: int, width: int) -> Look | str:
        why = ""
        for kwargs in self._asks:
            twin = copy.deepcopy(self.twin)
            try:
                with _forward_errors(), torch.no_grad():
                    outputs = twin(_pixels(height, width), **kwargs)
                features, pooled = features_of(outputs), getattr(outputs, "pooler_output", None)
                if features is None:
                    return "it yields no features"
                return Look(tuple(features.shape), None if pooled is None else tuple(pooled.shape), kwargs)
            except ViewError as error:
                why = str(error)
            finally:
                pairs = zip(self.twin.modules(), twin.modules(), strict=True)
                self._unsteady |= {type(fresh) for fresh, used in pairs if _numbers(fresh) != _numbers(used)}
        return why

    def unsteady(self) -> dict[str, dict[str, int]]:
        """The modules that views of some size change, by path: their numbers as they were built.

        Swin's layers keep the window of the smallest view that they have seen, so that features of a view depend on
        those before.
        """
        return {path: _numbers(module) for path, module in self.twin.named_modules() if type(module) in self._unsteady}

    def trace(self, height: int, width: int) -> Trace:
        """Run once with gradient, and note what is reached.

        Raises:
            ViewError: the model takes no such view, or features without a gradient.
        """
        calls: list[tuple[str, nn.Module, Tensor, Any]] = []
        twin = copy.deepcopy(self.twin)
        for name, module in twin.named_modules():
            if next(module.parameters(recurse=False), None) is not None:
                module.register_forward_hook(_noting(name, calls))
        with _forward_errors(), torch.enable_grad():
            outputs = twin(_pixels(height, width), **self.look(height, width).kwargs)
            made = [features_of(outputs), getattr(outputs, "pooler_output", None)]
            kept = [tensor for tensor in made if tensor is not None and tensor.requires_grad]
            if not kept or not calls:
                raise ViewError("its features take no gradient")
            torch.stack([tensor.float().sum() for tensor in kept]).sum().backward()
        unreached = tuple(name for name, p in twin.named_parameters() if p.grad is None)
        stem, _, _, out = calls[0]
        is_map = isinstance(out, Tensor) and out.ndim == 4
        norms = [name for name, module, inputs, _ in calls if _is_norm(module) and inputs.shape[:-1] == (BATCH,)]
        return Trace(stem, tuple(out.shape[2:]) if is_map else (), out.shape[1 if is_map else -1], (*norms,), unreached)

    def takes_masks(self, height: int, width: int, path: str, cells: int, token_width: int) -> bool:
        """Whether the forward takes ``bool_masked_pos`` of so many cells, and puts the token at ``path`` in place."""
        owner, _, name = path.rpartition(".")
        twin = copy.deepcopy(self.twin)
        try:
            module = twin.get_submodule(owner)
            if not hasattr(module, name):
                return False
            if getattr(module, name) is None:
                setattr(module, name, nn.Parameter(torch.zeros(1, 1, token_width, device="meta")))
            masked = torch.zeros(BATCH, cells, dtype=torch.bool, device="meta")
            with _forward_errors(), torch.enable_grad():
                features = features_of(twin(_pixels(height, width), bool_masked_pos=masked))
                if features is None or not features.requires_grad:
                    return False
                features.sum().backward()
        except (ViewError, AttributeError):
            return False
        return getattr(module, name).grad is not None


def _pixels(height: int, width: int) -> Tensor:
    return torch.empty(BATCH, 3, height, width, device="meta")


def _numbers(module: nn.Module) -> dict[str, int]:
    return {name: value for name, value in vars(module).items() if isinstance(value, int) and name != "training"}


def keep_steady(model: nn.Module, numbers: Mapping[str, Mapping[str, int]]) -> None:
    """Set numbers of modules back before each of their forwards, so that none depends on the views before.

    Args:
        model: whose modules they are.
        numbers: as :meth:`Shapes.unsteady` gives them.
    """
    for path, values in numbers.items():
        model.get_submodule(path).register_forward_pre_hook(functools.partial(_set_back, dict(values)))


def _set_back(values: Mapping[str, int], module: nn.Module, inputs: Any) -> None:
    for name, value in values.items():
        setattr(module, name, value)


def _is_norm(module: nn.Module) -> bool:
    kind = type(module).__name__
    return "Norm" in kind and "BatchNorm" not in kind


def _noting(name: str, calls: list) -> Any:
    def note(module: nn.Module, inputs: tuple, output: Any) -> None:
        if inputs and isinstance(inputs[0], Tensor):
            calls.append((name, module, inputs[0], output))

    return note


@contextlib.contextmanager
def _forward_errors() -> Iterator[None]:
    """What a model raises, in one sentence of it."""
    try:
        yield
    except ViewError:
        raise
    except OF_A_FORWARD as error:
        if "meta" in str(error):
            raise ViewError("its forward cannot be run on shapes alone") from error
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise ViewError(lines[0] if lines else type(error).__name__) from error
