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

namespace {

struct bf16 {
    uint16_t bits;
};

inline float load(float value) { return value; }

inline float load(bf16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof result);
    return result;
}

inline void store(float *target, float value) { *target = value; }

// Rounds to nearest even, as torch does; NaN stays NaN.
inline void store(bf16 *target, float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    target->bits = static_cast<uint16_t>(is_nan ? 0x7fc0 : rounded);
}

// e^x to within two units in the last place (Cephes' polynomial), in a form that compilers
// vectorise; below -87 it gives the smallest normal number, which softmax and silu take for zero.
inline float fast_exp(float x) {
    x = std::min(std::max(x, -87.0f), 88.0f);
    const float n = std::floor(x * 1.44269504f + 0.5f);
    // Two fused steps: the compiler may reorder sums, and must not reorder this one.
    const float r = __builtin_fmaf(n, 2.12194440e-4f, __builtin_fmaf(n, -0.693359375f, x));
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const int32_t bits = (static_cast<int32_t>(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return p * power;
}

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
    int64_t num_heads, num_kv_heads, head_dim, block_tokens, query_stride, out_stride, window;
    float scale;
};

// All query heads of one KV head of one decoding sequence, over its blocks. kDim is the head's
// size where it is known when compiling, which unrolls the inner loops; else 0.
template <typename T, int kDim>
void attend_group(const T *query, const T *keys, const T *values, T *out, const int64_t *blocks,
                  int64_t num_keys, int64_t kv_head, const AttentionShape &shape,
                  std::vector<float> &scratch) {
    const int64_t dim = kDim ? kDim : shape.head_dim;
    const int64_t group = shape.num_heads / shape.num_kv_heads;
    const int64_t slot_size = shape.num_kv_heads * dim;
    const int64_t first = shape.window > 0 ? std::max<int64_t>(0, num_keys - shape.window) : 0;
    scratch.resize(group * (num_keys + 2 * dim) + dim);
    float *q = scratch.data(), *sums = q + group * dim, *row = sums + group * dim;
    float *scores = row + dim;
    const T *group_query = query + kv_head * group * dim;
    for (int64_t i = 0; i < group * dim; ++i) q[i] = load(group_query[i]) * shape.scale;
    const auto offset_of = [&](int64_t position) {
        const int64_t slot = blocks[position / shape.block_tokens] * shape.block_tokens +
                             position % shape.block_tokens;
        return slot * slot_size + kv_head * dim;
    };
    for (int64_t position = first; position < num_keys; ++position) {
        const T *key = keys + offset_of(position);
        for (int64_t i = 0; i < dim; ++i) row[i] = load(key[i]);
        for (int64_t head = 0; head < group; ++head) {
            float dot = 0;
            for (int64_t i = 0; i < dim; ++i) dot += q[head * dim + i] * row[i];
            scores[head * num_keys + position] = dot;
        }
    }
    for (int64_t head = 0; head < group; ++head) {
        float *s = scores + head * num_keys;
        float largest = s[first], total = 0;
        for (int64_t p = first; p < num_keys; ++p) largest = std::max(largest, s[p]);
        for (int64_t p = first; p < num_keys; ++p) s[p] = fast_exp(s[p] - largest);
        for (int64_t p = first; p < num_keys; ++p) total += s[p];
        for (int64_t p = first; p < num_keys; ++p) s[p] /= total;
    }
    std::fill(sums, sums + group * dim, 0.0f);
    for (int64_t position = first; position < num_keys; ++position) {
        const T *value = values + offset_of(position);
        for (int64_t i = 0; i < dim; ++i) row[i] = load(value[i]);
        for (int64_t head = 0; head < group; ++head) {
            const float weight = scores[head * num_keys + position];
            for (int64_t i = 0; i < dim; ++i) sums[head * dim + i] += weight * row[i];
        }
    }
    T *target = out + kv_head * group * dim;
    for (int64_t i = 0; i < group * dim; ++i) store(target + i, sums[i]);
}

// queries and out are read and written at the row of each sequence; other rows stay as they are.
template <typename T>
void attend_decoding(const T *queries, const T *keys, const T *values, T *out, const int64_t *rows,
                     const int64_t *num_keys, const int64_t *block_starts, const int64_t *blocks,
                     int64_t num_sequences, const AttentionShape &shape) {
    const int64_t num_items = num_sequences * shape.num_kv_heads;
    const auto attend = shape.head_dim == 64    ? attend_group<T, 64>
                        : shape.head_dim == 128 ? attend_group<T, 128>
                                                : attend_group<T, 0>;
#pragma omp parallel if (num_items > 1)
    {
        std::vector<float> scratch;
#pragma omp for schedule(dynamic)
        for (int64_t item = 0; item < num_items; ++item) {
            const int64_t sequence = item / shape.num_kv_heads;
            attend(queries + rows[sequence] * shape.query_stride, keys, values,
                   out + rows[sequence] * shape.out_stride, blocks + block_starts[sequence],
                   num_keys[sequence], item % shape.num_kv_heads, shape, scratch);
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
    }                                                                                              \
    extern "C" void muai_attend_decoding_##SUFFIX(                                                 \
        const T *queries, const T *keys, const T *values, T *out, const int64_t *rows,             \
        const int64_t *num_keys, const int64_t *block_starts, const int64_t *blocks,               \
        int64_t num_sequences, const AttentionShape *shape) {                                      \
        attend_decoding(queries, keys, values, out, rows, num_keys, block_starts, blocks,          \
                        num_sequences, *shape);                                                    \
    }

MUAI_EXPORT(float, fp32)
MUAI_EXPORT(bf16, bf16)
