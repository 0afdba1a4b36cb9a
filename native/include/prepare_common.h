// What the preparation of bit layers and of float layers shares.
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

}  // namespace coarsegrad
