"""A small Hugging Face Hub on 127.0.0.1 for tests: real HTTP, spoken to by the real clients.

What it speaks (see https://huggingface.co/docs/hub/api and git-lfs' batch API): who am I, create a repository,
information, revisions, branches, tree, files' information, preupload, LFS batch, upload and verification, commits,
pull requests, download with ranges and ETags. Repositories live in memory.

    with LoopbackHub() as hub:
        token = hub.add_user("ann", orgs={"lab": "write", "museum": "read"})
        hub.faults.answer("/commit/", status=500, times=2)     # errors on demand
        HfApi(endpoint=hub.url, token=token).create_repo("lab/model")
        hub.log                                                # every request

A client that reads ``HF_ENDPOINT`` at import runs in a process of its own, with :meth:`LoopbackHub.environment`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from .faults import Faults
from .http import HubServer, Request
from .store import Store

__all__ = ["LoopbackHub", "Request"]


class LoopbackHub:
    """The server; listens from ``with`` on.

    Attributes:
        url: what ``HF_ENDPOINT`` is to be.
        store: users and repositories, to look at and to change behind the clients' back.
        faults: errors on demand.
        log: requests answered so far, in order of their answers.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.faults = Faults()
        self.log: list[Request] = []
        self._server = HubServer(self.store, self.faults, self.log)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> LoopbackHub:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add_user(self, name: str, orgs: dict[str, str] | None = None) -> str:
        """A user, with the role ("read" or "write") in each organisation; returns the token."""
        return self.store.add_user(name, orgs or {})

    def requests(self, pattern: str, method: str | None = None) -> list[Request]:
        """The requests whose path contains ``pattern``."""
        return [r for r in self.log if pattern in r.path and method in (None, r.method)]

    def environment(self, home: Path, token: str | None = None) -> dict[str, str]:
        """Of a process whose clients talk to this hub and to nothing else: everything else meets a closed port."""
        closed = "http://127.0.0.1:9"
        kept = {k: v for k, v in os.environ.items() if not k.upper().startswith(("HF_", "HUGGING"))}
        proxies = {f"{scheme}_proxy": closed for scheme in ("http", "https")}
        ours = {
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(home),
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
            **proxies,
            **{name.upper(): value for name, value in proxies.items()},
        }
        return {**kept, **ours, **({"HF_TOKEN": token} if token else {})}
