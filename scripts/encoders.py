"""Look at each vision model type of the installed transformers, and write down which can be encoders: docs/encoders.md.

    python scripts/encoders.py             # some minutes on one core
    python scripts/encoders.py swin vit    # the lines of these types alone; the others stay

A type is built small and at random from its default configuration, and taken as any encoder is
(:mod:`sp_hf.encoders.model_types`); what the table says of it is read off the encoder that comes out, and a reason is
the message of the refusal.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig
from transformers.models.auto import modeling_auto as auto

from sp_hf.encoders.encoder import Encoder
from sp_hf.encoders.layers import num_layers
from sp_hf.encoders.model_table import FACTS, TWO_TOWERS
from sp_hf.encoders.model_types import facts_of, model_class_of, why_refused
from sp_hf.encoders.observed import observe
from sp_hf.errors import InputError
from sp_hf.optimisation.stochastic_depth import add_stochastic_depth

PAGE = Path(__file__).parents[1] / "docs" / "encoders.md"
BEGIN, END = "<!-- types: scripts/encoders.py -->", "<!-- end of types -->"
COLUMNS = (
    "type",
    "image embedding",
    "tokens before the patches",
    "patch, px",
    "views",
    "masked patches",
    "layers that decay",
    "stochastic depth",
)
HEADER = f"| {' | '.join(COLUMNS)} |"
VISION_MAPPINGS = (
    auto.MODEL_FOR_IMAGE_MAPPING_NAMES,
    auto.MODEL_FOR_BACKBONE_MAPPING_NAMES,
    auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
)
SMALL = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
}


def vision_types() -> list[str]:
    """Every model type that transformers counts among images, or whose class takes images alone."""
    types = set().union(*VISION_MAPPINGS)
    for model_type, name in auto.MODEL_MAPPING_NAMES.items():
        if model_type not in types and _takes_images_alone(name if isinstance(name, str) else name[0]):
            types.add(model_type)
    return sorted({*types, *TWO_TOWERS} - {"perceiver"})  # that one is of any modality, by its configuration


def _takes_images_alone(name: str) -> bool:
    try:
        model_class = getattr(transformers, name)
        modalities, main = model_class.input_modalities, model_class.main_input_name
    except (AttributeError, ImportError):  # an optional package
        return False
    return modalities in ("image", ("image",)) or (modalities == "text" and main == "pixel_values")


def row(model_type: str) -> str:
    """The line of a type: its columns, or the reason alone."""
    if model_type == "timm_wrapper":
        return _line(model_type, ["by architecture", "", "", "by architecture", "no", "yes", "where it has one"])
    if model_type in TWO_TOWERS:
        config = AutoConfig.for_model(model_type).vision_config
        why = why_refused(config.model_type)
        return _refusal(model_type, why) if why else _line(model_type, [f"its tower's, `{config.model_type}`"])
    why = why_refused(model_type)
    try:
        encoder = None if why else small_encoder(model_type)
    except InputError as error:
        why = str(error)
    if why or encoder is None:
        return _refusal(model_type, why)
    return _line(model_type, _columns(encoder))


def small_encoder(model_type: str) -> Encoder:
    """An encoder of a type, as small as its configuration lets it be.

    Raises:
        ValueError: it cannot be one.
    """
    why: InputError | None = None
    for config in _small_configs(model_type):
        torch.manual_seed(0)
        try:
            if model_type not in FACTS:
                observe(facts_of(config), model_class_of(config), config)  # shapes alone, before any weights
            return Encoder.from_config(config)
        except InputError as error:
            why = error  # of the last, which is the default
        except Exception:  # noqa: BLE001  # fields that do not go together: try the next
            continue
    raise why or InputError("no small model of it can be built")


def _small_configs(model_type: str) -> list[PreTrainedConfig]:
    default = AutoConfig.for_model(model_type)
    depth: dict[str, Any] = {}
    if isinstance(getattr(default, "depths", None), (list, tuple)):
        depth["depths"] = [1] * len(default.depths)
    if isinstance(getattr(default, "num_hidden_layers", None), int) and "depths" not in depth:
        depth["num_hidden_layers"] = 2
    width = (
        {}
        if "depths" in depth
        else {name: value for name, value in SMALL.items() if isinstance(getattr(default, name, None), int)}
    )
    made = []
    for fields in ({**width, **depth}, depth):
        try:
            made.append(AutoConfig.for_model(model_type, **fields))
        except Exception:  # noqa: BLE001  # transformers' own checks of fields
            continue
    return [*made, default]


def _columns(encoder: Encoder) -> list[str]:
    facts, native = encoder.facts, encoder.image_side
    layers = num_layers(name for name, _ in encoder.model.named_parameters())
    masks = "yes" if encoder.supports_content_mask else "no"
    try:
        add_stochastic_depth(encoder, 0.1)
        drops = "yes"
    except InputError:
        drops = "no"
    return [
        facts.embedding,
        str(encoder.num_prefix_tokens),
        str(encoder.patch_size),
        f"{native} px alone" if facts.fixed_size else _sizes(encoder),
        masks,
        "yes" if layers else "no",
        drops,
    ]


def _sizes(encoder: Encoder) -> str:
    """Whether views of the first multiples of the patch are taken."""
    for cells in range(1, 4):
        try:
            encoder.patches_of(cells * encoder.patch_size)
        except InputError:
            return "some sizes; a refusal names them"
    return "any multiple of the patch"


def _line(model_type: str, columns: list[str]) -> str:
    return f"| `{model_type}` | " + " | ".join(columns + [""] * (len(COLUMNS) - 1 - len(columns))) + " |"


def _refusal(model_type: str, why: str) -> str:
    return f"| `{model_type}` | {why.replace('|', '/')} |"


def table(lines: dict[str, str]) -> str:
    """Markdown: those that are taken, and those that are not with the reason."""
    ordered = [lines[model_type] for model_type in sorted(lines)]
    taken = [line for line in ordered if line.count(" |") == len(COLUMNS)]
    refused = [line for line in ordered if line not in taken]
    rule = "|---" * len(COLUMNS) + "|"
    return "\n".join(
        [
            f"Of {len(lines)} vision model types of transformers {transformers.__version__} {len(taken)} are taken:",
            "",
            HEADER,
            rule,
            *taken,
            "",
            f"{len(refused)} are refused:",
            "",
            "| type | why |",
            "|---|---|",
            *refused,
        ]
    )


def lines_of(page: str) -> dict[str, str]:
    """{type: line} of a page."""
    return {match[1]: match[0] for match in re.finditer(r"^\| `([\w.-]+)` \|.*$", page, flags=re.MULTILINE)}


def main() -> None:
    transformers.logging.set_verbosity_error()
    page = PAGE.read_text(encoding="utf-8")
    lines = lines_of(page) if len(sys.argv) > 1 else {}
    for model_type in sys.argv[1:] or vision_types():
        lines[model_type] = row(model_type)
        print(lines[model_type], flush=True)
    before, rest = page.split(BEGIN)
    PAGE.write_text(before + f"{BEGIN}\n{table(lines)}\n{END}" + rest.split(END)[1], encoding="utf-8")


if __name__ == "__main__":
    main()
