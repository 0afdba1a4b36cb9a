// Python access to single kernels, for tests and benchmarks.
#pragma once

#include <nanobind/nanobind.h>

void bind_testing(nanobind::module_ m);
void bind_timing(nanobind::module_ m);
