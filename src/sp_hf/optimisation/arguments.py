"""The flags of optimisation, beside those of transformers' TrainingArguments."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from transformers import TrainingArguments

from ..errors import RecipeError
from .freezing import parse_freeze
from .learning_rate import describe_learning_rate, scaled_learning_rate

DEFAULT_LEARNING_RATE = 5e-4
GRAD_CLIPPING = ("global", "per_parameter")


@dataclass
class OptimisationArguments(TrainingArguments):
    """transformers' TrainingArguments and the optimisation that vision papers use.

    ``learning_rate`` is ``None`` until it is resolved here, so that it is known whether it was given.

    Raises:
        RecipeError: an unknown choice; ``learning_rate`` and ``base_learning_rate`` that say different things.
    """

    learning_rate: float | None = field(  # type: ignore[assignment]  # None until it is resolved below
        default=None,
        metadata={"help": f"Peak learning rate; default: --base_learning_rate's, else {DEFAULT_LEARNING_RATE}."},
    )
    base_learning_rate: float | None = field(
        default=None,
        metadata={
            "help": "Peak learning rate per 256 images of an optimizer step (devices x processes x accumulation),"
            " instead of --learning_rate. A flag of either kind replaces a recipe's of the other."
        },
    )
    learning_rate_scaling: str = field(
        default="linear",
        metadata={
            "help": "How --base_learning_rate grows with the images of a step: linear, base x images / 256; or sqrt,"
            " base x sqrt(images / 1024), as DINOv2's."
        },
    )
    stochastic_depth: float = field(
        default=0.0,
        metadata={
            "help": "Rate at which the student's last layer skips each of its residual branches, an image at a time;"
            " it rises linearly from 0 at the first layer."
        },
    )
    layer_decay: float = field(
        default=1.0,
        metadata={
            "help": "Learning-rate factor from a layer of the encoder to the one before it: layer l of L learns at"
            " layer_decay^(L + 1 - l), the embeddings are layer 0, heads learn at the full rate. 1: all alike."
        },
    )
    patch_embedding_factor: float = field(
        default=1.0, metadata={"help": "Learning-rate factor of the patch embedding, on top of --layer_decay's."}
    )
    freeze: str | None = field(
        default=None,
        metadata={
            "help": "What of the encoder is not trained: patch_embedding, embeddings, or layers:N (the embeddings and"
            " the first N layers)."
        },
    )
    grad_clipping: str = field(
        default="global",
        metadata={
            "help": "What --max_grad_norm limits: global, the norm of all gradients together; or per_parameter, that of"
            " each weight's alone, as DINO's code does."
        },
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.grad_clipping not in GRAD_CLIPPING:
            raise RecipeError(f"--grad_clipping {self.grad_clipping!r} is unknown: {' or '.join(GRAD_CLIPPING)}.")
        if self.freeze is not None:
            parse_freeze(self.freeze)
        self._resolve_learning_rate()

    @property
    def images_per_step(self) -> int:
        """Images of one optimizer step, over all processes and accumulated forwards."""
        return self.per_device_train_batch_size * self.world_size * self.gradient_accumulation_steps

    def describe_learning_rate(self) -> str:
        """One line: the rate and where it comes from."""
        return describe_learning_rate(
            self.learning_rate or 0.0, self.base_learning_rate, self.images_per_step, self.learning_rate_scaling
        )

    def _resolve_learning_rate(self) -> None:
        if self.base_learning_rate is None:
            if self.learning_rate_scaling != "linear":
                raise RecipeError(
                    f"--learning_rate_scaling {self.learning_rate_scaling} scales --base_learning_rate, which is not"
                    " given."
                )
            self.learning_rate = DEFAULT_LEARNING_RATE if self.learning_rate is None else self.learning_rate
            return
        rate = scaled_learning_rate(self.base_learning_rate, self.images_per_step, self.learning_rate_scaling)
        if self.learning_rate is not None and not math.isclose(rate, self.learning_rate, rel_tol=1e-6):
            raise RecipeError(
                f"learning_rate {self.learning_rate:g} is not what base_learning_rate {self.base_learning_rate:g} gives"
                f" at {self.images_per_step} images a step ({rate:g}): give one of the two, --learning_rate or"
                " --base_learning_rate."
            )
        self.learning_rate = rate
