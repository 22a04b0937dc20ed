"""where-bench as a dataset of the Hub: its scenes, a card, and the ``eval.yaml`` that makes it a benchmark.

    README.md                          the dataset card
    eval.yaml                          its tasks, each a leaderboard (https://huggingface.co/docs/hub/eval-results)
    data/train-00000-of-00001.parquet  scenes of PartScenes that probes are fitted to
    data/validation-...                and those that metrics are about

The Hub shows a leaderboard once it has the dataset on its list of benchmarks; entries come from
``sp-hf evaluate ... --push_results MODEL --benchmark OWNER/where-bench``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.utils import validate_repo_id, yaml_dump

from ..data.part_scenes.dataset import part_scenes
from ..evaluation.where_bench import IMAGES, NAME, bench_command, bench_tasks
from ..markdown import table
from ..whole_file import write_whole
from .push import Destination, PushResult

FRAMEWORK = "sp-hf"
SPLITS = ("train", "validation")
_SUMMARY = (
    "What frozen vision encoders know of where things are: how two crops lie to each other, how shuffled tiles belong"
    " together, where a patch is, which way one part lies from another, and where a part is in another image. Probes"
    " are fitted to the training scenes and measured on the validation scenes, beside an untrained encoder of the same"
    " architecture and raw pixels, with 95 % intervals."
)


def eval_yaml() -> str:
    """The text of ``eval.yaml``."""
    tasks = [{"id": name, "config": "default", "split": "validation"} for name in bench_tasks()]
    fields = {"name": NAME, "description": _SUMMARY, "evaluation_framework": FRAMEWORK, "tasks": tasks}
    return yaml_dump(fields, sort_keys=False)


def dataset_card(repo: str) -> str:
    """The text of the dataset's ``README.md``.

    Args:
        repo: its ``owner/name``.
    """
    files = [{"split": split, "path": f"data/{split}-*"} for split in SPLITS]
    fields = {
        "pretty_name": NAME,
        "license": "apache-2.0",
        "task_categories": ["image-feature-extraction"],
        "tags": ["benchmark", "vision", "spatial", "sp-hf"],
        "size_categories": ["1K<n<10K"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    tasks = [
        (f"`{name}`", str(task.__doc__).splitlines()[0], f"`{task().headline[0]}`")
        for name, task in bench_tasks().items()
    ]
    lines = [
        f"# {NAME}",
        "",
        _SUMMARY,
        "",
        f"The scenes are PartScenes of sp_hf ({IMAGES} of each side), drawn by a program; every installation draws the"
        " same ones. Columns: image, label, fine_label, segmentation, depth, part_boxes.",
        "",
        *table([("task", "asks", "metric"), *tasks]),
        "",
        "The number behind `-v` is the version of the protocol: results of another version are not comparable.",
        "",
        "## Measure a model, and put it on the leaderboard",
        "",
        "```",
        f"{bench_command('OWNER/MODEL')} \\",
        f"    --output_dir out --push_results OWNER/MODEL --benchmark {repo}",
        "```",
        "",
        "writes `.eval_results/"
        + f"{repo.rsplit('/', 1)[-1]}.yaml` into the model's repository, as a pull request where"
        " it is not yours.",
    ]
    return f"---\n{yaml_dump(fields, sort_keys=False).rstrip()}\n---\n\n" + "\n".join(lines) + "\n"


def build_where_bench(folder: str | os.PathLike[str], repo: str, images: int = IMAGES) -> list[Path]:
    """Write all files of the dataset; returns their paths.

    Args:
        folder: made if need be.
        repo: ``owner/name`` that the card shall name.
        images: of each side; other than the default it is no where-bench, but a look at one.
    """
    folder = Path(folder)
    (folder / "data").mkdir(parents=True, exist_ok=True)
    write_whole(folder / "README.md", dataset_card(repo))
    write_whole(folder / "eval.yaml", eval_yaml())
    paths = [folder / "README.md", folder / "eval.yaml"]
    for split in SPLITS:
        paths.append(folder / "data" / f"{split}-00000-of-00001.parquet")
        part_scenes(split, num_images=images).to_parquet(str(paths[-1]))
    return paths


def push_where_bench(repo: str, *, images: int = IMAGES, private: bool | None = None) -> PushResult:
    """Build the dataset and push it, in one commit.

    Args:
        repo: ``owner/name`` of the dataset; made if it is not there.
        images: see :func:`build_where_bench`.
        private: visibility of a dataset that is made; ``None``: the owner's default.

    Raises:
        PushError: not logged in, not allowed, no repository's id, or the Hub does not answer.
    """
    api = HfApi()
    target = Destination(api, repo, "")
    target.attempt(lambda: validate_repo_id(repo), "checking the name")
    target.attempt(lambda: api.whoami(), "logging in")
    target.attempt(
        lambda: api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True),
        f"creating the dataset {repo}",
    )
    before = target.attempt(lambda: api.dataset_info(repo).sha, f"looking for {repo}")
    with tempfile.TemporaryDirectory(prefix="sp-hf-bench-") as folder:
        files = build_where_bench(folder, repo, images)
        done = target.attempt(
            lambda: api.upload_folder(
                repo_id=repo, folder_path=folder, repo_type="dataset", commit_message=f"{NAME} by sp-hf"
            ),
            f"uploading {repo}",
        )
        names = tuple(path.relative_to(folder).as_posix() for path in files)
    return PushResult(f"{api.endpoint}/datasets/{repo}", done.oid, done.oid != before, names, repo)
