"""``sp-hf sweep`` for real: two runs of one seed, trained, measured, and reported."""

from __future__ import annotations

import json
import time

from sp_hf.cli import main

VIEWS = {"count": 2, "size": 16, "area": [0.2, 1.0], "flip": "shared"}
RECIPE = {
    "encoder": "vit-micro-8",
    "image_size": 16,
    "dataset": "part-scenes?size=32&num_images=32",
    "canvas_size": 32,
    "objectives": [
        {"name": "moco_v3", "views": VIEWS, "head_width": 16},
        {"name": "spatial_prediction", "views": VIEWS, "head_width": 16},
    ],
    "per_device_train_batch_size": 8,
    "max_steps": 2,
    "logging_steps": 1,
    "dataloader_num_workers": 0,
    "use_cpu": True,
}


def test_a_sweep_from_its_file_to_its_report(write_sweep, tmp_path, capsys):
    path = write_sweep(
        RECIPE,
        seeds=[3],
        runs={
            "MoCo v3": {"recipe": "base.yaml", "objectives": ["moco_v3"]},
            "then SP": {
                "recipe": "base.yaml",
                "encoder": "run:MoCo v3",
                "objectives": ["spatial_prediction"],
                "logging_steps": 100,  # more than it has
            },
        },
        evaluations=[["MoCo v3", "then SP"]],
        evaluate={"tasks": ["knn"], "max_images": 24, "num_workers": 0},
        measures={"knn/accuracy": "kNN"},
        expect={"knn/accuracy": {"not_below": 0.01}},
    )
    command = ["sweep", str(path), "--output_dir", str(tmp_path / "runs"), "--jobs", "1"]
    assert main([*command, "--list"]) == 0
    assert capsys.readouterr().out.count("left") == 3
    assert main(command) == 0
    found = json.loads((tmp_path / "runs" / "tiny" / "tiny.json").read_text())
    assert str(tmp_path) not in json.dumps(found)  # whoever reads it has other folders
    continued = found["runs"]["then SP"]
    assert continued["options"]["encoder"] == "encoder"
    assert [entry["name"] for entry in continued["options"]["objectives"]] == ["spatial_prediction"]
    assert (continued["seeds"]["3"]["steps"], continued["seeds"]["3"]["images"]) == (2, 16)
    evaluation = found["evaluations"][0]
    assert evaluation["seed"] == 3 and evaluation["reference"] == "MoCo v3"
    own = json.loads((tmp_path / "runs/tiny/evaluation/moco-v3-seed3/results.json").read_text())
    for model in ("MoCo v3", "then SP", "random initialisation"):
        measures = own["tasks"]["knn"]["results"][model]["measures"]
        assert evaluation["tasks"]["knn"]["results"][model] == measures
    report = (tmp_path / "runs" / "tiny" / "tiny.md").read_text()
    value = evaluation["tasks"]["knn"]["results"]["then SP"]["accuracy"]["value"]
    assert f"| then SP | {100 * value:.1f} | 1 |" in report

    capsys.readouterr()
    assert main([*command, "--list"]) == 0
    assert capsys.readouterr().out.count("done") == 3
    environment = tmp_path / "runs" / "tiny" / "then-sp-seed3" / "environment.json"
    environment.write_text(json.dumps(json.loads(environment.read_text()) | {"processes": 2}))
    started = time.time()
    assert main(command) == 0
    assert max(file.stat().st_mtime for file in (tmp_path / "runs").rglob("*.log")) < started
    again = json.loads((tmp_path / "runs" / "tiny" / "tiny.json").read_text())
    assert again["runs"]["then SP"]["seeds"]["3"]["images"] == 32  # two processes see twice as many a step
