"""The routes of the loopback Hub: which path does what."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from urllib.parse import parse_qs, unquote

from .http import Answer, Call, HubError
from .store import Commit, File, Repo, Store

_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>model|dataset|space)s/{_NAME}"
_ROUTES: list[tuple[str, re.Pattern, Callable]] = []
_NOT_SIGNED_IN = "Invalid username or password."


def _on(method: str, pattern: str) -> Callable:
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


def _find(store: Store, call: Call, kind: str | None, name: str, write: bool = False) -> Repo:
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


def _commit(repo: Repo, revision: str) -> Commit:
    commit = repo.commit(revision)
    if commit is None:
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return commit


def _user(store: Store, call: Call) -> str:
    if call.token not in store.users:
        raise HubError(401, "Invalid credentials in Authorization header" if call.token else _NOT_SIGNED_IN)
    return store.users[call.token][0]


# Users and repositories --------------------------------------------------------------------------------------------


@_on("GET", "/api/whoami-v2")
def _whoami(store: Store, call: Call, url: str) -> Answer:
    name = _user(store, call)
    orgs = [{"name": org, "type": "org", "roleInOrg": role} for org, role in store.users[call.token][1].items()]
    return Answer({"type": "user", "name": name, "orgs": orgs, "auth": {"type": "access_token"}})


@_on("POST", "/api/validate-yaml")
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


@_on("POST", "/api/repos/create")
def _create(store: Store, call: Call, url: str) -> Answer:
    user, fields = _user(store, call), call.json()
    kind, name = fields.get("type") or "model", f"{fields.get('organization') or user}/{fields['name']}"
    where = f"{url}/{'' if kind == 'model' else kind + 's/'}{name}"
    if not store.may_write(call.token, name.split("/")[0]):
        raise HubError(403, f"You don't have the rights to create a {kind} under the namespace {name.split('/')[0]!r}")
    if (kind, name) in store.repos:
        raise HubError(409, f"You already created this {kind} repo", url=where)
    private = fields.get("private") or fields.get("visibility") == "private"
    store.create(kind, name, bool(private), user)
    return Answer({"url": where, "name": name, "id": name})


@_on("GET", rf"{_API}(?:/revision/(?P<revision>[^/]+))?")
def _info(store: Store, call: Call, url: str, kind: str, name: str, revision: str | None) -> Answer:
    repo = _find(store, call, kind, name)
    commit = _commit(repo, revision or "main")
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
        }
    )


@_on("GET", rf"{_API}/auth-check(?P<write>/write)?")
def _auth_check(store: Store, call: Call, url: str, kind: str, name: str, write: str | None) -> Answer:
    _find(store, call, kind, name, write=bool(write))
    return Answer({})


@_on("GET", rf"{_API}/refs")
def _refs(store: Store, call: Call, url: str, kind: str, name: str) -> Answer:
    refs = _find(store, call, kind, name).refs
    branches = [
        {"name": r, "ref": f"refs/heads/{r}", "targetCommit": oid} for r, oid in refs.items() if "/pr/" not in r
    ]
    return Answer({"branches": branches, "tags": [], "converts": []})


@_on("POST", rf"{_API}/branch/(?P<branch>[^/]+)")
def _create_branch(store: Store, call: Call, url: str, kind: str, name: str, branch: str) -> Answer:
    repo = _find(store, call, kind, name, write=True)
    if branch in repo.refs:
        raise HubError(409, f"Reference already exists: {branch}")
    repo.refs[branch] = _commit(repo, call.json().get("startingPoint") or "main").oid
    return Answer({})


@_on("GET", rf"{_API}/commits/(?P<revision>[^/]+)")
def _commits(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    repo = _find(store, call, kind, name)
    _commit(repo, revision)
    return Answer(
        [
            {"id": c.oid, "title": c.title, "message": "", "authors": [{"user": c.author}], "date": c.date}
            for c in repo.history(revision)
        ]
    )


@_on("GET", rf"{_API}/discussions")
def _discussions(store: Store, call: Call, url: str, kind: str, name: str) -> Answer:
    repo = _find(store, call, kind, name)
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


# Reading -----------------------------------------------------------------------------------------------------------


def _describe(path: str, file: File) -> dict:
    lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 134}} if file.sha256 else {}
    return {"type": "file", "path": path, "oid": file.blob_id, "size": file.size, **lfs}


def _with_folders(files: dict[str, File]) -> list[dict]:
    folders = {path[:i] for path in files for i, letter in enumerate(path) if letter == "/"}
    entries = [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in folders]
    return sorted(entries + [_describe(path, file) for path, file in files.items()], key=lambda entry: entry["path"])


@_on("GET", rf"{_API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?")
def _tree(store: Store, call: Call, url: str, kind: str, name: str, revision: str, folder: str | None) -> Answer:
    entries = _with_folders(_commit(_find(store, call, kind, name), revision).files)
    prefix = f"{folder.strip('/')}/" if folder else ""
    inside = [entry for entry in entries if entry["path"].startswith(prefix)]
    if prefix and not inside:
        raise HubError(404, f"{folder} does not exist on {revision!r}", "EntryNotFound")
    if call.query.get("recursive", ["false"])[0].lower() not in ("true", "1"):
        inside = [entry for entry in inside if "/" not in entry["path"].removeprefix(prefix)]
    first, limit = int(call.query.get("cursor", ["0"])[0]), int(call.query.get("limit", ["1000"])[0])
    headers = {}
    if len(inside) > first + limit:
        kept = "&".join(f"{k}={v[0]}" for k, v in call.query.items() if k != "cursor")
        headers["Link"] = f'<{url}{call.path}?{kept}&cursor={first + limit}>; rel="next"'
    return Answer(inside[first : first + limit], headers=headers)


@_on("POST", rf"{_API}/paths-info/(?P<revision>[^/]+)")
def _paths_info(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    files = _commit(_find(store, call, kind, name), revision).files
    is_json = "json" in call.headers.get("Content-Type", "")
    paths = call.json()["paths"] if is_json else parse_qs(call.body.decode())["paths"]
    return Answer([entry for entry in _with_folders(files) if entry["path"] in paths])


@_on("GET", rf"/(?:(?P<kind>datasets|spaces)/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def _resolve(store: Store, call: Call, url: str, kind: str | None, name: str, revision: str, path: str) -> Answer:
    commit = _commit(_find(store, call, kind, name), revision)
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    if path not in commit.files:
        raise HubError(404, "Entry not found", "EntryNotFound")
    file = commit.files[path]
    content = store.content(file)
    headers["ETag"] = f'"{file.sha256 or file.blob_id}"'
    if file.sha256:
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-ETag": f'"{file.sha256}"'}
    span = re.fullmatch(r"bytes=(\d*)-(\d*)", call.headers.get("Range", ""))
    if not span:
        return Answer(content, headers=headers)
    if span[1]:
        first, last = int(span[1]), min(int(span[2] or len(content)), len(content) - 1)
    else:
        first, last = max(len(content) - int(span[2]), 0), len(content) - 1
    if first >= len(content):
        return Answer(b"", 416, {**headers, "Content-Range": f"bytes */{len(content)}"})
    headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
    return Answer(content[first : last + 1], 206, headers)


# Writing -----------------------------------------------------------------------------------------------------------


@_on("POST", rf"{_API}/preupload/(?P<revision>[^/]+)")
def _preupload(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    _user(store, call)
    repo = _find(store, call, kind, name, write="create_pr" not in call.query and not _own_pr(store, call, revision))
    there = _commit(repo, revision).files
    files = []
    for file in call.json()["files"]:
        old = there.get(file["path"])
        mode = "lfs" if store.is_lfs(file["path"], file["size"]) else "regular"
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
        files[-1]["oid"] = (old.sha256 or old.blob_id) if old else None
    return Answer({"files": files})


def _own_pr(store: Store, call: Call, revision: str) -> bool:
    return revision.startswith("refs/pr/")


@_on("POST", rf"/(?:(?P<kind>datasets|spaces)/)?{_NAME}\.git/info/lfs/objects/batch")
def _lfs_batch(store: Store, call: Call, url: str, kind: str | None, name: str) -> Answer:
    _user(store, call)
    _find(store, call, kind, name)
    objects = []
    for item in call.json()["objects"]:
        objects.append({"oid": item["oid"], "size": item["size"]})
        if item["oid"] not in store.lfs:
            upload = {"href": f"{url}/lfs-storage/{item['oid']}?signature=of-a-signed-url"}
            verify = {"href": f"{url}/{name}.git/info/lfs/verify"}
            objects[-1]["actions"] = {"upload": upload, "verify": verify}
    return Answer({"transfer": "basic", "objects": objects})


@_on("PUT", r"/lfs-storage/(?P<oid>[0-9a-f]{64})")
def _lfs_put(store: Store, call: Call, url: str, oid: str) -> Answer:
    import hashlib

    if hashlib.sha256(call.body).hexdigest() != oid:
        raise HubError(400, "the content is not what its SHA-256 says")
    store.lfs[oid] = call.body
    return Answer()


@_on("POST", rf"/{_NAME}\.git/info/lfs/verify")
def _lfs_verify(store: Store, call: Call, url: str, name: str) -> Answer:
    fields = call.json()
    if len(store.lfs.get(fields["oid"], b"")) != fields["size"]:
        raise HubError(404, "no such object, or not all of it")
    return Answer({})


@_on("POST", rf"{_API}/commit/(?P<revision>[^/]+)")
def _create_commit(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    author = _user(store, call)
    as_pr = call.query.get("create_pr") == ["1"]
    repo = _find(store, call, kind, name, write=not as_pr and not _own_pr(store, call, revision))
    base = _commit(repo, revision)
    lines = [json.loads(line) for line in call.body.splitlines() if line]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit") not in (None, base.oid):
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    files = _apply(store, dict(base.files), lines)
    if not as_pr:
        commit = store.add_commit(repo, revision, files, header["summary"], author)
        return Answer({"success": True, "commitOid": commit.oid, "commitUrl": f"{url}/{name}/commit/{commit.oid}"})
    num, commit = store.open_pull_request(repo, files, header["summary"], author)
    prefix = "" if repo.kind == "model" else f"{repo.kind}s/"
    return Answer(
        {
            "success": True,
            "commitOid": commit.oid,
            "commitUrl": f"{url}/{prefix}{name}/commit/{commit.oid}",
            "pullRequestUrl": f"{url}/{prefix}{name}/discussions/{num}",
        }
    )


def _apply(store: Store, files: dict[str, File], lines: list[dict]) -> dict[str, File]:
    for line in lines:
        value = line["value"]
        if line["key"] == "file":
            files[value["path"]] = store.add_blob(base64.b64decode(value["content"]))
        elif line["key"] == "lfsFile":
            if value["oid"] not in store.lfs:
                raise HubError(400, f"LFS pointer pointed to a file that does not exist: {value['path']}")
            files[value["path"]] = store.lfs_file(value["oid"])
        elif line["key"] == "deletedFile":
            files.pop(value["path"])
        elif line["key"] == "deletedFolder":
            for path in [p for p in files if p.startswith(f"{value['path'].rstrip('/')}/")]:
                del files[path]
    return files
