#!/bin/sh
# Native tests, executor included, under AddressSanitizer and UBSan, the AVX-512 kernels through
# SIMDe (Debian: libsimde-dev) among them; then eight threads on one layer and on one model under
# ThreadSanitizer.
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
# A Python of its own that sees the packages of the other but not its editable install of this one,
# which would be imported instead of the build under test.
test -x build/asan/venv/bin/python || "$python" -m venv --without-pip build/asan/venv
packages=$("$python" -c "import sysconfig; print(sysconfig.get_path('purelib'))")
printf '%s\n' "$PWD/$site" "$packages" > "$(echo build/asan/venv/lib/python*/site-packages)/paths.pth"
python=build/asan/venv/bin/python
case "$("$python" -c 'import coarsegrad; print(coarsegrad.__file__)')" in
    *"$site"*) ;;
    *) echo "the build under test is not the one that is imported" >&2; exit 1 ;;
esac
sanitized() {
    LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
        ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1 \
        "$python" -m pytest -q -s -p no:cacheprovider "$@"
}
sanitized tests/native "$@"
sanitized tests/runtime/test_native.py -k "not out_of_memory and not random_networks"
sanitized tests/runtime/test_low_bits.py -k wide_weights

sources="native/cpu.cpp native/dispatch.cpp native/prepare.cpp native/prepare_bits.cpp native/prepare_tables.cpp
    native/threads.cpp native/engine.cpp native/kernels/*.cpp"
for program in race race_model; do
    # shellcheck disable=SC2086
    g++ -std=c++17 -O1 -g -fsanitize=thread -ffp-contract=off -mavx2 -mfma -mpopcnt -Wno-psabi \
        -DCOARSEGRAD_EMULATE_AVX512 -Inative/include -Inative "native/tests/$program.cpp" $sources \
        -o "build/$program" -lpthread
    TSAN_OPTIONS=halt_on_error=1 "build/$program"
done
