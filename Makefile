# `make search` and `make test` set up what they need by themselves: a virtual environment in .venv
# with the versions that constraints.txt pins.
PYTHON ?= python3
OUTPUT ?= results
SPACE ?= search_spaces/th_alpha.yaml
NAME ?= $(basename $(notdir $(SPACE)))-$(shell date +%Y%m%d-%H%M%S)

# Of the poster's searches: small (digits, minutes) or full (CIFAR-10, a GPU).
SIZE ?= small
POSTER ?= $(OUTPUT)/poster-$(shell date +%Y%m%d-%H%M%S)

BIN := .venv/bin
# One value for all lines of a recipe: the clock moves on between them.
NAME := $(NAME)
POSTER := $(POSTER)

.PHONY: search poster test test-all check clean
.DELETE_ON_ERROR:

search: .venv/runtime
	$(BIN)/python -m tuner.run --space $(SPACE) --output $(OUTPUT) --name $(NAME)
	@$(BIN)/python -m analysis.pareto $(OUTPUT)/$(NAME) >/dev/null
	@echo "picture: $(OUTPUT)/$(NAME)/figures"

poster: .venv/runtime
	for panel in curves datasets cost tradeoff components; do \
	  $(BIN)/python -m tuner.run --output $(POSTER) --name $$panel \
	    --space search_spaces/poster/$${panel}$(if $(filter full,$(SIZE)),,_small).yaml || exit $$?; \
	done
	$(BIN)/python -m analysis.poster $(POSTER)

test: .venv/development
	$(BIN)/python -m pytest -n auto --dist loadfile

test-all: .venv/development
	$(BIN)/python -m pytest -n auto --dist loadfile -m 'long or not long'

check: .venv/development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis

.venv/runtime: pyproject.toml constraints.txt
	@bash install.sh $(PYTHON) .
	@touch $@

.venv/development: pyproject.toml constraints.txt
	@bash install.sh $(PYTHON) '.[dev]'
	@touch .venv/runtime $@
