// Matrix product of a step's rows with packed bfloat16 weights, for processors with AVX512_BF16.
//
// Weights of [num_outputs, num_inputs] lie as [outputs / 16][inputs / 2][16][2], so that one
// register holds a pair of inputs for sixteen outputs, which is what the processor multiplies:
//
//     pairs of inputs     output 0     output 1   ...  output 15
//     (x0, x1)            w00 w01      w10 w11         wf0 wf1      one instruction: 32 products
//
// At one row the weights stream from memory at its full speed; at many the tile of 6 rows and 64
// outputs keeps its sums in registers.

#include <algorithm>
#include <cstdint>
#include <cstring>

#if defined(__AVX512BF16__)
#include <omp.h>

#include "tiles.h"

namespace {

struct Problem {
    const uint16_t *x, *weights, *bias;
    uint16_t *out;
    int64_t num_rows, num_inputs, num_outputs;
};

// Rows [row, row + kRows) times output vectors [vector, vector + kVectors).
template <int kRows, int kVectors>
void multiply_tile(const Problem &p, int64_t row, int64_t vector) {
    const int64_t num_pairs = p.num_inputs / 2;
    __m512 sums[kRows][kVectors];
    for (int v = 0; v < kVectors; ++v) {
        __m512 start = _mm512_setzero_ps();
        if (p.bias != nullptr) {
            const int64_t begin = (vector + v) * kLanes;
            const int64_t left = std::min(kLanes, p.num_outputs - begin);
            const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1);
            start = widen(_mm256_maskz_loadu_epi16(mask, p.bias + begin));
        }
        for (int r = 0; r < kRows; ++r) sums[r][v] = start;
    }
    add_products<kRows, kVectors>(p.x + row * p.num_inputs, p.num_inputs,
                                  p.weights + vector * num_pairs * 2 * kLanes,
                                  num_pairs * 2 * kLanes, num_pairs, sums);
    for (int v = 0; v < kVectors; ++v) {
        const int64_t begin = (vector + v) * kLanes;
        const int64_t left = std::min(kLanes, p.num_outputs - begin);
        const __mmask16 mask = static_cast<__mmask16>((1u << left) - 1);
        for (int r = 0; r < kRows; ++r)
            _mm256_mask_storeu_epi16(p.out + (row + r) * p.num_outputs + begin, mask,
                                     reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(sums[r][v])));
    }
}

template <int kVectors>
void multiply_rows(const Problem &p, int64_t first_row, int64_t last_row, int64_t vector) {
    int64_t row = first_row;
    for (; row + kMaxRows <= last_row; row += kMaxRows)
        multiply_tile<kMaxRows, kVectors>(p, row, vector);
    switch (last_row - row) {
        case 1: return multiply_tile<1, kVectors>(p, row, vector);
        case 2: return multiply_tile<2, kVectors>(p, row, vector);
        case 3: return multiply_tile<3, kVectors>(p, row, vector);
        case 4: return multiply_tile<4, kVectors>(p, row, vector);
        case 5: return multiply_tile<5, kVectors>(p, row, vector);
        default: return;
    }
}

void multiply(const Problem &p, int64_t first_row, int64_t last_row, int64_t vector, int64_t end) {
    for (; vector + kMaxVectors <= end; vector += kMaxVectors)
        multiply_rows<kMaxVectors>(p, first_row, last_row, vector);
    switch (end - vector) {
        case 1: return multiply_rows<1>(p, first_row, last_row, vector);
        case 2: return multiply_rows<2>(p, first_row, last_row, vector);
        case 3: return multiply_rows<3>(p, first_row, last_row, vector);
        default: return;
    }
}

// Rows at a time, so that they stay in the second-level cache while all weights pass by.
constexpr int64_t kRowsAtOnce = 192;

}  // namespace

extern "C" int muai_has_linear() { return 1; }

// out [num_rows, num_outputs] = x [num_rows, num_inputs] * weights + bias, all dense.
extern "C" void muai_linear(const uint16_t *x, const uint16_t *weights, const uint16_t *bias,
                            uint16_t *out, int64_t num_rows, int64_t num_inputs,
                            int64_t num_outputs) {
    const Problem p{x, weights, bias, out, num_rows, num_inputs, num_outputs};
    const int64_t num_vectors = (num_outputs + kLanes - 1) / kLanes;
#pragma omp parallel
    {
        const int64_t num_threads = omp_get_num_threads(), thread = omp_get_thread_num();
        const int64_t begin = num_vectors * thread / num_threads;
        const int64_t end = num_vectors * (thread + 1) / num_threads;
        for (int64_t row = 0; row < num_rows; row += kRowsAtOnce)
            multiply(p, row, std::min(num_rows, row + kRowsAtOnce), begin, end);
    }
}

#else

extern "C" int muai_has_linear() { return 0; }

#endif
