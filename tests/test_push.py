"""sp-hf push and --push_to_hub over real HTTP, against the loopback Hub: what arrives, what loads it, what breaks."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi, ModelCard, close_session, constants
from loopback_hub import LoopbackHub
from training.conftest import tiny_encoder, tiny_options  # noqa: F401
from transformers import TrainerState

from sp_hf.cli import main
from sp_hf.encoders.encoder import Encoder
from sp_hf.hub import failures, push_run
from sp_hf.hub.push import Destination
from sp_hf.training import hub_push
from sp_hf.training.hub_push import HubPush, set_aside

ROOT = {"config.json", "model.safetensors", "preprocessor_config.json"}
PRETRAINING = {"pretraining/config.json", "pretraining/model.safetensors"}
RECORDS = {"recipe.yaml", "environment.json", "metrics.jsonl", "pictures/views.png", "pictures/curves.png"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:  # noqa: F811
    """A finished run of two steps."""
    folder = tmp_path_factory.mktemp("pushed")
    options = {**tiny_options(tiny_encoder), "max_steps": 2, "warmup_steps": 1, "save_steps": 1, "logging_steps": 1}
    (folder / "tiny.yaml").write_text(json.dumps(options))
    assert main(["pretrain", "--recipe", str(folder / "tiny.yaml"), "--output_dir", str(folder / "run")]) == 0
    return folder / "run"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LoopbackHub]:
    """A hub where Ann, who is logged in, may write to "lab" and read "museum"."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    close_session()
    with LoopbackHub() as hub:
        hub.token = hub.add_user("ann", orgs={"lab": "write", "museum": "read"})
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
        monkeypatch.setenv("HF_TOKEN", hub.token)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        yield hub
        close_session()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that anything would have slept."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


def push(run: Path, repo: str, *flags: str) -> int:
    return main(["push", str(run), repo, "--no-card", *flags])


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def pushed(hub: LoopbackHub, repo: str, revision: str = "main") -> dict[str, bytes]:
    files = hub.store.repos["model", repo].files(revision)
    return {name: hub.store.content(file) for name, file in files.items() if name != ".gitattributes"}


def titles(hub: LoopbackHub, repo: str, revision: str = "main") -> list[str]:
    """Of the commits, oldest first, without the one that made the repository."""
    return [commit.title for commit in hub.store.repos["model", repo].history(revision)][-2::-1]


def one_error(capsys: pytest.CaptureFixture) -> str:
    error = capsys.readouterr().err
    assert error.count("sp-hf: error:") == 1 and "Traceback" not in error
    return next(line for line in error.splitlines() if line.startswith("sp-hf: error:"))


# What arrives ------------------------------------------------------------------------------------------------------


def test_layout_on_the_hub(hub: LoopbackHub, run: Path, capsys: pytest.CaptureFixture) -> None:
    before = contents(run)
    assert push(run, "lab/model", "--private") == 0
    files = pushed(hub, "lab/model")
    assert set(files) == ROOT | PRETRAINING | RECORDS
    for name in ROOT:
        assert files[name] == (run / "encoder" / name).read_bytes(), name
    for name in PRETRAINING | {"recipe.yaml", "environment.json", "metrics.jsonl"}:
        assert files[name] == (run / name).read_bytes(), name
    assert files["pictures/views.png"] == (run / "views.png").read_bytes()
    assert hub.store.repos["model", "lab/model"].private
    assert contents(run) == before
    said = capsys.readouterr().out
    for name in files:
        assert name in said.split("uploaded")[0], name  # the list comes first
    assert f"Pushed: {hub.url}/lab/model\n" in said

    # once more: nothing to upload, no empty commit
    del hub.log[:]
    assert push(run, "lab/model") == 0
    assert "has all of this already" in capsys.readouterr().out
    assert not hub.requests("/lfs-storage/") and not hub.requests("/commit/")


def test_a_checkpoint_and_the_teacher(hub: LoopbackHub, run: Path) -> None:
    assert push(run, "lab/student") == 0
    assert push(run, "lab/teacher", "--teacher") == 0
    assert push(run / "checkpoint-1", "lab/early") == 0
    student, teacher, early = (pushed(hub, f"lab/{name}") for name in ("student", "teacher", "early"))
    assert set(early) == set(student)  # optimizer.pt, rng_state.pth, training_args.bin stay at home
    assert early["pretraining/model.safetensors"] == (run / "checkpoint-1" / "model.safetensors").read_bytes()
    name = "model.safetensors"
    assert len({student[name], teacher[name], early[name]}) == 3
    assert student[f"pretraining/{name}"] == teacher[f"pretraining/{name}"]


def test_a_dry_run_asks_nobody(
    hub: LoopbackHub, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert push(run, "lab/model", "--dry_run") == 0
    said = capsys.readouterr().out
    assert "pretraining/model.safetensors" in said and "kB" in said and "nothing was pushed" in said
    assert hub.log == []


def test_branch_and_message(hub: LoopbackHub, run: Path, capsys: pytest.CaptureFixture) -> None:
    assert push(run, "lab/model", "--revision", "v2", "--message", "second try") == 0
    assert pushed(hub, "lab/model") == {} and ROOT <= set(pushed(hub, "lab/model", "v2"))
    assert titles(hub, "lab/model", "v2") == ["second try"]
    assert f"{hub.url}/lab/model/tree/v2" in capsys.readouterr().out


def test_a_bare_name_is_the_users_own(hub: LoopbackHub, run: Path) -> None:
    assert push(run, "model") == 0
    assert ROOT <= set(pushed(hub, "ann/model"))


def test_pull_request_to_a_repository_of_others(hub: LoopbackHub, run: Path, capsys: pytest.CaptureFixture) -> None:
    hub.store.create("model", "museum/model", private=False, author="curator")
    assert push(run, "museum/model", "--create-pr") == 0
    assert pushed(hub, "museum/model") == {}
    assert ROOT | PRETRAINING <= set(pushed(hub, "museum/model", "refs/pr/1"))
    assert f"Pull request: {hub.url}/museum/model/discussions/1" in capsys.readouterr().out
    # its author goes on with it
    assert push(run, "museum/model", "--revision", "refs/pr/1", "--teacher", "--message", "teacher") == 0
    assert titles(hub, "museum/model", "refs/pr/1")[-1] == "teacher" and pushed(hub, "museum/model") == {}


# What loads it -----------------------------------------------------------------------------------------------------


def in_process(script: str, hub: LoopbackHub, home: Path) -> str:
    """Run it where the clients know this hub only; returns what it said."""
    environment = {**hub.environment(home, hub.token), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    assert hub.token not in done.stdout + done.stderr
    return done.stdout + done.stderr


def test_anyone_loads_the_encoder_without_sp_hf(hub: LoopbackHub, run: Path, tmp_path: Path) -> None:
    assert push(run, "lab/model", "--private") == 0
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    encoder = Encoder.load(run / "encoder").eval()
    with torch.no_grad():
        local = encoder(pixels)
    torch.save({"x": encoder.normalise(pixels), "cls": local.cls, "patches": local.patches}, tmp_path / "x.pt")
    script = f"""
import sys
sys.modules["sp_hf"] = None
import torch
from transformers import AutoImageProcessor, AutoModel
model = AutoModel.from_pretrained("lab/model").eval()
assert type(model).__name__ == "ViTModel" and type(model).__module__.startswith("transformers.")
assert AutoImageProcessor.from_pretrained("lab/model").size["height"] == 16
saved = torch.load({str(tmp_path / "x.pt")!r}, weights_only=True)
with torch.no_grad():
    tokens = model(saved["x"]).last_hidden_state
assert torch.equal(tokens[:, 0], saved["cls"]) and torch.equal(tokens[:, 1:], saved["patches"])
"""
    in_process(script, hub, tmp_path / "home")
    assert hub.requests("/resolve/", "GET")


def push_images(hub: LoopbackHub, tmp_path: Path) -> None:
    """A data set of 16 noise images, in parquet, as lab/images."""
    import io

    import datasets
    import numpy as np
    from PIL import Image

    rows = []
    for i in range(16):
        stream = io.BytesIO()
        pixels = np.random.default_rng(i).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(stream, "PNG")
        rows.append({"bytes": stream.getvalue(), "path": None})
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    table = datasets.Dataset.from_dict({"image": rows, "label": [i % 2 for i in range(16)]}, features=features)
    table.to_parquet(tmp_path / "images.parquet")
    api = HfApi(token=hub.token)
    api.create_repo("lab/images", repo_type="dataset")
    api.upload_file(
        path_or_fileobj=str(tmp_path / "images.parquet"),
        path_in_repo="data/train-00000-of-00001.parquet",
        repo_id="lab/images",
        repo_type="dataset",
    )


def test_data_and_encoder_from_the_hub_and_back(hub: LoopbackHub, run: Path, tmp_path: Path) -> None:
    """One process: load a data set both ways, load the whole state, train on, push the result with its card."""
    assert main(["push", str(run), "lab/model", "--license", "mit"]) == 0
    assert hub.requests("/api/validate-yaml", "POST")  # huggingface_hub's own validation, before the commit
    first = ModelCard(pushed(hub, "lab/model")["README.md"].decode()).data
    assert (first.license, first.base_model, first.library_name) == ("mit", None, "transformers")
    push_images(hub, tmp_path)
    out = tmp_path / "out"
    flags = ["--encoder", "lab/model", "--dataset", "lab/images", "--objectives", "dino", "--output_dir", str(out)]
    flags += ["--recipe", str(run.parent / "tiny.yaml"), "--push_to_hub", "--hub_model_id", "lab/second"]
    flags += ["--hub_strategy", "end", "--hub_token", hub.token]
    script = f"""
import sys, torch
from sp_hf.cli import main
from sp_hf.data.datasets import load_images
from sp_hf.model.modeling import SPForPreTraining
table, stream = load_images("lab/images"), load_images("lab/images", streaming=True)
assert table.num_images == 16 and table.label_names == ["a", "b"]
assert list(table.dataset) == list(stream.dataset)
there = SPForPreTraining.from_pretrained("lab/model", subfolder="pretraining")
here = SPForPreTraining.from_pretrained({str(run / "pretraining")!r})
assert there.config.objectives == here.config.objectives
assert [p.requires_grad for p in there.parameters()] == [p.requires_grad for p in here.parameters()]
for name, value in here.state_dict().items():
    assert torch.equal(value, there.state_dict()[name]), name
sys.exit(main(["pretrain", *{flags!r}]))
"""
    said = in_process(script, hub, tmp_path / "home")
    assert f"Pushed:    {hub.url}/lab/second" in said
    assert titles(hub, "lab/second") == ["End of training, step 2"]
    card = ModelCard(pushed(hub, "lab/second")["README.md"].decode()).data
    assert (card.base_model, card.license, card.datasets) == ("lab/model", "mit", ["lab/images"])  # inherited: mit
    assert card.base_model_revision == hub.store.repos["model", "lab/model"].history("main")[0].oid
    assert pushed(hub, "lab/second")["model.safetensors"] == (out / "encoder" / "model.safetensors").read_bytes()
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "training_args.bin" for path in written)  # where transformers would have put it
    for path in written:
        assert hub.token.encode() not in path.read_bytes(), path


# What the network does ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "step",
    ["/api/whoami", "/api/repos/create", "GET /api/models/lab/model", "/preupload/", "objects/batch", "PUT /lfs-"]
    + ["/lfs/verify", "/commit/", "/branch/"],
)
def test_every_step_is_tried_again(hub: LoopbackHub, run: Path, waits: list[float], step: str) -> None:
    hub.faults.answer(step, status=500)
    hub.faults.answer(step, status=503)
    hub.faults.cut(step, after_bytes=20)
    assert push(run, "lab/model", "--revision", "v2") == 0
    assert set(pushed(hub, "lab/model", "v2")) == ROOT | PRETRAINING | RECORDS
    assert len(titles(hub, "lab/model", "v2")) == 1
    assert len(waits) == 3
    assert waits[0] < waits[1] < waits[2] or step in ("PUT /lfs-", "/lfs/verify")  # of two files at once


@pytest.mark.parametrize("step", ["/api/whoami", "/commit/", "PUT /lfs-"])
@pytest.mark.parametrize("header", [{"Retry-After": "37"}, {"RateLimit": '"api";r=0;t=37'}])
def test_the_hub_says_when(hub: LoopbackHub, run: Path, waits: list[float], step: str, header: dict) -> None:
    hub.faults.answer(step, status=429, headers=header)
    assert push(run, "lab/model") == 0
    assert len(waits) == 1 and 37 <= waits[0] <= 38


def test_a_wait_too_long_is_an_error(
    hub: LoopbackHub, run: Path, waits: list[float], capsys: pytest.CaptureFixture
) -> None:
    hub.faults.answer("/commit/", status=429, headers={"Retry-After": "3600"})
    assert push(run, "lab/model") == 1
    assert "429" in (error := one_error(capsys)) and "3600 s" in error and "go on with: sp-hf push" in error
    assert waits == []


@pytest.mark.parametrize("step", ["/api/whoami", "/commit/", "PUT /lfs-"])
def test_a_hub_that_falls_silent_is_not_waited_for(
    hub: LoopbackHub, run: Path, waits: list[float], monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setattr(failures, "SILENCE", 1.0)
    hub.faults.stall(step, silence=30)
    start = time.monotonic()
    assert push(run, "lab/model") == 0
    assert time.monotonic() - start < 20 and len(waits) == 1
    assert ROOT <= set(pushed(hub, "lab/model"))


def test_a_connection_that_breaks_mid_upload(hub: LoopbackHub, run: Path, waits: list[float]) -> None:
    hub.faults.cut("PUT /lfs-storage", after_bytes=30_000)
    hub.faults.cut("PUT /lfs-storage", after_bytes=10_000)
    assert push(run, "lab/model") == 0
    broken = [r for r in hub.requests("/lfs-storage") if r.status == 0]
    assert {r.received for r in broken} == {30_000, 10_000} and len(waits) == 2
    assert pushed(hub, "lab/model")["model.safetensors"] == (run / "encoder" / "model.safetensors").read_bytes()


def test_a_push_that_broke_off_goes_on_where_it_was(
    hub: LoopbackHub, run: Path, waits: list[float], capsys: pytest.CaptureFixture
) -> None:
    before = contents(run)
    hub.faults.cut("PUT /lfs-storage", after_bytes=1000, skip=1, times=1000)  # one file passes
    assert push(run, "lab/model", "--message", "a b") == 1
    error = one_error(capsys)
    assert "could not be reached" in error
    assert f"go on with: sp-hf push {run} lab/model --no-card --message 'a b'" in error
    assert "signature" not in error  # of a signed address
    assert pushed(hub, "lab/model") == {}  # nobody sees half a push
    assert contents(run) == before
    (there,) = hub.store.lfs
    hub.faults.clear()
    del hub.log[:]
    assert push(run, "lab/model") == 0
    uploads = hub.requests("/lfs-storage", "PUT")
    assert len(uploads) == 1 and there not in uploads[0].path
    assert set(pushed(hub, "lab/model")) == ROOT | PRETRAINING | RECORDS


def test_a_card_that_the_hub_refuses_is_one_sentence_and_nothing_is_pushed(
    hub: LoopbackHub, run: Path, tmp_path: Path, waits: list[float], capsys: pytest.CaptureFixture
) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "README.md").write_text("---\ntags: [unclosed\n---\n# A model\n")
    assert push(tmp_path / "run", "lab/model") == 1
    assert "refused the push to lab/model (400)" in one_error(capsys)
    assert pushed(hub, "lab/model") == {} and waits == []


def test_a_commit_whose_answer_was_lost_is_made_once(hub: LoopbackHub, run: Path, waits: list[float]) -> None:
    hub.faults.lose_answer("/commit/")
    assert push(run, "lab/model") == 0
    assert len(titles(hub, "lab/model")) == 1 and len(hub.requests("/commit/")) == 1


def test_a_pull_request_whose_answer_was_lost_is_opened_once(
    hub: LoopbackHub, run: Path, waits: list[float], capsys: pytest.CaptureFixture
) -> None:
    repo = hub.store.create("model", "museum/model", private=False, author="curator")
    hub.store.open_pull_request(repo, {}, f"{run.name}: encoder and pretraining state", "ann")  # an older one
    hub.faults.lose_answer("/commit/")
    assert push(run, "museum/model", "--create-pr") == 0
    assert [p.num for p in repo.pull_requests] == [1, 2]
    assert f"{hub.url}/museum/model/discussions/2" in capsys.readouterr().out


# What is refused ---------------------------------------------------------------------------------------------------


def no_export(*args: object, **kwargs: object) -> None:
    raise AssertionError("exported before everything was checked")


@pytest.mark.parametrize(
    ("repo", "flags", "words"),
    [
        ("museum/model", (), ["403", "museum/model", "--create-pr"]),
        ("museum/there", (), ["403", "museum/there", "--create-pr"]),
        ("lab/nothing", ("--create-pr",), ["404", "lab/nothing", "--create-pr"]),
        ("lab/there", ("--revision", "refs/pr/7"), ["404", "revision", "refs/pr/N"]),
        ("lab/there", ("--private",), ["exists and is public", "/settings"]),
        ("lab/there", ("--create-pr", "--revision", "v2"), ["--create-pr", "--revision v2"]),
        ("lab/there", ("--revision", "0" * 40), ["is a commit"]),
        ("lab/a/b", (), ["'lab/a/b'", "owner/name"]),
        ("lab/my model", (), ["'lab/my model'", "owner/name"]),
        ("lab/-x--", (), ["'lab/-x--'", "owner/name"]),
    ],
)
def test_a_mistake_is_one_clear_line_before_any_work(
    hub: LoopbackHub,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    repo: str,
    flags: tuple,
    words: list,
) -> None:
    hub.store.create("model", "lab/there", private=False, author="ann")
    hub.store.create("model", "museum/there", private=False, author="curator")
    monkeypatch.setattr(push_run, "files_to_push", no_export)
    assert push(run, repo, *flags) == 1
    error = one_error(capsys)
    for word in words:
        assert word in error


@pytest.mark.parametrize(("token", "words"), [(None, ["not logged in"]), ("hf_wrong", ["401", "/settings/tokens"])])
def test_login_is_checked_first(
    hub: LoopbackHub,
    run: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
    token: str | None,
    words: list,
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    monkeypatch.setattr(push_run, "files_to_push", no_export)
    assert push(run, "lab/model") == 1
    error = one_error(capsys)
    assert "hf auth login" in error and "hf_wrong" not in error
    for word in words:
        assert word in error


@pytest.mark.parametrize("status", [403, 404, 409, 412, 413])
def test_a_refused_commit_is_one_clear_line(
    hub: LoopbackHub, run: Path, waits: list[float], capsys: pytest.CaptureFixture, status: int
) -> None:
    hub.faults.answer("/commit/", status=status, message="the hub's own words")
    assert push(run, "lab/model") == 1
    error = one_error(capsys)
    assert f"({status})" in error and "lab/model" in error and "go on with: sp-hf push" in error
    assert hub.token not in error and waits == []
    if status == 413:
        assert "the hub's own words" in error


def test_a_run_that_is_none(hub: LoopbackHub, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert push(tmp_path, "lab/model") == 1
    assert "holds no pretraining checkpoint" in one_error(capsys)
    assert hub.log == []  # and no empty repository


def test_no_token_leaves_the_machine(
    hub: LoopbackHub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    with (copy / "recipe.yaml").open("a") as recipe:
        recipe.write(f"dataset: https://user:{hub.token}@example.org/images.tar\n")
    assert push(copy, "lab/model") == 1
    error = one_error(capsys)
    assert "recipe.yaml holds an access token" in error and hub.token not in error
    assert not hub.requests("/preupload/")


# While training ----------------------------------------------------------------------------------------------------


def train(run: Path, output: Path, *flags: str, steps: int = 4) -> int:
    recipe = ["--recipe", str(run.parent / "tiny.yaml"), "--max_steps", str(steps)]
    where = ["--output_dir", str(output), "--hub_model_id", "lab/live", "--hub_card", "False"]
    return main(["pretrain", *recipe, *where, *flags])


def test_every_save_is_pushed_and_a_failing_push_costs_nothing(
    hub: LoopbackHub, run: Path, tmp_path: Path, waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    hub.faults.answer("/commit/", status=403, skip=1)
    flags = ("--save_steps", "2")
    ours = ("--push_to_hub", "--hub_always_push", "--hub_private_repo", "True")
    assert train(run, tmp_path / "out", *flags, *ours, steps=6) == 0
    assert titles(hub, "lab/live") == [
        "Training in progress, step 2",
        "End of training, step 6",
    ]
    assert "step 4 could not be pushed, training goes on" in caplog.text and "(403)" in caplog.text
    repo = hub.store.repos["model", "lab/live"]
    assert repo.private
    for commit in repo.history()[:-1]:
        assert ROOT | PRETRAINING <= set(commit.files)
    files = pushed(hub, "lab/live")
    assert set(files) == ROOT | PRETRAINING | RECORDS
    assert files["pretraining/model.safetensors"] == (tmp_path / "out/pretraining/model.safetensors").read_bytes()
    assert not list((tmp_path / "out").glob(".incomplete*"))
    # the same run without pushes ends with the same weights
    assert train(run, tmp_path / "quiet", *flags, steps=6) == 0
    for name in ("encoder", "pretraining"):
        ours, theirs = ((tmp_path / f / name / "model.safetensors").read_bytes() for f in ("out", "quiet"))
        assert ours == theirs


def test_a_last_push_that_fails_says_how_to_repeat_it(
    hub: LoopbackHub, run: Path, tmp_path: Path, waits: list[float], capsys: pytest.CaptureFixture
) -> None:
    hub.faults.answer("/commit/", status=503, times=1000)
    flags = ("--push_to_hub", "--hub_strategy", "end", "--hub_revision", "v2")
    assert train(run, tmp_path / "out", *flags, steps=2) == 1
    error = one_error(capsys)
    assert f"push it with: sp-hf push {tmp_path / 'out'} lab/live --revision v2" in error
    assert (tmp_path / "out/encoder/model.safetensors").is_file()
    assert not list((tmp_path / "out").glob(".incomplete*"))
    hub.faults.clear()
    assert push(tmp_path / "out", "lab/live", "--revision", "v2") == 0
    assert len(titles(hub, "lab/live", "v2")) == 1 and pushed(hub, "lab/live") == {}


def test_setting_a_save_aside_moves_no_random_number(run: Path, tmp_path: Path) -> None:
    before = torch.get_rng_state()
    files = set_aside(run / "checkpoint-1", tmp_path / "aside")
    assert torch.equal(torch.get_rng_state(), before)
    assert set(files) == ROOT | PRETRAINING | RECORDS
    assert all(path.is_relative_to(tmp_path) for path in files.values())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--hub_strategy", "checkpoint"), ["pickles", "every_save"]),
        (("--hub_model_id", "museum/live"), ["403", "museum"]),
        (("--hub_model_id", "a/b/c"), ["'a/b/c'"]),
    ],
)
def test_training_refuses_at_once_what_it_could_not_push(
    hub: LoopbackHub, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, flags: tuple, words: list
) -> None:
    assert train(run, tmp_path / "out", "--push_to_hub", *flags) == 1
    error = one_error(capsys)
    for word in words:
        assert word in error
    assert not (tmp_path / "out").exists()


def test_a_save_during_a_push_is_passed_over(
    hub: LoopbackHub, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    going, messages = threading.Event(), []

    def slow(files: dict, there: Destination, message: str) -> None:
        going.wait(20)
        assert all(path.is_file() for path in files.values())
        messages.append(message)

    monkeypatch.setattr(hub_push, "push", slow)
    callback = HubPush(Destination(HfApi(), "lab/live", "ann"), copy, every_save=True, always=False, card=False)
    for step in (1, 2):
        callback.on_save(None, TrainerState(global_step=step, max_steps=9), None)
    shutil.rmtree(copy / "checkpoint-1")  # rotated away meanwhile
    going.set()
    callback.wait()
    assert messages == ["Training in progress, step 1"]
