"""Which files of a run go to the Hub, and where they lie there.

::

    config.json  model.safetensors  preprocessor_config.json    the stock encoder: AutoModel.from_pretrained("org/name")
    README.md                                                   the model card
    recipe.yaml  environment.json  metrics.jsonl                how it was trained
    recipe.until-step-N.yaml                                    until it was resumed with other options, if it was
    diagnosis.json                                              and what was amiss, if anything was
    pictures/*.png                                              views, curves
    onnx/model.onnx  timm/model.safetensors  timm/config.json   where asked for
    pretraining/config.json  pretraining/model.safetensors      everything: SPForPreTraining.from_pretrained(...,
                                                                subfolder="pretraining")

Safetensors, JSON, YAML, Markdown and PNG only: optimizer and random states are pickles, and stay at home.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..access_tokens import holds_token
from ..cards.model_card import write_card
from ..run.export import export
from ..run.folder import PRETRAINING, RunFolder
from .failures import PushError

_TEXT = (".json", ".jsonl", ".yaml", ".md")


def files_to_push(
    run: str | os.PathLike[str], workspace: Path, *, teacher: bool = False, onnx: bool = False, timm: bool = False
) -> dict[str, Path]:
    """{path on the Hub: local file}; changes nothing in the run folder.

    Args:
        run: run folder, or one checkpoint of it.
        workspace: folder into which the stock encoder is exported.
        teacher: the EMA teacher at the root instead of the student.
        onnx, timm: for onnxruntime and for timm, too.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: ``teacher`` asked for, but the run has none.
        PackageError, RunError, InputError: see :func:`~sp_hf.run.export.export`.
    """
    source = export(run, workspace, teacher=teacher, onnx=onnx, timm=timm)
    files = {path.relative_to(workspace).as_posix(): path for path in sorted(workspace.rglob("*")) if path.is_file()}
    folder = RunFolder.of(source)
    kept = [folder.readme, folder.recipe, folder.environment, folder.metrics, folder.diagnosis]
    kept += [path for path in folder.former_records() if path.suffix != ".png"]
    files |= {path.name: path for path in kept if path.is_file()}
    files |= {f"pictures/{path.name}": path for path in sorted(folder.path.glob("*.png"))}
    weights = sorted([*source.glob("model*.safetensors"), *source.glob("model*.safetensors.index.json")])
    files |= {f"{PRETRAINING}/{path.name}": path for path in [source / "config.json", *weights]}
    return files


def with_card(
    files: dict[str, Path],
    run: str | os.PathLike[str],
    workspace: Path,
    repo: str,
    *,
    license: str | None = None,
    evaluations: Sequence[str | Path] = (),
    run_snippets: bool = True,
    before: str = "",
) -> dict[str, Path]:
    """The files and, of a finished run that has no README.md of its own, a model card with its pictures.

    Args:
        files: from :func:`files_to_push`, the encoder in ``workspace``.
        run: run folder.
        workspace: the card is written into its ``card/``.
        repo: ``owner/name``.
        license, evaluations, run_snippets, before: see :func:`~sp_hf.cards.model_card.write_card`.

    Raises:
        ResultsError: the card cannot be written.
    """
    folder = RunFolder(Path(run))
    if not folder.finished or not folder.recipe.is_file() or "README.md" in files:
        return files
    card = workspace / "card"
    options: dict[str, Any] = {"license": license, "evaluations": evaluations}
    options |= {"run_snippets": run_snippets, "before": before}
    write_card(run, card, repo, encoder=workspace, **options)
    return files | {path.relative_to(card).as_posix(): path for path in sorted(card.rglob("*")) if path.is_file()}


def refuse_secrets(files: dict[str, Path], token: str | None) -> None:
    """Nothing that looks like an access token leaves the machine.

    Raises:
        PushError: a text file holds one; names the file and not the token.
    """
    for path in files.values():
        if path.suffix not in _TEXT:
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        if holds_token(text, token):
            raise PushError(
                f"{path} holds an access token of the Hub, or a signed address: take it out (and revoke it), then push"
                " again."
            )


def describe_files(files: dict[str, Path]) -> str:
    """One line a file with its size, and a sum."""
    sizes = {name: path.stat().st_size for name, path in files.items()}
    lines = [f"  {name:34} {_human_size(size):>10}" for name, size in sizes.items()]
    return "\n".join([*lines, f"  {f'{len(sizes)} files':34} {_human_size(sum(sizes.values())):>10}"])


def _human_size(size: int) -> str:
    """1234567 -> "1.2 MB"."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} B"
