"""An optimizer that goes on from a checkpoint with other options than it was saved with (``--allow_changes``).

By themselves, saved states bring the old rates back, and the new ones are forgotten.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

logger = logging.getLogger(__name__)


def load_optimizer(optimizer: Optimizer, saved: Mapping[str, Any], same_kind: bool) -> None:
    """Moments of the saved state, options (rates, decay, betas) as they are now.

    Args:
        optimizer: as it was made for this run.
        saved: ``state_dict()`` of the one before.
        same_kind: whether both are of one class; if not, or if parameters are grouped otherwise, moments start anew.
    """
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    if not same_kind or sizes != [len(group["params"]) for group in saved["param_groups"]]:
        logger.warning("the optimizer's moments start anew: it is another one, or groups its parameters otherwise.")
        return
    options = [{name: value for name, value in g.items() if name != "params"} for g in optimizer.param_groups]
    optimizer.load_state_dict(dict(saved))
    for group, own in zip(optimizer.param_groups, options, strict=True):
        group.update(own)


def load_schedule(schedule: LRScheduler, saved: Mapping[str, Any]) -> None:
    """The saved step, on the schedule as it is now."""
    rates = schedule.base_lrs
    schedule.load_state_dict(dict(saved))
    schedule.base_lrs = rates
    if isinstance(schedule, LambdaLR):
        factors = [factor(schedule.last_epoch) for factor in schedule.lr_lambdas]
        schedule._last_lr = [rate * factor for rate, factor in zip(rates, factors, strict=True)]
        for group, rate in zip(schedule.optimizer.param_groups, schedule._last_lr, strict=True):
            group["lr"] = rate
