# Everything a newcomer runs. Variables: PORT and BUNDLES (else those of .env), EXTRA (cpu or gpu), PYTHON.
PYTHON ?= python3
EXTRA ?= cpu
DEV := .venv/bin
LIGHT := .venv-serve/bin
PEERS := litserve bentoml mlserver
PEER_litserve := 'litserve>=0.2.19'
PEER_bentoml := 'bentoml>=1.4.39'
PEER_mlserver := 'mlserver>=1.7.1' 'uvloop<0.22'
AS_GOOD := --require all:image_auroc=0.99 --require structural:image_auroc=0.98 \
	--require component:image_auroc=0.98 --require logical:image_auroc=0.98 --require all:pixel_auroc=0.98
AS_GOOD_ZERO_SHOT := --require all:image_auroc=0.85 --require all:pixel_auroc=0.90
PIP_FLAGS := --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: serve setup test coverage check format demo demo-zero-shot bench bench-peers soak clean lock manifests release

serve:
	@start=$$(date +%s); $(MAKE) --no-print-directory .venv-serve/.ready; \
	echo "installed after $$(($$(date +%s) - start)) s"; \
	ANOMOE_STARTED_AT=$$start $(if $(PORT),ANOMOE_PORT='$(PORT)') $(if $(BUNDLES),ANOMOE_BUNDLES='$(BUNDLES)') \
		exec $(LIGHT)/anomoe serve

setup: .venv/.ready

test: check
	OMP_NUM_THREADS=1 $(DEV)/pytest -m 'not alone' --numprocesses auto --dist loadfile
	OMP_NUM_THREADS=1 $(DEV)/pytest -m alone

coverage: .venv/.ready
	OMP_NUM_THREADS=1 $(DEV)/pytest -m 'not alone' --numprocesses auto --dist loadfile --cov --cov-report=
	OMP_NUM_THREADS=1 $(DEV)/pytest -m alone --cov --cov-append --cov-report=term:skip-covered

check: .venv/.ready
	$(DEV)/ruff check .
	$(DEV)/ruff format --check .
	$(DEV)/pyright

format: .venv/.ready
	$(DEV)/ruff check --fix .
	$(DEV)/ruff format .

demo: .venv/.ready demo-zero-shot
	$(DEV)/anomoe-train demo-data runs/demo-data
	$(DEV)/anomoe-train fit --data runs/demo-data --output runs/demo
	$(DEV)/anomoe-train evaluate runs/demo --data runs/demo-data --output runs/demo/figures.json $(AS_GOOD)
	$(DEV)/anomoe-export build runs/demo bundles/demo --name demo
	$(DEV)/anomoe-export verify bundles/demo --checkpoint runs/demo --data runs/demo-data

demo-zero-shot: .venv/.ready
	$(DEV)/anomoe-train demo-things runs/demo-things
	$(DEV)/anomoe-train demo-clip runs/demo-things --output runs/demo-clip
	$(DEV)/anomoe-train fit --method moeclip --clip runs/demo-clip --config runs/demo-clip/fit.json \
		--data runs/demo-things/training --output runs/demo-zero-shot
	$(DEV)/anomoe-train evaluate runs/demo-zero-shot --data runs/demo-things/test \
		--output runs/demo-zero-shot/figures.json $(AS_GOOD_ZERO_SHOT)
	$(DEV)/anomoe-export build runs/demo-zero-shot bundles/zero-shot --name zero-shot
	$(DEV)/anomoe-export verify bundles/zero-shot --checkpoint runs/demo-zero-shot \
		--data runs/demo-things/test

bench: .venv/.ready
	$(DEV)/python -m benchmarks.serving

bench-peers: $(PEERS:%=.venv-bench/%/.ready)

soak: .venv/.ready
	SOAK_UPLOADS=10000 SOAK_STOPS=20 SOAK_RELOADS=100 SOAK_NAMES=10000 SOAK_RELATIVE=0 $(DEV)/pytest \
		tests/service/whole/test_fuzz.py tests/service/whole/test_load.py tests/service/connection/test_server.py tests/service/models/test_reload.py tests/test_bundled_demo.py

lock: .venv/.ready
	PYTHON=$(abspath $(DEV)/python) docker/lock.sh

manifests: .venv/.ready
	$(DEV)/python -m deploy.manifests

release:
	PYTHON='$(PYTHON)' deploy/release.sh

clean:
	rm -rf .venv .venv-serve .venv-bench runs build dist *.egg-info

.venv-serve/.ready: pyproject.toml constraints.txt
	@echo "installing the service ($(EXTRA), without torch) ..."
	@$(PYTHON) -m venv .venv-serve
	@$(LIGHT)/pip install $(PIP_FLAGS) --editable '.[$(EXTRA)]'
	@touch $@

.venv/.ready: pyproject.toml constraints.txt
	@echo "installing everything (several GB with torch) ..."
	@$(PYTHON) -m venv .venv
	@$(DEV)/pip install $(PIP_FLAGS) --editable '.[cpu,train,pretrained,export,otel,dev]'
	@touch $@

.venv-bench/%/.ready: pyproject.toml constraints.txt
	@echo "installing $* and what the steps need ..."
	@$(PYTHON) -m venv .venv-bench/$*
	@grep -E '^(connected-components-3d|numpy|onnxruntime|pillow|zlib-ng)==' constraints.txt > .venv-bench/$*/constraints.txt
	@.venv-bench/$*/bin/pip install --quiet --disable-pip-version-check --constraint .venv-bench/$*/constraints.txt \
		$(PEER_$*) connected-components-3d numpy onnxruntime pillow 'pydantic>=2.12' safetensors zlib-ng
	@# Without the service's own framework, of which MLServer takes older versions only.
	@.venv-bench/$*/bin/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@
