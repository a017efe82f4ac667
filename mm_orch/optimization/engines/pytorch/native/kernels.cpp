// The operations of a decoder step that torch has only as chains of small ones, for the CPU.
//
// Each export works on whole rows of a packed step ([num_rows, ...], see ../packed.py), reads and
// writes either float or bfloat16, and computes in float. Built by build.py with the machine's own
// compiler; torch_kernels.py is the same in plain torch, and the tests hold the two together.
//
// Threads are OpenMP's, from the very library that torch has loaded: a second pool would fight it.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

#include "numbers.h"

namespace {

// Fewer numbers than this are not worth waking the other threads for.
constexpr int64_t kMinParallel = 16384;

// residual += x; out = residual / rms(residual) * weight
template <typename T>
void add_rms_norm(const T *x, T *residual, const T *weight, T *out, int64_t num_rows, int64_t size,
                  float eps) {
#pragma omp parallel for if (num_rows * size >= kMinParallel)
    for (int64_t row = 0; row < num_rows; ++row) {
        T *r = residual + row * size;
        float sum = 0;
        if (x != nullptr) {
            const T *add = x + row * size;
            for (int64_t i = 0; i < size; ++i) store(r + i, load(r[i]) + load(add[i]));
        }
        for (int64_t i = 0; i < size; ++i) sum += load(r[i]) * load(r[i]);
        const float scale = 1.0f / std::sqrt(sum / static_cast<float>(size) + eps);
        T *o = out + row * size;
        for (int64_t i = 0; i < size; ++i) {
            // transformers rounds the normalised value before it multiplies.
            T normal;
            store(&normal, load(r[i]) * scale);
            store(o + i, load(normal) * load(weight[i]));
        }
    }
}

// gate_up: [num_rows, 2 * size] -> out: [num_rows, size], silu(gate) * up
template <typename T>
void silu_mul(const T *gate_up, T *out, int64_t num_rows, int64_t size) {
#pragma omp parallel for if (num_rows * size >= kMinParallel)
    for (int64_t row = 0; row < num_rows; ++row) {
        const T *gate = gate_up + row * 2 * size, *up = gate + size;
        T *o = out + row * size;
        for (int64_t i = 0; i < size; ++i) {
            const float g = load(gate[i]);
            T activated;
            store(&activated, g / (1.0f + fast_exp(-g)));
            store(o + i, load(activated) * load(up[i]));
        }
    }
}

// One head: optional RMS norm (Qwen3), then rotation of the halves (RoPE, arXiv:2104.09864).
template <typename T>
void rotate(const T *head, const T *norm, const T *cos, const T *sin, T *out, int64_t dim,
            float eps) {
    float values[512];
    for (int64_t i = 0; i < dim; ++i) values[i] = load(head[i]);
    if (norm != nullptr) {
        float sum = 0;
        for (int64_t i = 0; i < dim; ++i) sum += values[i] * values[i];
        const float scale = 1.0f / std::sqrt(sum / static_cast<float>(dim) + eps);
        for (int64_t i = 0; i < dim; ++i) {
            T normal;
            store(&normal, values[i] * scale);
            store(&normal, load(normal) * load(norm[i]));
            values[i] = load(normal);
        }
    }
    const int64_t half = dim / 2;
    for (int64_t i = 0; i < half; ++i) {
        const float c = load(cos[i]), s = load(sin[i]);
        store(out + i, values[i] * c - values[i + half] * s);
        store(out + i + half, values[i + half] * c + values[i] * s);
    }
}

struct RopeShape {
    int64_t num_rows, num_heads, num_kv_heads, head_dim;
    float eps;
};

// qkv: [num_rows, (num_heads + 2 * num_kv_heads) * head_dim]; rotates queries in place, and puts
// rotated keys and plain values into their slots.
template <typename T>
void rope_store(T *qkv, const T *q_norm, const T *k_norm, const T *cos, const T *sin,
                const int64_t *slots, T *keys, T *values, const RopeShape &shape) {
    const int64_t dim = shape.head_dim, num_kv = shape.num_kv_heads * dim;
    const int64_t width = (shape.num_heads + 2 * shape.num_kv_heads) * dim;
#pragma omp parallel for if (shape.num_rows * width >= kMinParallel)
    for (int64_t row = 0; row < shape.num_rows; ++row) {
        T *q = qkv + row * width;
        const T *c = cos + row * dim, *s = sin + row * dim;
        for (int64_t head = 0; head < shape.num_heads; ++head)
            rotate(q + head * dim, q_norm, c, s, q + head * dim, dim, shape.eps);
        if (slots[row] < 0) continue;  // only rounds the shape up
        const T *k = q + shape.num_heads * dim, *v = k + num_kv;
        for (int64_t head = 0; head < shape.num_kv_heads; ++head)
            rotate(k + head * dim, k_norm, c, s, keys + slots[row] * num_kv + head * dim, dim,
                   shape.eps);
        std::memcpy(values + slots[row] * num_kv, v, num_kv * sizeof(T));
    }
}

struct AttentionShape {
    int64_t num_heads, num_kv_heads, block_tokens, query_stride, out_stride, window;
    float scale;
};

// Where a sequence's keys and values of one KV head lie: those of a block are evenly spaced.
struct HeadBlocks {
    const int64_t *blocks;
    int64_t block_tokens, slot_size, head_offset, first, last;

    // Calls visit(offset of the first, its position, how many) for each block's run of tokens.
    template <typename Visit>
    void for_each_run(const Visit &visit) const {
        for (int64_t position = first; position < last;) {
            const int64_t within = position % block_tokens;
            const int64_t count = std::min(block_tokens - within, last - position);
            const int64_t slot = blocks[position / block_tokens] * block_tokens + within;
            visit(slot * slot_size + head_offset, position, count);
            position += count;
        }
    }
};

// Sixteen floats at once, which the compiler maps to whatever registers the machine has.
constexpr int kLanes = 16;
typedef float vec __attribute__((vector_size(kLanes * sizeof(float))));

inline vec load_vec(const float *source) {
    vec result;
    std::memcpy(&result, source, sizeof result);
    return result;
}

inline vec load_vec(const bf16 *source) {
    typedef uint16_t half_vec __attribute__((vector_size(kLanes * sizeof(uint16_t))));
    typedef uint32_t bits_vec __attribute__((vector_size(kLanes * sizeof(uint32_t))));
    half_vec halves;
    std::memcpy(&halves, source, sizeof halves);
    const bits_vec bits = __builtin_convertvector(halves, bits_vec) << 16;
    return reinterpret_cast<const vec &>(bits);
}

inline float sum_of(vec x) {
    typedef float half __attribute__((vector_size(kLanes / 2 * sizeof(float))));
    typedef float quarter __attribute__((vector_size(kLanes / 4 * sizeof(float))));
    half halves[2];
    std::memcpy(halves, &x, sizeof halves);
    const half h = halves[0] + halves[1];
    quarter quarters[2];
    std::memcpy(quarters, &h, sizeof quarters);
    const quarter q = quarters[0] + quarters[1];
    return (q[0] + q[1]) + (q[2] + q[3]);
}

// Dot products of kHeads queries with each key. What is fixed when compiling stays in registers.
template <typename T, int kDim, int kHeads>
void score(const float *queries, const T *keys, const HeadBlocks &where, float *scores,
           int64_t score_stride) {
    constexpr int kParts = kDim / kLanes;
    vec parts[kHeads][kParts];
    for (int head = 0; head < kHeads; ++head)
        for (int i = 0; i < kParts; ++i)
            parts[head][i] = load_vec(queries + head * kDim + i * kLanes);
    where.for_each_run([&](int64_t offset, int64_t position, int64_t count) {
        for (int64_t token = 0; token < count; ++token) {
            const T *key = keys + offset + token * where.slot_size;
            vec dots[kHeads] = {};
            for (int i = 0; i < kParts; ++i) {
                const vec part = load_vec(key + i * kLanes);
                for (int head = 0; head < kHeads; ++head) dots[head] += parts[head][i] * part;
            }
            for (int head = 0; head < kHeads; ++head)
                scores[head * score_stride + position + token] = sum_of(dots[head]);
        }
    });
}

// Sums of values, weighted for kHeads queries.
template <typename T, int kDim, int kHeads>
void mix(const float *weights, int64_t weight_stride, const T *values, const HeadBlocks &where,
         T *out) {
    constexpr int kParts = kDim / kLanes;
    vec sums[kHeads][kParts] = {};
    where.for_each_run([&](int64_t offset, int64_t position, int64_t count) {
        for (int64_t token = 0; token < count; ++token) {
            const T *value = values + offset + token * where.slot_size;
            for (int i = 0; i < kParts; ++i) {
                const vec part = load_vec(value + i * kLanes);
                for (int head = 0; head < kHeads; ++head)
                    sums[head][i] += weights[head * weight_stride + position + token] * part;
            }
        }
    });
    for (int head = 0; head < kHeads; ++head)
        for (int i = 0; i < kDim; ++i)
            store(out + head * kDim + i, sums[head][i / kLanes][i % kLanes]);
}

// Makes scores, [first, last), to weights that add up to one.
inline void softmax(float *scores, int64_t first, int64_t last) {
    // Lane by lane, so that it is vectorised: a plain maximum would go one by one.
    float most[kLanes], total = 0;
    std::fill(most, most + kLanes, scores[first]);
    int64_t p = first;
    for (; p + kLanes <= last; p += kLanes)
        for (int lane = 0; lane < kLanes; ++lane)
            most[lane] = scores[p + lane] > most[lane] ? scores[p + lane] : most[lane];
    for (; p < last; ++p) most[0] = std::max(most[0], scores[p]);
    const float largest = *std::max_element(most, most + kLanes);
    for (p = first; p < last; ++p) scores[p] = fast_exp(scores[p] - largest);
    for (p = first; p < last; ++p) total += scores[p];
    const float factor = 1.0f / total;
    for (p = first; p < last; ++p) scores[p] *= factor;
}

// kHeads query heads that share a KV head, of one decoding sequence.
template <typename T, int kDim, int kHeads>
void attend_heads(const T *query, const T *keys, const T *values, T *out, const HeadBlocks &where,
                  float scale, std::vector<float> &scratch) {
    const int64_t stride = where.last;
    scratch.resize(kHeads * stride);
    float queries[kHeads * kDim];
    for (int i = 0; i < kHeads * kDim; ++i) queries[i] = load(query[i]) * scale;
    score<T, kDim, kHeads>(queries, keys, where, scratch.data(), stride);
    for (int head = 0; head < kHeads; ++head)
        softmax(scratch.data() + head * stride, where.first, where.last);
    mix<T, kDim, kHeads>(scratch.data(), stride, values, where, out);
}

// All query heads of one KV head, as many at a time as registers hold.
template <typename T, int kDim>
void attend_group(const T *query, const T *keys, const T *values, T *out, int64_t group,
                  const HeadBlocks &where, float scale, std::vector<float> &scratch) {
    constexpr int kMost = kDim <= 64 ? 3 : kDim <= 128 ? 2 : 1;
    while (group >= kMost) {
        attend_heads<T, kDim, kMost>(query, keys, values, out, where, scale, scratch);
        query += kMost * kDim, out += kMost * kDim, group -= kMost;
    }
    for (; group > 0; --group) {
        attend_heads<T, kDim, 1>(query, keys, values, out, where, scale, scratch);
        query += kDim, out += kDim;
    }
}

// queries and out are read and written at the row of each sequence; other rows stay as they are.
template <typename T, int kDim>
void attend_decoding(const T *queries, const T *keys, const T *values, T *out, const int64_t *rows,
                     const int64_t *num_keys, const int64_t *block_starts, const int64_t *blocks,
                     int64_t num_sequences, const AttentionShape &shape) {
    const int64_t num_items = num_sequences * shape.num_kv_heads;
    const int64_t group = shape.num_heads / shape.num_kv_heads;
    // With several sequences a thread takes all heads of one: their rows lie side by side.
    const int64_t chunk = num_sequences > 1 ? shape.num_kv_heads : 1;
#pragma omp parallel if (num_items > 1)
    {
        std::vector<float> scratch;
#pragma omp for schedule(dynamic, chunk)
        for (int64_t item = 0; item < num_items; ++item) {
            const int64_t sequence = item / shape.num_kv_heads, head = item % shape.num_kv_heads;
            const int64_t last = num_keys[sequence];
            const int64_t first = shape.window > 0 ? std::max<int64_t>(0, last - shape.window) : 0;
            const HeadBlocks where{blocks + block_starts[sequence], shape.block_tokens,
                                   shape.num_kv_heads * kDim,       head * kDim,
                                   first,                           last};
            const int64_t heads_before = head * group * kDim;
            attend_group<T, kDim>(queries + rows[sequence] * shape.query_stride + heads_before, keys,
                                  values, out + rows[sequence] * shape.out_stride + heads_before,
                                  group, where, shape.scale, scratch);
        }
    }
}

}  // namespace

#define MUAI_EXPORT(T, SUFFIX)                                                                     \
    extern "C" void muai_add_rms_norm_##SUFFIX(const T *x, T *residual, const T *weight, T *out,   \
                                               int64_t num_rows, int64_t size, float eps) {        \
        add_rms_norm(x, residual, weight, out, num_rows, size, eps);                               \
    }                                                                                              \
    extern "C" void muai_silu_mul_##SUFFIX(const T *gate_up, T *out, int64_t num_rows,             \
                                           int64_t size) {                                         \
        silu_mul(gate_up, out, num_rows, size);                                                    \
    }                                                                                              \
    extern "C" void muai_rope_store_##SUFFIX(                                                      \
        T *qkv, const T *q_norm, const T *k_norm, const T *cos, const T *sin,                      \
        const int64_t *slots, T *keys, T *values, const RopeShape *shape) {                        \
        rope_store(qkv, q_norm, k_norm, cos, sin, slots, keys, values, *shape);                    \
    }

MUAI_EXPORT(float, fp32)
MUAI_EXPORT(bf16, bf16)

// The size of a head is fixed when compiling: its loops unroll and its sums stay in registers.
#define MUAI_EXPORT_ATTENTION(T, SUFFIX, DIM)                                                      \
    extern "C" void muai_attend_decoding_##SUFFIX##_##DIM(                                         \
        const T *queries, const T *keys, const T *values, T *out, const int64_t *rows,             \
        const int64_t *num_keys, const int64_t *block_starts, const int64_t *blocks,               \
        int64_t num_sequences, const AttentionShape *shape) {                                      \
        attend_decoding<T, DIM>(queries, keys, values, out, rows, num_keys, block_starts, blocks,  \
                                num_sequences, *shape);                                            \
    }

// native/kernels.py knows this list.
#define MUAI_EXPORT_HEADS(DIM)                                                                     \
    MUAI_EXPORT_ATTENTION(float, fp32, DIM)                                                        \
    MUAI_EXPORT_ATTENTION(bf16, bf16, DIM)

MUAI_EXPORT_HEADS(16)
MUAI_EXPORT_HEADS(32)
MUAI_EXPORT_HEADS(64)
MUAI_EXPORT_HEADS(80)
MUAI_EXPORT_HEADS(96)
MUAI_EXPORT_HEADS(128)
MUAI_EXPORT_HEADS(256)
