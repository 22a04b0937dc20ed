"""For all tests: one thread a process, as there are as many processes as cores (``pytest -n auto``)."""

import os

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is first imported, here and in child processes


@pytest.fixture(scope="session", autouse=True)
def no_terminal_noise():
    """Bars of datasets and transformers have no place in a log."""
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
