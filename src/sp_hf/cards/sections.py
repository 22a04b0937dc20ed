"""The sections of a model card that tell what a run recorded of itself."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from ..markdown import table
from ..run.arguments import PretrainingArguments
from ..run.record import RunRecord


def summary(record: RunRecord, architecture: str) -> str:
    """What the model is, in a sentence, and what its objectives taught it."""
    start = (
        "trained from scratch"
        if record.started_fresh
        else f"continued from [{record.base_model}](https://huggingface.co/{record.base_model})"
        if record.base_model
        else "continued from another checkpoint"
    )
    labels = "with labels" if record.uses_labels else "without labels"
    names = " + ".join(record.titles.values())
    taught = [method.teaches for method in record.methods.values() if method.teaches]
    origin = (
        f"A vision encoder ({architecture}), {start} {labels} by {names} on {dataset_link(record)}, with sp-hf"
        f" {record.environment['packages'].get('sp-hf') or version('sp-hf')}."
    )
    return " ".join([origin, *taught])


def other_runtimes(encoder: Path, repo_id: str) -> str:
    """What else than transformers loads the files of an encoder's folder; "" for nothing."""
    sentences = []
    if (encoder / "timm").is_dir():
        sentences.append(f'timm loads it, too: `timm.create_model("hf-hub:{repo_id}", pretrained=True)`.')
    if (encoder / "onnx").is_dir():
        sentences.append(
            "`onnx/model.onnx` is for onnxruntime: `pixel_values`, as the image processor makes them, in;"
            " `last_hidden_state` out."
        )
    return " ".join(sentences)


def dataset_link(record: RunRecord) -> str:
    """The dataset's name, linked where the Hub has it."""
    if record.hub_dataset:
        return f"[{record.hub_dataset}](https://huggingface.co/datasets/{record.hub_dataset})"
    return f"`{record.dataset}`"


def data(record: RunRecord) -> str:
    """The training images: how many there are, and how many were seen."""
    recipe, done = record.recipe, record.summary_line
    split = recipe.get("dataset_split") or "train"
    images = record.environment.get("images")
    facts = {
        "dataset": f"{dataset_link(record)}, split {split}",
        "images": f"{images:,}" if images else "",
        "seen": f"{record.steps * _batch(record):,} images" + (f", {done['epoch']:.4g} epochs" if done else ""),
        "size": f"squashed onto {recipe['canvas_size']} px squares before views are cut"
        if "canvas_size" in recipe
        else "",
        "labels": "used" if record.uses_labels else "not used",
    }
    return _facts(facts)


def training_log(record: RunRecord) -> str:
    """The last losses, and what was amiss."""
    losses = {k: v for line in record.metrics for k, v in line.items() if k.startswith("loss/")}
    last = ", ".join(f"{name.removeprefix('loss/')} {value:.4g}" for name, value in losses.items())
    lines = [f"Last logged losses: {last}."] if losses else []
    if record.warnings:
        lines += ["", "Warnings during training:", ""]
        lines += [f"- Step {warning['step']}: {warning['seen']}." for warning in record.warnings]
    return "\n".join(lines)


def cost(record: RunRecord) -> str:
    """Steps, time, hardware and versions."""
    done, environment = record.summary_line, record.environment
    devices = sorted(set(environment.get("devices", [])))
    processes = environment.get("processes", 1)
    times = f" x {processes} processes" if processes > 1 else ""
    facts = {
        "steps": f"{record.steps:,}, each of {_batch(record)} images",
        "time": _duration(done["train_runtime"]) if done else "not recorded",
        "hardware": f"{', '.join(devices)}{times}" if devices else "not recorded",
        "versions": ", ".join(f"{n} {v}" for n, v in environment["packages"].items() if v),
    }
    return _facts(facts)


def limitations(record: RunRecord, license: str | None, measured: bool) -> str:
    """What not to expect."""
    labels = "with labels" if record.uses_labels else "without labels"
    points = [
        f"It saw {record.steps} steps of training on one dataset; features may be poor on other kinds of images.",
        f"It was trained {labels} and filters nothing: what the training images are biased to, it is biased to.",
    ]
    if not measured:
        points.append("Nothing has been measured of it yet.")
    if record.dataset.startswith("part-scenes"):
        points.append(
            "Its training images are procedural scenes, not photographs: it shows a method, not a useful model."
        )
    if license is None:
        points.append("No license has been declared.")
    return "\n".join(f"- {point}" for point in points)


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"


def _batch(record: RunRecord) -> int:
    """Images a step, of all processes."""
    recipe = record.recipe
    each = recipe.get("per_device_train_batch_size", PretrainingArguments.per_device_train_batch_size)
    return each * record.environment.get("processes", 1) * recipe.get("gradient_accumulation_steps", 1)


def _facts(facts: dict[str, str]) -> str:
    return "\n".join(table([("", ""), *((name, fact) for name, fact in facts.items() if fact)]))
