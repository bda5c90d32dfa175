# `make demo` speaks a sentence in a sample's voice, `make app` opens a page for it, `make test` proves that all is well.
# CONSTRAINTS=requirements/constraints/lowest.txt installs the lowest versions allowed, constraints/tested.txt the tested ones.
PYTHON ?= python3
PIP_INSTALL = $(BIN)/python -m pip install --quiet --prefer-binary $(if $(CONSTRAINTS),-c $(CONSTRAINTS))
DEV := $(patsubst %,requirements/%.txt,dev align app cluster serve)
VENV := .venv
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
else
BIN := $(VENV)/bin
endif

.PHONY: setup demo app test test-fast test-lesser lint clean

setup: $(VENV)/setup.done

demo: setup
	$(BIN)/python demo_cli.py --reference samples/austen_0870.wav --text "The quick brown fox jumps over the lazy dog." --seed 1 --output out/demo.wav --plot out/demo.png --json out/demo.json

app: $(VENV)/app.done
	$(BIN)/python -m streamlit run app.py

test: $(VENV)/test.done lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --durations=10

# without what trains, starts processes or searches
test-fast: $(VENV)/test.done lint
	$(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

# the numbers once more, as on processors with AVX2 at most and with SSE4.1 at most: torch, oneDNN, MKL, numpy, OpenBLAS, our kernels
NUMERIC := $(patsubst %,tests/%.py,utils/test_linear utils/audio/test_mel utils/audio/test_pitch utils/audio/test_vad \
  utils/test_precision $(patsubst %,encoder/test_%,inference loss model streaming) \
  $(patsubst %,synthesizer/test_%,attention flow inference native parallel tacotron transformer)) \
  $(wildcard tests/vocoder/test_*.py)
AVX2 := ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_ENABLE_INSTRUCTIONS=AVX2 OPENBLAS_CORETYPE=Haswell \
  NPY_DISABLE_CPU_FEATURES="X86_V4 AVX512_ICL" VOICE_NATIVE_FLAGS="-march=x86-64-v3"
SSE41 := ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_ENABLE_INSTRUCTIONS=SSE4_2 OPENBLAS_CORETYPE=Nehalem \
  NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL" VOICE_NATIVE_FLAGS="-DPLAIN"

test-lesser: $(VENV)/test.done
	$(AVX2) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(NUMERIC)
	$(SSE41) $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow" $(NUMERIC)

lint: $(VENV)/test.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

$(VENV)/python.done:
	$(PYTHON) -c "import sys; sys.exit('Python 3.11 or newer is needed; try: make PYTHON=python3.12' if sys.version_info < (3, 11) else 0)"
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c "open('$@', 'w').close()"

$(VENV)/setup.done: requirements.txt $(VENV)/python.done
	$(PIP_INSTALL) -r requirements.txt
	@$(BIN)/python -c "open('$@', 'w').close()"

$(VENV)/app.done: requirements/app.txt $(VENV)/setup.done
	$(PIP_INSTALL) -r requirements/app.txt
	@$(BIN)/python -c "open('$@', 'w').close()"

$(VENV)/test.done: $(DEV) $(VENV)/setup.done
	$(PIP_INSTALL) $(addprefix -r ,$(DEV))
	@$(BIN)/python -c "open('$@', 'w').close()"

clean:
	$(PYTHON) -c "import shutil; [shutil.rmtree(d, ignore_errors=True) for d in ('out', '.pytest_cache', '.ruff_cache', '.mypy_cache', 'build')]"
