# make report   the mini study and its HTML report
# make test     every test: ruff, notebooks, drift, pytest
# make hooks    git cleans and merges notebooks from now on
# make lab      JupyterLab on the project, notebooks and runs
# make docs     the whole site, library pages and report, where Quarto is installed
# make readme   README.md from nbs/index.ipynb

VENV ?= .venv
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
BIN = $(VENV)/bin
OUT ?= runs/mini
export PATH := $(abspath $(BIN)):$(PATH)

.PHONY: install report test lab docs readme hooks

install: $(VENV)/installed

$(VENV)/installed: settings.ini setup.py constraints.txt
	@test -n "$(PYTHON)" || { echo "xtl needs Python 3.11 or newer; none was found" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

report: install
	xtl run mini --out $(OUT)
	xtl report $(OUT)
	@echo "The report: $(abspath $(OUT))/report/index.html"

# Three at a time on two cores, because many wait for the processes that they start
test: export XTL_WORLD = $(abspath $(VENV))/world
test: install
	ruff check
	nbdev_test --n_workers 3 --do_print --path nbs
	python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS) tests

lab: install
	jupyter lab --notebook-dir .

docs: report
	xtl report $(OUT) --site

readme: install
	jupyter nbconvert --to markdown --log-level ERROR --TagRemovePreprocessor.remove_input_tags remove_input --output-dir . --output README nbs/index.ipynb
	sed -i 's#](tutorials/#](nbs/tutorials/#' README.md

hooks: install
	nbdev_install_hooks
