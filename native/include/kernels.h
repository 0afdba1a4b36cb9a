// Arguments of the kernels and the table of functions that one target offers: plain data only.
#pragma once

#include <cstdint>

namespace coarsegrad {

// Sign bits, NHWC: bit = 1 iff value < 0, channel c is bit c % 8 of byte c / 8 of its pixel, and a
// pixel fills one byte, two, or whole 32-bit words, whose spare bits are 0. `origin` is pixel (0, 0) of image 0; a ring
// of pixels holding the padding value lies around each image, and kSlack readable bytes lie after
// the last pixel because kernels load whole vectors.
// Integers of several bits are as many such images, the one of the highest digit first; there a bit
// is 1 iff the digit is 0, so that one plane of digits is the signs of 0 and 1.
struct BitImage {
    uint8_t* origin;
    int64_t image_pitch, row_pitch, pixel_pitch;  // bytes
    int32_t images;
    int32_t planes;
    int64_t plane_pitch;
};

constexpr int32_t kMaxPlanes = 8;

constexpr int32_t kSlack = 64;

// The sliding window of a convolution or a pool. `pad_h`, `pad_w`: cells before the first row and
// column; what lies after the last follows from the sizes.
struct Window {
    int32_t in_h, in_w, out_h, out_w;
    int32_t kernel_h, kernel_w, stride_h, stride_w, dilation_h, dilation_w, pad_h, pad_w;
};

enum class Finish : int32_t {
    kSums,       // int32 sums
    kThreshold,  // sign bits by comparing the sum with a threshold per channel, or digits by several
    kAffine,     // float scale * sum + shift, plus a residual if given; floats, sign bits or both
};

enum class Layout : int32_t { kNHWC, kNCHW };

// Where a layer writes. Unused pointers are null; `bits.origin` may be null.
struct Results {
    int32_t* sums;          // NHWC
    float* values;          // in values_layout
    const float* residual;  // NHWC, added after scale and shift
    BitImage bits;
    Layout values_layout;
};

// Tables of the weights of a layer with few output channels, and the band of rows that it works on:
// kernels/pixeltables.inl.
struct PixelTables {
    const uint8_t* entries;  // [pair of output channels][tap][2][16]; null: the layer has none
    const int32_t* offsets;  // [tap]: bytes from a pixel's first nibble
    int32_t nibbles;         // of a pixel
    int32_t taps;            // nibbles under the kernel
    int32_t flush;           // taps whose entries fit into a byte when they are added
    int32_t columns;         // input pixels of a row, those of the padding included
    int32_t band_rows;
    int64_t band_pixels, nibble_pitch, words_bytes;
};

// Registers of pixels that one pass over the tables counts for.
constexpr int32_t kTableRegisters = 5;

// A binary convolution (or dense layer: a 1x1 window on 1x1 images) prepared for one target. Each
// output pixel's input bits are gathered into a row: kernel_h * run_count runs of run_bytes. Ternary
// weights are the mean of two binary ones that differ where a weight is 0; their row stands twice.
struct BitLayer {
    Window window;
    int32_t groups, out_channels, group_outputs, group_bytes;
    int32_t planes;  // of the input; a gathered row stands once for each
    int32_t repeats, run_count, run_bytes;
    int64_t row_bytes, row_pitch;  // pitch leaves at least kSlack spare bytes
    int32_t block_pixels;          // output pixels handled together, at most kMaxBlock
    int32_t panel, panels;         // output channels of a weight panel; panels of one group
    int32_t item_panels;           // work items per block of pixels
    int32_t triples, chunk;        // LUT targets: triples of nibbles in a row, and per flush
    bool wide_counts;              // LUT targets: counts of all planes exceed 16 bits
    // Weights of several bits are as many layers of one, that of the highest digit first; their counts
    // are added, each twice the one of the next, and so is the sum of a row's inputs, if asked for.
    int32_t weight_planes;
    bool adds_inputs;
    int64_t row_inputs;  // how many there are
    PixelTables tables;            // LUT targets
    const uint8_t* panel_weights;  // [weight plane][group][panel][...]: what the target's counter reads; or null
    int64_t panel_bytes;
    const uint8_t* row_weights;  // [weight plane][out_channel][weight_pitch]: plain rows; or null
    int64_t weight_pitch;        // a multiple of kSlack
    Finish finish;
    int32_t padded_outputs;                  // stride of the tables below
    // [border][channel]: sum = (base - 2 * count) >> halvings, without a remainder. Halved for ternary
    // weights, and for inputs of 0 and 1, where base also holds the sum of the weights. Of several
    // planes the counts are added, each twice the one of the next digit. Halved also where the sum of
    // the inputs is in the count, since digits make twice the weight and 1.
    const int32_t* base;
    int32_t halvings;
    const int32_t* limits;                   // [border][channel]: bit = (count > limit) ^ flip
    const int16_t* limits16;                 // the same where every count fits; or null
    // For several planes of output, whose digits count the limits that are exceeded: another table
    // follows after limit_pitch. In 16 bits, limits + 1 - 2^15.
    int32_t out_planes;
    int64_t limit_pitch;
    const uint32_t* flips;                   // a bit per channel
    const float *scale, *shift;              // [channel]
    const uint16_t *row_border, *col_border;  // border = row_border[oh] * col_borders + col_border[ow]
    int32_t col_borders;
    int64_t scratch_bytes;  // per thread, 64-byte aligned
};

constexpr int32_t kMaxBlock = 32;

// A float convolution or dense layer: weights [out_channels / kFloatPanel][row][kFloatPanel].
// Input is NCHW for a convolution, [images][in_channels] for a dense layer.
struct FloatLayer {
    Window window;
    int32_t groups, in_channels, out_channels, group_outputs;
    int32_t row;     // in_channels / groups * kernel_h * kernel_w
    int32_t panels;  // of one group
    const float* weights;
    Finish finish;
    const float *scale, *shift;      // kAffine
    const float *side, *thresholds;  // kThreshold: bit = side * sum < threshold, side = +-1
    int64_t scratch_bytes;
    // Convolutions with room for a few pixels in a row work along output rows, on copies of the
    // input rows under the kernel with the padding filled in. A copy has one piece of `pitch`
    // floats for each of `phases` columns modulo the stride, so that neighbouring output pixels
    // read neighbouring floats. Other layers gather blocks of kFloatBlock pixels.
    bool by_rows;
    int32_t phases;
    int64_t pitch;
    const int32_t* taps;  // [row]: floats from the start of the copies or of the gathered block
    const int32_t* direct_taps;  // [row]: floats from the corner of a window without padding; or null
    // Where all weights are +-1: for each output channel the table entries of every three taps, as
    // offsets in bytes; or null.
    const uint16_t* sign_entries;
    int32_t sign_groups;
};

// Sums and differences of three taps at this many neighbouring pixels: an entry of the table.
constexpr int32_t kSignPixels = 32;

constexpr int32_t kFloatPanel = 16;

struct BitPool {
    Window window;
    int32_t words;             // 32-bit words of a pixel, of which the first may be cut off
    const uint32_t* all_mask;  // channels that are +1 only if all cells are, or least; null: none
    int32_t channels;
};

// Digits of floats: of the number of limits that side * x does not reach.
struct LevelPack {
    int32_t channels, h, w, planes;
    const float* side;    // [channel]: +-1
    const float* limits;  // [2^planes - 1][channel]
};

struct FloatPool {
    Window window;
    int32_t channels;
    Layout layout;  // of input and output
    bool average, count_padding;
};

// Every function below takes a range [begin, end) of work items; any division of the whole range
// gives the same result, and ranges may run at the same time on threads with their own scratch.
struct KernelTable {
    const char* name;
    enum class Weights : int32_t { kRows, kNibbles, kLanes } weights;
    int32_t panel;         // output channels of a weight panel
    int32_t vector_bytes;  // lanes that share a register of bytes in kNibbles
    // Items: bit_layer_items().
    void (*bit_layer)(const BitLayer&, const BitImage&, const Results&, void* scratch,
                      int64_t begin, int64_t end);
    // Items: images * ceil(h * w / kPackPixels). Input float32 of shape [n][h][w][c] or [n][c][h][w].
    void (*pack)(const float*, Layout, int32_t channels, int32_t h, int32_t w, const BitImage&,
                 int64_t begin, int64_t end);
    // Items as of pack. Input [n][c][h][w].
    void (*pack_levels)(const LevelPack&, const float*, const BitImage&, int64_t begin, int64_t end);
    // Items: images * out_h. As many planes out as in; the largest integer, or the least by all_mask.
    void (*bit_pool)(const BitPool&, const BitImage& in, const BitImage& out, int64_t begin,
                     int64_t end);
    // Items: float_layer_items().
    void (*float_layer)(const FloatLayer&, const float*, int32_t images, const Results&,
                        void* scratch, int64_t begin, int64_t end);
    // Items: images * out_h for NHWC, images * channels for NCHW.
    void (*float_pool)(const FloatPool&, const float* in, float* out, int64_t begin, int64_t end);
    // Runs the bit counter's instructions on registers only; returns multiply-accumulates done.
    int64_t (*ceiling)(int64_t rounds);
};

constexpr int32_t kPackPixels = 64;
constexpr int32_t kFloatBlock = 24;

}  // namespace coarsegrad
