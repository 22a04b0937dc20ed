"""The loopback Hub answers as the Hub does, asked by huggingface_hub and by bare HTTP."""

from __future__ import annotations

import hashlib
import json
import urllib.error
import urllib.request

import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, close_session, constants
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
from loopback_hub import LoopbackHub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    close_session()
    with LoopbackHub() as hub:
        yield hub
        close_session()


@pytest.fixture
def api(hub: LoopbackHub) -> HfApi:
    api = HfApi(endpoint=hub.url, token=hub.add_user("ann", orgs={"lab": "write"}))
    api.create_repo("lab/model", private=True)
    return api


def fetch(url: str, token: str, **headers: str) -> tuple[int, bytes, dict]:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}", **headers})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read(), dict(error.headers)


def test_download_with_ranges_and_tags(hub: LoopbackHub, api: HfApi) -> None:
    content = bytes(range(256)) * 40
    commit = api.create_commit(
        "lab/model",
        [CommitOperationAdd("a/weights.safetensors", content), CommitOperationAdd("small.txt", b"hello")],
        commit_message="files",
    )
    url = f"{hub.url}/lab/model/resolve/main/a/weights.safetensors"
    status, body, headers = fetch(url, api.token)
    assert (status, body) == (200, content)
    assert headers["X-Repo-Commit"] == commit.oid and headers["X-Linked-Size"] == str(len(content))
    assert headers["ETag"] == f'"{hashlib.sha256(content).hexdigest()}"'
    for asked, first, last in (("bytes=10-19", 10, 19), ("bytes=10000-", 10000, 10239), ("bytes=-5", 10235, 10239)):
        status, body, headers = fetch(url, api.token, Range=asked)
        assert (status, body) == (206, content[first : last + 1])
        assert headers["Content-Range"] == f"bytes {first}-{last}/10240"
    assert fetch(url, api.token, Range="bytes=10240-")[0] == 416
    git = hashlib.sha1(b"blob 5\0hello").hexdigest()  # what `git hash-object` prints
    assert fetch(f"{hub.url}/lab/model/resolve/main/small.txt", api.token)[2]["ETag"] == f'"{git}"'


def test_trees_come_in_pages(hub: LoopbackHub, api: HfApi) -> None:
    names = [f"folder/{i:02}.txt" for i in range(7)]
    api.create_commit("lab/model", [CommitOperationAdd(n, n.encode()) for n in names], commit_message="many")
    url = f"{hub.url}/api/models/lab/model/tree/main/folder?limit=3"
    found = []
    while url:
        _, body, headers = fetch(url, api.token)
        found += [entry["path"] for entry in json.loads(body)]
        url = headers["Link"].split(">")[0].lstrip("<") if "Link" in headers else None
    assert found == names
    assert [f.path for f in api.list_repo_tree("lab/model")] == [".gitattributes", "folder"]


def test_who_may_do_what(hub: LoopbackHub, api: HfApi) -> None:
    bob = HfApi(endpoint=hub.url, token=hub.add_user("bob", orgs={"lab": "read"}))
    eve = HfApi(endpoint=hub.url, token=hub.add_user("eve"))
    add = [CommitOperationAdd("x.txt", b"x")]
    with pytest.raises(HfHubHTTPError, match="403"):
        bob.create_commit("lab/model", add, commit_message="no")
    with pytest.raises(RepositoryNotFoundError):
        eve.model_info("lab/model")
    with pytest.raises(RevisionNotFoundError):
        bob.model_info("lab/model", revision="v9")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo("lab/model")
    opened = bob.create_commit("lab/model", add, commit_message="please", create_pr=True)
    assert opened.pr_url == f"{hub.url}/lab/model/discussions/1"
    assert "x.txt" not in hub.store.repos["model", "lab/model"].files()
    assert "x.txt" in hub.store.repos["model", "lab/model"].files("refs/pr/1")


def test_commits_build_on_each_other(hub: LoopbackHub, api: HfApi) -> None:
    first = api.create_commit(
        "lab/model", [CommitOperationAdd(n, b"1") for n in ("a.txt", "d/b.txt")], commit_message="1"
    )
    api.create_commit("lab/model", [CommitOperationDelete("d/")], commit_message="2", parent_commit=first.oid)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit("lab/model", [CommitOperationAdd("c", b"")], commit_message="late", parent_commit=first.oid)
    repo = hub.store.repos["model", "lab/model"]
    assert set(repo.files()) == {".gitattributes", "a.txt"}
    assert [commit.title for commit in repo.history()] == ["2", "1", "initial commit"]
    assert set(repo.commit(first.oid).files) == {".gitattributes", "a.txt", "d/b.txt"}


def test_uploads_are_checked(hub: LoopbackHub, api: HfApi) -> None:
    wrong = urllib.request.Request(f"{hub.url}/lfs-storage/{'0' * 64}", data=b"not that", method="PUT")
    with pytest.raises(urllib.error.HTTPError, match="400"):
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(wrong, timeout=10)
    assert hub.store.lfs == {}
