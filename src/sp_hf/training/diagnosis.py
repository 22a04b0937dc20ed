"""Warnings of a run that does not learn, once for each finding: in the log, and in the run folder's ``diagnosis.json``.

What holds of any run is judged here, what only an objective knows by its
:meth:`~sp_hf.objectives.base.Objective.diagnose`.
Findings are made of the log lines alone, which checkpoints hold, so a resumed run finds what an uninterrupted one does.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..objectives.base import Objective
from ..objectives.diagnosis import Finding, LogHistory
from ..whole_file import write_whole

logger = logging.getLogger(__name__)

PAGE = "docs/troubleshooting.md"
# Recent RankMe as a share of its maximum after the warm-up. From line to line one batch's RankMe moves by a tenth or
# two; in runs that learn it rose, or fell by a quarter (MoCo v3 on Caltech-101: 16.1 to 12.2).
RANKME_KEPT = 0.5
# RankMe as a share of the largest it could be, min(images, hidden size). A flat DINO had 3.6 of 32; runs that learn
# have 12 to 21 of 64 (MAE, MoCo v3 on Caltech-101) and 10 of 32 (DINO + SP on PartScenes).
RANKME_SHARE = 1 / 8
# Those facts are of batches up to 64; larger ones raise what is possible, not what must be there.
RANKME_MOST = 64
# Two points are about 1.5 standard errors of a kNN accuracy of 0.2 on 1,000 images (--probe_images). Runs that did not
# learn were 2.6 and 3.5 points below where they began.
KNN_MARGIN = 0.02


def collapse(history: LogHistory, least_std: float) -> list[Finding]:
    """Embeddings of which the last are the same for every image, past the warm-up."""
    spread = history.points("embedding_std", after=history.warmup_steps)
    if not spread or spread[-1][1] >= least_std:
        return []
    healthy = [step for step, value in spread if value >= least_std]
    since = next(step for step, _ in spread if not healthy or step > healthy[-1])
    observation = (
        f"COLLAPSE? embedding_std is {spread[-1][1]:.4f}, under --collapse_std {least_std:g}: the encoder gives nearly"
        " the same embedding for every image"
    )
    remedy = "Lower --learning_rate, lengthen --warmup_steps or take a larger batch; --stop_on_collapse ends such runs."
    return [Finding("collapse", since, observation, remedy)]


def rank_findings(history: LogHistory, images: int, hidden_size: int, remedies: str = "") -> list[Finding]:
    """RankMe that has fallen since the warm-up, or that is low.

    Args:
        history: the run's log lines.
        images: whose embeddings a RankMe is of.
        hidden_size: D.
        remedies: options of the run's objectives that help, in words; "" for none.
    """
    rank, before = history.recent("rankme"), history.points("rankme", after=history.warmup_steps)
    if rank is None or not before or not history.settled:
        return []
    peak_step, peak = max(before, key=lambda point: point[1])
    if rank.mean < RANKME_KEPT * peak:
        observation = (
            f"RankMe has fallen to {rank.mean:.1f} from {peak:.1f} at step {peak_step}, by more than"
            f" {1 - RANKME_KEPT:.0%}: the embeddings use ever fewer dimensions"
        )
        remedy = f"Lower --learning_rate or lengthen --warmup_steps{remedies}."
        return [Finding("falling-rankme", peak_step, observation, remedy)]
    least = RANKME_SHARE * min(images, hidden_size, RANKME_MOST)
    if rank.mean < least:
        observation = (
            f"RankMe is {rank.mean:.1f}, under {least:.1f} ({images} images, {hidden_size} dimensions): the embeddings"
            " use few dimensions"
        )
        remedy = f"Lengthen --warmup_steps or take a larger batch{remedies}."
        return [Finding("low-rankme", rank.since, observation, remedy)]
    return []


def knn_findings(history: LogHistory) -> list[Finding]:
    """Online kNN below that of the encoder that training started from (the probe at step 0)."""
    probes = history.points("probe/knn_accuracy")
    if len(probes) < 2 or probes[0][0] != 0 or not history.settled:
        return []
    start, (step, now) = probes[0][1], probes[-1]
    if now >= start - KNN_MARGIN:
        return []
    as_good = [s for s, value in probes if value >= start - KNN_MARGIN]
    since = next(s for s, _ in probes if s > as_good[-1])
    observation = (
        f"kNN is {now:.1%} at step {step}, and was {start:.1%} before training: the encoder knows less of what is in an"
        " image than the one it started from"
    )
    remedy = "Lower --learning_rate, train longer or with a larger batch, and look at the other warnings first."
    return [Finding("knn-below-the-start", since, observation, remedy)]


class Diagnosis(TrainerCallback):
    """Examines the log at every line and reports each finding once.

    Args:
        path: of the record, ``diagnosis.json``; there if something was found.
        objectives: of the run, by name.
        images: whose embeddings are gathered for a log line.
        hidden_size: of the encoder.
        collapse_std: see ``--collapse_std``.
    """

    def __init__(
        self, path: Path, objectives: Mapping[str, Objective], images: int, hidden_size: int, collapse_std: float
    ) -> None:
        self.path, self.objectives = path, objectives
        self.images, self.hidden_size, self.collapse_std = images, hidden_size, collapse_std
        self.records: list[dict[str, Any]] = []

    def examine(self, history: LogHistory) -> list[tuple[str | None, Finding]]:
        """Every finding, with the name of the objective whose it is, or ``None``."""
        general = collapse(history, self.collapse_std) + knn_findings(history)
        if not any(objective.needs_labels for objective in self.objectives.values()):  # labels draw a class together
            general += rank_findings(history, self.images, self.hidden_size, self._remedies())
        own = [(n, finding) for n, o in self.objectives.items() for finding in o.diagnose(history.within(n))]
        return [*own, *((None, finding) for finding in general)]

    def _remedies(self) -> str:
        own = [f"{name}'s {' or '.join(o.remedies)}" for name, o in self.objectives.items() if o.remedies]
        return f"; or set {', '.join(own)}" if own else ""

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """A resume keeps what was found up to its checkpoint."""
        if not state.is_world_process_zero:
            return
        before = json.loads(self.path.read_text()) if state.global_step > 0 and self.path.is_file() else []
        self.records = [record for record in before if record["step"] <= state.global_step]
        self._write()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not state.is_world_process_zero:
            return
        history = LogHistory(state.log_history, state.max_steps, args.get_warmup_steps(state.max_steps))
        known = {(record["objective"], record["section"]) for record in self.records}
        new = [(o, finding) for o, finding in self.examine(history) if (o, finding.section) not in known]
        for objective, finding in new:
            self.records.append({"step": state.global_step, "objective": objective, **dataclasses.asdict(finding)})
            logger.warning(
                "WARNING step %d: %s (since step %d). %s See %s#%s.",
                *(state.global_step, finding.seen, finding.since, finding.remedy, PAGE, finding.section),
            )
        if new:
            self._write()

    def _write(self) -> None:
        if self.records:
            write_whole(self.path, json.dumps(self.records, indent=2) + "\n")
        else:
            self.path.unlink(missing_ok=True)
