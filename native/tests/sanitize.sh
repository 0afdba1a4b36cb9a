#!/bin/sh
# Runs the native tests under AddressSanitizer and UBSan, the AVX-512 kernels through SIMDe
# (Debian: libsimde-dev) among them, then eight threads on one layer under ThreadSanitizer.
set -eu
cd "$(dirname "$0")/../.."
python=${PYTHON:-python}
site=build/asan/site
cmake -S . -B build/asan -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DPython_EXECUTABLE="$(command -v "$python")" \
    -DCOARSEGRAD_SANITIZE=address,undefined -DCOARSEGRAD_EMULATE_AVX512="${EMULATE:-ON}"
cmake --build build/asan
rm -rf "$site" && mkdir -p "$site"
cp -r src/coarsegrad "$site/"
rm -f "$site"/coarsegrad/_native*.so
cp build/asan/_native*.so "$site/coarsegrad/"
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
    ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
    PYTHONPATH="$site" "$python" -m pytest tests/native -q -s -p no:cacheprovider "$@"

g++ -std=c++17 -O1 -g -fsanitize=thread -ffp-contract=off -mavx2 -mfma -mpopcnt -Wno-psabi \
    -DCOARSEGRAD_EMULATE_AVX512 -Inative/include -Inative native/tests/race.cpp native/cpu.cpp \
    native/dispatch.cpp native/prepare.cpp native/prepare_bits.cpp native/threads.cpp \
    native/kernels/*.cpp -o build/race -lpthread
TSAN_OPTIONS=halt_on_error=1 build/race
