"""What the loopback Hub keeps: users, repositories, commits, files. In memory."""

from __future__ import annotations

import dataclasses
import fnmatch
import hashlib
import itertools
import threading
from datetime import datetime, timezone

LFS_PATTERNS = ("*.safetensors", "*.bin", "*.parquet", "*.arrow", "*.tar", "*.pt", "*.zip")
LFS_FROM_BYTES = 10_000_000


@dataclasses.dataclass(frozen=True)
class File:
    """A file of a commit; ``sha256`` where it is kept by LFS."""

    blob_id: str
    size: int
    sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Commit:
    oid: str
    title: str
    author: str
    date: str
    parent: str | None
    files: dict[str, File]


@dataclasses.dataclass(frozen=True)
class PullRequest:
    num: int
    title: str
    author: str
    date: str


@dataclasses.dataclass
class Repo:
    kind: str  # "model", "dataset" or "space"
    name: str  # "owner/name"
    private: bool
    refs: dict[str, str] = dataclasses.field(default_factory=dict)
    commits: dict[str, Commit] = dataclasses.field(default_factory=dict)
    pull_requests: list[PullRequest] = dataclasses.field(default_factory=list)

    def commit(self, revision: str) -> Commit | None:
        """Of a branch, a pull request, or a commit's own name."""
        return self.commits.get(self.refs.get(revision, revision))

    def files(self, revision: str = "main") -> dict[str, File]:
        return self.commits[self.refs[revision]].files

    def history(self, revision: str = "main") -> list[Commit]:
        """Newest first."""
        commits, oid = [], self.refs[revision]
        while oid is not None:
            commits.append(self.commits[oid])
            oid = commits[-1].parent
        return commits


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Store:
    """Users, repositories and their bytes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.users: dict[str, tuple[str, dict[str, str]]] = {}  # token -> (name, organisation -> role)
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}  # by git's SHA-1
        self.lfs: dict[str, bytes] = {}  # by SHA-256
        self._count = itertools.count()

    # Users -------------------------------------------------------------------------------------------------------

    def add_user(self, name: str, orgs: dict[str, str]) -> str:
        token = f"hf_{name}DummyTokenOfTheLoopbackHub"
        self.users[token] = (name, orgs)
        return token

    def may_write(self, token: str | None, owner: str) -> bool:
        name, orgs = self.users.get(token, ("", {}))
        return owner == name or orgs.get(owner) == "write"

    def may_read(self, token: str | None, repo: Repo) -> bool:
        name, orgs = self.users.get(token, ("", {}))
        owner = repo.name.split("/")[0]
        return not repo.private or owner == name or owner in orgs

    # Repositories ------------------------------------------------------------------------------------------------

    def create(self, kind: str, name: str, private: bool, author: str) -> Repo:
        repo = Repo(kind, name, private)
        self.repos[kind, name] = repo
        attributes = "".join(f"{pattern} filter=lfs diff=lfs merge=lfs -text\n" for pattern in LFS_PATTERNS)
        self.add_commit(repo, "main", {".gitattributes": self.add_blob(attributes.encode())}, "initial commit", author)
        return repo

    def add_commit(self, repo: Repo, ref: str, files: dict[str, File], title: str, author: str) -> Commit:
        """Put a commit with exactly ``files`` on top of ``ref``."""
        oid = hashlib.sha1(f"{repo.name} {next(self._count)}".encode()).hexdigest()
        commit = Commit(oid, title, author, now(), repo.refs.get(ref), files)
        repo.commits[oid] = commit
        repo.refs[ref] = oid
        return commit

    def open_pull_request(self, repo: Repo, files: dict[str, File], title: str, author: str) -> tuple[int, Commit]:
        num = len(repo.pull_requests) + 1
        repo.refs[f"refs/pr/{num}"] = repo.refs["main"]
        commit = self.add_commit(repo, f"refs/pr/{num}", files, title, author)
        repo.pull_requests.append(PullRequest(num, title, author, commit.date))
        return num, commit

    # Files -------------------------------------------------------------------------------------------------------

    @staticmethod
    def is_lfs(path: str, size: int) -> bool:
        return size >= LFS_FROM_BYTES or any(fnmatch.fnmatch(path.split("/")[-1], p) for p in LFS_PATTERNS)

    def add_blob(self, content: bytes) -> File:
        blob_id = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        self.blobs[blob_id] = content
        return File(blob_id, len(content))

    def lfs_file(self, sha256: str) -> File:
        """The file whose bytes LFS already has."""
        size = len(self.lfs[sha256])
        pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
        return File(hashlib.sha1(b"blob %d\0" % len(pointer) + pointer).hexdigest(), size, sha256)

    def content(self, file: File) -> bytes:
        return self.lfs[file.sha256] if file.sha256 else self.blobs[file.blob_id]
