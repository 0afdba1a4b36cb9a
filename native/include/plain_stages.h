// Stages that no target has a kernel for, on ranges of rows or of floats.
#pragma once

#include <algorithm>

#include "engine.h"

namespace coarsegrad {

// Bits to the floats of a table, channel planes.
inline void unpack(const Value& v, const BitImage& in, const float* table, float* out, int64_t begin,
            int64_t end) {
    for (int64_t item = begin; item < end; ++item) {  // a row of one channel of one image
        const int64_t row = item % v.height, rest = item / v.height;
        const int64_t channel = rest % v.channels, image = rest / v.channels;
        const uint8_t* from =
            in.origin + image * in.image_pitch + row * in.row_pitch + channel / 8;
        for (int32_t w = 0; w < v.width; ++w, from += in.pixel_pitch) {
            int index = 0;
            for (int32_t p = 0; p < v.planes; ++p)
                index = 2 * index + (from[p * in.plane_pitch] >> (channel % 8) & 1);
            out[item * v.width + w] = table[index];
        }
    }
}

// Copies rows of channel planes into the middle of larger planes of the padding value.
inline void pad(const Stage& stage, const Value& in, const Value& out, const float* x, float* y,
         int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; ++item) {  // a row of one channel of one image
        const int64_t plane = item / out.height, row = item % out.height - stage.pad_top;
        float* to = y + item * out.width;
        std::fill(to, to + out.width, stage.pad_value);
        if (row < 0 || row >= in.height) continue;
        const float* from = x + (plane * in.height + row) * in.width;
        std::copy(from, from + in.width, to + stage.pad_left);
    }
}

inline void relu(const float* x, float* y, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y[i] = x[i] > 0 ? x[i] : 0.0f;
}

}  // namespace coarsegrad
