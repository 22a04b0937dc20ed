"""The section of a model card on hyperparameters: those that differ from the defaults first."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..markdown import table
from ..objectives import parse_entry, to_entry
from ..run.arguments import DataArguments, ModelArguments, PretrainingArguments
from ..run.record import RunRecord

_PRIVATE = ("output_dir", "validation_dataset", "hub_model_id", "hub_token", "run_name", "logging_dir")
_SAID_ELSEWHERE = ("dataset", "encoder", "objectives")
_DOES_NOT_TEACH = (
    "disable_tqdm",
    "report_to",
    "debug",
    "accelerator_config",
    "use_cpu",
    "max_skipped",
    "shuffle_block",
) + ("logging_", "save_", "dataloader_", "hub_", "push_to_hub", "probe_", "eval_", "torch_compile")
_ABSENT = object()


def differing(record: RunRecord) -> list[tuple[str, Any, Any]]:
    """Options that bear on what was learnt and differ from their defaults: (option, value, default) each.

    Options of objectives are called ``dino.global_views.size``; what has no default (an image size, say, that the
    preset decides) counts as asked for.
    """
    differences = []
    for name, entry in record.objectives.items():
        kind, _ = parse_entry(entry)
        defaults = dict(_flat(to_entry(name, kind.config_class())))
        differences += _differences(dict(_flat(entry)), defaults, f"{name}.")
    options = {key: value for key, value in record.recipe.items() if key not in (*_PRIVATE, *_SAID_ELSEWHERE)}
    options = {key: value for key, value in options.items() if not key.startswith(_DOES_NOT_TEACH)}
    return differences + _differences(options, _run_defaults())


def hyperparameters(record: RunRecord) -> str:
    """The section: a table of what differs, and the whole recipe, folded away."""
    weights = ", ".join(f"{name} ({_origin(entry)})" for name, entry in record.objectives.items())
    rows = [(f"`{name}`", _shown(value), _shown(default)) for name, value, default in differing(record)]
    lines = table([("option", "here", "default"), *rows]) if rows else ["Every option that teaches is at its default."]
    options = {name: value for name, value in record.recipe.items() if name not in (*_PRIVATE, "dataset")}
    if record.base_model is None and not record.started_fresh:
        options["encoder"] = Path(str(options["encoder"])).name  # of a folder of the author's
    text = yaml.safe_dump(options, sort_keys=False, allow_unicode=True).strip()
    folded = "<details><summary>All options, as a recipe (transformers' own where not its default)</summary>"
    return "\n".join([f"Objectives: {weights}.", "", *lines, "", folded, "", "```yaml", text, "```", "", "</details>"])


def _origin(entry: Mapping[str, Any]) -> str:
    package = f", of the package {entry['package']}" if "package" in entry else ""
    return f"weight {entry.get('weight', 1.0):g}{package}"


def _differences(
    recipe: Mapping[str, Any], defaults: Mapping[str, Any], prefix: str = ""
) -> list[tuple[str, Any, Any]]:
    differences = []
    for name, value in recipe.items():
        default = defaults.get(name, _ABSENT)
        if not _same(value, default) and (value or default is not _ABSENT):
            differences.append((prefix + name, value, None if default is _ABSENT else default))
    return differences


def _same(value: Any, default: Any) -> bool:
    """Tuples are lists here, and what is absent is ``None``."""
    return _plain(value) == _plain(default)


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _flat(entry: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """{"views": {"size": 16}} -> ("views.size", 16), without the name."""
    for key, value in entry.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        elif prefix or key not in ("name", "package"):
            yield f"{prefix}{key}", value


def _run_defaults() -> dict[str, Any]:
    fields = [f for kind in (ModelArguments, DataArguments, PretrainingArguments) for f in dataclasses.fields(kind)]
    return {
        field.name: field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default
        for field in fields
    }


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return " ".join(map(_shown, value)) or "-"
    return str(value).replace("|", "\\|")
