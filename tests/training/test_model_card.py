"""A model card says what was done and measured, and nothing else; its snippets run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results
from PIL import Image

from sp_hf.cards import snippets
from sp_hf.cards.model_card import write_card
from sp_hf.cards.results import ResultsError
from sp_hf.cards.snippets import Snippet, SnippetError, execute
from sp_hf.cli import main
from sp_hf.objectives.what.dino import DINOConfig

from .conftest import tiny_options

REPO = "someone/tiny-vit-sp"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Path:
    """A finished run, evaluated."""
    folder = tmp_path_factory.mktemp("carded")
    (folder / "tiny.yaml").write_text(json.dumps({**tiny_options(tiny_encoder), "max_steps": 4, "logging_steps": 1}))
    assert main(["pretrain", "--recipe", str(folder / "tiny.yaml"), "--output_dir", str(folder / "out")]) == 0
    flags = ["--dataset", "part-scenes?size=32&num_images=40", "--tasks", "knn", "relative-geometry", "--no_cache"]
    flags += ["--num_workers", "0", "--output_dir", str(folder / "evaluation")]
    assert main(["evaluate", f"SP={folder / 'out'}", *flags]) == 0
    return folder / "out"


@pytest.fixture(scope="module")
def card(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("card")
    with pytest.MonkeyPatch.context() as slow_machine:
        slow_machine.setattr(snippets, "TIME_LIMIT", 600.0)
        write_card(run, folder, REPO, license="apache-2.0", evaluations=[run.parent / "evaluation"])
    return folder


def test_metadata_is_what_the_hub_reads(card: Path, run: Path) -> None:
    loaded = ModelCard.load(card / "README.md")
    data = loaded.data
    assert (data.library_name, data.pipeline_tag, data.license) == (
        "transformers",
        "image-feature-extraction",
        "apache-2.0",
    )
    assert {"self-supervised", "spatial-prediction", "dino", "sp-hf"} <= set(data.tags)
    assert "without labels" in loaded.content and "| labels | not used |" in loaded.content
    assert data.base_model is None and data.datasets is None  # it started fresh, on an embedded dataset
    name, results = model_index_to_eval_results(data.to_dict()["model-index"])
    measured = json.loads((run.parent / "evaluation" / "results.json").read_text())["tasks"]
    headline = {"accuracy", "r2_position", "r2_scale", "iou"}
    assert name == "tiny-vit-sp"
    assert (
        headline <= {r.metric_type for r in results} <= headline | {"r2_position_beyond_cues", "r2_scale_beyond_cues"}
    )
    for result in results:
        task = result.metric_name.split(":")[0]
        metric = measured[task]["results"]["SP"]["measures"][result.metric_type]
        assert result.metric_value == pytest.approx(metric["value"], abs=1e-4)


def test_table_has_the_controls_and_intervals(card: Path) -> None:
    text = (card / "README.md").read_text()
    head = next(line for line in text.splitlines() if line.startswith("|  | **"))
    assert [cell.strip() for cell in head.split("|")[2:-1]] == [
        "**tiny-vit-sp**",
        "random initialisation",
        "raw pixels",
        "low-level cues",
        "chance",
    ]
    assert re.search(r"what · kNN: accuracy % \| \d+\.\d ± \d+\.\d \| \d+\.\d ± \d+\.\d \| \d+\.\d \|", text)


def test_a_reader_finds_first_what_is_needed_first(card: Path) -> None:
    loaded = ModelCard.load(card / "README.md")
    heads = re.findall(r"^## (.*)$", loaded.text, re.MULTILINE)
    assert heads[:3] == ["Results", "How to use it", "Training data"]
    assert heads[3:] == ["Hyperparameters", "Training log", "Cost", "Limitations", "Citation"]
    front = (card / "README.md").read_text().split("---\n")[1]
    assert len(front.splitlines()) < 45  # of two tasks
    assert "(40 images)" in loaded.text and "| images | 16 |" in loaded.text and "| seen | 16 images, " in loaded.text


def test_what_differs_from_the_defaults_comes_first(card: Path, run: Path) -> None:
    text = (card / "README.md").read_text().split("## Hyperparameters")[1].split("## ")[0]
    before, folded = text.split("<details>")
    shown = dict(re.findall(r"^\| `(\S+)` \| (.*?) \| .*? \|$", before, re.MULTILINE))
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    dino = next(entry for entry in recipe["objectives"] if entry["name"] == "dino")
    assert shown["dino.prototypes"] == str(dino["prototypes"]) != str(DINOConfig().prototypes)
    assert shown["seed"] == "3" and shown["dino.global_views.size"] == "16"
    assert "dino.student_temperature" not in shown and "student_temperature" in folded  # as it is by default
    assert not {"output_dir", "dataloader_num_workers", "disable_tqdm", "logging_steps"} & set(shown)


def test_nothing_in_it_points_at_what_is_not_there(card: Path) -> None:
    """The package is on no index: the card installs stock packages alone, by a line that runs."""
    text = (card / "README.md").read_text()
    assert "pypi.org" not in text and "install sp-hf" not in text
    lines = re.findall(r"^pip install (.+)$", text, re.MULTILINE)
    assert lines == ["torch transformers pillow"]
    command = [sys.executable, "-m", "pip", "install", "--no-index", "--dry-run", "--quiet", *lines[0].split()]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    assert set(re.findall(r"^(?:from|import) (\w+)", code, re.MULTILINE)) == {"torch", "transformers", "PIL"}


def test_every_picture_is_there(card: Path) -> None:
    pictures = re.findall(r"!\[[^\]]*\]\((pictures/[^)]+)\)", (card / "README.md").read_text())
    assert {"pictures/curves.png", "pictures/views.png"} <= set(pictures)
    for picture in pictures:
        assert min(Image.open(card / picture).size) > 50


def test_every_option_and_citation_is_there_and_no_path_of_the_author(card: Path, run: Path) -> None:
    text = (card / "README.md").read_text()
    block = re.search(r"```yaml\n(.*?)\n```", text, re.DOTALL).group(1)
    recipe, shown = yaml.safe_load((run / "recipe.yaml").read_text()), yaml.safe_load(block)
    assert shown["objectives"] == recipe["objectives"] and shown["seed"] == 3
    assert "arXiv:2605.09963" in text and "caron2021emerging" in text
    assert str(run.parent.parent) not in text and str(Path.home()) not in text


def test_snippets_of_the_card_run_again_and_print_what_it_says(card: Path, run: Path, tmp_path: Path) -> None:
    text = (card / "README.md").read_text()
    Image.new("RGB", (80, 60), "teal").save(tmp_path / "photo.jpg")
    found = re.findall(r"```python\n(.*?)\n```\n\nIt prints `(.*?)`\.", text, re.DOTALL)
    assert len(found) == 2 and "All of these ran when this card was made." in text
    for code, printed in found:
        code = code.replace(REPO, str(run / "encoder"))
        code = "import sys; sys.modules['sp_hf'] = None\n" + code  # stock libraries alone
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == printed


def test_a_snippet_that_fails_is_not_published(tmp_path: Path) -> None:
    with pytest.raises(SnippetError, match="'Broken' does not run(.|\n)*ZeroDivisionError"):
        execute(Snippet("Broken", "python", "1 / 0"), REPO, tmp_path)


def test_results_of_other_weights_are_refused(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run.parent / "evaluation", tmp_path / "evaluation")
    results = json.loads((tmp_path / "evaluation" / "results.json").read_text())
    for model in results["models"]:
        model["identity"] = "0" * 20
    (tmp_path / "evaluation" / "results.json").write_text(json.dumps(results))
    with pytest.raises(ResultsError, match="is about SP, not about the weights in"):
        write_card(run, tmp_path / "card", REPO, evaluations=[tmp_path / "evaluation"], run_snippets=False)
    assert not (tmp_path / "card").exists()


def test_nothing_is_guessed(run: Path, tmp_path: Path) -> None:
    card = write_card(run, tmp_path, REPO, run_snippets=False)
    assert card.data.license is None and "No license has been declared" in card.content
    assert card.data.eval_results is None and "Nothing has been measured" in card.content


def test_a_token_in_the_recipe_is_not_published(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    recipe = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    recipe["image_column"] = "hf_" + "a" * 34
    (tmp_path / "run" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with pytest.raises(ValueError, match="looks like a Hub token") as error:
        write_card(tmp_path / "run", tmp_path / "card", REPO, run_snippets=False)
    assert "aaaa" not in str(error.value) and not (tmp_path / "card").exists()


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="lacks recipe.yaml, environment.json"):
        write_card(tmp_path, tmp_path / "card", REPO)
