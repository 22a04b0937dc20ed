"""What ``make demo`` leaves behind: a run with SP, its control without, and what was measured of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from ..run.folder import RunFolder
from ..run.record import RunRecord


@dataclasses.dataclass(frozen=True)
class DemoRuns:
    """The two runs of one seed.

    Args:
        models: ``NAME=folder`` of each, with SP first.
        dataset: that they were trained on.
        evaluations: folders of ``results.json``.
    """

    models: tuple[str, ...]
    dataset: str
    evaluations: tuple[Path, ...]

    @classmethod
    def find(cls, folder: Path) -> DemoRuns | None:
        """Those in a folder, of its first seed that is finished; ``None`` where there are none."""
        for with_sp in sorted(folder.glob("*-spatial_prediction-seed*")):
            control = with_sp.with_name(with_sp.name.replace("-spatial_prediction", ""))
            if not (RunFolder(with_sp).finished and RunFolder(control).finished):
                continue
            records = [RunRecord.read(path) for path in (with_sp, control)]
            names = [" + ".join("SP" if k == "spatial_prediction" else t for k, t in r.titles.items()) for r in records]
            seed = with_sp.name.rpartition("-")[2]
            evaluations = [path for path in (folder / f"evaluation-{seed}",) if (path / "results.json").is_file()]
            models = tuple(f"{name}={path}" for name, path in zip(names, (with_sp, control), strict=True))
            return cls(models, str(records[0].recipe["dataset"]), tuple(evaluations))
        return None

    def draw(self, folder: Path, scenes: Sequence[int], size: int = 320) -> list[Path]:
        """Scenes of their kind that they have not seen, as pictures in a folder; none, if theirs are not drawn."""
        from PIL import Image

        from ..data.part_scenes.dataset import render_scene

        name, _, query = self.dataset.partition("?")
        if name != "part-scenes":
            return []
        drawn = {key: value for key, value in parse_qsl(query) if key in ("variant", "difficulty")}
        paths = []
        for number, index in enumerate(scenes, start=1):
            paths.append(folder / f"{number}-scene-{number}.jpg")
            Image.fromarray(render_scene(7, index, size, split="test", **drawn).image).save(paths[-1], quality=88)
        return paths
