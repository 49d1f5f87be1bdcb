# Every target works alone on a fresh Debian machine with Python 3.11, make and git: it makes the
# environment that it needs. There are two, one ten times as large as the other:
#   .venv-run   what the wheel needs. Ready in seconds, and captions provably run without torch.
#   .venv       the workstation: torch, exporters, test and lint tools. Two gigabytes, minutes.
# Extra arguments go through ARGS: make train ARGS="--help"

SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup captions export-int8 bundle english-small check lint fix native test test-native tidy test-arm bench bench-paper train train-smoke claim wheel wheels clean

CKPT ?= model/checkpoints/commands-en
OUT ?= out/$(notdir $(abspath $(CKPT)))

RUN := .venv-run
DEV := .venv
PINS := pyproject.toml requirements/constraints.txt requirements/make-venv
# One process of tests for each core; tests at a device hear in real time, and run alone.
TOGETHER := --numprocesses auto --dist loadfile
ROOMS := $(wildcard apps benchmark edge_asr export model quant tests)
NATIVE := $(shell find $(ROOMS) -name '*.[ch]' -o -name '*.cpp')
KERNELS := edge_asr/native/libedge_asr_onnx.so
EXAMPLE := tests/data/an4/an418-fjlp-b.flac

help: ## list the targets
	@sed -nE 's/^([a-z0-9%-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

$(RUN)/.ready: $(PINS)
	@requirements/make-venv $(RUN) --editable .
	@touch $@

$(DEV)/.ready: $(PINS)
	@requirements/make-venv $(DEV) --editable . --group workstation --group dev
	@touch $@

setup: $(RUN)/.ready $(DEV)/.ready ## make both environments now

# Compiled where there is a compiler; captions do without.
$(KERNELS): $(wildcard edge_asr/native/src/*) edge_asr/native/CMakeLists.txt | $(RUN)/.ready
	@requirements/make-kernels $(RUN)

captions: $(RUN)/.ready $(KERNELS) ## captions from the microphone, or of a file: INPUT=speech.wav
ifdef INPUT
	@$(RUN)/bin/python -m edge_asr.mic --input "$(INPUT)" $(ARGS)
else
	@requirements/system-packages libportaudio2 || true
	@$(RUN)/bin/python -m edge_asr.mic $(ARGS) || { code=$$?; \
	[ $$code -ne 69 ] || echo "without a microphone, give a file: make captions INPUT=$(EXAMPLE)" >&2; \
	exit $$code; }
endif

export-int8: $(DEV)/.ready ## a package from a checkpoint: [CKPT=folder] [OUT=folder]
	@TORCH_CPP_LOG_LEVEL=ERROR $(DEV)/bin/python -m export "$(CKPT)" --out "$(OUT)" \
	$(if $(wildcard edge_asr/native/libedge_asr_torch.so),--dispatch both) $(ARGS)

# A package to publish: $(1) is the checkpoint, $(2) the folder, $(3) what streams do after silence
# (docs/benchmarks/contexts.md). Its card and its metrics are in the folder of that name in
# model/checkpoints.
define published
$(DEV)/bin/python -m export $(1) --out $(2) --backends onnx --dispatch both --language en --license Apache-2.0 --replace \
	--card model/checkpoints/$(notdir $(2))/README.md --metrics model/checkpoints/$(notdir $(2))/metrics.json \
	--ctc-weight 0.5 --reverse-weight 0.5 $(3) $(ARGS)
endef

bundle: native ## rebuild the package that is part of edge_asr, from its checkpoint
	@$(call published,model/checkpoints/commands-en,edge_asr/packages/commands-en,--keep-context)

english-small: native exp/lm/english.arpa ## rebuild packages/english-small, from exp/english-small
	@$(call published,exp/english-small,packages/english-small)
	@$(DEV)/bin/python -m export.language_model packages/english-small exp/lm/english.arpa \
	--weight 0.6 --word-bonus 2.0 --beam 60 --blank-penalty 1

check: lint ## format, lint, types, import contracts and the fast tests; within a minute
	@$(DEV)/bin/python -m pytest -q $(TOGETHER) -m "not slow and not device" $(ARGS)

lint: $(DEV)/.ready ## check without the tests
	@$(DEV)/bin/ruff format --quiet --check --output-format concise $(ROOMS) || { echo "unformatted files; run: make fix" >&2; exit 1; }
	@$(DEV)/bin/ruff check --quiet --output-format concise $(ROOMS)
	@$(DEV)/bin/clang-format --dry-run -Werror $(NATIVE)
	@$(DEV)/bin/mypy
	@$(DEV)/bin/lint-imports --no-logo

fix: $(DEV)/.ready ## format, and mend what ruff can mend
	@$(DEV)/bin/ruff check --fix $(ROOMS); $(DEV)/bin/ruff format $(ROOMS); $(DEV)/bin/clang-format -i $(NATIVE)

native: $(DEV)/.ready ## compile the kernels and the binding of ExecuTorch into the tree
	@requirements/make-native $(DEV)

test: native ## every test, slow and device ones included; within 15 minutes on two cores
	@requirements/system-packages gcc libasound2-dev libportaudio2 espeak-ng || true
	@$(DEV)/bin/python -m pytest $(TOGETHER) -m "not device" $(ARGS)
	@$(DEV)/bin/python -m pytest -m device $(ARGS)

test-native: $(DEV)/.ready ## the kernels under AddressSanitizer and UBSan, then several threads under ThreadSanitizer
	@requirements/test-native $(DEV) address $(ARGS)
	@requirements/test-native $(DEV) thread $(ARGS)

tidy: $(DEV)/.ready ## clang-tidy on the kernels and the operators of ONNX Runtime; a minute
	@requirements/tidy $(DEV)

test-arm: native ## the kernels and a whole package on 64-bit ARM, emulated by qemu; needs root, 4 minutes
	@requirements/test-arm $(DEV) $(ARGS)

bench: $(DEV)/.ready ## speed and accuracy of the bundled package on this machine
	@$(DEV)/bin/python -m edge_asr bench $(ARGS)

bench-paper: $(DEV)/.ready ## models of the paper's sizes, compared with WeNet's and the machine's limits: [WENET=checkout]
	@$(DEV)/bin/python -m benchmark.paper $(if $(WENET),--wenet "$(WENET)") $(ARGS)

train: $(DEV)/.ready ## train a model; ARGS="--help" tells how
	@$(DEV)/bin/python -m model.train $(ARGS)

DATA ?= ../shared/data
MADE := exp/letters/train.tsv exp/synthetic/sentences/train.tsv exp/synthetic/strings/train.tsv

# The data that fails first where DATA is wrong is made before the data that takes minutes.
$(MADE) exp/lm/english.arpa: | $(DEV)/.ready
	@requirements/training-data $(DEV) "$(DATA)" $@

train-%: model/recipes/%.yaml $(DEV)/.ready $(MADE) ## train a recipe of model/recipes into exp, and first the one it starts from: [DATA=folder]
	@requirements/train-recipe $(DEV) $* "$(DATA)" $(ARGS)

export SEEDS ?= 1 2
export RECIPES ?= $(basename $(notdir $(wildcard model/recipes/claim/*.yaml)))
claim: $(DEV)/.ready exp/synthetic/strings/train.tsv ## train recipes of model/recipes/claim, one on each core, and compare all that are trained: [RECIPES=names] [SEEDS=numbers]
	@requirements/train-claim $(DEV) "$(DATA)"
	@$(DEV)/bin/python -m benchmark.claim exp/claim --data "$(DATA)" --known docs/benchmarks/claim.json \
	-o docs/benchmarks/claim.md

train-smoke: $(DEV)/.ready ## a minute of training on the tests' clips, through export to text
	@$(DEV)/bin/python -m pytest -q tests/model/test_smoke.py $(ARGS)

wheel: $(DEV)/.ready ## dist/edge_asr-*.whl, for this machine
	@$(DEV)/bin/python -m build --wheel --no-isolation --outdir dist .

wheels: $(DEV)/.ready ## dist/edge_asr-*-manylinux_*.whl for x86_64 and, cross-compiled, for 64-bit ARM
	@requirements/make-wheels $(DEV)

clean: ## remove what was built and cached; the environments stay
	@rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find $(ROOMS) -name __pycache__ -type d -prune -exec rm -rf {} +
