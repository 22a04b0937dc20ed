"""The record of what a run ran on: versions, hardware, number of images."""

from __future__ import annotations

import json
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import torch

PACKAGES = (
    *("sp-hf", "torch", "transformers", "accelerate", "datasets", "huggingface-hub", "safetensors", "numpy", "pillow"),
    "simplejpeg",  # decodes JPEGs where it is installed, else Pillow does
)


def write_environment(path: Path, processes: int = 1, packages: Sequence[str] = (), images: int | None = None) -> None:
    """Versions, hardware, number of images; nothing of the user's environment variables.

    Args:
        path: file to write.
        processes: of the run.
        packages: others whose code the run uses.
        images: of the training set; ``None`` where a stream does not know.
    """
    cuda = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    record = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in (*PACKAGES, *packages)},
        "devices": cuda or [processor_name()],
        "processes": processes,
        "threads": torch.get_num_threads(),
        "images": images,
    }
    path.write_text(json.dumps(record, indent=2) + "\n")


def processor_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The CPU as its maker calls it where Linux tells, else its architecture."""
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
