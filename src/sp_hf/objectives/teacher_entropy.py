"""Findings on a teacher that gives probabilities over prototypes: flat or collapsed, by the entropy of its outputs.

A teacher fails in two ways (Caron et al. 2021, arXiv:2104.14294, section 5.3): it gives the same probability to every
prototype, entropy ln K, or all of it to one, entropy 0. Either way there is nothing to learn from it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from .diagnosis import Finding, LogHistory

# Shares of ln K. A DINO at 6.48 of ln 1024 = 6.93, a share of 0.935, was flat: kNN below random initialisation.
FLAT_ENTROPY = 0.93
# 0.14 of ln 1024 = 6.93: an average image has 98 % of its probability on one prototype.
COLLAPSED_ENTROPY = 0.02


def entropy_findings(
    history: LogHistory, prototypes: int, remedies: Sequence[str] = (), name: str = "teacher_entropy"
) -> list[Finding]:
    """A flat or a collapsed teacher, if the recent entropy says so.

    Args:
        history: an objective's own.
        prototypes: K, the teacher's outputs.
        remedies: options of the objective that help, see :class:`~sp_hf.objectives.base.Objective`.
        name: under which the entropy is logged, in nats, mean over images.
    """
    entropy, most = history.recent(name), math.log(prototypes)
    if entropy is None or prototypes < 2 or not history.settled:
        return []
    if entropy.mean >= FLAT_ENTROPY * most:
        observation = (
            f"the teacher is flat: its entropy is {entropy.mean:.2f} of at most ln {prototypes} = {most:.2f}"
            f" (flat: {FLAT_ENTROPY * most:.2f} or more), so it tells no image from another"
        )
        own = f"set its {' or '.join(remedies)}, " if remedies else ""
        remedy = (
            f"Lower the objective's teacher_temperature (0.04 throughout), {own}take fewer prototypes or a"
            " larger batch."
        )
        return [Finding("flat-teacher", entropy.since, observation, remedy)]
    if entropy.mean <= COLLAPSED_ENTROPY * most:
        observation = (
            f"the teacher has collapsed: its entropy is {entropy.mean:.3f} of at most ln {prototypes} = {most:.2f}"
            f" (collapsed: {COLLAPSED_ENTROPY * most:.3f} or less), one prototype for every image"
        )
        own = f"{' or '.join(remedies)} or " if remedies else ""
        remedy = (
            f"Raise the objective's teacher_temperature, set its {own}a smaller centre_momentum, or lower"
            " --learning_rate."
        )
        return [Finding("collapsed-teacher", entropy.since, observation, remedy)]
    return []
