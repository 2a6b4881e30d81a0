# Two commands for a fresh machine with Python 3.11: make demo, make test. No root.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
STAMP := $(VENV)/.installed
.DEFAULT_GOAL := help
.PHONY: help install demo test clean

help:
	@echo "make demo   train a small network, make it faster for an ARM board, show both"
	@echo "make test   install and run the whole test suite"
	@echo "make clean  remove build/ and the caches (not $(VENV))"

# Installed once, and again when what is to be installed changes.
$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install -c constraints.txt -e '.[test]'
	@touch $@

install: $(STAMP)

demo: $(STAMP)
	$(VENV)/bin/python -m benchmarks.demo

test: $(STAMP)
	$(VENV)/bin/python -m pytest -n 2 -ra

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
