"""Routes of the loopback Hub: users, repositories, branches, pull requests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from .http import Answer, Call, HubError
from .routing import API, find_commit, find_repo, on, signed_in
from .store import File, Store


@on("GET", "/api/whoami-v2")
def _whoami(store: Store, call: Call, url: str) -> Answer:
    name = signed_in(store, call)
    orgs = [{"name": org, "type": "org", "roleInOrg": role} for org, role in store.users[call.token][1].items()]
    return Answer({"type": "user", "name": name, "orgs": orgs, "auth": {"type": "access_token"}})


@on("POST", "/api/validate-yaml")
def _validate_yaml(store: Store, call: Call, url: str) -> Answer:
    import yaml

    content = call.json()["content"]
    match = re.match(r"\ufeff?---\n(.*?)\n---", content, re.DOTALL)
    try:
        fields = yaml.safe_load(match.group(1)) if match else None
    except yaml.YAMLError as error:
        return Answer({"errors": [{"message": str(error)}], "warnings": []}, 400)
    warnings = [] if fields else [{"message": "empty or missing yaml metadata in repo card"}]
    return Answer({"errors": [], "warnings": warnings})


@on("POST", "/api/repos/create")
def _create(store: Store, call: Call, url: str) -> Answer:
    user, fields = signed_in(store, call), call.json()
    kind, name = fields.get("type") or "model", f"{fields.get('organization') or user}/{fields['name']}"
    where = f"{url}/{'' if kind == 'model' else kind + 's/'}{name}"
    if not store.may_write(call.token, name.split("/")[0]):
        raise HubError(403, f"You don't have the rights to create a {kind} under the namespace {name.split('/')[0]!r}")
    if (kind, name) in store.repos:
        raise HubError(409, f"You already created this {kind} repo", url=where)
    private = fields.get("private") or fields.get("visibility") == "private"
    store.create(kind, name, bool(private), user)
    return Answer({"url": where, "name": name, "id": name})


@on("GET", rf"{API}(?:/revision/(?P<revision>[^/]+))?")
def _info(store: Store, call: Call, url: str, kind: str, name: str, revision: str | None) -> Answer:
    repo = find_repo(store, call, kind, name)
    commit = find_commit(repo, revision or "main")
    return Answer(
        {
            "_id": "0",
            "id": name,
            "modelId": name,
            "author": name.split("/")[0],
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": repo.history()[-1].date,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "tags": [],
            "siblings": [{"rfilename": path} for path in commit.files],
            **_of_card(store, commit.files),
        }
    )


def _of_card(store: Store, files: Mapping[str, File]) -> dict[str, Any]:
    """What the Hub tells of a repository's card; of one that is not YAML, nothing."""
    import yaml

    if "README.md" not in files:
        return {}
    match = re.match(r"\ufeff?---\r?\n(.*?)\n---", store.content(files["README.md"]).decode(), re.DOTALL)
    try:
        data = yaml.safe_load(match.group(1)) if match else None
    except yaml.YAMLError:
        return {}
    if not isinstance(data, dict):
        return {}
    shown = {name: data[name] for name in ("pipeline_tag", "library_name") if data.get(name)}
    return {**shown, "cardData": data}


@on("GET", rf"{API}/auth-check(?P<write>/write)?")
def _auth_check(store: Store, call: Call, url: str, kind: str, name: str, write: str | None) -> Answer:
    find_repo(store, call, kind, name, write=bool(write))
    return Answer({})


@on("GET", rf"{API}/refs")
def _refs(store: Store, call: Call, url: str, kind: str, name: str) -> Answer:
    refs = find_repo(store, call, kind, name).refs
    branches = [
        {"name": r, "ref": f"refs/heads/{r}", "targetCommit": oid} for r, oid in refs.items() if "/pr/" not in r
    ]
    return Answer({"branches": branches, "tags": [], "converts": []})


@on("POST", rf"{API}/branch/(?P<branch>[^/]+)")
def _create_branch(store: Store, call: Call, url: str, kind: str, name: str, branch: str) -> Answer:
    repo = find_repo(store, call, kind, name, write=True)
    if branch in repo.refs:
        raise HubError(409, f"Reference already exists: {branch}")
    repo.refs[branch] = find_commit(repo, call.json().get("startingPoint") or "main").oid
    return Answer({})


@on("GET", rf"{API}/commits/(?P<revision>[^/]+)")
def _commits(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    repo = find_repo(store, call, kind, name)
    find_commit(repo, revision)
    return Answer(
        [
            {"id": c.oid, "title": c.title, "message": "", "authors": [{"user": c.author}], "date": c.date}
            for c in repo.history(revision)
        ]
    )


@on("GET", rf"{API}/discussions")
def _discussions(store: Store, call: Call, url: str, kind: str, name: str) -> Answer:
    repo = find_repo(store, call, kind, name)
    author = call.query.get("author", [None])[0]
    found = [
        {
            **{"num": p.num, "title": p.title, "status": "open", "isPullRequest": True, "createdAt": p.date},
            **{"author": {"name": p.author}, "repo": {"name": name, "type": kind}},
        }
        for p in repo.pull_requests
        if author in (None, p.author)
    ]
    return Answer({"discussions": found, "count": len(found), "start": 0, "numClosedDiscussions": 0})
