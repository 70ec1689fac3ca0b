# Every target works in a fresh clone: it makes .venv, installs the tested versions, and runs.
PYTHON ?= python3
BIN := .venv/bin
# Spinning OpenMP threads cost 10x on a busy machine.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.PHONY: install test lint demo bench clean
install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "tsattn needs Python 3.11 or newer")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test]'
	touch $@

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

test: install lint
	$(BIN)/python -m pytest --numprocesses 2

# Train on a simulated table, test, forecast and draw; everything it makes is in runs/demo.
demo: install
	rm -rf runs/demo
	$(BIN)/tsattn data simulate --out runs/demo/table.csv
	$(BIN)/tsattn fit -c forecast/itransformer.yaml --data.table runs/demo/table.csv --run_dir runs/demo/run \
		--model.network.horizon 24 --model.network.d_model 32 --model.network.d_ff 32 --model.lr 0.001 --trainer.max_epochs 5
	$(BIN)/tsattn forecast --checkpoint runs/demo/run/best.ckpt --table runs/demo/table.csv \
		--out runs/demo/forecast.csv --plot runs/demo/forecast.png

bench: install
	$(BIN)/python tests/bench/training_step.py
	$(BIN)/python tests/bench/mvpa.py

clean:
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache dist build
