"""A finished run as its folder records it: the facts that a model card is made of."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import yaml

from ..access_tokens import without_queries
from ..encoders.names import PRESETS
from ..errors import NotFoundError
from ..objectives import Objective, parse_entry
from .folder import RunFolder


@dataclasses.dataclass(frozen=True)
class RunRecord:
    """A finished run.

    Args:
        folder: its places.
        recipe: every option, resolved.
        environment: versions and hardware.
        metrics: the logged lines, in order.
        encoder_config: of the stock encoder.
    """

    folder: RunFolder
    recipe: dict[str, Any]
    environment: dict[str, Any]
    metrics: list[dict[str, Any]]
    encoder_config: dict[str, Any]

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> RunRecord:
        """Raises FileNotFoundError where a file that every finished run has is missing; names it."""
        run = RunFolder(Path(folder))
        encoder_config = run.encoder / "config.json"
        needed = (run.recipe, run.environment, run.metrics, encoder_config)
        missing = [str(file.relative_to(run.path)) for file in needed if not file.is_file()]
        if missing:
            raise NotFoundError(
                f"{folder} is not the folder of a finished run: it lacks {', '.join(missing)}. Name the --output_dir of"
                " sp-hf pretrain."
            )
        return cls(
            folder=run,
            recipe=yaml.safe_load(run.recipe.read_text(encoding="utf-8")),
            environment=json.loads(run.environment.read_text(encoding="utf-8")),
            metrics=[json.loads(line) for line in run.metrics.read_text().splitlines()],
            encoder_config=json.loads(encoder_config.read_text(encoding="utf-8")),
        )

    @property
    def objectives(self) -> dict[str, dict[str, Any]]:
        """Options of each objective, by name."""
        return {entry["name"]: entry for entry in self.recipe["objectives"]}

    @property
    def methods(self) -> dict[str, type[Objective]]:
        """The class of each objective, by name.

        Raises:
            PluginError: an objective is a package's that is not installed; says which.
        """
        return {name: parse_entry(entry)[0] for name, entry in self.objectives.items()}

    @property
    def titles(self) -> dict[str, str]:
        """What each objective is called, by name."""
        return {name: method.title or name.replace("_", " ") for name, method in self.methods.items()}

    @property
    def uses_labels(self) -> bool:
        """Whether an objective learnt from the dataset's labels."""
        return any(method.needs_labels for method in self.methods.values())

    @property
    def model_class(self) -> str:
        return self.encoder_config["architectures"][0]

    @property
    def base_model(self) -> str | None:
        """The Hub id that training started from; ``None`` if it started fresh or from a folder."""
        name = str(self.recipe["encoder"])
        is_hub_id = name.count("/") == 1 and not name.startswith((".", "~", "/")) and not Path(name).exists()
        return name if is_hub_id and name not in PRESETS else None

    @property
    def started_fresh(self) -> bool:
        """Whether the encoder was randomly initialised."""
        return self.recipe["encoder"] in PRESETS

    @property
    def dataset(self) -> str:
        """The dataset as others would name it: of local files only the name, never the path."""
        name = str(self.recipe.get("dataset", "part-scenes"))
        is_local = name.startswith((".", "~", "/")) or Path(name.partition("*")[0]).exists() or name.count("/") > 1
        return Path(name.rstrip("/*")).name if is_local and "://" not in name else without_queries(name)

    @property
    def hub_dataset(self) -> str | None:
        """The Hub id of the dataset, where it has one."""
        name = self.dataset
        return name if name == str(self.recipe.get("dataset")) and _looks_like_hub_id(name) else None

    @property
    def summary_line(self) -> dict[str, Any]:
        """What the Trainer logged at the end; empty if the run was stopped."""
        return next((line for line in reversed(self.metrics) if "train_runtime" in line), {})

    @property
    def steps(self) -> int:
        return max((line.get("step", 0) for line in self.metrics), default=0)

    @property
    def warnings(self) -> list[dict[str, Any]]:
        """What was amiss during training, in order (:class:`~sp_hf.objectives.diagnosis.Finding` and its step)."""
        path = self.folder.diagnosis
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []

    def citations(self) -> list[str]:
        """BibTeX of every objective that has some, those on *where* first."""
        methods = sorted(self.methods.values(), key=lambda method: method.kind != "where")
        return [method.citation.strip() for method in methods if method.citation.strip()]


def _looks_like_hub_id(name: str) -> bool:
    plain = name.replace("/", "").replace("-", "").replace("_", "").replace(".", "")
    return name.count("/") <= 1 and plain.isalnum() and not name.startswith("part-scenes") and "." not in name[-9:]
