"""``sp_hf.push``: from a run folder to a model on the Hub that anybody loads with ``AutoModel``."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..run.export import find_weights
from ..run.folder import RunFolder
from .failures import PushError
from .layout import describe_files, files_to_push, with_card
from .published_card import card_of_same_weights
from .push import Destination, PushResult, connect
from .push import push as upload

if TYPE_CHECKING:
    from ..evaluation.results import Results


def push(
    run: str | os.PathLike[str],
    repo_id: str,
    *,
    private: bool | None = None,
    create_pr: bool = False,
    revision: str | None = None,
    teacher: bool = False,
    message: str | None = None,
    license: str | None = None,
    evaluations: str | os.PathLike[str] | Results | Sequence[str | os.PathLike[str] | Results] = (),
    card: bool = True,
    run_snippets: bool = True,
    onnx: bool = False,
    timm: bool = False,
    dry_run: bool = False,
    token: str | None = None,
    say: Callable[[str], None] = lambda line: None,
    command: str = "",
) -> PushResult:
    """Share a run on the Hub: the stock encoder, which ``AutoModel`` loads, its card, and all it takes to train on.

    Args:
        run: run folder, one checkpoint of it, or what :func:`sp_hf.pretrain` returned.
        repo_id: ``owner/name``; created if it is not there.
        private: if it is created, only for its owner; ``None``: the owner's default.
        create_pr: open a pull request instead; the repository must be there.
        revision: branch, created if it is not there, or ``refs/pr/N``; ``None``: main.
        teacher: the EMA teacher's encoder instead of the student's.
        message: of the commit, or title of the pull request.
        license: for the card, as the Hub names it (``apache-2.0``); ``None``: the base model's.
        evaluations: of this very encoder, for the card: what :func:`sp_hf.evaluate` returned, or folders that it wrote.
        card: make a model card.
        run_snippets: run the card's snippets, for a minute each at most; one that fails costs the card, not the push.
        onnx: with ``onnx/model.onnx``, checked against torch.
        timm: loadable with ``timm.create_model("hf-hub:owner/name")``, too; the weights are there twice.
        dry_run: say what would be pushed, and push nothing; needs no login.
        token: ``None``: the one that ``hf auth login`` stored, or ``HF_TOKEN``.
        say: is told what is done, a line or several at a time.
        command: how this was called, for the message of a push that broke off.

    Returns:
        Where it is.

    Raises:
        PushError: not logged in, not allowed, or it failed for good; what was uploaded stays for the next attempt.
        FileNotFoundError: no checkpoint there.
        ResultsError: an evaluation is about other weights.
        ValueError: ``teacher`` of a run without one, weights that are damaged, or ``timm`` of another architecture.
        PackageError, RunError: see :func:`~sp_hf.encoders.onnx_export.export_onnx`.

    Example:
        >>> import sp_hf
        >>> where = {"name": "spatial_prediction", "views": {"count": 2, "size": 16, "area": [0.2, 0.8]}}
        >>> run = sp_hf.pretrain(
        ...     "vit-micro-8", [where], "part-scenes?size=32&num_images=8", output_dir="runs/mine", image_size=16,
        ...     max_steps=1, per_device_train_batch_size=4, dataloader_num_workers=0, use_cpu=True,
        ... )
        >>> planned = sp_hf.push(run, "me/mine", card=False, dry_run=True)
        >>> planned.changed, planned.files[:2]
        (False, ('config.json', 'model.safetensors'))
    """
    several = evaluations if isinstance(evaluations, (list, tuple)) else [evaluations]
    find_weights(run)
    target = None if dry_run else connect(repo_id, private=private, revision=revision, create_pr=create_pr, token=token)
    with tempfile.TemporaryDirectory(prefix="sp-hf-push-") as folder:
        workspace = RunFolder(Path(folder)).encoder
        files = files_to_push(run, workspace, teacher=teacher, onnx=onnx, timm=timm)
        if card:
            say("Making the model card" + (", its snippets are run ..." if run_snippets else " ..."))
            measured = [_folder_of(evaluation, Path(folder) / f"results-{i}") for i, evaluation in enumerate(several)]
            options: dict[str, Any] = {"license": license, "evaluations": measured, "run_snippets": run_snippets}
            before = "" if target is None else card_of_same_weights(target, files)
            files = with_card(files, run, workspace, repo_id, **options, before=before)
        say(f"{os.fspath(run)} -> {target.url if target else repo_id}")
        say(describe_files(files))
        if target is None:
            return PushResult("", "", False, tuple(files))
        return _upload(files, target, run, message, say, command)


def _upload(
    files: dict[str, Path],
    target: Destination,
    run: str | os.PathLike[str],
    message: str | None,
    say: Callable[[str], None],
    command: str,
) -> PushResult:
    message = message or f"{Path(run).resolve().name}: encoder and pretraining state"
    try:
        return upload(files, target, message, progress=say)
    except PushError as error:
        advice = f"go on with: {command}" if command else "push it again to go on"
        raise PushError(f"{error} The run is untouched, and what is uploaded stays; {advice}") from error


def _folder_of(evaluation: str | os.PathLike[str] | Results, folder: Path) -> Path:
    """Where the results lie; those in memory are written there first."""
    return Path(evaluation) if isinstance(evaluation, (str, os.PathLike)) else evaluation.save(folder)
