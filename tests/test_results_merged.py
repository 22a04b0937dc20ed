"""Results merged into cards again and again, in part and beside those of others: each is there once, nothing is lost.

huggingface_hub itself reads and writes the cards in between, as other tools do.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sp_hf.cards.front_matter import read_front_matter, split_card, with_field
from sp_hf.cards.model_index import DatasetName, eval_results, merge_model_index
from sp_hf.cards.result_tables import BEGIN, END
from sp_hf.hub.push_results import merge

TASKS = {
    "knn": ("what", ["accuracy"]),
    "linear": ("what", ["accuracy", "mean_per_class_accuracy"]),
    "segmentation": ("what", ["miou"]),
    "jigsaw": ("where", ["tile_accuracy_3x3_apart"]),
    "relative-geometry": ("where", ["r2_position", "iou"]),
}
DATA = [
    "part-scenes?size=32&num_images=40, split validation",
    "part-scenes?size=64, split validation",
    "part-scenes, split test",
    "Hub dataset org/birds (small) at 1234567, split test",
    "Hub dataset org/birds (large), split test",
    "folder /home/ann/my pictures/birds, split train",
]
quick = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # no shrinking, which takes minutes here
    suppress_health_check=[HealthCheck.too_slow],
)


def result_of(values: dict[tuple[str, str], float], data: str, images: int = 40) -> dict[str, Any]:
    """What :func:`read_results` gives of an evaluation with these values of (task, metric)."""
    tasks: dict[str, Any] = {}
    for (name, key), value in values.items():
        kind, _ = TASKS[name]
        entry = tasks.setdefault(name, {"kind": kind, "headline": [], "results": {"SP": {}, "raw pixels": {}}})
        entry["headline"].append(key)
        bounds = {"low": value - 0.1, "high": value + 0.05, "n": images, "percent": "accuracy" in key}
        measure = {"value": value, **bounds, "higher_is_better": True, "chance": 0.1}
        for model in entry["results"].values():
            model.setdefault("measures", {})[key] = measure
            model["details"] = {}
    models = [{"name": "raw pixels", "role": "pixels"}, {"name": "SP", "role": "model"}]
    sides = {side: {"description": data, "images": images} for side in ("train", "validation")}
    return {"this": "SP", "models": models, "tasks": tasks, "data": sides, "seed": 0}


def identities(results: list[dict[str, Any]]) -> dict[tuple, float]:
    """{(data set, task, metric): value}, of one measured twice the last: the oracle."""
    found = {}
    for result in results:
        for name, task in result["tasks"].items():
            for key in task["headline"]:
                value = task["results"]["SP"]["measures"][key]["value"]
                found[DatasetName.of(result["data"]["validation"]["description"]), name, key] = round(value, 4)
    return found


def ours_in(card: str) -> list[tuple[tuple, float]]:
    """As huggingface_hub reads them: ours are those with our metrics' names."""
    names = {f"{task}: {key.replace('_', ' ')}": task for task, (_, keys) in TASKS.items() for key in keys}
    found = []
    for entry in ModelCard(card).data.eval_results or []:
        if entry.metric_name in names:
            data = DatasetName(entry.dataset_type, entry.dataset_config, entry.dataset_split, entry.dataset_revision)
            found.append(((data, names[entry.metric_name], entry.metric_type), entry.metric_value))
    return found


def rows_in(card: str) -> dict[tuple[str, str], str]:
    """{(data set, row): its cell of this model}, of the section of the text; every row once."""
    section = card.split(BEGIN)[1].split(END)[0]
    found: dict[tuple[str, str], str] = {}
    for block in section.split("<!-- on ")[1:]:
        data = block.split(" -->")[0]
        for line in block.splitlines():
            cells = [cell.strip() for cell in line.split("|")]
            if len(cells) > 3 and cells[1] and not cells[1].startswith("---"):
                assert (data, cells[1]) not in found
                found[data, cells[1]] = cells[2]
    return found


metrics = [(task, key) for task, (_, keys) in TASKS.items() for key in keys]
evaluation = st.builds(
    result_of,
    st.dictionaries(st.sampled_from(metrics), st.integers(0, 1000).map(lambda v: v / 1000), min_size=1),
    st.sampled_from(DATA),
    st.sampled_from([40, 80]),
)
words = st.sampled_from(["Accuracy", "linear accuracy", "Linear: accuracy", "accuracy (top 1)", None])
plain = st.sampled_from(["image-classification", "image-feature-extraction", "image-segmentation", "text-ranking"])
strangers_metric = st.fixed_dictionaries(
    {"type": st.sampled_from(["accuracy", "miou", "f1"]), "value": st.sampled_from([0.5, "20.0 ± 1.2", 7])},
    optional={
        "name": words.filter(bool),
        "args": st.just({"k": 5}),
        "verified": st.booleans(),
        "config": st.just("default"),
    },
)
strangers_group = st.fixed_dictionaries(
    {
        "task": st.fixed_dictionaries({"type": plain}, optional={"name": words.filter(bool)}),
        "dataset": st.fixed_dictionaries(
            {
                "type": st.sampled_from(["part-scenes", "org/birds", "birds", "imagenet-1k"]),
                "name": st.sampled_from(["PartScenes", "Birds", "birds, their way"]),
            },
            optional={
                "config": st.sampled_from(["size=64", "small", "large"]),
                "split": st.sampled_from(["test", "validation", "train"]),
                "revision": st.just("1234567"),
                "args": st.just({"lang": "en"}),
            },
        ),
        "metrics": st.lists(strangers_metric, min_size=1, max_size=3),
    },
    optional={"source": st.just({"name": "a leaderboard", "url": "https://example.org"})},
)
HEADS = [
    "license: mit  # as its author wrote it\ntags: [mine,  'yours']\n",
    "# nothing but a remark\n",
    "language: no\n",
]
TAILS = ["", "# of the licence\nlicense_name: own\n", "widget:\n- text: '---'\n\n"]


@st.composite
def strangers_card(draw: st.DrawFn) -> str:
    """A card by hand: fields around a model-index, or none, or no YAML at all."""
    body = draw(st.sampled_from(["# A model\n\nWords.\n", "", "\n\nno end of line | a bar"]))
    kind = draw(st.sampled_from(["index", "index", "index", "no index", "no metadata"]))
    if kind == "no metadata":
        return body
    head, tail = draw(st.sampled_from(HEADS)), draw(st.sampled_from(TAILS))
    if kind == "no index":
        return f"---\n{head}{tail}---\n{body}"
    groups = draw(st.lists(strangers_group, min_size=1, max_size=4))
    index = yaml.safe_dump({"model-index": [{"name": "theirs", "results": groups}]}, sort_keys=False)
    return f"---\n{head}{index}{tail}---\n{body}"


def written_by_huggingface_hub(card: str) -> str:
    return str(ModelCard(card))


def pushed(card: str, results: list[dict[str, Any]], between: bool = False) -> str:
    """One push an evaluation; ``between``: huggingface_hub writes the card after each."""
    for result in results:
        card = merge(card, [result], "mine")
        card = written_by_huggingface_hub(card) if between else card
    return card


@quick
@given(strangers_card(), st.lists(evaluation, min_size=1, max_size=4), st.booleans())
def test_each_result_is_there_once_with_its_last_value(card: str, results: list, between: bool) -> None:
    merged = pushed(card, results, between)
    expected = identities(results)
    assert sorted(map(repr, ours_in(merged))) == sorted(map(repr, expected.items()))
    assert sorted(map(repr, ours_in(written_by_huggingface_hub(merged)))) == sorted(map(repr, expected.items()))
    rows = rows_in(merged)
    assert len(rows) == len(expected)
    for (data, task, key), value in expected.items():
        shown = [cell for (on, row), cell in rows.items() if on == str(data) and f"· {task}: " in row.lower()]
        assert f"{value * (100 if 'accuracy' in key else 1):.{1 if 'accuracy' in key else 3}f} ±" in " ".join(shown)


@quick
@given(strangers_card(), st.lists(evaluation, min_size=1, max_size=3))
def test_a_push_again_changes_nothing(card: str, results: list) -> None:
    merged = pushed(card, results)
    assert pushed(merged, results[-1:]) == merged
    together = merge(card, results, "mine")
    assert merge(together, results, "mine") == together


@quick
@given(strangers_card(), st.lists(evaluation, min_size=1, max_size=3))
def test_all_that_is_not_ours_stays_byte_for_byte(card: str, results: list) -> None:
    merged = pushed(card, results)
    block, body = split_card(card)
    new_block, new_body = split_card(merged)
    assert new_body.startswith(body)
    theirs = read_front_matter(card).get("model-index", [{"results": []}])[0]["results"]
    assert read_front_matter(merged)["model-index"][0]["results"][: len(theirs)] == theirs
    if "model-index:" in block:
        before, after = block.split("model-index:")[0], block.split("- name: theirs")[1]
        assert new_block.startswith(before)
        tail = next(tail for tail in reversed(TAILS) if after.rstrip().endswith(tail.rstrip()))
        assert new_block.rstrip().endswith(tail.rstrip())
    else:
        assert new_block.startswith(block.rstrip())


@quick
@given(strangers_card(), st.lists(evaluation, min_size=2, max_size=4))
def test_the_order_of_pushes_about_different_things_does_not_matter(card: str, results: list) -> None:
    apart = {result["data"]["validation"]["description"]: result for result in results}
    there = pushed(card, list(apart.values()))
    back = pushed(card, list(reversed(apart.values())))
    assert sorted(map(repr, ours_in(there))) == sorted(map(repr, ours_in(back)))
    assert rows_in(there) == rows_in(back)


@quick
@given(st.lists(evaluation, min_size=1, max_size=3))
def test_our_names_survive_huggingface_hub(results: list) -> None:
    """Where nobody else has results on the same data, not even a name changes, and text stays as it is."""
    card = pushed("", results)
    assert read_front_matter(written_by_huggingface_hub(card)) == read_front_matter(card)
    assert ModelCardData(model_name="mine", eval_results=eval_results(results)).to_dict()["model-index"] == (
        merge_model_index(None, eval_results(results), "mine")
    )


def test_knn_alone_leaves_a_linear_accuracy_where_it_is() -> None:
    """Of ours and of a stranger's, both of which huggingface_hub puts into one group with kNN's."""
    theirs = EvalResult("image-classification", "part-scenes", "PartScenes", "accuracy", 0.5, task_name="linear probe")
    data = ModelCardData(model_name="theirs", eval_results=[theirs], license="mit")
    card = merge(f"---\n{data.to_yaml()}\n---\n", [result_of({("linear", "accuracy"): 0.4}, DATA[0])], "mine")
    for value in (0.1, 0.2):
        card = merge(written_by_huggingface_hub(card), [result_of({("knn", "accuracy"): value}, DATA[0])], "mine")
    found = {entry.metric_name: entry.metric_value for entry in ModelCard(card).data.eval_results}
    assert found == {None: 0.5, "linear: accuracy": 0.4, "knn: accuracy": 0.2}
    assert "what · linear: accuracy %" in card and "what · kNN: accuracy %" in card and "| 20.0 ± 10.0 |" in card


def test_a_card_in_another_form_is_kept_or_refused() -> None:
    result = [result_of({("knn", "accuracy"): 0.4}, DATA[2])]
    odd = {"name": "x", "results": ["odd", {"task": None, "metrics": None}, {"metrics": [3]}, {"dataset": {}}]}
    card = f"---\n{yaml.safe_dump({'model-index': [odd]})}---\n"
    assert read_front_matter(merge(card, result, "x"))["model-index"][0]["results"][:4] == odd["results"]
    for block, words in (
        ("model-index: 3", "not a list of models"),
        ("model-index:\n- name: x\n  results: 3", "results of its model-index"),
        ("a: [", "not YAML"),
        ("- a", "list, not fields"),
    ):
        with pytest.raises(ValueError, match=words):
            merge(f"---\n{block}\n---\n", result, "x")


def test_of_several_models_only_ours_changes() -> None:
    index = [{"name": name, "results": []} for name in ("one", "two")]
    before, new = copy.deepcopy(index), eval_results([result_of({("knn", "accuracy"): 0.4}, DATA[2])])
    merged = merge_model_index(index, new, "two")
    assert index == before and merged[0] == before[0] and len(merged[1]["results"]) == 1


def test_line_ends_of_windows_stay() -> None:
    merged = merge("---\r\nlicense: mit\r\n---\r\n# A\r\n", [result_of({("knn", "accuracy"): 0.4}, DATA[2])], "x")
    assert merged.startswith("---\r\nlicense: mit\r\nmodel-index:\r\n") and "\n" not in merged.replace("\r\n", "")


@pytest.mark.parametrize("block", ["{license: mit, a: 1}", "a: &x [1]\nmodel-index: *x\nb: *x", "a: &x 1", ""])
def test_yaml_that_cannot_be_changed_in_place_is_written_anew(block: str) -> None:
    card = with_field(f"---\n{block}\n---\ntext", "model-index", [2])
    before = yaml.safe_load(block) or {}
    assert read_front_matter(card) == {**before, "model-index": [2]} and card.endswith("---\ntext")


@pytest.mark.parametrize(
    ("description", "name"),
    [
        (DATA[0], DatasetName("part-scenes", "size=32&num_images=40", "validation")),
        (DATA[3], DatasetName("org/birds", "small", "test", "1234567")),
        (DATA[5], DatasetName("birds", None, "train")),
        ("Hub dataset cifar10", DatasetName("cifar10")),
        ("URL https://host/a/b.parquet?X-Signature=abc, split train", DatasetName("b.parquet", None, "train")),
        ("files /data/x/*.parquet, split train[:10]", DatasetName("*.parquet", None, "train[:10]")),
        ("list of 3 images", DatasetName("list of 3 images")),
    ],
)
def test_a_dataset_is_named_without_paths_and_signatures(description: str, name: DatasetName) -> None:
    assert DatasetName.of(description) == name
    assert "/home" not in str(name) and "Signature" not in str(name)
