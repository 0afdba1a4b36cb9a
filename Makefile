# Every target makes .venv and installs the package when needed; nothing else has to be typed.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin

# Data beside the checkout, if there is any; else the user's cache folder.
ifneq ($(wildcard ../shared/data),)
export COARSEGRAD_DATA ?= $(abspath ../shared/data)
endif

INSTALLED := $(VENV)/.installed
SOURCES := pyproject.toml constraints.txt CMakeLists.txt $(shell find native -type f)

.PHONY: demo test test-pure test-slow lint docs tune tune-cifar tune-lenet tune-rvscgd cifar10 study study-report accuracy lenet-w1a2 bench-runtime bench-kernels bench-optim bench-train bench-train-peer native-asan wheel clean

demo: $(INSTALLED)  ## train, pack, verify and compare a binary network; a few minutes
	$(RUN)/coarsegrad demo

test: $(INSTALLED)  ## everything that takes seconds
	$(RUN)/python -m pytest -q -n 2 --dist worksteal

test-pure: $(INSTALLED)  ## the build without the native module
	test -x .venv-pure/bin/python || $(RUN)/python -m venv --without-pip .venv-pure
	echo "$(abspath $(wildcard $(VENV)/lib/python*/site-packages))" > "$$(echo .venv-pure/lib/python*/site-packages)/torch.pth"
	$(RUN)/python -m pip --python .venv-pure/bin/python install -q --no-deps --force-reinstall \
	    -C cmake.define.COARSEGRAD_NATIVE=OFF -C build-dir=build/pure .
	.venv-pure/bin/python -c "import sys, coarsegrad.runtime as r; sys.exit(len(r.targets()) != 1)"
	.venv-pure/bin/python -m pytest -q -n 2 --dist worksteal tests/runtime tests/packed tests/deploy tests/optim \
	    -W "ignore:the native module is not built:RuntimeWarning"

test-slow: $(INSTALLED)  ## the rest: clean installs, start-up times
	$(RUN)/python -m pytest -q -m slow -s

lint: $(INSTALLED)
	$(RUN)/ruff check .
	$(RUN)/ruff format --check .
	$(RUN)/mypy

docs: $(INSTALLED)  ## the documentation site, into site/; asks nobody for anything
	NO_MKDOCS_2_WARNING=1 $(RUN)/python -m mkdocs build --strict  # --quiet would hide warnings from --strict

accuracy: $(INSTALLED)  ## small_cnn on MNIST, three seeds
	$(RUN)/coarsegrad train mnist_small_cnn --seeds 3

tune: $(INSTALLED)  ## choose small_cnn's learning rates on held-out images; 9 runs, resumable
	$(RUN)/python benchmarks/tune_small_cnn.py

tune-cifar: $(INSTALLED)  ## choose the rates of vgg_small and its float twin; 12 runs, resumable
	$(RUN)/python benchmarks/tune_vgg_small.py

tune-lenet: $(INSTALLED)  ## choose the rates of LeNet-5 on quantized activations; 16 runs, resumable
	$(RUN)/python benchmarks/tune_lenet.py

tune-rvscgd: $(INSTALLED)  ## choose how LeNet-5 with binarized ReLUs is pruned; 25 runs, resumable
	$(RUN)/python benchmarks/tune_rvscgd.py

lenet-w1a2: $(INSTALLED)  ## LeNet-5 with 1-bit weights, 2-bit activations, packed; 6 runs, resumable
	$(RUN)/python benchmarks/lenet_w1a2.py

cifar10: $(INSTALLED)  ## a quarter of VGG-Small and its float twin on CIFAR-10; 40 minutes of two cores
	$(RUN)/coarsegrad train cifar10_vgg_small_cpu
	$(RUN)/coarsegrad train cifar10_vgg_small_cpu_twin

study: $(INSTALLED)  ## eight optimizers on two networks; two hours of one core, resumable
	$(RUN)/python benchmarks/study_mnist.py

study-report: $(INSTALLED)  ## its tables, into docs/study-mnist.md
	$(RUN)/python benchmarks/study_report.py --runs runs/study_mnist

bench-runtime: $(INSTALLED)  ## the runtime's speed table, pass or short per row
	$(RUN)/python benchmarks/runtime.py --json benchmarks/results/runtime.json

bench-kernels: $(INSTALLED)  ## single kernels and stages, finer than bench-runtime
	$(RUN)/python benchmarks/kernels.py

bench-optim: $(INSTALLED)  ## the optimizers' speed table, pass or short per row
	$(RUN)/python benchmarks/optim.py --json benchmarks/results/optim.json

bench-train: $(INSTALLED)  ## training steps against the float twin, and against Brevitas if it is there
	$(RUN)/python benchmarks/train_steps.py --json benchmarks/results/train_steps.json \
		$(if $(wildcard build/brevitas/bin/python),--brevitas build/brevitas/bin/python)

bench-train-peer:  ## Brevitas in an environment of its own, for bench-train
	$(PYTHON) -m venv build/brevitas
	build/brevitas/bin/pip install -q -c constraints.txt torch brevitas==0.13.4

native-asan: $(INSTALLED)  ## native tests under ASan and UBSan, eight threads under TSan
	PATH="$(abspath $(RUN)):$$PATH" PYTHON=$(abspath $(RUN))/python native/tests/sanitize.sh

wheel: $(INSTALLED)  ## dist/*.whl, for this Python on this kind of machine
	$(RUN)/python -m pip wheel -q --no-deps -w dist .
	ls -s1 --block-size=1K dist/*.whl

$(INSTALLED): $(SOURCES)
	test -x $(RUN)/python || $(PYTHON) -m venv $(VENV)
	$(RUN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) .venv-pure build dist site .mypy_cache .ruff_cache .pytest_cache .hypothesis
