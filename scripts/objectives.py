"""Write docs/objectives.md: a row for each of the package's objectives, made from its class.

    python scripts/objectives.py             # seconds

What it predicts is the first line of its module; its views are its defaults; which encoders it takes is what it says it
needs. Its cost is counted: what it asks to have encoded of a made-up batch, in patches, over those of a view of 224 px.
"""

from __future__ import annotations

import sys
from pathlib import Path

from sp_hf.encoders.loading import resolve_encoder
from sp_hf.markdown import table
from sp_hf.objectives import OBJECTIVES, Objective, build_objective
from sp_hf.objectives.cost import encoder_forwards
from sp_hf.views.spec import ViewSpec

PAGE = Path(__file__).parents[1] / "docs" / "objectives.md"
SIDE, PATCH = 224, 16
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
    encoder = resolve_encoder(f"vit-micro-{PATCH}", image_size=SIDE, token_control=True)
    encoder.train_mask_token()
    objectives = {name: build(name, encoder) for name in OBJECTIVES.own}
    dino = encoder_forwards(objectives["dino"], SIDE, PATCH).weighed
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
    forwards = encoder_forwards(objective, SIDE, PATCH)
    without = f" + {forwards.without:.2g}" if forwards.without else ""
    return (
        f"`{name}`",
        predicts(objective),
        "; ".join(f"{view}: {described(spec)}" for view, spec in objective.view_specs().items()),
        encoders_of(objective),
        f"{forwards.with_gradient:.2g}{without}",
        f"{forwards.weighed / dino:.2f}",
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


if __name__ == "__main__":
    sys.exit(main())
