# Every target works in a fresh clone: it makes .venv, installs the tested versions, and runs.
PYTHON ?= python3
BIN := .venv/bin
# Spinning OpenMP threads cost 10x on a busy machine.
export OMP_NUM_THREADS ?= 1
export MPLBACKEND ?= Agg

.PHONY: install test test-all test-oldest fuzz lint docs demo demo-clinical bench clean
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
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# What takes too long for every change: the suite with the oldest versions that pyproject.toml allows, and fuzzing.
test-all: test test-oldest fuzz

# Warnings of old packages are not ours to mend, so here they are no errors; shapes are checked in `make test`, as the
# oldest jaxtyping wants to be first.
OLDEST := .venv-oldest/bin
test-oldest: .venv-oldest/installed
	$(OLDEST)/python -m pytest --numprocesses 2 --dist worksteal \
		--override-ini filterwarnings=default --override-ini "addopts=-ra --strict-markers"

.venv-oldest/installed: pyproject.toml constraints-oldest.txt
	test -x $(OLDEST)/python || $(PYTHON) -m venv .venv-oldest
	$(OLDEST)/python -m pip install --quiet --constraint constraints-oldest.txt torch
	$(OLDEST)/python -m pip install --quiet --constraint constraints-oldest.txt --editable '.[test]'
	touch $@

# Seeded damage to files of every format, in bounds of time and memory; `FUZZ='--format edf --seed 1'` chooses.
fuzz: install
	$(BIN)/python tests/fuzz/fuzz.py $(FUZZ)

# The documentation, into site/: nothing is fetched while it is built or read. Every warning is an error.
docs: install
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[docs]'
	$(BIN)/mkdocs build --strict

# Train on a simulated table, test, forecast and draw; everything it makes is in runs/demo.
demo: install
	rm -rf runs/demo
	$(BIN)/tsattn data simulate --out runs/demo/table.csv
	$(BIN)/tsattn fit -c forecast/itransformer.yaml --data.table runs/demo/table.csv --run_dir runs/demo/run \
		--model.network.horizon 24 --model.network.d_model 32 --model.network.d_ff 32 --model.lr 0.001 --trainer.max_epochs 5
	$(BIN)/tsattn forecast --checkpoint runs/demo/run/best.ckpt --table runs/demo/table.csv \
		--out runs/demo/forecast.csv --plot runs/demo/forecast.png

# From nothing to a scored report: four simulated patients, a tiny model pre-trained and fine-tuned on three of them,
# seizures found in the fourth, whom it has never seen. Synthetic: it says nothing of clinical accuracy.
CLINICAL := runs/demo-clinical
UNSEEN := $(CLINICAL)/bids/sub-04/ieeg/sub-04_task-simulated_run-01
demo-clinical: install
	rm -rf $(CLINICAL)
	$(BIN)/tsattn recordings simulate --out $(CLINICAL)/bids --subjects 4 --hours 0.2 --level easy
	$(BIN)/tsattn recordings prepare $(CLINICAL)/bids/sub-01 $(CLINICAL)/bids/sub-02 $(CLINICAL)/bids/sub-03 \
		--preset swec --sfreq 256 --out $(CLINICAL)/store.zarr --workers 2
	$(BIN)/tsattn recordings split $(CLINICAL)/store.zarr --by subject --fractions "[0.67, 0.33, 0]" --out $(CLINICAL)/splits.json
	$(BIN)/tsattn fit -c pretrain/mvpformer-tiny.yaml --data.store $(CLINICAL)/store.zarr \
		--data.splits $(CLINICAL)/splits.json --data.windows_per_epoch 128 --run_dir $(CLINICAL)/pretrained --test false
	$(BIN)/tsattn fit -c detect/mvpformer.yaml --data.store $(CLINICAL)/store.zarr --data.splits $(CLINICAL)/splits.json \
		--model.checkpoint $(CLINICAL)/pretrained/best.ckpt --model.adapt full --model.lr 0.001 \
		--trainer.max_epochs 6 --run_dir $(CLINICAL)/detector --test false
	$(BIN)/tsattn detect --checkpoint $(CLINICAL)/detector/best.ckpt --recording $(UNSEEN)_ieeg.edf \
		--out $(CLINICAL)/sub-04_events.tsv --report $(CLINICAL)/sub-04.html
	$(BIN)/tsattn events score --reference $(UNSEEN)_events.tsv --hypothesis $(CLINICAL)/sub-04_events.tsv

bench: install
	$(BIN)/python tests/bench/training_step.py
	$(BIN)/python tests/bench/mvpa.py
	$(BIN)/python tests/bench/mvpformer.py cpu
	$(BIN)/python tests/bench/mvpformer.py streaming

clean:
	rm -rf .venv .venv-oldest .pytest_cache .ruff_cache .mypy_cache dist build site
