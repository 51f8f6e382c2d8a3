# Each target does its own set-up in .venv. The first call installs (a few minutes); later ones are quick.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: run test alone course lab notebooks bench full lint format clean help

help:
	@echo "make run        execute the first notebook; page and figures in build/"
	@echo "make test       all tests: library, documentation examples, notebooks"
	@echo "make alone      each notebook by itself in an empty folder, offline, and in a browser"
	@echo "make course     execute all notebooks; build/course/index.html shows every figure"
	@echo "make lab        open the course in JupyterLab"
	@echo "make notebooks  write notebooks/*.ipynb anew from notebooks/source and execute them"
	@echo "make bench      time and count beside other optimizers, on an idle machine; tables in data/results"
	@echo "make full       make the recorded tables of the notebooks anew: FUSE_DATA=folder; about fourteen core-hours"
	@echo "make lint       ruff;  make format lets it correct"

# The stamp is as old as pyproject.toml: a changed dependency installs, anything else does not.
$(READY): pyproject.toml
	@test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[course,test]"
	@touch $(READY)

run: $(READY)
	@$(BIN)/python -m fuse_lib run 00 --out build

# The notebooks run twice, with one thread in tests/notebooks/test_checks.py and with two by nbval here; all stored
# outputs are compared but figures and cells tagged nbval-ignore-output.
test: $(READY)
	@$(BIN)/python -m pytest
	@OMP_NUM_THREADS=2 $(BIN)/python -m pytest -o addopts= -q --nbval --nbval-cell-timeout=600 \
		--nbval-sanitize-with tests/notebooks/sanitize.cfg notebooks
	@$(BIN)/ruff check --quiet . && echo "ruff: clean"

alone: $(READY)
	@FUSE_ALONE=all $(BIN)/python -m pytest -rP tests/notebooks/test_alone.py tests/notebooks/test_browser.py

course: $(READY)
	@$(BIN)/python -m fuse_lib course --out build/course

lab: $(READY)
	@$(BIN)/jupyter lab notebooks

notebooks: $(READY)
	@$(BIN)/python notebooks/build.py

# One thread, one script after another, each of a few minutes. They add rows to data/results/bench_*.csv.
bench: $(READY)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[course,test,bench]"
	@for script in iteration first_phase growth memory overhead_14 rivals plot; do \
		echo "benchmarks/$$script.py"; OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$script.py || exit 1; done

# The recorded runs behind the notebooks, at the scale of data/results. Scripts that take long go on where they were
# stopped; the reference's 100 epochs would be `benchmarks/reference_08.py` without options, and 74 core-hours.
full: $(READY)
	@for script in learning_rates_00 switch_point_03 test_functions_04 criteria_05 "criteria_05 mnist-12000" \
		classification_06 batch_size_07 "reference_08 --epochs 7 --points 7 --only ladder" complexity_09 \
		soft_switchover_10 soft_inequalities_10 pairs_11 variance_12 variance_recipes_12 sensitivity_13 \
		curvature_15 automatic_16; do \
		set -- $$script; name=$$1; shift; echo "benchmarks/$$name.py $$*"; \
		OMP_NUM_THREADS=1 $(BIN)/python benchmarks/$$name.py "$$@" || exit 1; done
	@$(BIN)/python -m fuse_lib claims --write README.md

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(READY)
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis
