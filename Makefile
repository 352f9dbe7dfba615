# `make` lists the targets. Everything lives in .venv, pinned by constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test check check-long bench bench-training bench-attention clean

help:
	@echo "make demo        train on dates in many languages and see what the model looks at (about a minute)"
	@echo "make test        run the tests"
	@echo "make check       formatter, linter, type checker"
	@echo "make check-long  the tests that take minutes"
	@echo "make bench       speed of a Transformer and a recurrent model, training and decoding"
	@echo "make bench-training DATA=DIR  training speed beside other packages, on Multi30k"
	@echo "make bench-attention  speed and memory of attention beside other packages (about 20 minutes)"
	@echo "make clean       remove .venv, caches and runs/demo"

demo: .venv/regard
	$(BIN)/regard demo

test: .venv/tools
	$(BIN)/pytest -m "not long" --numprocesses auto --dist loadscope

check: .venv/tools
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy

check-long: .venv/tools
	$(BIN)/pytest -m long

bench: .venv/tools
	$(BIN)/python benchmarks/speed.py

bench-training: .venv/tools
	$(INSTALL) --editable '.[bench]'
	$(BIN)/python benchmarks/training.py --data $(DATA)

# without the level, the profiler that counts memory logs every start and stop
bench-attention: .venv/tools
	$(INSTALL) --editable '.[bench]'
	KINETO_LOG_LEVEL=99 $(BIN)/python benchmarks/attention.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist runs/demo
	find . -name __pycache__ -prune -exec rm -rf {} +

# torch first and alone: some indexes hold its small CPU build under the pinned version.
.venv/regard: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(INSTALL) torch
	$(INSTALL) --editable .
	touch $@

.venv/tools: .venv/regard
	$(INSTALL) --editable '.[test,check]'
	touch $@
