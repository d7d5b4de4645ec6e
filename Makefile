# Thin: dev.py sets up .venv and runs the tools in it.

PYTHON ?= python3
FAULTS_SECONDS ?= 3600

.PHONY: test lint lab faults

test:
	$(PYTHON) dev.py test

lint:
	$(PYTHON) dev.py setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

lab:
	$(PYTHON) dev.py lab

# Random faults for FAULTS_SECONDS; FAULTS_SEED=... begins with the faults of that seed.
faults:
	$(PYTHON) dev.py setup
	FAULTS_SECONDS=$(FAULTS_SECONDS) .venv/bin/pytest tests/faults -s
