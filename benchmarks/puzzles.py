"""Play puzzles through the Space's API and print tiles right of each model, with intervals, beside chance.

    python benchmarks/puzzles.py                                   # the shipped models, the page's own photographs
    python benchmarks/puzzles.py --dataset path/to/caltech101-validation.parquet      # a photograph a puzzle
    python benchmarks/puzzles.py --address http://127.0.0.1:7860 --models "With SP" owner/name
    python benchmarks/puzzles.py --requests 500                    # memory of the app, every 50 requests

Without ``--address`` the app is started here, as ``sp-hf demo`` starts it, and stopped. ``--output docs/puzzles.md``
writes down what was printed, below what is there of other photographs.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from gradio_client import Client, handle_file

import sp_hf
from sp_hf import markdown
from sp_hf.data.canvas import decode
from sp_hf.space import shipped
from sp_hf.space.score import Benchmark

_PAGE = """# Puzzles played through the Space

The shipped models, asked through the API of the running page by `benchmarks/puzzles.py`, which wrote this: tiles right
of 9, each encoded alone, one puzzle a request, with 95 % intervals over puzzles. Another pair of models
(`scripts/flagship.py`) takes another run of it.
"""
os.environ["no_proxy"] = os.environ["NO_PROXY"] = "127.0.0.1,localhost"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--address", help="of an app that runs; default: one is started")
    parser.add_argument("--models", nargs="*", default=list(shipped.FOLDERS), help="the first two are compared")
    parser.add_argument("--puzzles", type=int, default=200)
    parser.add_argument("--dataset", help="photographs, one a puzzle; default: the page's own, in turn")
    parser.add_argument("--requests", type=int, default=0, help="so many more, and the app's memory meanwhile")
    parser.add_argument("--output", type=Path, help="Markdown file to write this into, in the place of the last time's")
    args = parser.parse_args()
    said: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        said.append(line)

    with tempfile.TemporaryDirectory() as folder, app(args.address) as (address, process):
        client = Client(address, verbose=False)
        photographs = save(args.dataset, args.puzzles, Path(folder)) if args.dataset else shipped.photographs()
        played = play(client, photographs, args.models, args.puzzles)
        say(f"{table(played)}\n")
        if len(args.models) > 1:
            say(played.verdict(*args.models[:2]))
        if args.requests and process is not None:
            say(f"\nMemory of the app: {watch(client, photographs[0], args.models, args.requests, process.pid)}.")
    if args.output is not None:
        title = f"Photographs of {Path(args.dataset).stem}" if args.dataset else "The page's own photographs"
        put_section(args.output, title, "\n".join(said))


@contextmanager
def app(address: str | None) -> Iterator[tuple[str, subprocess.Popen | None]]:
    """The address of an app that runs until the block ends."""
    if address:
        yield address, None
        return
    command = [sys.executable, "-u", "-c", "from sp_hf.cli import main; main(['demo'])"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd="/") as process:
        try:
            yield next(m.group() for line in process.stdout or () if (m := re.search(r"http://\S+", line))), process
        finally:
            process.terminate()


def save(dataset: str, count: int, folder: Path) -> list[Path]:
    """So many photographs, evenly spaced, as files."""
    images = sp_hf.load_images(dataset)
    rows: Any = images.dataset
    paths = []
    for number in range(min(count, len(rows))):
        row = rows[number * len(rows) // min(count, len(rows))]
        paths.append(folder / f"{number}.png")
        decode(row[images.image_column]).save(paths[-1])
    return paths


def play(client: Client, photographs: Sequence[Path], models: Sequence[str], count: int) -> Benchmark:
    """One puzzle a request, each with a seed of its own."""
    right: dict[str, list[int]] = {name: [] for name in models}
    for seed in range(count):
        image = handle_file(str(photographs[seed % len(photographs)]))
        *_, metrics = client.predict(image, list(models), {"seed": seed}, None, api_name="/jigsaw")
        for name in models:
            right[name].append(metrics["models"][name]["right"])
    return Benchmark(right)


def table(played: Benchmark) -> str:
    """Markdown: a line a model."""
    rows = [(f"{len(played)} puzzles", "tiles right of 9", "95 % interval")]
    for name, right in played.estimates().items():
        rows.append((name, f"{right.value:.2f}", f"{right.low:.2f} to {right.high:.2f}"))
    return "\n".join(markdown.table([*rows, ("chance", "1.00", "")]))


def watch(client: Client, photograph: Path, models: Sequence[str], requests: int, pid: int) -> str:
    """Resident memory of the app after 100 requests and after all, and its slope in between."""
    found = []
    for number in range(1, requests + 1):
        image = handle_file(str(photograph))
        if number % 2:
            client.predict(image, list(models), {"seed": number}, None, api_name="/jigsaw")
        else:
            client.predict(image, list(models), 10 + number % 80, 50, api_name="/patches")
        if number % 50 == 0:
            found.append((number, resident(pid)))
            print(f"{number} requests: {found[-1][1]:.0f} MB", flush=True)
    late = np.array([pair for pair in found if pair[0] >= 100])
    if len(late) < 2:
        return "of fewer than 150 requests nothing is said"
    slope = 100 * np.polyfit(late[:, 0], late[:, 1], 1)[0]
    ends = " and ".join(f"{size:.0f} MB after {number:.0f} requests" for number, size in late[[0, -1]])
    return f"{ends}, {slope:+.1f} MB per 100"


def put_section(file: Path, title: str, text: str) -> None:
    """Write a section of a page, in the place of the one of the same title, or at its end."""
    page = file.read_text(encoding="utf-8") if file.is_file() else f"{_PAGE}\n"
    head, *sections = re.split(r"^(?=## )", page, flags=re.MULTILINE)
    others = [section for section in sections if not section.startswith(f"## {title}\n")]
    new = f"## {title}\n\n{text}\n"
    file.write_text("\n".join(part.rstrip("\n") + "\n" for part in [head, *others, new]), encoding="utf-8")


def resident(pid: int) -> float:
    """Of a process, in MB."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


if __name__ == "__main__":
    main()
