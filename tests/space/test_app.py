"""The running app as programs see it: every endpoint, hostile uploads, many visitors at once, memory."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

gradio_client = pytest.importorskip("gradio_client", reason="the Space needs Gradio: pip install gradio")
import httpx  # noqa: E402  # comes with Gradio
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from .conftest import EXAMPLES, NAMES, PHOTO, ROOT, free_port  # noqa: E402
from .hostile import REFUSED, TAKEN  # noqa: E402

SPACE = ROOT / "spaces" / "spatial_probes"
BOXES = ("8, 45, 36, 40", "52, 8, 38, 42")


@pytest.fixture(scope="module")
def client(app: str) -> Client:
    return Client(app, verbose=False)


def jigsaw(client: Client, path: str, models: list[str], seed: int = 0, placed=None, tally=None):
    board = {"seed": seed, "placed": placed}
    return client.predict(handle_file(path), models, board, tally, api_name="/jigsaw")


def test_a_puzzle_is_solved_by_models_and_counted(client):
    board, answer, tally, score, metrics = jigsaw(client, PHOTO, NAMES, 5)
    assert metrics["tiles"] == 9 and sorted(metrics["cells"]) == list(range(9)) and metrics["you"] is None
    for name in NAMES:
        found = metrics["models"][name]
        right = sum(metrics["cells"][tile] == cell for cell, tile in enumerate(found["placed"]))
        assert found["right"] == right and f"<b>{right}</b> of 9 right" in answer
    assert jigsaw(client, PHOTO, NAMES, 5)[4] == metrics and jigsaw(client, PHOTO, NAMES, 6)[4] != metrics
    solution = [metrics["cells"].index(cell) for cell in range(9)]
    wrong = [solution[1], solution[0], *solution[2:]]
    board, _, tally, score, metrics = jigsaw(client, PHOTO, NAMES, 5, wrong, tally)
    assert board["right"] == [False, False] + [True] * 7 and metrics["you"] == 7
    assert "Of 1 puzzle, tiles right of 9: you 7.0, Tiny ViT" in score
    board, _, tally, score, _ = jigsaw(client, PHOTO, NAMES, 5, solution, tally)
    assert board["right"] == [True] * 9 and "you 7.0" in score  # it had been shown the answer
    _, _, _, score, _ = jigsaw(client, PHOTO, NAMES, 6, solution, tally)
    assert "Of 2 puzzles" in score


def test_many_puzzles_at_once(client):
    tally, score, metrics = client.predict(None, NAMES[:2], 12, 3, None, api_name="/puzzles")
    assert {name: len(right) for name, right in metrics["models"].items()} == dict.fromkeys(NAMES[:2], 12)
    means = [sum(right) / 12 for right in metrics["models"].values()]
    assert f"Of 12 puzzles, tiles right of 9: Tiny ViT {means[0]:.1f}, Tiny DINOv2 {means[1]:.1f}, chance 1." in score
    assert len(tally["puzzles"]) == 12
    of_one = client.predict(handle_file(PHOTO), NAMES[:1], 2, 3, None, api_name="/puzzles")[2]["models"][NAMES[0]]
    alone = [jigsaw(client, PHOTO, NAMES[:1], seed)[4]["models"][NAMES[0]]["right"] for seed in (3, 4)]
    assert of_one == alone
    with pytest.raises(AppError, match="from 1 to 200"):
        client.predict(None, NAMES[:1], 201, 0, None, api_name="/puzzles")


def test_a_puzzle_is_shuffled(client):
    first, again, other = (client.predict(handle_file(PHOTO), {"seed": s}, api_name="/shuffle")[0] for s in (1, 1, 2))
    assert first == again and first["src"] != other["src"] and first["placed"] == list(range(9))


@pytest.mark.parametrize("board", [None, {}, "x", {"seed": 0, "placed": [0] * 9}, {"seed": -1}, {"seed": "1"}])
def test_boards_that_the_page_did_not_send(client, board):
    with pytest.raises(AppError, match="each of the tiles|seed is|not what this page sends"):
        client.predict(handle_file(PHOTO), NAMES, board, None, api_name="/jigsaw")


def test_where(client):
    answer, metrics = client.predict(handle_file(PHOTO), NAMES, *BOXES, api_name="/where")
    for name in NAMES:
        found = metrics["models"][name]
        assert 0 <= found["iou"] <= 1 and len(found["predicted"]) == 4 and set(found["error"]) == {"x", "y", "scale"}
        assert name in answer and f"<td>{found['iou']:.2f}</td>" in answer
    swapped = client.predict(handle_file(PHOTO), NAMES, *BOXES[::-1], api_name="/where")[1]
    for axis in ("x", "y"):  # the probe is antisymmetric, and so is its error
        errors = [found["models"][NAMES[0]]["error"][axis] for found in (metrics, swapped)]
        assert errors[1] == pytest.approx(-errors[0], abs=1e-3)
    with pytest.raises(AppError, match="second box reaches out of the image"):
        client.predict(handle_file(PHOTO), NAMES, BOXES[0], "90, 90, 40, 40", api_name="/where")


def test_patches(client):
    answer, metrics = client.predict(handle_file(PHOTO), NAMES[:2], 99, 1, api_name="/patches")
    for name in NAMES[:2]:
        found = metrics["models"][name]
        assert found["grid"] == [4, 4] and found["chosen"] == [0, 3] and found["similarity"][0][3] == 1
    assert answer.count("<img") == 4


def test_the_leaderboard(client):
    _, answer, metrics = client.predict("", None, api_name="/leaderboard")
    row = {"model": "Tiny ViT", "task": "jigsaw-v1", "metric": "tile_accuracy_3x3_apart", "value": 41.5}
    assert metrics["rows"][0] == row | {"dataset": "lab/where-bench"} and len(metrics["rows"]) == 13
    assert "Measured on photographs" in answer and "relative-geometry: R2 position 7" in answer and "±" not in answer
    _, answer, _ = client.predict("", "lab/where-bench", api_name="/leaderboard")
    assert "Measured on lab/where-bench" in answer and "41.5 ± 1.4" in answer and "± is the wider side" in answer
    with pytest.raises(AppError, match="no Hub here"):
        client.predict("owner/name", None, api_name="/leaderboard")


@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_uploads_get_a_reason_and_the_app_goes_on(client, tmp_path, kind):
    name, content, reason = REFUSED[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=reason):
        jigsaw(client, str(tmp_path / name), NAMES[:1])
    assert jigsaw(client, PHOTO, NAMES[:1])[4]["tiles"] == 9


@pytest.mark.parametrize("kind", TAKEN)
def test_odd_uploads_work(client, tmp_path, kind):
    name, content = TAKEN[kind]
    (tmp_path / name).write_bytes(content)
    assert jigsaw(client, str(tmp_path / name), NAMES[:1])[4]["tiles"] == 9


def test_an_upload_over_the_limit_is_not_taken(client, tmp_path):
    (tmp_path / "huge.png").write_bytes(b"\0" * (21 * 2**20))
    with pytest.raises(Exception, match="exceeded|413|Payload|size"):
        jigsaw(client, str(tmp_path / "huge.png"), NAMES[:1])
    assert jigsaw(client, PHOTO, NAMES[:1])[4]["tiles"] == 9


def call(app: str, name: str, data: list) -> str:
    """An endpoint by bare HTTP, as an attacker asks it: what it answers at last."""
    event = httpx.post(f"{app}/gradio_api/call/{name}", json={"data": data}).json()["event_id"]
    return httpx.get(f"{app}/gradio_api/call/{name}/{event}", timeout=60).text


def test_files_of_the_server_are_not_read(app, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), "red").save(secret)
    meta = {"meta": {"_type": "gradio.FileData"}}
    with open(PHOTO, "rb") as photo:
        uploaded = httpx.post(f"{app}/gradio_api/upload", files={"files": photo}).json()[0]
    assert "event: complete" in call(app, "jigsaw", [{"path": uploaded} | meta, NAMES[:1], {"seed": 0}, None])
    for path in (str(secret), "/etc/passwd", f"{EXAMPLES}/../app.py", "/proc/self/environ"):
        for forged in ({"path": path} | meta, {"path": path}, {"path": path, "url": f"file://{path}"} | meta):
            answer = call(app, "jigsaw", [forged, NAMES[:1], {"seed": 0}, None])
            assert "event: error" in answer and "event: complete" not in answer


def test_models_that_are_not_offered(client, models, tmp_path):
    for name in ("/etc/passwd", str(tmp_path), models[0], "vit-large-4", "owner/name", ""):
        with pytest.raises(AppError, match="not one of the models here|Name a model"):
            jigsaw(client, PHOTO, [name])


def test_no_image(client):
    with pytest.raises(AppError, match="no image yet"):
        client.predict(None, NAMES[:1], {"seed": 0}, None, api_name="/jigsaw")


def test_twenty_visitors_at_once_are_all_served(app):
    clients = [Client(app, verbose=False) for _ in range(20)]

    def visit(index: int) -> bool:
        image, models = handle_file(PHOTO), [NAMES[index % 3]]
        if index % 3 == 0:
            return clients[index].predict(image, models, *BOXES, api_name="/where")[1]["models"][models[0]]["iou"] >= 0
        if index % 3 == 1:
            found = clients[index].predict(image, models, 10, 90, api_name="/patches")[1]["models"][models[0]]
            return found["chosen"] == [3, 0]
        return jigsaw(clients[index], PHOTO, models, index)[4]["tiles"] == 9

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(visit, range(20)))


def test_the_snippets_of_the_readme_run(app, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (SPACE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    script = "\n".join(blocks)
    replaced = {"owner/spatial_probes": app, "photo.jpg": PHOTO, "With SP": NAMES[0], "Without SP": NAMES[1]}
    for name, ours in replaced.items():
        assert f'"{name}"' in script
        script = script.replace(f'"{name}"', repr(ours))
    exec(compile(script, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "of 9 tiles right" in said and "IoU" in said and "like these" in said and "of 50 puzzles" in said


def test_the_folder_runs_as_it_stands(models, tmp_path):
    """As on a Space: app.py with the package beside it, and the models that the environment names."""
    folder = tmp_path / "space"
    shutil.copytree(SPACE, folder)
    shutil.copytree(Path(__file__).parents[2] / "src" / "sp_hf", folder / "sp_hf")
    environment = os.environ | {
        "SPACE_MODELS": models[0],
        "GRADIO_SERVER_PORT": str(free_port()),
        "GRADIO_TEMP_DIR": str(tmp_path / "gradio"),
        "SP_HF_CACHE": str(tmp_path / "features"),
        "PYTHONUNBUFFERED": "1",
    }
    command = [
        sys.executable,
        "-c",
        "import runpy, sp_hf; print(sp_hf.__file__); runpy.run_path('app.py', None, '__main__')",
    ]
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            started = time.monotonic()
            lines = []
            for line in process.stdout:
                lines.append(line)
                assert time.monotonic() - started < 120, lines
                if "http://" in line:
                    break
            address = re.search(r"http://[\d.]+:\d+", lines[-1]).group()
            assert any(str(folder / "sp_hf") in line for line in lines)
            name = Path(models[0]).name
            visitor = Client(address, verbose=False)
            found = visitor.predict(handle_file(PHOTO), [name], 50, 50, api_name="/patches")
            assert found[1]["models"][name]["grid"] == [4, 4]
            with pytest.raises(AppError, match="not one of the models here"):
                visitor.predict(handle_file(PHOTO), [models[1]], 50, 50, api_name="/patches")
        finally:
            process.terminate()
