// The inner loop of every bfloat16 product, for processors with AVX512_BF16.
//
// One side lies row by row; the other as [columns / 16][inputs / 2][16][2], so that one register
// holds a pair of inputs for sixteen columns, which is what the processor multiplies at once.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace {

constexpr int64_t kLanes = 16;
// So many sums fit into the 32 registers beside what they are made of.
constexpr int kMaxRows = 6, kMaxVectors = 4;

inline __m512 widen(__m256i halves) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

// sums += x [kRows, 2 * num_pairs] * columns [kVectors * 16]; strides in numbers.
template <int kRows, int kVectors>
inline void add_products(const uint16_t *x, int64_t x_stride, const uint16_t *columns,
                         int64_t vector_stride, int64_t num_pairs,
                         __m512 (&sums)[kRows][kVectors]) {
    for (int64_t pair = 0; pair < num_pairs; ++pair) {
        if (kRows == 1)
            for (int v = 0; v < kVectors; ++v)
                _mm_prefetch(reinterpret_cast<const char *>(
                                 columns + (kVectors + v) * vector_stride + pair * 2 * kLanes),
                             _MM_HINT_T1);
        __m512bh column[kVectors];
        for (int v = 0; v < kVectors; ++v)
            column[v] = reinterpret_cast<__m512bh>(
                _mm512_loadu_si512(columns + v * vector_stride + pair * 2 * kLanes));
        for (int r = 0; r < kRows; ++r) {
            int32_t both;
            std::memcpy(&both, x + r * x_stride + 2 * pair, sizeof both);
            const __m512bh inputs = reinterpret_cast<__m512bh>(_mm512_set1_epi32(both));
            for (int v = 0; v < kVectors; ++v)
                sums[r][v] = _mm512_dpbf16_ps(sums[r][v], inputs, column[v]);
        }
    }
}

}  // namespace
