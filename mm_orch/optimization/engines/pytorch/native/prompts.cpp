// Attention of prompts' tokens to all keys of their sequence, for AVX512_BF16; bfloat16.
//
//     1. keys and values of each sequence and KV head are laid out as tiles.h reads them
//     2. for each tile of queries of one head, over chunks of keys:
//            scores = queries * keys;  weights = softmax(scores so far);  sums += weights * values
//
// The softmax is kept up chunk by chunk (online, as in FlashAttention, arXiv:2205.14135), so that
// scores never leave the cache.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#if defined(__AVX512BF16__)
#include <omp.h>

#include "numbers.h"
#include "tiles.h"

namespace {

constexpr int64_t kQueries = 24;  // in a tile: four times the rows of an inner tile
constexpr int64_t kKeys = 256;    // in a chunk
constexpr float kMinusInfinity = -3.0e38f;

struct PromptShape {
    int64_t num_heads, num_kv_heads, block_tokens, query_stride, out_stride, window;
    float scale;
};

// One prompt: its first row, its queries (the last of its keys), and where they lie.
struct Prompt {
    int64_t row, num_queries, num_keys;
    const int64_t *blocks;

    int64_t padded_keys() const { return (num_keys + kLanes - 1) / kLanes * kLanes; }
};

// Lays out sixteen keys and values that lie side by side in one block.
template <int kDim>
void lay_out_block(const uint16_t *keys, const uint16_t *values, int64_t slot_size, int64_t count,
                   uint16_t *tiled_keys, uint16_t *tiled_values, int64_t value_stride) {
    alignas(64) int32_t offsets[kLanes];
    // Keys beyond the last are never looked at; any that exists does in their place.
    for (int64_t j = 0; j < kLanes; ++j)
        offsets[j] = static_cast<int32_t>(std::min(j, count - 1) * slot_size * 2);
    const __m512i index = _mm512_load_si512(offsets);
    for (int pair = 0; pair < kDim / 2; ++pair)
        _mm512_storeu_si512(tiled_keys + pair * 2 * kLanes,
                            _mm512_i32gather_epi32(index, keys + 2 * pair, 1));
    for (int64_t j = 0; j < kLanes; j += 2) {
        for (int part = 0; part < kDim / kLanes; ++part) {
            // Values beyond the last get weight zero, and zero times garbage may be NaN.
            __m256i first = _mm256_setzero_si256(), second = _mm256_setzero_si256();
            const uint16_t *value = values + j * slot_size + part * kLanes;
            if (j < count)
                first = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(value));
            if (j + 1 < count)
                second = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(value + slot_size));
            const __m512i both =
                _mm512_or_si512(_mm512_cvtepu16_epi32(first),
                                _mm512_slli_epi32(_mm512_cvtepu16_epi32(second), 16));
            _mm512_storeu_si512(tiled_values + part * value_stride + j * kLanes, both);
        }
    }
}

template <int kRows, int kVectors>
void score_tile(const uint16_t *queries, int64_t stride, const uint16_t *columns,
                int64_t num_pairs, float *scores) {
    __m512 sums[kRows][kVectors];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v) sums[r][v] = _mm512_setzero_ps();
    add_products<kRows, kVectors>(queries, stride, columns, num_pairs * 2 * kLanes, num_pairs,
                                  sums);
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kVectors; ++v)
            _mm512_storeu_ps(scores + r * kKeys + v * kLanes, sums[r][v]);
}

template <int kRows>
void score_rows(const uint16_t *queries, int64_t stride, const uint16_t *columns, int64_t num_pairs,
                int64_t num_vectors, float *scores) {
    int64_t v = 0;
    for (; v + kMaxVectors <= num_vectors; v += kMaxVectors)
        score_tile<kRows, kMaxVectors>(queries, stride, columns + v * num_pairs * 2 * kLanes,
                                       num_pairs, scores + v * kLanes);
    for (; v < num_vectors; ++v)
        score_tile<kRows, 1>(queries, stride, columns + v * num_pairs * 2 * kLanes, num_pairs,
                             scores + v * kLanes);
}

// sums [kRows, kDim] = sums * factors + weights * values
template <int kDim, int kRows>
void mix_rows(const uint16_t *weights, const uint16_t *columns, int64_t value_stride,
              int64_t num_pairs, const float *factors, float *sums) {
    constexpr int kParts = kDim / kLanes, kAtOnce = kParts < kMaxVectors ? kParts : kMaxVectors;
    static_assert(kParts % kAtOnce == 0, "heads are 16, 32, 48 or multiples of 64 wide");
    for (int part = 0; part < kParts; part += kAtOnce) {
        __m512 tile[kRows][kAtOnce];
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kAtOnce; ++v)
                tile[r][v] = _mm512_mul_ps(_mm512_set1_ps(factors[r]),
                                           _mm512_loadu_ps(sums + r * kDim + (part + v) * kLanes));
        add_products<kRows, kAtOnce>(weights, kKeys, columns + part * value_stride, value_stride,
                                     num_pairs, tile);
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < kAtOnce; ++v)
                _mm512_storeu_ps(sums + r * kDim + (part + v) * kLanes, tile[r][v]);
    }
}

// Calls visit with the number of rows as a constant: sixes, then what is left.
template <typename Visit>
void for_each_tile(int64_t num_rows, const Visit &visit) {
    int64_t row = 0;
    for (; row + kMaxRows <= num_rows; row += kMaxRows)
        visit(row, std::integral_constant<int, kMaxRows>());
    switch (num_rows - row) {
        case 1: return visit(row, std::integral_constant<int, 1>());
        case 2: return visit(row, std::integral_constant<int, 2>());
        case 3: return visit(row, std::integral_constant<int, 3>());
        case 4: return visit(row, std::integral_constant<int, 4>());
        case 5: return visit(row, std::integral_constant<int, 5>());
        default: return;
    }
}

// e^x as fast_exp computes it, for sixteen numbers.
inline __m512 fast_exp(__m512 x) {
    x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(88.0f));
    const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                                          _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    for (const float factor : {1.3981999507e-3f, 8.3334519073e-3f, 4.1665795894e-2f,
                               1.6666665459e-1f, 5.0000001201e-1f})
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(factor));
    p = _mm512_fmadd_ps(p, _mm512_mul_ps(r, r), _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
    return _mm512_scalef_ps(p, n);
}

// Which of the sixteen positions from ``position`` on lie in [begin, end).
inline __mmask16 mask_of(int64_t position, int64_t begin, int64_t end) {
    const int64_t low = std::min(std::max<int64_t>(begin - position, 0), kLanes);
    const int64_t high = std::min(std::max<int64_t>(end - position, low), kLanes);
    return static_cast<__mmask16>((1u << high) - (1u << low));
}

// Makes one row of scores to weights; those outside [begin, end) get none. Keeps the largest score
// and the sum of weights so far, and returns the factor for what was summed with the old largest.
inline float update_softmax(const float *scores, uint16_t *weights, int64_t begin, int64_t end,
                            int64_t num_padded, float scale, float &largest, float &total) {
    const __m512 factor_of_all = _mm512_set1_ps(scale);
    __m512 most = _mm512_set1_ps(largest);
    for (int64_t i = 0; i < num_padded; i += kLanes) {
        const __m512 score = _mm512_mul_ps(_mm512_loadu_ps(scores + i), factor_of_all);
        most = _mm512_mask_max_ps(most, mask_of(i, begin, end), most, score);
    }
    const float now = _mm512_reduce_max_ps(most);
    const float factor = largest == kMinusInfinity ? 0.0f : fast_exp(largest - now);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t i = 0; i < num_padded; i += kLanes) {
        const __m512 score = _mm512_fmsub_ps(_mm512_loadu_ps(scores + i), factor_of_all,
                                             _mm512_set1_ps(now));
        const __m512 weight =
            _mm512_maskz_mov_ps(mask_of(i, begin, end), fast_exp(score));
        sum = _mm512_add_ps(sum, weight);
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(weights + i),
                            reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(weight)));
    }
    total = total * factor + _mm512_reduce_add_ps(sum);
    largest = now;
    return factor;
}

// A tile of queries of one head: [first, first + count) of the prompt's.
template <int kDim>
void attend_tile(const uint16_t *queries, uint16_t *out, const Prompt &prompt,
                 const uint16_t *tiled_keys, const uint16_t *tiled_values, int64_t first,
                 int64_t count, const PromptShape &shape) {
    alignas(64) static thread_local float scores[kQueries * kKeys];
    alignas(64) static thread_local uint16_t weights[kQueries * kKeys];
    alignas(64) float sums[kQueries * kDim] = {};
    float largest[kQueries], totals[kQueries] = {}, factors[kQueries];
    std::fill(largest, largest + kQueries, kMinusInfinity);
    const int64_t position = prompt.num_keys - prompt.num_queries + first;
    const int64_t value_stride = prompt.padded_keys() * kLanes;
    const int64_t oldest = shape.window > 0 ? std::max<int64_t>(0, position + 1 - shape.window) : 0;
    for (int64_t begin = oldest / kKeys * kKeys; begin < position + count; begin += kKeys) {
        const int64_t left = std::min(kKeys, position + count - begin);
        const int64_t num_vectors = (left + kLanes - 1) / kLanes;
        for_each_tile(count, [&](int64_t row, auto rows) {
            score_rows<rows.value>(queries + row * shape.query_stride, shape.query_stride,
                                   tiled_keys + begin * kDim, kDim / 2, num_vectors,
                                   scores + row * kKeys);
        });
        for (int64_t row = 0; row < count; ++row) {
            const int64_t last = position + row + 1;
            const int64_t start = shape.window > 0 ? std::max<int64_t>(0, last - shape.window) : 0;
            factors[row] = update_softmax(
                scores + row * kKeys, weights + row * kKeys,
                std::min(std::max<int64_t>(0, start - begin), num_vectors * kLanes),
                std::min(last - begin, left), num_vectors * kLanes, shape.scale, largest[row],
                totals[row]);
        }
        for_each_tile(count, [&](int64_t row, auto rows) {
            mix_rows<kDim, rows.value>(weights + row * kKeys, tiled_values + begin * kLanes,
                                       value_stride, num_vectors * kLanes / 2, factors + row,
                                       sums + row * kDim);
        });
    }
    for (int64_t row = 0; row < count; ++row) {
        const __m512 factor = _mm512_set1_ps(1.0f / totals[row]);
        for (int64_t i = 0; i < kDim; i += kLanes)
            _mm256_storeu_si256(
                reinterpret_cast<__m256i *>(out + row * shape.out_stride + i),
                reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(
                    _mm512_mul_ps(_mm512_loadu_ps(sums + row * kDim + i), factor))));
    }
}

// Keys and values of one head of a prompt, laid out; both [padded_keys * kDim].
struct Tiled {
    uint16_t *keys, *values;
};

// What all threads of a call work on.
template <int kDim>
struct Work {
    const uint16_t *queries, *keys, *values;
    uint16_t *out;
    const PromptShape &shape;

    int64_t group() const { return shape.num_heads / shape.num_kv_heads; }

    // Lays out the sixteen keys and values from this position on.
    void lay_out(const Prompt &prompt, int64_t kv_head, int64_t position, Tiled tiled) const {
        const int64_t slot_size = shape.num_kv_heads * kDim;
        const int64_t slot = prompt.blocks[position / shape.block_tokens] * shape.block_tokens +
                             position % shape.block_tokens;
        const int64_t source = slot * slot_size + kv_head * kDim;
        lay_out_block<kDim>(keys + source, values + source, slot_size,
                            std::min(kLanes, prompt.num_keys - position),
                            tiled.keys + position * kDim, tiled.values + position * kLanes,
                            prompt.padded_keys() * kLanes);
    }

    void attend(const Prompt &prompt, int64_t head, int64_t first, Tiled tiled) const {
        const int64_t row = prompt.row + first;
        attend_tile<kDim>(queries + row * shape.query_stride + head * kDim,
                          out + row * shape.out_stride + head * kDim, prompt, tiled.keys,
                          tiled.values, first, std::min(kQueries, prompt.num_queries - first),
                          shape);
    }
};

// Memory for laid out keys and values, kept between calls: fresh memory would cost more than the
// work. Each thread has its own.
inline uint16_t *scratch_of(int64_t size) {
    static thread_local std::vector<uint16_t> scratch;
    if (static_cast<int64_t>(scratch.size()) < size) scratch.resize(size);
    return scratch.data();
}

// A tile of queries of one head of one prompt.
struct Item {
    const Prompt *prompt;
    int64_t head, first;
};

// Few queries: a thread takes tiles that follow each other, and lays out for itself what they
// need. What another thread has just written comes so slowly from its cache that sharing the laid
// out keys would cost three times what it saves.
template <int kDim>
void attend_short(const Work<kDim> &work, const std::vector<Prompt> &prompts) {
    std::vector<Item> items;
    // Of all items up to and with each one: a tile costs about its queries times its keys.
    std::vector<int64_t> costs;
    int64_t cost = 0;
    for (const Prompt &prompt : prompts)
        for (int64_t head = 0; head < work.shape.num_heads; ++head)
            for (int64_t first = 0; first < prompt.num_queries; first += kQueries) {
                items.push_back({&prompt, head, first});
                cost += std::min(kQueries, prompt.num_queries - first) * prompt.num_keys;
                costs.push_back(cost);
            }
    if (items.empty()) return;
#pragma omp parallel
    {
        const int64_t num_threads = omp_get_num_threads(), thread = omp_get_thread_num();
        const auto place_of = [&](int64_t number) {
            return std::upper_bound(costs.begin(), costs.end(), cost * number / num_threads) -
                   costs.begin();
        };
        const Prompt *prompt = nullptr;
        int64_t kv_head = -1;
        Tiled tiled{};
        const int64_t end = thread + 1 == num_threads ? static_cast<int64_t>(items.size())
                                                      : place_of(thread + 1);
        for (int64_t i = thread == 0 ? 0 : place_of(thread); i < end; ++i) {
            const Item &item = items[i];
            if (item.prompt != prompt || item.head / work.group() != kv_head) {
                prompt = item.prompt;
                kv_head = item.head / work.group();
                const int64_t size = prompt->padded_keys() * kDim;
                uint16_t *scratch = scratch_of(2 * size);
                tiled = {scratch, scratch + size};
                for (int64_t position = 0; position < prompt->num_keys; position += kLanes)
                    work.lay_out(*prompt, kv_head, position, tiled);
            }
            work.attend(*prompt, item.head, item.first, tiled);
        }
    }
}

// Many queries: all threads lay out all heads, then share the tiles.
template <int kDim>
void attend_long(const Work<kDim> &work, const Prompt &prompt) {
    const int64_t num_groups = prompt.padded_keys() / kLanes;
    const int64_t num_tiles = (prompt.num_queries + kQueries - 1) / kQueries;
    const int64_t size = prompt.padded_keys() * kDim;
    uint16_t *scratch = scratch_of(2 * size * work.shape.num_kv_heads);
    const auto tiled_of = [=](int64_t kv_head) {
        return Tiled{scratch + 2 * size * kv_head, scratch + 2 * size * kv_head + size};
    };
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t item = 0; item < work.shape.num_kv_heads * num_groups; ++item) {
            const int64_t kv_head = item / num_groups;
            work.lay_out(prompt, kv_head, item % num_groups * kLanes, tiled_of(kv_head));
        }
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < work.shape.num_heads * num_tiles; ++item) {
            const int64_t head = item % work.shape.num_heads;
            // The last tiles attend to the most keys: begun first, they end with the others.
            work.attend(prompt, head, (num_tiles - 1 - item / work.shape.num_heads) * kQueries,
                        tiled_of(head / work.group()));
        }
    }
}

constexpr int64_t kFewQueries = 128;

template <int kDim>
void attend_prompts(const Work<kDim> &work, const std::vector<Prompt> &prompts) {
    std::vector<Prompt> few;
    for (const Prompt &prompt : prompts) {
        if (prompt.num_queries > kFewQueries)
            attend_long(work, prompt);
        else
            few.push_back(prompt);
    }
    attend_short(work, few);
}

}  // namespace

// table: [num_prompts, 4], for each prompt its row, queries, keys, and first index into blocks.
// Blocks hold a multiple of sixteen tokens.
#define MUAI_EXPORT_PROMPTS(DIM)                                                                   \
    extern "C" void muai_attend_prompts_##DIM(                                                     \
        const uint16_t *queries, const uint16_t *keys, const uint16_t *values, uint16_t *out,      \
        const int64_t *table, const int64_t *blocks, int64_t num_prompts,                          \
        const PromptShape *shape) {                                                                \
        std::vector<Prompt> prompts;                                                               \
        for (const int64_t *t = table; t < table + 4 * num_prompts; t += 4)                        \
            prompts.push_back({t[0], t[1], t[2], blocks + t[3]});                                  \
        attend_prompts<DIM>({queries, keys, values, out, *shape}, prompts);                        \
    }

// native/kernels.py knows this list.
MUAI_EXPORT_PROMPTS(16)
MUAI_EXPORT_PROMPTS(32)
MUAI_EXPORT_PROMPTS(64)
MUAI_EXPORT_PROMPTS(128)
MUAI_EXPORT_PROMPTS(256)

#endif
