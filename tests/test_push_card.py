"""The card that a push makes: results that are there stay, a snippet that is slow or fails costs no push."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard
from loopback_hub import LoopbackHub
from test_push import hub, pushed, run, tiny_encoder  # noqa: F401
from test_results_merged import result_of

from sp_hf.cards import snippets
from sp_hf.cli import main
from sp_hf.hub.push_results import merge


def card(hub: LoopbackHub, repo: str = "lab/model") -> str:  # noqa: F811
    return pushed(hub, repo)["README.md"].decode()


def upload(text: str, repo: str = "lab/model") -> None:
    HfApi().upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo)


def values(text: str) -> dict[str | None, float]:
    return {entry.metric_name: entry.metric_value for entry in ModelCard(text).data.eval_results or []}


def test_results_stay_as_long_as_the_weights_do(hub: LoopbackHub, run: Path) -> None:  # noqa: F811
    again = ["push", str(run), "lab/model", "--no_run_snippets"]
    assert main(again) == 0
    assert values(card(hub)) == {} and "Nothing has been measured of it yet." in card(hub)
    upload(merge(card(hub), [result_of({("knn", "accuracy"): 0.4}, "part-scenes, split test")], "model"))
    assert main(again) == 0
    assert values(card(hub)) == {"knn: accuracy": 0.4} and "| what · kNN: accuracy % |" in card(hub)
    assert card(hub).index("## Results") < card(hub).index("kNN: accuracy %") < card(hub).index("## How to use it")
    assert "Nothing has been measured" not in card(hub)
    assert main([*again, "--teacher"]) == 0  # other weights
    assert values(card(hub)) == {} and "kNN" not in card(hub)


def test_a_card_that_cannot_be_read_is_replaced(
    hub: LoopbackHub,  # noqa: F811
    run: Path,  # noqa: F811
    caplog: pytest.LogCaptureFixture,
) -> None:
    again = ["push", str(run), "lab/model", "--no_run_snippets", "--license", "mit"]
    assert main(again) == 0
    repo = hub.store.repos["model", "lab/model"]
    broken = {**repo.files(), "README.md": hub.store.add_blob(b"---\na: [\n---\n")}
    hub.store.add_commit(repo, "main", broken, "by hand", "ann")
    assert main(again) == 0
    assert ModelCard(card(hub)).data.license == "mit" and "are not kept: its metadata is not YAML" in caplog.text


def test_slow_snippets_cost_the_claim_and_not_the_push(
    hub: LoopbackHub,  # noqa: F811
    run: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(snippets, "TIME_LIMIT", 0.01)
    assert main(["push", str(run), "lab/model"]) == 0
    text = card(hub)
    assert caplog.text.count("does not say that it ran") == 3
    assert "AutoModel.from_pretrained" in text and "ran when this card was made" not in text
    assert "It prints" not in text


def test_failing_snippets_cost_their_place_and_not_the_push(
    hub: LoopbackHub,  # noqa: F811
    run: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(snippets, "_FEATURES", "1 / 0")
    monkeypatch.setattr(snippets, "_FINETUNE", "print('tuned')")
    monkeypatch.setattr(snippets, "_WHERE", "sp-hf no-such-command {repo_id}")
    assert main(["push", str(run), "lab/model"]) == 0
    text = card(hub)
    assert "'Patch features' does not run" in caplog.text and "ZeroDivisionError" in caplog.text
    assert "1 / 0" not in text and "no-such-command" not in text
    assert "It prints `tuned`." in text and "All of these ran when this card was made." in text


def test_snippets_can_be_skipped(
    hub: LoopbackHub,  # noqa: F811
    run: Path,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a process was started"))
    assert main(["push", str(run), "lab/model", "--no_run_snippets"]) == 0
    assert "AutoModel.from_pretrained" in card(hub) and "ran when this card was made" not in card(hub)
