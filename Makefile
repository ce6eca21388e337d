# birdstack. `make` alone lists what there is to do; nothing needs preparing first: every
# target makes .venv itself, and brings it up to date when pyproject.toml or
# constraints.txt changed or the clone was moved.
#
# Paths with spaces: DATA and STORE may hold them (quote them for your shell), and so may
# the path of the clone. Make itself expands `$`: write `$$` for a dollar sign.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
DATA ?=
STORE ?= birdstack-store
BACKBONES ?=
DEMO ?= birdstack-demo
STACK ?= birdstack-stack
BUNDLE ?= birdstack-bundle
SOUNDSCAPES ?=
OUT ?= birdstack-predictions
TRUTH ?=
PER_FOLD ?= 10
STACK_ARGS ?=
REPORT_ARGS ?=
EXPORT_ARGS ?=
PREDICT_ARGS ?=
ARGS ?=
ONLY ?= [a-z]*
export DATA STORE DEMO BACKBONES STACK BUNDLE SOUNDSCAPES OUT TRUTH PER_FOLD

ROOMS := store features embeddings stacking
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
# On Linux, PyPI's torch is the build for CUDA, gigabytes of it; the small one for processors
# lies at PyTorch's own index, which is asked where it can be reached.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
SEES_INDEX = $(BIN)/python -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1] + "/torch/", timeout=10)' $(TORCH_INDEX) 2>/dev/null
INSTALL = if $(SEES_INDEX); then export PIP_EXTRA_INDEX_URL="$$PIP_EXTRA_INDEX_URL $(TORCH_INDEX)"; fi; \
	$(PIP) install --quiet --quiet --constraint constraints.txt --editable
PLAIN := '.[networks,openvino,report]'
EVERY := '.[networks,openvino,report,onnx,int8,birdnet,tensorboard,lite,ffmpeg,s3,xgboost]'
BASE := .venv/stamp-base
DEV := .venv/stamp-dev
BENCH := .venv/stamp-bench

.PHONY: help features stack report export predict dev test lint types docs bench constraints clean door

help: ## list the targets (the default)
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@printf '\nSettings, as in `make features DATA=../birdclef STORE=/big/disk/store`:\n'
	@printf '  DATA    dataset to read (none: demo data in %s)\n' "$$DEMO"
	@printf '  STORE   where the store lies (now: %s)\n' "$$STORE"
	@printf '  BACKBONES  networks that hear, with commas, or none (now: %s)\n' "$${BACKBONES:-lite0}"
	@printf '  STACK   where the stack is written (now: %s)\n' "$$STACK"
	@printf '  BUNDLE  where its export is written (now: %s)\n' "$$BUNDLE"
	@printf '  SOUNDSCAPES, OUT   folder to predict, and where to (now: %s)\n' "$$OUT"
	@printf '  TRUTH   labels of test soundscapes, to judge the stack by\n'
	@printf '  PER_FOLD   soundscapes simulated of each fold (now: %s)\n' "$$PER_FOLD"
	@printf '  ARGS    more flags, passed on  PYTHON  interpreter .venv is made from (now: %s)\n' '$(PYTHON)'

features: $(BASE) ## write the features of the recordings in DATA (or of demo data) into STORE
	@data="$$DATA"; \
	if [ -z "$${data// }" ]; then \
	  data="$$DEMO"; \
	  echo "make features: no DATA given, so demo data are made in $$data (a folder of your own: DATA=...)"; \
	  $(BIN)/birdstack demo "$$data" || exit $$?; \
	fi; \
	networks=(); \
	if [ -n "$$BACKBONES" ]; then networks=(--backbones "$$BACKBONES"); fi; \
	code=0; $(BIN)/birdstack features "$$data" --store "$$STORE" "$${networks[@]}" $(ARGS) || code=$$?; \
	if [ $$code -eq 3 ]; then \
	  echo 'make features: finished; some recordings were skipped (exit code 3), the reasons are in the store'; \
	  exit 0; \
	fi; \
	exit $$code

stack: $(BASE) ## learn the final blend of what STORE holds, and judge it: into STACK
	@if [ ! -e "$$STORE/store.json" ] && [[ "$$STORE" != *://* ]]; then \
	  echo "make stack: there is no store at $$STORE yet (make features comes first: make features stack)" >&2; exit 2; \
	fi; \
	code=0; $(BIN)/birdstack simulate --store "$$STORE" --per-fold "$$PER_FOLD" || code=$$?; \
	if [ $$code -ne 0 ] && [ $$code -ne 3 ]; then exit $$code; fi; \
	networks=(); \
	if [ -n "$$BACKBONES" ]; then networks=(--backbones "$$BACKBONES"); fi; \
	code=0; $(BIN)/birdstack features --store "$$STORE" "$${networks[@]}" || code=$$?; \
	if [ $$code -ne 0 ] && [ $$code -ne 3 ]; then exit $$code; fi; \
	data="$${DATA:-$$DEMO}"; truth=(); \
	if [ -n "$$TRUTH" ]; then truth=(--truth "$$TRUTH"); \
	elif [ -e "$$data/test_soundscapes_truth.csv" ]; then truth=(--truth "$$data/test_soundscapes_truth.csv"); fi; \
	$(BIN)/birdstack stack --store "$$STORE" --out "$$STACK" "$${truth[@]}" $(STACK_ARGS)

report: $(BASE) ## write STACK/report.html: every figure, curve and worst error of the stack
	@$(BIN)/birdstack report "$$STACK" $(REPORT_ARGS)

export: $(BASE) ## write everything that prediction needs into BUNDLE, and check it
	@$(BIN)/birdstack export "$$STACK" --out "$$BUNDLE" $(EXPORT_ARGS)

predict: export ## predict the SOUNDSCAPES (those of DATA's test_soundscapes) into OUT
	@data="$${DATA:-$$DEMO}"; folder="$${SOUNDSCAPES:-$$data/test_soundscapes}"; \
	code=0; $(BIN)/birdstack predict "$$folder" --bundle "$$BUNDLE" --out "$$OUT" $(PREDICT_ARGS) || code=$$?; \
	if [ $$code -eq 3 ]; then \
	  echo "make predict: finished; some files were skipped (exit code 3), the reasons are in $$OUT/skipped.csv"; \
	  exit 0; \
	fi; \
	exit $$code

dev: $(DEV) door ## install everything for working on birdstack, and hang the door

test: $(DEV) ## run the tests (ARGS="-k folds" picks some, ARGS="-n 0" runs them in one process)
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadgroup $(ARGS)

lint: $(DEV) ## check style, formatting, the law of imports and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/codespell

types: $(DEV) door ## check the types
	$(BIN)/mypy

docs: $(DEV) ## write the generated reference pages anew and run every example in the documents
	@for script in docs/generate*.py; do \
	  if [ -e "$$script" ]; then echo "$$script"; $(BIN)/python "$$script" || exit 1; fi; \
	done
	$(BIN)/pytest tests/test_docs.py tests/test_doctests.py $(ARGS)

bench: $(BENCH) ## run the benchmarks (ONLY=store picks benchmarks/store.py)
	@for script in benchmarks/$(ONLY).py; do \
	  if [ ! -f "$$script" ]; then echo "make bench: there is no $$script" >&2; exit 2; fi; \
	  echo "== $$script"; $(BIN)/python "$$script" $(ARGS) || exit 1; \
	done

constraints: ## resolve the newest versions anew and write constraints.txt
	@scratch=$$(mktemp -d) && trap 'rm -rf "$$scratch"' EXIT && set -e; \
	$(PYTHON) -m venv "$$scratch"; \
	"$$scratch/bin/python" -m pip install --quiet --quiet --upgrade 'pip>=25.1'; \
	"$$scratch/bin/python" -m pip install --quiet --quiet --editable $(EVERY) --group dev --group bench; \
	{ sed -n '/^#/p;/^[^#]/q' constraints.txt; \
	  "$$scratch/bin/python" -m pip freeze --all --exclude pip --exclude-editable; } > constraints.new; \
	mv constraints.new constraints.txt; \
	echo 'constraints.txt is new: run make test before you commit it'

clean: ## remove .venv, caches and build leftovers; never data, never a store
	rm -rf .venv build dist *.egg-info .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find $(ROOMS) tests benchmarks docs -type d -name __pycache__ -prune -exec rm -rf {} +
	@for room in $(ROOMS); do if [ -L "birdstack/$$room" ]; then rm "birdstack/$$room"; fi; done
	@if [ -d birdstack ]; then rm -rf birdstack/.mypy_cache; rmdir birdstack; fi

# --- how .venv comes about ------------------------------------------------------------------

# A virtual environment cannot be moved: one made for another path is made again.
ifneq ($(shell cat .venv/made-for 2>/dev/null),$(CURDIR))
.PHONY: $(BASE)
endif

$(BASE): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "birdstack needs Python 3.11 or newer, $(PYTHON) is " + sys.version.split()[0] + ": give another, e.g. PYTHON=python3.12")'
	@if [ "$$(cat .venv/made-for 2>/dev/null)" != "$(CURDIR)" ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  echo 'making .venv'; $(PYTHON) -m venv --clear .venv; \
	fi
	@echo 'installing birdstack into .venv (takes minutes on a slow line)'
	@$(PIP) install --quiet --quiet --upgrade 'pip>=25.1'
	@$(INSTALL) $(PLAIN)
	@printf '%s' "$(CURDIR)" > .venv/made-for
	@touch $@

$(DEV): $(BASE)
	@echo 'installing the development tools into .venv'
	@$(INSTALL) $(EVERY) --group dev
	@touch $@

$(BENCH): $(BASE)
	@echo 'installing the benchmark rivals into .venv'
	@$(INSTALL) $(EVERY) --group dev --group bench
	@touch $@

# mypy cannot see through the import hook of an editable install, so it looks through four
# links whose paths follow the import names. Nothing needs them at run time.
door:
	@mkdir -p birdstack
	@for room in $(ROOMS); do ln -sfn "../$$room" "birdstack/$$room"; done
