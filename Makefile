PYTHON ?= python3
BIN := .venv/bin
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile
PAGES := README.md $(wildcard docs/*.md docs/solutions/*.md)
COG := $(BIN)/python -m cogapp -P -I docs -p "from _cog import *"
FIVE := alexnet vgg19 resnet34 inception-naive inception-reduced

.PHONY: run test check docs hunt bench clean

run: .venv/installed
	@for network in $(FIVE); do $(BIN)/archcalc show $$network || exit; echo; done
	$(BIN)/archcalc check alexnet-torchvision $(FIVE)
	$(BIN)/archcalc time $(FIVE)

test: .venv/installed
	$(PYTEST)

check: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(COG) --check --diff --check-fail-msg "run 'make docs' and commit what it changes" $(PAGES)

docs: .venv/installed
	$(COG) -r $(PAGES)

hunt: .venv/installed
	HYPOTHESIS_PROFILE=hunt $(PYTEST) -m "not cuda"
	$(BIN)/python benchmarks/libraries.py timm
	$(BIN)/python benchmarks/libraries.py transformers

bench: .venv/installed
	$(BIN)/python benchmarks/speed.py

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[dev]"
	@touch $@

clean:
	rm -rf .venv
