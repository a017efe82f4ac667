// Products with weights of 4 or 8 bits, for processors with AVX512_BF16; and how they are made.
//
// Weights come in groups of 32 inputs of one output: w = scale * q + minimum, q of 0..15 (0..255).
// A block holds one group of sixteen outputs:
//
//     plane of 4 bits      four registers of 64 bytes: the 32 words of one are (16 outputs) x (a pair
//     (8 bits: two,        of inputs), as in tiles.h, and hold four such pairs, four bits each
//     low bits first)
//     scales, minima       16 + 16 numbers of fp16
//
// Four bits become a bfloat16 of the same value by one lookup in a register, so that a product is
// multiplied as in linear.cpp, exactly, and scaled once a group. The blocks of sixteen outputs
// stream from memory one after another.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#if defined(__AVX512BF16__) && defined(__AVX512BW__)
#include <omp.h>

#include "tiles.h"

namespace {

constexpr int64_t kGroup = 32;
constexpr int64_t kPlaneBytes = kLanes * kGroup / 2;
constexpr int64_t kScaleBytes = 2 * kLanes * 2;

constexpr int64_t block_bytes(int64_t num_planes) { return num_planes * kPlaneBytes + kScaleBytes; }

struct Problem {
    const uint16_t *x;
    const uint8_t *weights;
    const uint16_t *bias;
    uint16_t *out;
    // [num_rows, num_inputs / kGroup]: sum of a row's inputs over a group.
    const float *group_sums;
    int64_t num_rows, num_inputs, num_outputs;
};

// bfloat16 of 0, factor, ... 15 * factor, twice: lookups take five bits, and the fifth is another's.
inline __m512i make_table(int factor) {
    alignas(64) uint16_t table[32];
    for (int i = 0; i < 32; ++i) {
        const float value = static_cast<float>((i % 16) * factor);
        uint32_t bits;
        std::memcpy(&bits, &value, sizeof bits);
        table[i] = static_cast<uint16_t>(bits >> 16);
    }
    return _mm512_load_si512(table);
}

inline __m512 load_halves(const uint8_t *source) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(source)));
}

inline __mmask16 mask_of(const Problem &p, int64_t vector) {
    const int64_t left = std::min(kLanes, p.num_outputs - vector * kLanes);
    return static_cast<__mmask16>((1u << left) - 1);
}

// sums += x [kRows, kGroup] * the values of one group, of kVectors * 16 outputs, not yet scaled.
template <int kPlanes, int kRows, int kVectors>
inline void add_group(const uint16_t *x, int64_t x_stride, const uint8_t *blocks,
                      int64_t vector_bytes, const __m512i (&tables)[2],
                      __m512 (&sums)[kRows][kVectors]) {
#pragma GCC unroll 4
    for (int quarter = 0; quarter < 4; ++quarter) {
        __m512i packed[kVectors][kPlanes];
        for (int v = 0; v < kVectors; ++v)
            for (int plane = 0; plane < kPlanes; ++plane)
                packed[v][plane] = _mm512_loadu_si512(blocks + v * vector_bytes +
                                                      plane * kPlaneBytes + quarter * 64);
#pragma GCC unroll 4
        for (int part = 0; part < 4; ++part) {
            __m512bh values[kVectors][kPlanes];
            for (int v = 0; v < kVectors; ++v)
                for (int plane = 0; plane < kPlanes; ++plane)
                    values[v][plane] = reinterpret_cast<__m512bh>(_mm512_permutexvar_epi16(
                        _mm512_srli_epi16(packed[v][plane], 4 * part), tables[plane]));
            for (int r = 0; r < kRows; ++r) {
                int32_t both;
                std::memcpy(&both, x + r * x_stride + 2 * (4 * quarter + part), sizeof both);
                const __m512bh inputs = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
                for (int v = 0; v < kVectors; ++v)
                    for (int plane = 0; plane < kPlanes; ++plane)
                        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], inputs, values[v][plane]);
            }
        }
    }
}

// Rows [row, row + kRows) times output vectors [vector, vector + kVectors).
template <int kPlanes, int kRows, int kVectors>
void multiply_tile(const Problem &p, int64_t row, int64_t vector) {
    const int64_t num_groups = p.num_inputs / kGroup;
    const int64_t vector_bytes = num_groups * block_bytes(kPlanes);
    const uint8_t *blocks = p.weights + vector * vector_bytes;
    const __m512i tables[2] = {make_table(1), make_table(16)};
    __m512 totals[kRows][kVectors];
    for (int v = 0; v < kVectors; ++v) {
        __m512 start = _mm512_setzero_ps();
        if (p.bias != nullptr)
            start = widen(_mm256_maskz_loadu_epi16(mask_of(p, vector + v),
                                                   p.bias + (vector + v) * kLanes));
        for (int r = 0; r < kRows; ++r) totals[r][v] = start;
    }
    for (int64_t group = 0; group < num_groups; ++group) {
        if (kRows == 1)
            // Of the next outputs: the processor's own prefetching ends with each page.
            for (int v = 0; v < kVectors; ++v)
                for (int64_t line = 0; line < block_bytes(kPlanes); line += 64)
                    _mm_prefetch(reinterpret_cast<const char *>(
                                     blocks + (kVectors + v) * vector_bytes + line),
                                 _MM_HINT_T1);
        __m512 sums[kRows][kVectors];
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
        add_group<kPlanes, kRows, kVectors>(p.x + row * p.num_inputs + group * kGroup, p.num_inputs,
                                            blocks, vector_bytes, tables, sums);
        for (int v = 0; v < kVectors; ++v) {
            const uint8_t *scales = blocks + v * vector_bytes + kPlanes * kPlaneBytes;
            const __m512 scale = load_halves(scales), minimum = load_halves(scales + 2 * kLanes);
            for (int r = 0; r < kRows; ++r) {
                const __m512 sum = _mm512_set1_ps(p.group_sums[(row + r) * num_groups + group]);
                totals[r][v] = _mm512_fmadd_ps(sums[r][v], scale, totals[r][v]);
                totals[r][v] = _mm512_fmadd_ps(sum, minimum, totals[r][v]);
            }
        }
        blocks += block_bytes(kPlanes);
    }
    for (int v = 0; v < kVectors; ++v)
        for (int r = 0; r < kRows; ++r)
            _mm256_mask_storeu_epi16(
                p.out + (row + r) * p.num_outputs + (vector + v) * kLanes, mask_of(p, vector + v),
                reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(totals[r][v])));
}

template <int kPlanes, int kVectors>
void multiply_rows(const Problem &p, int64_t row, int64_t last_row, int64_t vector) {
    for (; row + 6 <= last_row; row += 6) multiply_tile<kPlanes, 6, kVectors>(p, row, vector);
    switch (last_row - row) {
        case 1: return multiply_tile<kPlanes, 1, kVectors>(p, row, vector);
        case 2: return multiply_tile<kPlanes, 2, kVectors>(p, row, vector);
        case 3: return multiply_tile<kPlanes, 3, kVectors>(p, row, vector);
        case 4: return multiply_tile<kPlanes, 4, kVectors>(p, row, vector);
        case 5: return multiply_tile<kPlanes, 5, kVectors>(p, row, vector);
        default: return;
    }
}

template <int kPlanes>
void multiply(const Problem &p, int64_t row, int64_t last_row, int64_t vector, int64_t end) {
    // A single row has so few sums that it takes more outputs at once to keep them apart.
    if (last_row - row == 1)
        for (; vector + 4 <= end; vector += 4) multiply_tile<kPlanes, 1, 4>(p, row, vector);
    for (; vector + 2 <= end; vector += 2) multiply_rows<kPlanes, 2>(p, row, last_row, vector);
    if (vector < end) multiply_rows<kPlanes, 1>(p, row, last_row, vector);
}

void sum_groups(const Problem &p, float *sums, int64_t first_row, int64_t last_row) {
    const int64_t num_groups = p.num_inputs / kGroup;
    const __m512bh ones = reinterpret_cast<__m512bh>(_mm512_set1_epi16(0x3f80));
    for (int64_t place = first_row * num_groups; place < last_row * num_groups; ++place) {
        const __m512bh group =
            reinterpret_cast<__m512bh>(_mm512_loadu_si512(p.x + place * kGroup));
        sums[place] = _mm512_reduce_add_ps(_mm512_dpbf16_ps(_mm512_setzero_ps(), group, ones));
    }
}

// One way to write a group: its values, and the squares of what they lose.
struct Draft {
    float scale, minimum, loss;
    __m512i low, high;
};

float round_to_half(float value) { return _cvtsh_ss(_cvtss_sh(value, _MM_FROUND_TO_NEAREST_INT)); }

Draft write_group(__m512 low, __m512 high, float scale, float minimum, int largest) {
    Draft draft;
    draft.scale = round_to_half(scale);
    draft.minimum = round_to_half(minimum);
    const float inverse = draft.scale != 0.0f ? 1.0f / draft.scale : 0.0f;
    const auto write = [&](__m512 w, float *loss) {
        const __m512 offset = _mm512_sub_ps(w, _mm512_set1_ps(draft.minimum));
        __m512i q = _mm512_cvtps_epi32(_mm512_mul_ps(offset, _mm512_set1_ps(inverse)));
        q = _mm512_min_epi32(_mm512_max_epi32(q, _mm512_setzero_si512()),
                             _mm512_set1_epi32(largest));
        const __m512 lost = _mm512_fnmadd_ps(_mm512_cvtepi32_ps(q), _mm512_set1_ps(draft.scale),
                                             offset);
        *loss = _mm512_reduce_add_ps(_mm512_mul_ps(lost, lost));
        return q;
    };
    float losses[2];
    draft.low = write(low, &losses[0]);
    draft.high = write(high, &losses[1]);
    draft.loss = losses[0] + losses[1];
    return draft;
}

// From the smallest to the largest, or around zero as Q4_0 and Q8_0 do: whichever loses less. What
// was quantised like this before comes back as it was.
Draft write_best(const float *weights, int largest) {
    const __m512 low = _mm512_loadu_ps(weights), high = _mm512_loadu_ps(weights + kLanes);
    const float min = _mm512_reduce_min_ps(_mm512_min_ps(low, high));
    const float max = _mm512_reduce_max_ps(_mm512_max_ps(low, high));
    const float middle = static_cast<float>(largest / 2 + 1);
    const Draft between = write_group(low, high, (max - min) / largest, min, largest);
    float step = std::max(-min, max) / (middle - 1);
    // Q4_0 reaches its largest with the more distant end of the range, whatever its sign.
    if (largest == 15) step = (-min > max ? -min : -max) / middle;
    step = round_to_half(step);
    const Draft around = write_group(low, high, step, -middle * step, largest);
    return around.loss < between.loss ? around : between;
}

void pack_block(const uint8_t (&values)[kLanes][kGroup], int num_planes, uint8_t *block) {
    for (int plane = 0; plane < num_planes; ++plane) {
        for (int64_t word = 0; word < 4 * 32; ++word) {
            const int64_t quarter = word / 32, lane = word % 32 / 2, side = word % 2;
            uint16_t packed = 0;
            for (int part = 0; part < 4; ++part) {
                const int value = values[lane][2 * (4 * quarter + part) + side];
                packed |= static_cast<uint16_t>((value >> (4 * plane) & 15) << (4 * part));
            }
            std::memcpy(block + plane * kPlaneBytes + 2 * word, &packed, sizeof packed);
        }
    }
}

}  // namespace

extern "C" int64_t muai_quantized_bytes(int64_t num_inputs, int64_t num_outputs, int64_t num_planes) {
    if (num_inputs % kGroup != 0) return 0;
    return (num_outputs + kLanes - 1) / kLanes * (num_inputs / kGroup) * block_bytes(num_planes);
}

// Writes weights [num_outputs, num_inputs] into out, which holds muai_quantized_bytes; returns the
// sum of the squares of what is lost.
extern "C" double muai_quantize(const float *weights, uint8_t *out, int64_t num_inputs,
                                int64_t num_outputs, int64_t num_planes) {
    const int64_t num_groups = num_inputs / kGroup;
    const int64_t num_vectors = (num_outputs + kLanes - 1) / kLanes;
    const int largest = num_planes == 1 ? 15 : 255;
    double loss = 0.0;
#pragma omp parallel for reduction(+ : loss)
    for (int64_t vector = 0; vector < num_vectors; ++vector) {
        for (int64_t group = 0; group < num_groups; ++group) {
            uint8_t *block = out + (vector * num_groups + group) * block_bytes(num_planes);
            uint8_t values[kLanes][kGroup] = {};
            uint16_t halves[2][kLanes] = {};
            for (int64_t lane = 0; lane < kLanes && vector * kLanes + lane < num_outputs; ++lane) {
                const Draft draft = write_best(
                    weights + (vector * kLanes + lane) * num_inputs + group * kGroup, largest);
                _mm_storeu_si128(reinterpret_cast<__m128i *>(values[lane]),
                                 _mm512_cvtepi32_epi8(draft.low));
                _mm_storeu_si128(reinterpret_cast<__m128i *>(values[lane] + kLanes),
                                 _mm512_cvtepi32_epi8(draft.high));
                halves[0][lane] = _cvtss_sh(draft.scale, _MM_FROUND_TO_NEAREST_INT);
                halves[1][lane] = _cvtss_sh(draft.minimum, _MM_FROUND_TO_NEAREST_INT);
                loss += draft.loss;
            }
            pack_block(values, static_cast<int>(num_planes), block);
            std::memcpy(block + num_planes * kPlaneBytes, halves, sizeof halves);
        }
    }
    return loss;
}

// out [num_rows, num_outputs] = x [num_rows, num_inputs] * weights + bias, all dense.
extern "C" void muai_quantized_linear(const uint16_t *x, const uint8_t *weights,
                                      const uint16_t *bias, uint16_t *out, int64_t num_rows,
                                      int64_t num_inputs, int64_t num_outputs, int64_t num_planes) {
    static thread_local std::vector<float> scratch;
    scratch.resize(static_cast<size_t>(num_rows * (num_inputs / kGroup)));
    float *sums = scratch.data();
    const Problem p{x, weights, bias, out, sums, num_rows, num_inputs, num_outputs};
    const int64_t num_vectors = (num_outputs + kLanes - 1) / kLanes;
    const auto run = num_planes == 1 ? multiply<1> : multiply<2>;
#pragma omp parallel
    {
        const int64_t num_threads = omp_get_num_threads(), thread = omp_get_thread_num();
        sum_groups(p, sums, num_rows * thread / num_threads, num_rows * (thread + 1) / num_threads);
#pragma omp barrier
        const int64_t begin = num_vectors * thread / num_threads;
        const int64_t end = num_vectors * (thread + 1) / num_threads;
        // Rows at a time, so that they stay in the second-level cache while all weights pass by.
        constexpr int64_t kRowsAtOnce = 192;
        for (int64_t row = 0; row < num_rows; row += kRowsAtOnce)
            run(p, row, std::min(num_rows, row + kRowsAtOnce), begin, end);
    }
}

#else

extern "C" int64_t muai_quantized_bytes(int64_t, int64_t, int64_t) { return 0; }

#endif
