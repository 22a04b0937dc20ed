"""``--push_to_hub``: every save goes to the Hub, in the layout of ``sp-hf push``, while training goes on.

At a save the encoder is exported and the checkpoint's files are set aside, which takes a moment and moves no random
number; a thread uploads them. A save that comes while the one before is still on its way is passed over, unless
``--hub_always_push``. A push that fails is a warning, and the next save is the next attempt: what was uploaded stays
on the Hub. The finished run is pushed last, by the caller, who is told what came of it.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from huggingface_hub.utils import disable_progress_bars
from transformers import TrainerCallback, TrainerControl, TrainerState
from transformers.trainer_utils import HubStrategy

from ..hub.failures import PushError
from ..hub.layout import files_to_push, with_card
from ..hub.published_card import card_of_same_weights
from ..hub.push import Destination, PushResult, connect, push
from ..run.arguments import PretrainingArguments
from ..run.folder import RunFolder

logger = logging.getLogger(__name__)


class HubPush(TrainerCallback):
    """Pushes checkpoints in the background and the finished run in the foreground; of several processes, the first.

    Args:
        target: see :func:`~sp_hf.hub.push.connect`.
        run: the run folder.
        every_save: ``False``: the finished run only.
        always: wait for the push before instead of passing a save over.
        card: make a model card for the finished run.
        license: for the card.
    """

    def __init__(
        self, target: Destination, run: Path, every_save: bool, always: bool, card: bool, license: str | None = None
    ) -> None:
        self.target, self.run, self.every_save, self.always = target, run, every_save, always
        self.card, self.license = card, license
        self._thread: threading.Thread | None = None

    @classmethod
    def from_arguments(cls, args: PretrainingArguments, token: str | None) -> HubPush | None:
        """Log in and make the repository, before any work; ``None``: nothing is to be pushed from this process.

        Raises:
            PushError: no repository's id, not logged in, not allowed.
        """
        if not args.push_to_hub or args.process_index != 0:
            return None
        run = args.folder
        repo = args.hub_model_id or run.resolve().name
        target = connect(repo, private=args.hub_private_repo, revision=args.hub_revision, token=token)
        every_save = args.hub_strategy != HubStrategy.END
        return cls(target, run, every_save, args.hub_always_push, args.hub_card, args.hub_license)

    def on_save(self, args: Any, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if not self.every_save or state.global_step >= state.max_steps:  # the finished run follows at once
            return
        if self._thread is not None and self._thread.is_alive() and not self.always:
            logger.info("step %d is not pushed: the push before it is still on its way.", state.global_step)
            return
        self.wait()
        folder = RunFolder(self.run).staged("push")
        try:
            files = set_aside(RunFolder(self.run).checkpoint(state.global_step), folder)
        except OSError as error:  # a full disk, or a checkpoint sharded over processes
            logger.warning("step %d could not be pushed, training goes on: %s", state.global_step, error)
            return
        self._thread = threading.Thread(target=self._push, args=(files, folder, state.global_step), daemon=True)
        self._thread.start()

    def _push(self, files: dict[str, Path], folder: Path, step: int) -> None:
        try:
            result = push(files, self.target, f"Training in progress, step {step}")
            logger.info("step %d pushed: %s", step, result.url)
        except Exception as error:  # whatever it is, training must not end for it
            logger.warning(
                "step %d could not be pushed, training goes on and the next save tries again: %s", step, error
            )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def wait(self) -> None:
        """Until no push is on its way."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def push_finished(self, step: int) -> PushResult:
        """Push the whole run folder.

        Raises:
            PushError: it failed for good; says how to repeat it.
        """
        self.wait()
        if not sys.stderr.isatty():
            disable_progress_bars()  # which transformers brings back after training
        folder = RunFolder(self.run).staged("push")
        try:
            files = files_to_push(self.run, folder)
            if self.card:
                before = card_of_same_weights(self.target, files)
                files = with_card(files, self.run, folder, self.target.repo, license=self.license, before=before)
            return push(files, self.target, f"End of training, step {step}")
        except PushError as error:
            revision = f" --revision {self.target.revision}" if self.target.revision else ""
            command = f"sp-hf push {self.run} {self.target.repo}{revision}"
            raise PushError(f"{error} The run is whole in {self.run}; push it with: {command}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def set_aside(checkpoint: Path, folder: Path) -> dict[str, Path]:
    """What :func:`~sp_hf.hub.layout.files_to_push` names, as it is now: later writes and rotation do not touch it."""
    shutil.rmtree(folder, ignore_errors=True)
    kept = {}
    for name, path in files_to_push(checkpoint, folder / "exported").items():
        kept[name] = folder / "files" / name
        kept[name].parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            _link_or_copy(path, kept[name])
        else:
            shutil.copyfile(path, kept[name])
    return kept


def _link_or_copy(path: Path, kept: Path) -> None:
    """Weights are never written in place, so a link is as good as a copy, and takes no room."""
    try:
        os.link(path, kept)
    except OSError:  # a file system without links
        shutil.copyfile(path, kept)
