# make run          install into .venv and do the main job (ARGS="--prompt='a man is running, side view'" adds flags)
# make test         install and run the tests; make test-slow adds the slow ones
# make lint docs clean    (docs: the site, into build/site)
# make bench bench-check   the table of benchmarks/README.md anew, on two idle cores; has one of its ratios got worse?
# make fuzz torture soak   hostile files, for longer; interrupts, full disks, flipped bits; memory over 5,000 steps
# make gpu-check    on a machine with an NVIDIA GPU: its tests and benchmarks, one report under benchmarks/results/

PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
ARGS   ?=

.PHONY: run test test-slow lint bench bench-check docs fuzz torture soak gpu-check clean
.DELETE_ON_ERROR:

# One torch thread: sums split over threads round otherwise, and a motion should not depend on the number of cores.
run: export OMP_NUM_THREADS ?= 1
run: $(VENV)/.run
	$(PY) -m md_jax.main --flagfile=configs/run.flags $(ARGS)

# Two processes: tests of one file stay together, as they share what they compile.
test: lint
	$(PY) -m pytest -n 2 --dist loadfile $(ARGS)

test-slow: $(VENV)/.test
	$(PY) -m pytest -m "slow or not slow" $(ARGS)

lint: $(VENV)/.test
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench: $(VENV)/.test
	$(PY) -m benchmarks.all $(ARGS)

bench-check: $(VENV)/.test
	$(PY) -m benchmarks.check $(ARGS)

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --site-dir build/site

fuzz: $(VENV)/.test
	FUZZ=50 $(PY) -m pytest tests/fuzz $(ARGS)
	$(PY) -m benchmarks.hostile --patience=120

torture: $(VENV)/.test
	$(PY) -m benchmarks.torture --out=benchmarks/results/torture.md $(ARGS)

soak: $(VENV)/.test
	$(PY) -m benchmarks.soak $(ARGS)

gpu-check: $(VENV)/.gpu
	$(PY) -m benchmarks.gpu_check $(ARGS)

# The environment is reused until setup.cfg or constraints.txt changes; PYTHON=python3.12 chooses another Python.
$(VENV)/.venv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else \
	  f"md_jax needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}: run make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: $(VENV)/.venv setup.cfg pyproject.toml constraints.txt
	@echo "Installing md_jax into $(VENV) (once; several hundred MB, most of it PyTorch and JAX) ..."
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

$(VENV)/.test: $(VENV)/.run
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

# JAX's plugin for the CUDA that this torch was built for: the two must share it.
$(VENV)/.gpu: $(VENV)/.test
	@cuda=$$($(PY) -c 'import torch; print((torch.version.cuda or "").split(".")[0])') && \
	if [ -z "$$cuda" ]; then \
	  echo "gpu-check needs a torch with CUDA, and $(VENV) has one without: pytorch.org/get-started installs another"; \
	  exit 1; \
	fi && \
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test,cuda$$cuda]"
	@touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
