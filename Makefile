# Everything a fresh machine needs: `make reproduce` (the main job on embedded data) and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The library that our curvature is tested against, and what it needs for that; by itself it asks for torchvision, too.
REFERENCE := curvlinops-for-pytorch backpack-for-pytorch einconv einops jaxtyping linear_operator opt_einsum unfoldNd wadler_lindig

.PHONY: install venv reproduce test lint bench clean

install: $(STAMP)
venv: install

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is $$($(PYTHON) --version 2>&1); expected Python 3.11 or newer; next: make PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)

# The stamp is written last, so that an interrupted install is taken up again. The two answers before it are remembered:
# they take seconds the first time.
$(STAMP): $(BIN)/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt $(REFERENCE)
	-@$(BIN)/bench list > /dev/null
	-@$(BIN)/bench plan smoke > /dev/null
	@touch $@

# What this machine makes goes to folders that git ignores; its report shows it beside the committed machines.
reproduce: install
	$(BIN)/bench run smoke --workers 2
	$(BIN)/bench measure --quick --results results/local
	@$(BIN)/bench report --scale smoke > /dev/null
	@$(BIN)/bench report --results results --results results/local --reports reports/local

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

test: lint
	$(BIN)/python -m bench report --check
	$(BIN)/python -m pytest -n 2

# Benchmarks are programs, not tests: each says in its first lines what it measures and how long that takes.
bench: install
	@for file in tests/benchmarks/*.py; do \
		echo "$(BIN)/python $$file"; \
		$(BIN)/python -c 'import ast, sys; doc = ast.get_docstring(ast.parse(open(sys.argv[1]).read())); print("   ", (doc or "").split("\n")[0])' $$file; \
	done

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache .hypothesis results/smoke results/local reports/smoke reports/local
