# Every target does its own set-up: a fresh Debian machine with Python 3 and make is enough.

PYTHON ?= python3
VENV ?= .venv
INSTALLED := $(VENV)/.installed
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo space results test browser wheel lint benchmarks clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED)  ## create .venv with everything in it (the other targets do this by themselves)

demo: $(INSTALLED)  ## pretrain a small ViT on PartScenes, evaluate what and where, print one table
	$(VENV)/bin/python scripts/demo.py

space: $(INSTALLED)  ## open the Space on this machine, with the models of make demo; MODELS="runs/mine ..." names others
	$(VENV)/bin/sp-hf demo $(MODELS)

results: $(INSTALLED)  ## run the experiments (hours; resumable) and write docs/results.md; photographs: see docs/results.md
	$(VENV)/bin/sp-hf sweep recipes/sweeps/part_scenes.yaml
	@if [ -e data/caltech101-train.parquet ]; then set -e; \
	  for sweep in caltech101 caltech101_transfer continued sp_ablations; do \
	    $(VENV)/bin/sp-hf sweep recipes/sweeps/$$sweep.yaml --dataset data/caltech101-train.parquet \
	      --validation_dataset data/caltech101-validation.parquet; done; \
	else echo "No data/caltech101-train.parquet: the experiments with photographs are left out."; fi
	@if [ -e data/tiny-imagenet-train.parquet ]; then \
	  $(VENV)/bin/sp-hf sweep recipes/sweeps/tiny_imagenet.yaml --dataset data/tiny-imagenet-train.parquet \
	    --validation_dataset data/tiny-imagenet-validation.parquet; fi
	@if [ -e data/caltech101-train.parquet ] && [ -e data/tiny-imagenet-train.parquet ]; then set -e; \
	  $(VENV)/bin/sp-hf sweep recipes/sweeps/caltech101_on_tiny_imagenet.yaml --dataset data/caltech101-train.parquet \
	    --validation_dataset data/caltech101-validation.parquet; \
	  $(VENV)/bin/sp-hf sweep recipes/sweeps/tiny_imagenet_on_caltech101.yaml --dataset data/tiny-imagenet-train.parquet \
	    --validation_dataset data/tiny-imagenet-validation.parquet; fi
	$(VENV)/bin/python scripts/results.py --take runs

test: $(INSTALLED) browser  ## run the tests
	$(VENV)/bin/python -m pytest -n auto --dist loadfile

browser:  # Debian's chromium, for the tests that look at the Space in it; without it they are skipped
	@if ! command -v chromium >/dev/null && [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "Installing chromium ..."; \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium; } >/dev/null 2>&1 \
	  || echo "chromium could not be installed; the tests in a browser are skipped"; \
	fi

wheel: $(INSTALLED)  ## build the sdist and the wheel, into dist/
	$(VENV)/bin/python scripts/wheel.py dist

lint: $(INSTALLED)  ## check the style and the types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

benchmarks: $(INSTALLED)  ## run every benchmark in benchmarks/
	@set -e; for benchmark in benchmarks/*.py; do echo "== $$benchmark"; $(VENV)/bin/python $$benchmark; done

clean:  ## remove .venv and caches (run folders stay)
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache build dist src/*.egg-info
	find src tests scripts benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Say: make PYTHON=/path/to/python3"; exit 1; }
	@if ! $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv; \
	  else \
	    echo "$(PYTHON) cannot create virtual environments. Run: sudo apt-get install python3-venv"; exit 1; \
	  fi; \
	fi
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(PIP) install -q "$$(grep '^torch==' constraints.txt)"
	$(PIP) install -q -e '.[dev]' -c constraints.txt
	@touch $@
