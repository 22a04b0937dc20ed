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

gradio_client = pytest.importorskip("gradio_client", reason="the Space needs Gradio: pip install 'sp-hf[demo]'")
import httpx  # noqa: E402  # comes with Gradio
from gradio_client import Client, handle_file  # noqa: E402
from gradio_client.exceptions import AppError  # noqa: E402

from .conftest import EXAMPLES, free_port  # noqa: E402
from .hostile import REFUSED, TAKEN  # noqa: E402

SPACE = EXAMPLES.parent
PHOTO = str(sorted(EXAMPLES.iterdir())[0])
BOXES = ("8, 45, 36, 40", "52, 8, 38, 42")


@pytest.fixture(scope="module")
def client(app: str) -> Client:
    return Client(app, verbose=False)


def jigsaw(client: Client, path: str, model: str, grid: int = 2, seed: int = 0):
    return client.predict(handle_file(path), model, grid, seed, api_name="/jigsaw")


def test_jigsaw(client, choices):
    board, solved, truth, report, metrics, _ = jigsaw(client, PHOTO, choices[0], 3, 5)
    assert metrics["tiles"] == 9 and sorted(metrics["cells"]) == sorted(metrics["predicted"]) == list(range(9))
    right = sum(cell == found for cell, found in zip(metrics["cells"], metrics["predicted"], strict=True))
    assert metrics["right"] == board["model"] == right
    assert all(0 <= confidence <= 1 for confidence in metrics["confidence"])
    assert set(metrics["classifier"]) == {"whole", "shuffled", "put back"}
    assert f"{right} of 9 tiles right" in report
    assert Image.open(solved).size == Image.open(truth).size == (480, 480)
    again = jigsaw(client, PHOTO, choices[0], 3, 5)[4]
    assert again == metrics
    assert jigsaw(client, PHOTO, choices[0], 3, 6)[4]["cells"] != metrics["cells"]


def test_a_visitor_solves_the_puzzle(client, choices):
    board, *_, metrics, _ = jigsaw(client, PHOTO, choices[0], 2, 1)
    solution = [metrics["cells"].index(cell) for cell in range(4)]
    board, verdict = client.predict(board | {"placed": solution}, api_name="/check_jigsaw")
    assert board["right"] == [True] * 4 and "All right! You 4" in verdict
    wrong = [solution[1], solution[0], *solution[2:]]
    board, verdict = client.predict(board | {"placed": wrong}, api_name="/check_jigsaw")
    assert board["right"] == [False, False, True, True] and "You 2" in verdict


@pytest.mark.parametrize(
    "board",
    [None, {}, "x", {"src": "x", "grid": 2, "seed": 0, "model": 0, "placed": [0, 0, 1, 1]},
     {"src": "x", "grid": 10**9, "seed": 0, "model": 0, "placed": [0]},
     {"src": "x", "grid": "2", "seed": None, "model": 0, "placed": "0123"}],
)  # fmt: skip
def test_boards_that_the_page_did_not_send(client, board):
    with pytest.raises(AppError, match="shuffle first|each of the tiles|grid is|not what this page sends"):
        client.predict(board, api_name="/check_jigsaw")


def test_where(client, choices):
    drawn, crops, report, metrics = client.predict(handle_file(PHOTO), choices[0], *BOXES, api_name="/where")
    assert Image.open(drawn).size == (480, 480) and Image.open(crops).size[0] > 2 * Image.open(crops).size[1]
    assert 0 <= metrics["iou"] <= 1 and len(metrics["predicted"]) == 4 and set(metrics["error"]) == {"x", "y", "scale"}
    assert "The model is" in report
    swapped = client.predict(handle_file(PHOTO), choices[0], *BOXES[::-1], api_name="/where")[3]
    for axis in ("x", "y"):  # the probe is antisymmetric, and so is its error
        assert swapped["error"][axis] == pytest.approx(-metrics["error"][axis], abs=1e-3)
    with pytest.raises(AppError, match="second box reaches out of the image"):
        client.predict(handle_file(PHOTO), choices[0], BOXES[0], "90, 90, 40, 40", api_name="/where")


def test_patches(client, choices):
    similarity, components, _, metrics = client.predict(handle_file(PHOTO), choices[1], 99, 1, api_name="/patches")
    assert metrics["grid"] == [4, 4] and metrics["chosen"] == [0, 3] and metrics["similarity"][0][3] == 1
    assert Image.open(similarity).size == Image.open(components).size == (480, 480)


@pytest.mark.parametrize("question", ["Jigsaw", "Where", "Similarity", "Components"])
def test_compare(client, choices, question):
    arguments = (handle_file(PHOTO), *choices, question, 2, 0, *BOXES, 50, 50)
    first, report, second, other, metrics = client.predict(*arguments, api_name="/compare")
    assert "Tiny ViT" in report and "Tiny DINOv2" in other
    assert Image.open(first).size == Image.open(second).size == (480, 480)
    assert [metrics[which]["model"] for which in ("first", "second")] == choices


@pytest.mark.parametrize("kind", REFUSED)
def test_hostile_uploads_get_a_reason_and_the_app_goes_on(client, choices, tmp_path, kind):
    name, content, reason = REFUSED[kind]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AppError, match=reason):
        jigsaw(client, str(tmp_path / name), choices[0])
    assert jigsaw(client, PHOTO, choices[0])[4]["tiles"] == 4


@pytest.mark.parametrize("kind", TAKEN)
def test_odd_uploads_work(client, choices, tmp_path, kind):
    name, content = TAKEN[kind]
    (tmp_path / name).write_bytes(content)
    assert jigsaw(client, str(tmp_path / name), choices[0])[4]["tiles"] == 4


def test_an_upload_over_the_limit_is_not_taken(client, choices, tmp_path):
    (tmp_path / "huge.png").write_bytes(b"\0" * (21 * 2**20))
    with pytest.raises(Exception, match="exceeded|413|Payload|size"):
        jigsaw(client, str(tmp_path / "huge.png"), choices[0])
    assert jigsaw(client, PHOTO, choices[0])[4]["tiles"] == 4


def call(app: str, name: str, data: list) -> str:
    """An endpoint by bare HTTP, as an attacker asks it: what it answers at last."""
    event = httpx.post(f"{app}/gradio_api/call/{name}", json={"data": data}).json()["event_id"]
    return httpx.get(f"{app}/gradio_api/call/{name}/{event}", timeout=60).text


def test_files_of_the_server_are_not_read(app, choices, tmp_path):
    secret = tmp_path / "secret.png"
    Image.new("RGB", (64, 64), "red").save(secret)
    meta = {"meta": {"_type": "gradio.FileData"}}
    with open(PHOTO, "rb") as photo:
        uploaded = httpx.post(f"{app}/gradio_api/upload", files={"files": photo}).json()[0]
    assert "event: complete" in call(app, "jigsaw", [{"path": uploaded} | meta, choices[0], 2, 0])
    for path in (str(secret), "/etc/passwd", f"{EXAMPLES}/../app.py", "/proc/self/environ"):
        for forged in ({"path": path} | meta, {"path": path}, {"path": path, "url": f"file://{path}"} | meta):
            answer = call(app, "jigsaw", [forged, choices[0], 2, 0])
            assert "event: error" in answer and "event: complete" not in answer


def test_models_that_are_not_offered(client, models, tmp_path):
    for name in ("/etc/passwd", str(tmp_path), models[0], "vit-large-4", "owner/name", ""):
        with pytest.raises(AppError, match="not one of the models here|Name a model"):
            jigsaw(client, PHOTO, name)


def test_no_image(client, choices):
    with pytest.raises(AppError, match="no image yet"):
        client.predict(None, choices[0], 2, 0, api_name="/jigsaw")


def test_twenty_visitors_at_once_are_all_served(app, choices):
    clients = [Client(app, verbose=False) for _ in range(20)]

    def visit(index: int) -> int:
        image, model = handle_file(PHOTO), choices[index % 2]
        if index % 3 == 0:
            return clients[index].predict(image, model, *BOXES, api_name="/where")[3]["iou"] >= 0
        if index % 3 == 1:
            return clients[index].predict(image, model, 10, 90, api_name="/patches")[3]["chosen"] == [3, 0]
        return jigsaw(clients[index], PHOTO, model, 4, index)[4]["tiles"] == 16

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(visit, range(20)))


def resident() -> float:
    """Of this process, which the app runs in, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_memory_stays_bounded(client, choices):
    for seed in range(5):
        jigsaw(client, PHOTO, choices[0], 3, seed)
    before = resident()
    for seed in range(25):
        jigsaw(client, PHOTO, choices[0], 3, seed)
    grown = resident() - before
    print(f"{before:.0f} MB before, {grown:+.0f} MB after 25 more requests")
    assert grown < 60


def test_the_snippets_of_the_readme_run(app, choices, capsys):
    blocks = re.findall(r"```python\n(.*?)```", (SPACE / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    script = "\n".join(blocks)
    replaced = {
        "owner/spatial_probes": app,
        "photo.jpg": PHOTO,
        "facebook/dinov2-small": choices[0],
        "vit-tiny-16": choices[1],
    }
    for name, ours in replaced.items():
        assert f'"{name}"' in script
        script = script.replace(f'"{name}"', repr(ours))
    exec(compile(script, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert "of 9 tiles right" in said and "IoU" in said and "like these" in said and "{'first': " in said


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
            found = Client(address, verbose=False).predict(handle_file(PHOTO), models[0], 50, 50, api_name="/patches")
            assert found[3]["grid"] == [4, 4]
            with pytest.raises(AppError, match="not one of the models here"):
                Client(address, verbose=False).predict(handle_file(PHOTO), models[1], 50, 50, api_name="/patches")
        finally:
            process.terminate()
