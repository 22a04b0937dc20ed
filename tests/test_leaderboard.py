"""Results in the Hub's own format, where-bench, and what a leaderboard reads of many models, over real HTTP."""

from __future__ import annotations

import copy
import json

import pytest
import yaml
from datasets import load_dataset
from huggingface_hub import HfApi, ModelCard, parse_eval_result_entries
from test_push import hub, pushed, run, tiny_encoder  # noqa: F401
from test_results_merged import result_of

from sp_hf.cards.hub_results import bench_entries, file_of, interval_of, merge_entries
from sp_hf.errors import InputError
from sp_hf.evaluation.tasks import TASKS
from sp_hf.evaluation.where_bench import BENCH_TASKS, bench_command, bench_tasks, deviations
from sp_hf.hub import push_results as pushing
from sp_hf.hub.leaderboard import Row, board, entry_rows, read_rows, result_rows
from sp_hf.hub.push_results import merge
from sp_hf.hub.where_bench import build_where_bench, dataset_card, eval_yaml, push_where_bench

BENCH = "lab/where-bench"


def bench_result(value: float = 0.25, **changes) -> dict:
    """A ``results.json`` that was measured as where-bench says, of a model called ``SP``."""
    names = {"relative-geometry": "r2_position", "jigsaw": "tile_accuracy_3x3_apart"}
    result = result_of({(name, key): value for name, key in names.items()}, "part-scenes, split validation")
    for name, task in result["tasks"].items():
        task |= {"version": 1, "settings": json.loads(json.dumps(TASKS[name]().settings(), default=str))}
    result["options"] = {"data": {"dataset": "part-scenes", "max_images": 1000, "image_column": None}, "size": None}
    result |= {"seed": 0, "created": "2026-01-02T03:04:05+00:00", "sp_hf_version": "9.9"}
    return result | changes


def test_entries_are_those_that_huggingface_hub_reads():
    entries, reasons = bench_entries([bench_result(0.25)], BENCH, "https://hub/lab/model")
    assert reasons == []
    found = parse_eval_result_entries(yaml.safe_load(merge_entries("", entries)))
    assert found == entries
    assert [(e.dataset_id, e.task_id, e.value) for e in found] == [
        (BENCH, "relative-geometry-v1", 0.25),
        (BENCH, "jigsaw-v1", 25.0),  # shown in per cent
    ]
    assert found[0].date == "2026-01-02T03:04:05+00:00" and found[0].source_url == "https://hub/lab/model"
    assert interval_of(found[0].notes) == ("r2_position", 0.15, 0.3)
    assert interval_of("no-tools") is None and file_of(BENCH) == ".eval_results/where-bench.yaml"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda r: r.update(seed=1), "seed is 1 in place of 0"),
        (lambda r: r["options"]["data"].update(max_images=20), "data is"),
        (lambda r: r["options"].update(size=64), "size is 64"),
        (lambda r: r["tasks"]["jigsaw"].update(version=2), "version is 2 in place of 1"),
        (lambda r: r["tasks"]["jigsaw"]["settings"].update(images=3), "option images is 3"),
    ],
)
def test_what_was_measured_otherwise_is_named_and_left_out(change, reason):
    result = bench_result()
    change(result)
    assert reason in "; ".join(deviations(result, "jigsaw"))
    assert "jigsaw-v1" not in [entry.task_id for entry in bench_entries([result], BENCH)[0]]
    assert "none of its tasks" in deviations(result, "knn")[0]


def test_merged_entries_replace_their_own_and_keep_the_rest():
    theirs = {"dataset": {"id": "cais/hle", "task_id": "hle"}, "value": 3, "notes": "mine", "unknown": [1]}
    first = merge_entries(yaml.safe_dump([theirs]), bench_entries([bench_result(0.1)], BENCH)[0])
    again = yaml.safe_load(merge_entries(first, bench_entries([bench_result(0.2)], BENCH)[0]))
    assert again[0] == theirs and [entry["value"] for entry in again[1:]] == [0.2, 20.0]
    for broken in ("a: [", "a: 1", "- 3"):
        with pytest.raises(InputError, match="it is not"):
            merge_entries(broken, [])


def test_push_results_writes_the_entries_beside_the_card(hub, tmp_path, monkeypatch, caplog):  # noqa: F811
    hub.store.create("model", "lab/model", private=False, author="ann")
    result = bench_result(0.25) | {"this": "SP", "folder": tmp_path}
    result["tasks"]["knn"] = copy.deepcopy(result["tasks"]["jigsaw"])
    monkeypatch.setattr(pushing, "read_results", lambda paths, encoder: [result])
    assert pushing.push_results(tmp_path, "lab/model", benchmark=BENCH).changed
    files = pushed(hub, "lab/model")
    assert "## What and where" in files["README.md"].decode() and "not for lab/where-bench: knn" in caplog.text
    assert [e["dataset"]["task_id"] for e in yaml.safe_load(files[file_of(BENCH)])] == [
        "relative-geometry-v1",
        "jigsaw-v1",
    ]
    assert not pushing.push_results(tmp_path, "lab/model", benchmark=BENCH).changed  # nothing twice
    with pytest.raises(ValueError, match="no result is where-bench's.*seed is 3.*--max_images 1000"):
        result["seed"] = 3
        pushing.push_results(tmp_path, "lab/model", benchmark=BENCH)


def test_rows_of_many_models_and_what_cannot_be_read(hub):  # noqa: F811
    api = HfApi()
    for name, value in (("a", 0.1), ("b", 0.3), ("c", 0.0)):
        hub.store.create("model", f"lab/{name}", private=False, author="ann")
        text = merge_entries("", bench_entries([bench_result(value)], BENCH)[0]) if name != "c" else "a: ["
        api.upload_file(path_or_fileobj=text.encode(), path_in_repo=file_of(BENCH), repo_id=f"lab/{name}")
    card = merge("", [result_of({("knn", "accuracy"): 0.5}, "part-scenes, split validation")], "b")
    assert ModelCard(card).data.eval_results
    api.upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id="lab/b")
    rows, problems = read_rows(["lab/a", "lab/b", "lab/c", "lab/none", "lab/a"])
    assert set(problems) == {"lab/c/.eval_results/where-bench.yaml", "lab/none"}
    assert "not YAML" in problems["lab/c/.eval_results/where-bench.yaml"] and "404" in problems["lab/none"]
    table = board(rows)
    assert list(table) == ["lab/a", "lab/b"]
    geometry = table["lab/b"]["relative-geometry-v1", "r2_position"]
    assert (geometry.value, geometry.low, geometry.high, geometry.dataset) == (0.3, 0.2, 0.35, BENCH)
    knn = table["lab/b"]["knn", "accuracy"]
    assert (knn.value, knn.source, knn.low) == (0.5, "model-index", None) and "part-scenes" in knn.dataset
    assert list(board(rows, BENCH)["lab/b"]) == [("relative-geometry-v1", "r2_position"),
                                                 ("jigsaw-v1", "tile_accuracy_3x3_apart")]  # fmt: skip


def test_rows_of_others_and_of_local_results():
    text = yaml.safe_dump([
        {"dataset": {"id": "x/y", "task_id": "t"}, "value": 3, "verifyToken": "s"},
        {"dataset": {"id": "x/y", "task_id": "t"}, "value": "high"},
        {"value": 1},
    ])  # fmt: skip
    assert entry_rows(text, "m") == [Row("m", "t", None, 3.0, "x/y", "eval_results", verified=True)]
    old, new = (
        Row("m", "t", "a", value, "d", "results.json", date=date) for value, date in ((1, "2026-01"), (2, "2025-01"))
    )
    assert board([old, new])["m"]["t", "a"].value == 1
    rows = result_rows(bench_result(0.25))
    assert {(row.model, row.task, row.value, row.high) for row in rows} >= {("SP", "jigsaw", 0.25, 0.3)}


def test_the_benchmark_as_a_dataset(hub, tmp_path):  # noqa: F811
    result = push_where_bench(BENCH, images=6)
    assert result.changed and result.url.endswith("/datasets/lab/where-bench")
    files = pushed_dataset(hub)
    assert {
        "README.md",
        "eval.yaml",
        *(f"data/{split}-00000-of-00001.parquet" for split in ("train", "validation")),
    } < set(files)
    described = yaml.safe_load(files["eval.yaml"])
    assert set(described) == {"name", "description", "evaluation_framework", "tasks"}
    assert [task["id"] for task in described["tasks"]] == list(bench_tasks()) == [f"{n}-v1" for n in BENCH_TASKS]
    assert all(set(task) == {"id", "config", "split"} for task in described["tasks"])
    assert not push_where_bench(BENCH, images=6).changed
    paths = build_where_bench(tmp_path / "bench", BENCH, images=6)
    card = ModelCard(paths[0].read_text())
    assert card.data.license == "apache-2.0" and bench_command("OWNER/MODEL") in card.text and BENCH in card.text
    scenes = load_dataset(str(tmp_path / "bench"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in scenes.items()} == {"train": 6, "validation": 6}
    assert dataset_card(BENCH) == paths[0].read_text() and eval_yaml() == paths[1].read_text()


def pushed_dataset(hub) -> dict[str, bytes]:  # noqa: F811
    return {name: hub.store.content(file) for name, file in hub.store.repos["dataset", BENCH].files().items()}
