"""``sp-hf evaluate --push_results`` over real HTTP: merged with a card, and a pull request where it is not yours."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, ModelCardData
from test_push import hub, push, pushed, run, tiny_encoder  # noqa: F401
from test_results_merged import result_of

from sp_hf.cards.model_index import eval_results
from sp_hf.hub.push_results import merge, push_results

CARD = """---
license: mit
tags:
- mine
model-index:
- name: model
  results:
  - task: {type: image-classification, name: somebody else's words}
    dataset: {name: PartScenes, type: part-scenes, config: size=32&num_images=40&difficulty=easy, split: validation}
    metrics:
    - {type: accuracy, value: 0.99, name: 'knn: accuracy'}
    - {type: accuracy, value: 0.7, name: 'linear: accuracy'}
  - task: {type: image-classification, name: somebody else's}
    dataset: {name: Other, type: other}
    metrics:
    - {type: accuracy, value: 0.5}
---

# A model

Words of its author.
"""


def evaluate(hub, home: Path, *arguments: str) -> subprocess.CompletedProcess:  # noqa: F811
    """In a process of its own, whose clients know this hub only."""
    options = ["--dataset", "part-scenes?size=32&num_images=40", "--tasks", "knn", "--no_cache", "--num_workers", "0"]
    command = [sys.executable, "-m", "sp_hf.cli", "evaluate", *arguments, *options]
    environment = {**hub.environment(home, hub.token), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert hub.token not in done.stdout + done.stderr
    return done


def error_of(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1 and "Traceback" not in done.stderr
    return next(line for line in done.stderr.splitlines() if line.startswith("sp-hf: error:"))


def card_of(hub, repo: str, revision: str = "main") -> ModelCard:  # noqa: F811
    return ModelCard(pushed(hub, repo, revision)["README.md"].decode())


def upload(hub, repo: str, text: str, token: str | None = None) -> None:  # noqa: F811
    HfApi(token=token).upload_file(path_or_fileobj=text.encode(), path_in_repo="README.md", repo_id=repo)


def test_results_are_merged_with_what_is_there(hub, run, tmp_path) -> None:  # noqa: F811
    assert push(run, "lab/model") == 0
    upload(hub, "lab/model", CARD)
    flags = ("lab/model", "--output_dir", str(tmp_path / "out"), "--push_results", "lab/model")
    done = evaluate(hub, tmp_path, *flags)
    assert done.returncode == 0 and "Results pushed: " in done.stdout, done.stderr
    measured = json.loads((tmp_path / "out" / "results.json").read_text())["tasks"]["knn"]["results"]["lab/model"]
    card = card_of(hub, "lab/model")
    results = {(r.task_name, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert results == {
        ("Image classification", "knn: accuracy"): pytest.approx(measured["measures"]["accuracy"]["value"], abs=1e-4),
        ("somebody else's words", "linear: accuracy"): 0.7,
        ("somebody else's", None): 0.5,
    }
    assert card.data.license == "mit" and card.data.tags == ["mine"] and "Words of its author." in card.text
    assert card.text.count("## What and where") == 1 and "random initialisation" in card.text
    assert "model.safetensors" in pushed(hub, "lab/model")
    upload(hub, "lab/model", str(card))  # written by huggingface_hub, which groups kNN with "somebody else's words"
    push_results(tmp_path / "out", "lab/model")
    again = card_of(hub, "lab/model")
    assert {(r.task_name, r.metric_name): r.metric_value for r in again.data.eval_results} == results
    assert again.text == card.text


def test_metadata_update_of_another_tool_between_two_pushes(hub, tmp_path) -> None:  # noqa: F811
    """By huggingface_hub's own function, over HTTP: it finds ours by name, and we find ours in what it writes."""
    first, second = (result_of({("knn", "accuracy"): value}, "part-scenes, split test") for value in (0.1, 0.2))
    hub.store.create("model", "lab/model", private=False, author="ann")
    upload(hub, "lab/model", merge(CARD, [first], "model"))
    data = {"type": "part-scenes", "name": "x", "split": "test"}
    theirs = {
        "task": {"type": "image-classification"},
        "dataset": data,
        "metrics": [{"type": "accuracy", "value": 0.3}],
    }
    indices = [[{"name": "model", "results": [theirs]}], ours_of(first)]  # ours again: the same value, no error
    script = "\n".join(
        [
            "from huggingface_hub import metadata_update",
            f"for index in {indices!r}: metadata_update('lab/model', {{'model-index': index}})",
        ]
    )
    environment = hub.environment(tmp_path, hub.token)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=300, env=environment)
    merged = merge(pushed(hub, "lab/model")["README.md"].decode(), [second], "model")
    found = [(r.dataset_split, r.metric_name, r.metric_value) for r in ModelCard(merged).data.eval_results]
    mine, old = ("test", "knn: accuracy", 0.2), ("validation", "knn: accuracy", 0.99)
    others = [("validation", "linear: accuracy", 0.7), (None, None, 0.5), ("test", None, 0.3)]
    assert sorted(map(str, found)) == sorted(map(str, [mine, old, *others]))


def ours_of(result: dict) -> list[dict]:
    return ModelCardData(model_name="model", eval_results=eval_results([result])).to_dict()["model-index"]


def test_somebody_elses_model_gets_a_pull_request(hub, run, tmp_path, monkeypatch) -> None:  # noqa: F811
    curator = hub.add_user("curator", orgs={"museum": "write"})
    with monkeypatch.context() as other:
        other.setenv("HF_TOKEN", curator)
        assert push(run, "museum/model") == 0
        upload(hub, "museum/model", CARD, curator)
    done = evaluate(
        hub, tmp_path, "museum/model", "--output_dir", str(tmp_path / "o"), "--push_results", "museum/model"
    )
    assert done.returncode == 0, done.stderr
    assert "0.99" in card_of(hub, "museum/model").content
    proposed = card_of(hub, "museum/model", "refs/pr/1")
    assert "0.99" not in proposed.content and "## What and where" in proposed.text


def test_refused_before_anything_is_measured(hub, run, tmp_path) -> None:  # noqa: F811
    encoder, out = str(run / "encoder"), str(tmp_path / "out")
    error = error_of(evaluate(hub, tmp_path, encoder, "--output_dir", out, "--push_results", "lab/nothing"))
    assert "lab/nothing" in error and ("model", "lab/nothing") not in hub.store.repos  # it was not made
    assert "--push_results needs --output_dir" in error_of(evaluate(hub, tmp_path, encoder, "--push_results", "lab/a"))
    assert not Path(out).exists()


def test_results_of_other_weights_are_not_pushed(hub, run, tmp_path) -> None:  # noqa: F811
    assert push(run, "lab/model") == 0
    flags = ("--size", "16", "--output_dir", str(tmp_path / "out"), "--push_results", "lab/model")
    error = error_of(evaluate(hub, tmp_path, "vit-micro-8", *flags))
    assert "is about vit-micro-8, not about the weights in lab/model" in error
    assert "README.md" not in pushed(hub, "lab/model")
