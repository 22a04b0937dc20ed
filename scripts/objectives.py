"""Write docs/objectives.md: a row for each of the package's objectives, made from its class.

    python scripts/objectives.py             # seconds

What it predicts is the first line of its module; its views are its defaults; which encoders it takes is what it says it
needs. Its cost is counted: what it asks to have encoded of a made-up batch, in patches, over those of a view of 224 px.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

from sp_hf.encoders.loading import resolve_encoder
from sp_hf.markdown import table
from sp_hf.objectives import OBJECTIVES, Batch, Objective, build_objective
from sp_hf.objectives.base import Encode
from sp_hf.views.keyed_random import sample_keys
from sp_hf.views.sampler import Views, ViewSampler
from sp_hf.views.spec import ViewSpec

PAGE = Path(__file__).parents[1] / "docs" / "objectives.md"
SIDE, PATCH, IMAGES = 224, 16, 4
UNIT = (SIDE // PATCH) ** 2  # patches of one forward
SMALL = {"prototypes": 8, "head_width": 8, "embedding_size": 8}  # heads cost nothing that is counted here
TEXT = """# Objectives

Made from the classes by `python scripts/objectives.py`; citations are on the classes and in the cards of what they
train.

- **Cost**: forwards of the encoder an image, in patches, where a view of 224 px in patches of 16 is 1; with gradient +
  without (teachers, frozen copies). *Beside DINO*: the same, a forward with gradient counted as three, over DINO's.
  Heads, decoders and the making of views are not in it.
- **Encoders**: *any* is any that `sp_hf.Encoder` takes; *masks*: one that can put a mask token in place of patches
  (ViT, DeiT, DINOv2, DINOv3, BEiT, I-JEPA); *ViT*: one that is built as `SPViTModel` (presets, ViT and ViT-MAE
  checkpoints), as tokens or positions are hidden; *checkpoint*: the run must start from weights.
- **Gain**: what it was measured to add to its control; rows of one seed are in [results.md](results.md).
"""


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf-8")
    print(f"{PAGE.name} is written: {len(OBJECTIVES.own)} objectives.")
    return 0


def page() -> str:
    """The whole page."""
    encoder = resolve_encoder("vit-micro-16", image_size=SIDE, token_control=True)
    encoder.train_mask_token()
    objectives = {name: build(name, encoder) for name in OBJECTIVES.own}
    dino = weighed(*cost(objectives["dino"]))
    parts = [TEXT]
    for kind, heading in (("what", "What"), ("where", "Where")):
        rows = [row(name, objective, dino) for name, objective in objectives.items() if objective.kind == kind]
        head = ("name", "what it predicts", "its own views", "encoders", "cost", "beside DINO", "gain")
        parts.append(f"## {heading}\n\n" + "\n".join(table([head, *rows])) + "\n")
    return "\n".join(parts)


def build(name: str, encoder: object) -> Objective:
    """An objective with its default views and small heads."""
    options = OBJECTIVES[name].config_class.__dataclass_fields__
    small = {key: value for key, value in SMALL.items() if key in options}
    small |= {"num_labels": 2} if "num_labels" in options else {}
    return build_objective({"name": name, **small}, encoder)


def row(name: str, objective: Objective, dino: float) -> tuple[str, ...]:
    """What the page says of an objective."""
    with_gradient, without = cost(objective)
    ratio = weighed(with_gradient, without) / dino
    amount = f"{with_gradient:.2g} + {without:.2g}" if without else f"{with_gradient:.2g}"
    return (
        f"`{name}`",
        predicts(objective),
        "; ".join(f"{view}: {described(spec)}" for view, spec in objective.view_specs().items()),
        encoders_of(objective),
        amount,
        f"{ratio:.2f}",
        objective.measured or "not measured",
    )


def predicts(objective: Objective) -> str:
    """The first line of its module, without its name."""
    line = (sys.modules[type(objective).__module__].__doc__ or "").split("\n", 1)[0]
    return line.partition(": ")[2].rstrip(".")


def described(spec: ViewSpec | str) -> str:
    """A view set in a few words."""
    if isinstance(spec, str):
        return spec
    low, high = spec.area
    inside = f" of `{spec.inside}`" if spec.inside else ""
    return f"{spec.count} x {spec.size} px, {low:g} to {high:g}{inside}"


def encoders_of(objective: Objective) -> str:
    """Which encoders it takes, by what it says it needs."""
    crops = any(isinstance(s, ViewSpec) and s.positions == "crop" for s in objective.view_specs().values())
    if objective.needs_token_control or crops:
        kind = "ViT"
    else:
        kind = "masks" if objective.needs_content_mask else "any"
    extras = [", checkpoint"] * objective.needs_initial + [", labels"] * objective.needs_labels
    return kind + "".join(extras)


def weighed(with_gradient: float, without: float) -> float:
    """Forwards, where one with gradient costs three."""
    return 3 * with_gradient + without


@torch.no_grad()
def cost(objective: Objective) -> tuple[float, float]:
    """Forwards an image with gradient, and without."""
    batch, encodes = objective.prepared(made_up(objective))
    distinct = {(e.tower, e.view, id(e.mask), e.gradient): e for e in encodes.values()}
    sums = [0.0, 0.0]
    for request in distinct.values():
        sums[not request.receives_gradient] += patches(request, batch.views[request.view]) / IMAGES / UNIT
    return sums[0], sums[1]


def patches(request: Encode, views: Views) -> int:
    """Patches that go through the encoder."""
    images, count, _, height, width = views.pixels.shape
    visible = request.mask.visible if request.mask is not None else None
    each = (height // PATCH) * (width // PATCH) if visible is None else visible.shape[-1]
    return images * count * each


def made_up(objective: Objective) -> Batch:
    """A batch of images without content."""
    specs = {name: spec for name, spec in objective.view_specs().items() if isinstance(spec, ViewSpec)}
    keys = sample_keys(0, 0, IMAGES)
    canvases = torch.zeros(IMAGES, 3, 32, 32, dtype=torch.uint8)
    views = ViewSampler(specs)(canvases, torch.ones(IMAGES), keys)
    return Batch(views, keys, torch.zeros(IMAGES, dtype=torch.int64), torch.arange(IMAGES))


if __name__ == "__main__":
    sys.exit(main())
