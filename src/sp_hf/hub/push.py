"""Push a run to the Hub: connect, then one commit of everything.

Large files go up one after the other, then a single commit makes them visible together, so that nobody ever sees half a
push. The Hub keeps what was uploaded, by its SHA-256: a push that broke off goes on where it was when run again.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.utils import validate_repo_id

from .failures import PushError, explain, with_retries
from .layout import refuse_secrets

_LARGE = 1_000_000  # bytes
_COMMIT_ID = re.compile(r"[0-9a-f]{40}")


@dataclasses.dataclass(frozen=True)
class PushResult:
    """What a push came to.

    Attributes:
        url: the model's page, or the pull request's.
        commit: the commit that holds the files.
        changed: ``False`` where the Hub had exactly these files already, or nothing was to be pushed.
        files: their paths on the Hub.
        repo_id: ``owner/name``.

    Example:
        >>> from sp_hf import PushResult
        >>> PushResult("https://huggingface.co/me/mine", "8f2c1e", changed=True, repo_id="me/mine").repo_id
        'me/mine'
    """

    url: str
    commit: str
    changed: bool
    files: tuple[str, ...] = ()
    repo_id: str = ""


@dataclasses.dataclass(frozen=True)
class Destination:
    """A repository that may be pushed to; made by :func:`connect`.

    Args:
        api: logged in.
        repo: ``"owner/name"``.
        user: who is logged in.
        revision: branch, ``refs/pr/N``, or ``None`` for main.
        create_pr: open a pull request instead of committing.
    """

    api: HfApi
    repo: str
    user: str
    revision: str | None = None
    create_pr: bool = False

    def attempt(self, step: Callable[[], Any], what: str) -> Any:
        """:func:`~sp_hf.hub.failures.with_retries`; what remains is one sentence.

        Raises:
            PushError: it failed for good.
        """
        try:
            return with_retries(step, what)
        except Exception as error:
            sentence = explain(error, self.repo, self.api.endpoint)
            if sentence is None:
                raise
            raise PushError(sentence) from error

    @property
    def url(self) -> str:
        tree = f"/tree/{self.revision}" if self.revision else ""
        return f"{self.api.endpoint}/{self.repo}{tree}"


def connect(
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    token: str | None = None,
) -> Destination:
    """Check everything that can be checked before any work: name, login, permission; create what is missing.

    Args:
        repo: ``"owner/name"``, or a name of your own.
        private: visibility of a repository that is created; ``None``: the owner's default.
        revision: branch (created if need be) or ``refs/pr/N``; ``None``: main.
        create_pr: open a pull request; the repository must exist.
        token: default: the one ``hf auth login`` stored, or ``HF_TOKEN``.

    Raises:
        PushError: no repository's id, not logged in, not allowed, or options that do not go together.
    """
    if create_pr and (revision or private):
        other = f"--revision {revision}" if revision else "--private"
        raise PushError(f"--create-pr opens a pull request to main of a repository that exists; leave out {other}.")
    if revision and _COMMIT_ID.fullmatch(revision):
        raise PushError(f"--revision {revision} is a commit, which cannot be changed: name a branch or refs/pr/N.")
    api = HfApi(token=token)
    anyone = Destination(api, repo, "", revision, create_pr)
    anyone.attempt(lambda: validate_repo_id(repo), "checking the name")
    user = anyone.attempt(lambda: api.whoami(), "logging in")["name"]
    target = Destination(api, repo if "/" in repo else f"{user}/{repo}", user, revision, create_pr)
    if not create_pr:
        target.attempt(lambda: api.create_repo(target.repo, private=private, exist_ok=True), f"creating {target.repo}")
    info = target.attempt(lambda: api.model_info(target.repo), f"looking for {target.repo}")
    if private and not info.private:
        raise PushError(
            f"{target.repo} exists and is public: --private is for a repository that is made. Make it private at"
            f" {target.api.endpoint}/{target.repo}/settings, or choose another name."
        )
    if not create_pr:
        _prepare_revision(target)
    return target


def _prepare_revision(target: Destination) -> None:
    """The branch is there and may be written to; of a pull request, only that it is there: its author may, too."""
    api, revision = target.api, target.revision or "main"
    is_branch = not revision.startswith("refs/")
    if is_branch and revision != "main":
        target.attempt(
            lambda: api.create_branch(target.repo, branch=revision, exist_ok=True), f"creating the branch {revision}"
        )
    target.attempt(lambda: _head(target), f"looking for {revision}")
    if is_branch:
        target.attempt(lambda: api.auth_check(target.repo, write=True), "asking for write permission")


def push(
    files: dict[str, Path],
    target: Destination,
    message: str,
    progress: Callable[[str], None] = lambda line: None,
) -> PushResult:
    """Upload the files and commit them.

    Args:
        files: {path on the Hub: local file}.
        target: see :func:`connect`.
        message: of the commit, or title of the pull request.
        progress: is told a line for each part that is up.

    Raises:
        PushError: it failed for good. What was uploaded stays there for the next attempt.
    """
    token = target.api.token
    refuse_secrets(files, token if isinstance(token, str) else get_token())
    before = target.attempt(lambda: _head(target), f"looking at {target.repo}")
    requests = target.attempt(lambda: _own_pull_requests(target), "listing pull requests") if target.create_pr else {}
    ready: list[CommitOperationAdd] = []
    for part in _parts(files):
        names = ", ".join(part)
        ready += target.attempt(functools.partial(_upload, target, part), f"uploading {names}")
        progress(f"  {len(ready)} of {len(files)} files uploaded: {names}")

    def commit() -> PushResult:
        """May be repeated where it was done and only the answer was lost: files that are there make no commit."""
        additions = ready[:] or _upload(target, files)
        ready.clear()
        opened = _own_pull_requests(target) if target.create_pr else {}
        own = [num for num, title in opened.items() if num not in requests and title == message]
        if own:
            url = f"{target.api.endpoint}/{target.repo}/discussions/{own[0]}"
            return PushResult(url, "", True, tuple(files), target.repo)
        done = target.api.create_commit(
            target.repo,
            additions,
            commit_message=message,
            revision=target.revision,
            create_pr=target.create_pr,
        )
        return PushResult(done.pr_url or target.url, done.oid, done.oid != before, tuple(files), target.repo)

    return target.attempt(commit, f"the commit to {target.repo}")


def _parts(files: dict[str, Path]) -> list[dict[str, Path]]:
    """What goes up at a time: the small files together, then each large one."""
    large = {name for name, path in files.items() if path.stat().st_size >= _LARGE}
    small = {name: path for name, path in files.items() if name not in large}
    return ([small] if small else []) + [{name: files[name]} for name in files if name in large]


def _upload(target: Destination, files: dict[str, Path]) -> list[CommitOperationAdd]:
    """Files to the Hub's storage, but for those it has, and the small ones that travel with the commit."""
    additions = [CommitOperationAdd(name, path) for name, path in files.items()]
    target.api.preupload_lfs_files(
        target.repo, additions, revision=target.revision, create_pr=target.create_pr, free_memory=False
    )
    return additions


def _head(target: Destination) -> str | None:
    return target.api.model_info(target.repo, revision=target.revision).sha


def _own_pull_requests(target: Destination) -> dict[int, str]:
    """{number: title} of the user's own that are open."""
    discussions = target.api.get_repo_discussions(
        target.repo, author=target.user, discussion_type="pull_request", discussion_status="open"
    )
    return {discussion.num: discussion.title for discussion in discussions}
