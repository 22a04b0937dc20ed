"""The contract of a run: the options that stay when it is resumed.

They say its data, model, objectives, order, optimizer, schedule and precision, and are recorded in every checkpoint as
``contract.json``. What is free to change is where results go, how often something is logged, saved or probed, and how
fast it runs.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import InputError
from ..objectives import parse_entry, to_entry
from ..optimisation.arguments import OptimisationArguments
from .arguments import DataArguments, ModelArguments, PretrainingArguments
from .folder import CONTRACT

logger = logging.getLogger(__name__)

FREE = frozenset(
    """
    attn_implementation
    max_skipped validation_dataset validation_dataset_config validation_dataset_split validation_dataset_revision
    output_dir resume check allow_changes logging_steps logging_nan_inf_filter save_steps save_total_limit report_to
    dataloader_num_workers dataloader_pin_memory ddp_find_unused_parameters ddp_broadcast_buffers remove_unused_columns
    probe_steps probe_images collapse_std stop_on_collapse max_bad_steps hub_license hub_card
    num_train_epochs
    """.split()
)
"""Our own options that a resumed run may change; the steps that ``num_train_epochs`` comes to are in the contract."""

OF_TRANSFORMERS = frozenset(
    """
    seed data_seed gradient_accumulation_steps
    optim_args optim_target_modules adam_beta1 adam_beta2 adam_epsilon
    bf16 fp16 tf32 fsdp full_determinism
    """.split()
)
"""Options that are transformers' own and that it may not change."""


def own_options() -> frozenset[str]:
    """Names of the options that this package declares, those of transformers with another default among them."""
    kinds = (ModelArguments, DataArguments, PretrainingArguments, OptimisationArguments)
    return frozenset(name for kind in kinds for name in vars(kind)["__annotations__"])


def contract_of(options: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """The contract that the checkpoints of a run record, as JSON holds it.

    Args:
        options: of the run, by name, resolved; ``objectives`` are full entries.
        facts: what is not an option: the steps of the whole run, the number of images, ...
    """
    kept = {name: options[name] for name in sorted((own_options() - FREE) | OF_TRANSFORMERS) if name in options}
    return json.loads(json.dumps({**kept, **facts}, default=str))


def write_contract(checkpoint: Path, contract: Mapping[str, Any]) -> None:
    """Write the contract into a checkpoint that is not published yet."""
    (checkpoint / CONTRACT).write_text(json.dumps(contract, indent=1) + "\n", encoding="utf-8")


def read_contract(checkpoint: Path) -> dict[str, Any] | None:
    """The contract of a checkpoint; ``None``: it has none, as those of older versions."""
    file = checkpoint / CONTRACT
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def check_contract(recorded: Mapping[str, Any] | None, now: Mapping[str, Any], where: Path, allow: bool) -> list[str]:
    """Refuse to go on with a run as another one.

    Args:
        recorded: of the first half; ``None``: unknown, and nothing is checked.
        now: of the run as it is asked for.
        where: the first half was recorded, for the message.
        allow: warn instead (``--allow_changes``).

    Returns:
        In what they differ, see :func:`differences`.

    Raises:
        InputError: they differ; lists in what.
    """
    if recorded is None:
        logger.warning("%s does not say which options it was written with: they are not checked.", where)
        return []
    changes = differences(recorded, now)
    if changes and not allow:
        raise InputError(
            f"{where} was written with other options than this run asks for: {'; '.join(changes)}. Resume with those in"
            " the run's recipe.yaml, choose a new --output_dir, or, if the change is meant, add --allow_changes."
        )
    for change in changes:
        logger.warning("changed from here on (--allow_changes): %s", change)
    return changes


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What a run would do otherwise than its first half did: a phrase each, in order of their names.

    Options that one of the two does not know, for the version that wrote it, are passed over.
    """
    shared = before.keys() & now.keys()
    return list(_differences({k: _by_name(before[k]) for k in shared}, {k: _by_name(now[k]) for k in shared}))


def _differences(before: Any, now: Any, place: str = "") -> Iterator[str]:
    if not isinstance(before, dict) or not isinstance(now, dict):
        if before != now:
            yield f"{place}: {_shown(before)} before, {_shown(now)} now"
        return
    for name in sorted(before.keys() | now.keys()):
        yield from _differences(before.get(name), now.get(name), f"{place}.{name}" if place else name)


def _by_name(value: Any) -> Any:
    """Entries of objectives as a mapping, with today's defaults for options that are newer, and their order."""
    if not isinstance(value, list) or not value or not all(isinstance(e, dict) and "name" in e for e in value):
        return value
    entries = {entry["name"]: to_entry(entry["name"], parse_entry(entry)[1]) for entry in value}
    return {"in this order": list(entries), **json.loads(json.dumps(entries, default=str))}


def _shown(value: Any) -> str:
    text = "nothing" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 80 else f"{text[:60]} ... {text[-15:]}"
