// What the preparation of bit layers, of their tables and of float layers shares.
#pragma once

#include "prepare.h"

namespace coarsegrad {

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

template <class T>
T* store(std::vector<Bytes>& storage, int64_t count) {
    storage.emplace_back(static_cast<size_t>(count) * sizeof(T));
    return storage.back().template as<T>();
}

inline const float* copy_floats(std::vector<Bytes>& storage, const float* from, int32_t count,
                                int32_t padded, float missing) {
    float* to = store<float>(storage, padded);
    for (int32_t i = 0; i < count; ++i) to[i] = from ? from[i] : missing;
    return to;
}

// The largest count of all planes.
int64_t most_counted(const BitLayerSpec& spec);

// Whether a layer is counted by tables of its weights; `borders`: classes of output pixels. If so,
// prepare_tables follows.
bool counts_by_tables(const KernelTable& table, const BitLayerSpec& spec, const BitLayer& layer,
                      int64_t borders);
void prepare_tables(const KernelTable& table, const uint8_t* rows, int32_t in_channels, BitLayer& layer,
                    std::vector<Bytes>& storage);

}  // namespace coarsegrad
