"""Routes of the loopback Hub: listing, downloading, uploading and committing files."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from urllib.parse import parse_qs

from .http import Answer, Call, HubError
from .routing import API, NAME, find_commit, find_repo, on, signed_in
from .store import File, Repo, Store

# Reading -----------------------------------------------------------------------------------------------------------


def _describe(path: str, file: File) -> dict:
    lfs = {"lfs": {"oid": file.sha256, "size": file.size, "pointerSize": 134}} if file.sha256 else {}
    return {"type": "file", "path": path, "oid": file.blob_id, "size": file.size, **lfs}


def _with_folders(files: dict[str, File]) -> list[dict]:
    folders = {path[:i] for path in files for i, letter in enumerate(path) if letter == "/"}
    entries = [{"type": "directory", "path": folder, "oid": "0" * 40, "size": 0} for folder in folders]
    return sorted(entries + [_describe(path, file) for path, file in files.items()], key=lambda entry: entry["path"])


@on("GET", rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<folder>.*))?")
def _tree(store: Store, call: Call, url: str, kind: str, name: str, revision: str, folder: str | None) -> Answer:
    entries = _with_folders(find_commit(find_repo(store, call, kind, name), revision).files)
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


@on("POST", rf"{API}/paths-info/(?P<revision>[^/]+)")
def _paths_info(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    files = find_commit(find_repo(store, call, kind, name), revision).files
    is_json = "json" in call.headers.get("Content-Type", "")
    paths = call.json()["paths"] if is_json else parse_qs(call.body.decode())["paths"]
    return Answer([entry for entry in _with_folders(files) if entry["path"] in paths])


@on("GET", rf"/(?:(?P<kind>datasets|spaces)/)?{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)")
def _resolve(store: Store, call: Call, url: str, kind: str | None, name: str, revision: str, path: str) -> Answer:
    commit = find_commit(find_repo(store, call, kind, name), revision)
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


@on("POST", rf"{API}/preupload/(?P<revision>[^/]+)")
def _preupload(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    repo = _writable(store, call, kind, name, revision)
    there = find_commit(repo, revision).files
    files = []
    for file in call.json()["files"]:
        old = there.get(file["path"])
        mode = "lfs" if store.is_lfs(file["path"], file["size"]) else "regular"
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False})
        files[-1]["oid"] = (old.sha256 or old.blob_id) if old else None
    return Answer({"files": files})


def _writable(store: Store, call: Call, kind: str, name: str, revision: str) -> Repo:
    """The repository, if the caller may write to this revision: anybody may open a pull request and add to it."""
    user, repo = signed_in(store, call), find_repo(store, call, kind, name)
    own = any(revision == f"refs/pr/{p.num}" and p.author == user for p in repo.pull_requests)
    as_pr = call.query.get("create_pr") == ["1"]
    return repo if own or as_pr else find_repo(store, call, kind, name, write=True)


@on("POST", rf"/(?:(?P<kind>datasets|spaces)/)?{NAME}\.git/info/lfs/objects/batch")
def _lfs_batch(store: Store, call: Call, url: str, kind: str | None, name: str) -> Answer:
    signed_in(store, call)
    find_repo(store, call, kind, name)
    objects = []
    for item in call.json()["objects"]:
        objects.append({"oid": item["oid"], "size": item["size"]})
        if item["oid"] not in store.lfs:
            upload = {"href": f"{url}/lfs-storage/{item['oid']}?signature=of-a-signed-url"}
            verify = {"href": f"{url}/{name}.git/info/lfs/verify"}
            objects[-1]["actions"] = {"upload": upload, "verify": verify}
    return Answer({"transfer": "basic", "objects": objects})


@on("PUT", r"/lfs-storage/(?P<oid>[0-9a-f]{64})")
def _lfs_put(store: Store, call: Call, url: str, oid: str) -> Answer:
    if hashlib.sha256(call.body).hexdigest() != oid:
        raise HubError(400, "the content is not what its SHA-256 says")
    store.lfs[oid] = call.body
    return Answer()


@on("POST", rf"/{NAME}\.git/info/lfs/verify")
def _lfs_verify(store: Store, call: Call, url: str, name: str) -> Answer:
    fields = call.json()
    if len(store.lfs.get(fields["oid"], b"")) != fields["size"]:
        raise HubError(404, "no such object, or not all of it")
    return Answer({})


@on("POST", rf"{API}/commit/(?P<revision>[^/]+)")
def _create_commit(store: Store, call: Call, url: str, kind: str, name: str, revision: str) -> Answer:
    author = signed_in(store, call)
    as_pr = call.query.get("create_pr") == ["1"]
    repo = _writable(store, call, kind, name, revision)
    base = find_commit(repo, revision)
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
