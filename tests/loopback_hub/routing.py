"""Which path does what: the table of routes, and what every route needs."""

from __future__ import annotations

import re
from collections.abc import Callable
from urllib.parse import unquote

from .http import Answer, Call, HubError
from .store import Commit, Repo, Store

NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kind>model|dataset|space)s/{NAME}"
_ROUTES: list[tuple[str, re.Pattern, Callable]] = []
_NOT_SIGNED_IN = "Invalid username or password."


def on(method: str, pattern: str) -> Callable:
    def register(function: Callable) -> Callable:
        _ROUTES.append((method, re.compile(pattern), function))
        return function

    return register


def route(store: Store, call: Call, url: str) -> Answer:
    """The answer to a call; ``url`` is the hub's own."""
    for method, pattern, function in _ROUTES:
        match = pattern.fullmatch(call.path)
        if match and call.method in (method, "HEAD" if method == "GET" else method):
            groups = {k: unquote(v) if v is not None else None for k, v in match.groupdict().items()}
            return function(store, call, url, **groups)
    raise HubError(404, f"the loopback hub has no {call.method} {call.path}")


def find_repo(store: Store, call: Call, kind: str | None, name: str, write: bool = False) -> Repo:
    if call.token is not None and call.token not in store.users:
        raise HubError(401, "Invalid credentials in Authorization header")
    repo = store.repos.get(((kind or "model").rstrip("s"), name))
    if repo is None or not store.may_read(call.token, repo):
        raise HubError(404 if call.token else 401, "Repository not found", "RepoNotFound")
    if write and call.token is None:
        raise HubError(401, _NOT_SIGNED_IN)
    if write and not store.may_write(call.token, name.split("/")[0]):
        raise HubError(403, f"Forbidden: you must have write access to {name}")
    return repo


def find_commit(repo: Repo, revision: str) -> Commit:
    commit = repo.commit(revision)
    if commit is None:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def signed_in(store: Store, call: Call) -> str:
    if call.token not in store.users:
        raise HubError(401, "Invalid credentials in Authorization header" if call.token else _NOT_SIGNED_IN)
    return store.users[call.token][0]
