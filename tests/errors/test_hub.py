"""Models and datasets of the Hub that cannot be had: asked of a real server, in processes that know no other."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, close_session, constants
from loopback_hub import LoopbackHub

from sp_hf.boundary import reading_checkpoint
from sp_hf.errors import HubError

from .conftest import Outcome

PROGRAM = """
import contextlib, io, json, sys
from sp_hf.cli import main
for line in json.load(sys.stdin):
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        status = main(line.split())
    print("OUTCOME", json.dumps([status, told.getvalue()]))
"""
TRAIN = "pretrain --objectives spatial_prediction --use_cpu --output_dir out"
FEW = "--dataset part-scenes?size=32&num_images=16"


@pytest.fixture(scope="module")
def hub() -> Iterator[LoopbackHub]:
    close_session()
    with LoopbackHub() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setenv("no_proxy", "127.0.0.1")
        api = HfApi(endpoint=hub.url, token=hub.add_user("ann", orgs={"lab": "write"}))
        for name in ("broken", "no-weights", "gated", "forbidden"):
            api.create_repo(f"lab/{name}")
            api.create_repo(f"lab/{name}", repo_type="dataset")
        api.create_repo("lab/private", private=True)
        config = json.dumps({"model_type": "vit", "hidden_size": 24, "num_attention_heads": 2}).encode()
        for name, files in {"broken": {"model.safetensors": b"\x10" * 64}, "no-weights": {}}.items():
            files = {"config.json": config, **files}
            api.create_commit(
                f"lab/{name}", [CommitOperationAdd(path, data) for path, data in files.items()], commit_message="files"
            )
        for name, status, headers in (
            ("gated", 403, {"X-Error-Code": "GatedRepo"}),
            ("forbidden", 403, {}),
        ):
            hub.faults.answer(f"lab/{name}", status, headers=headers, times=1000)
        yield hub
        close_session()


def outcomes(lines: list[str], environment: dict[str, str], folder: Path) -> list[Outcome]:
    """How each line ends, one after the other in a process of its own that leaves nothing in ``folder``."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps(lines),
        capture_output=True,
        text=True,
        timeout=300,
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
    )
    told = [json.loads(line.removeprefix("OUTCOME ")) for line in done.stdout.splitlines() if line.startswith("OUT")]
    assert len(told) == len(lines), done.stderr
    assert list(folder.iterdir()) == []
    return [Outcome(*one) for one in told]


def check(lines: dict[str, str], environment: dict[str, str], folder: Path) -> None:
    for (line, said), outcome in zip(lines.items(), outcomes(list(lines), environment, folder), strict=True):
        assert outcome.status == 1, f"{line}: {outcome.error}"
        told = [one for one in outcome.error.splitlines() if one.startswith("sp-hf: error: ")]
        assert len(told) == 1 and "Traceback" not in outcome.error, f"{line}: {outcome.error}"
        assert said in told[0], f"{line}: {told[0]}"


def folders(tmp_path: Path) -> tuple[Path, Path]:
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    return tmp_path / "home", tmp_path / "here"


def test_what_the_hub_refuses(hub: LoopbackHub, tmp_path: Path) -> None:
    home, here = folders(tmp_path)
    spelling = "check the spelling"
    lines = {
        f"{TRAIN} --encoder lab/mistyped": f"lab/mistyped is not on {hub.url}, or is private: {spelling}",
        f"{TRAIN} --encoder lab/private": f"lab/private is not on {hub.url}, or is private: {spelling}",
        f"{TRAIN} --encoder lab/gated": "lab/gated is gated: ask for access on its page",
        f"{TRAIN} --encoder lab/forbidden": "lab/forbidden",
        f"{TRAIN} --encoder lab/broken {FEW}": "lab/broken: its safetensors file is truncated or damaged",
        f"{TRAIN} --encoder lab/broken --encoder_revision v9": "lab/broken has no revision 'v9'",
        f"{TRAIN} --encoder lab/no-weights {FEW}": "lab/no-weights has no safetensors weights",
        f"{TRAIN} --dataset lab/mistyped": f"lab/mistyped: it is not on {hub.url}, or is private: {spelling}",
        f"{TRAIN} --dataset lab/gated": "Hub dataset lab/gated: it is gated: ask for access on its page",
        f"{TRAIN} --dataset lab/broken --dataset_revision v9": "lab/broken at v9: it has no revision 'v9'",
        "evaluate lab/mistyped": f"lab/mistyped is not on {hub.url}, or is private: {spelling}",
        "evaluate lab/gated": "lab/gated is gated",
    }
    check(lines, hub.environment(home), here)


def test_offline(hub: LoopbackHub, tmp_path: Path) -> None:
    home, here = folders(tmp_path)
    said = "is not in the local cache, and HF_HUB_OFFLINE is set: unset it"
    lines = {f"{TRAIN} --encoder lab/broken": said, f"{TRAIN} --dataset lab/broken": said, "evaluate lab/broken": said}
    check(lines, {**hub.environment(home), "HF_HUB_OFFLINE": "1"}, here)


def test_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(
        HubError, match="lab/any is not in the local cache, and .* cannot be reached: check the network"
    ):
        with reading_checkpoint("lab/any"):
            HfApi(endpoint="http://127.0.0.1:9").model_info("lab/any")


@pytest.mark.parametrize(
    ("status", "said"), [(401, "hf auth login"), (429, "too many requests"), (500, r"an error \(500\)")]
)
def test_other_answers_of_the_hub(status: int, said: str, hub: LoopbackHub) -> None:
    hub.faults.answer("lab/elsewhere", status)
    with pytest.raises(HubError, match=f"^model lab/elsewhere: .*{said}"), reading_checkpoint("lab/elsewhere"):
        HfApi(endpoint=hub.url).model_info("lab/elsewhere")
