// Row operations: RMSNorm, RoPE, SwiGLU, the residual sum, the softmax over the vocabulary, AdamW.
//
// One block processes a row (or a range of elements); sums are f32 in a fixed order. Names end in the types of inputs and
// outputs: f for f32, b for bf16.

#include "common.h"

#define THREADS 256

// The sum of every thread's x, in every thread.
DEVICE float block_sum(float x, float *shared) {
    unsigned t = threadIdx.x;
    __syncthreads();
    shared[t] = x;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) shared[t] += shared[t + half];
        __syncthreads();
    }
    return shared[0];
}

// The largest of every thread's x, in every thread.
DEVICE float block_max(float x, float *shared) {
    unsigned t = threadIdx.x;
    __syncthreads();
    shared[t] = x;
    __syncthreads();
    for (unsigned half = blockDim.x / 2; half > 0; half /= 2) {
        if (t < half) shared[t] = fmaxf(shared[t], shared[t + half]);
        __syncthreads();
    }
    return shared[0];
}

// y = x / sqrt(mean x^2 + eps) * gamma for rows of `width`.
template <typename X, typename G, typename Y>
DEVICE void norm(const X *x, const G *gamma, Y *y, unsigned width, float eps, float *shared) {
    size_t at = (size_t)blockIdx.x * width;
    float sum = 0.0f;
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        float v = get(x[at + i]);
        sum += v * v;
    }
    float r = 1.0f / sqrtf(block_sum(sum, shared) / width + eps);
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        put(y[at + i], get(x[at + i]) * r * get(gamma[i]));
    }
}

// With u = x*r: dx = (g - u * mean(g*u)) * r for g = dy * gamma, added to `on` unless it is null.
template <typename X, typename G, typename Y>
DEVICE void norm_back(const X *x, const G *gamma, const Y *dy, const float *on, float *dx, unsigned width, float eps,
                      float *shared) {
    size_t at = (size_t)blockIdx.x * width;
    float squares = 0.0f, along = 0.0f;
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        float v = get(x[at + i]);
        squares += v * v;
        along += get(dy[at + i]) * get(gamma[i]) * v;
    }
    float r = 1.0f / sqrtf(block_sum(squares, shared) / width + eps);
    float pull = block_sum(along, shared) * r * r * r / width;
    for (unsigned i = threadIdx.x; i < width; i += blockDim.x) {
        float d = get(dy[at + i]) * get(gamma[i]) * r - get(x[at + i]) * pull;
        dx[at + i] = on ? on[at + i] + d : d;
    }
}

#define NORM(X, G, Y, x, g, y)                                                                                              \
    KERNEL norm_##x##g##y(const X *in, const G *gamma, Y *out, unsigned width, float eps) {                                 \
        SHARED float shared[THREADS];                                                                                       \
        norm(in, gamma, out, width, eps, shared);                                                                           \
    }                                                                                                                       \
    KERNEL norm_back_##x##g##y(const X *in, const G *gamma, const Y *dy, const float *on, float *dx, unsigned width,        \
                               float eps) {                                                                                 \
        SHARED float shared[THREADS];                                                                                       \
        norm_back(in, gamma, dy, on, dx, width, eps, shared);                                                               \
    }

NORM(float, float, float, f, f, f)
NORM(float, bf16, bf16, f, b, b)
NORM(float, float, bf16, f, f, b)
NORM(bf16, bf16, bf16, b, b, b)
NORM(bf16, float, bf16, b, f, b)
NORM(float, bf16, float, f, b, f)

// Applies RoPE to the heads of `[queries | keys | values]`, the first `heads` of `all` heads of width 2*half, by their row's
// angles; the others are copied. `side` is 1, or -1 for the inverse.
template <typename T>
DEVICE void turn(const T *x, const float *cosines, const float *sines, T *y, unsigned heads, unsigned all, unsigned half,
                 float side) {
    size_t row = blockIdx.x;
    const T *from = x + row * all * 2 * half;
    T *to = y + row * all * 2 * half;
    for (unsigned i = threadIdx.x; i < all * half; i += blockDim.x) {
        unsigned head = i / half, k = i % half, at = head * 2 * half + k;
        float first = get(from[at]), second = get(from[at + half]);
        if (head < heads) {
            float c = cosines[row * half + k], s = side * sines[row * half + k];
            float left = first * c - second * s;
            second = second * c + first * s;
            first = left;
        }
        put(to[at], first);
        put(to[at + half], second);
    }
}

// silu(gate) * up of rows `[gate | up]`, ff numbers each.
template <typename T>
DEVICE void swiglu(const T *x, T *y, unsigned ff) {
    const T *row = x + (size_t)blockIdx.x * 2 * ff;
    T *to = y + (size_t)blockIdx.x * ff;
    for (unsigned i = threadIdx.x; i < ff; i += blockDim.x) {
        float gate = get(row[i]);
        put(to[i], gate / (1.0f + expf(-gate)) * get(row[ff + i]));
    }
}

// With s = sigmoid(gate): dup = d * gate*s, dgate = d * up * s*(1 + gate*(1 - s)).
template <typename T>
DEVICE void swiglu_back(const T *x, const T *d, T *dx, unsigned ff) {
    const T *row = x + (size_t)blockIdx.x * 2 * ff, *given = d + (size_t)blockIdx.x * ff;
    T *to = dx + (size_t)blockIdx.x * 2 * ff;
    for (unsigned i = threadIdx.x; i < ff; i += blockDim.x) {
        float gate = get(row[i]), up = get(row[ff + i]), g = get(given[i]);
        float s = 1.0f / (1.0f + expf(-gate));
        put(to[i], g * up * s * (1.0f + gate * (1.0f - s)));
        put(to[ff + i], g * gate * s);
    }
}

// sum = x + more, elementwise.
template <typename T>
DEVICE void plus(const float *x, const T *more, float *sum, unsigned n) {
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (size_t)gridDim.x * blockDim.x) {
        sum[i] = x[i] + get(more[i]);
    }
}

// Statistics of a row of logits and its token at 1/temperature `cold`: log-prob, entropy, 1 if the token is the argmax (the
// first of equals), mean logit, log sum p^2; and the softmax.
template <typename T>
DEVICE void tell(const float *logits, const unsigned *target, float *said, T *p, unsigned vocab, float cold, float *shared) {
    const float *z = logits + (size_t)blockIdx.x * vocab;
    T *to = p + (size_t)blockIdx.x * vocab;
    unsigned at = target[blockIdx.x];
    float top = -INFINITY;
    for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) top = fmaxf(top, z[i] * cold);
    top = block_max(top, shared);
    float own = z[at] * cold, sum = 0.0f, bent = 0.0f, square = 0.0f, total = 0.0f, before = 0.0f;
    for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) {
        float v = z[i] * cold, e = expf(v - top);
        sum += e;
        bent += e * (v - top);
        square += e * e;
        total += v;
        before += i < at && v == top ? 1.0f : 0.0f;
    }
    sum = block_sum(sum, shared);
    bent = block_sum(bent, shared);
    square = block_sum(square, shared);
    total = block_sum(total, shared);
    before = block_sum(before, shared);
    for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) put(to[i], expf(z[i] * cold - top) / sum);
    if (threadIdx.x == 0) {
        float log_sum = logf(sum);
        float *row = said + (size_t)blockIdx.x * 5;
        row[0] = own - top - log_sum;
        row[1] = log_sum - bent / sum;
        // NaN if a logit is NaN: there is no argmax then.
        row[2] = sum != sum ? sum : own == top && before == 0.0f ? 1.0f : 0.0f;
        row[3] = total / vocab;
        row[4] = logf(square) - 2.0f * log_sum;
    }
}

// dL/dlogits = cold * (g*(onehot - p) - e*p*(log p + H)); `entropy` may be null.
template <typename T>
DEVICE void tell_back(const float *logits, const unsigned *target, const float *logp, const float *entropy, T *d,
                      unsigned vocab, float cold, float *shared) {
    const float *z = logits + (size_t)blockIdx.x * vocab;
    T *to = d + (size_t)blockIdx.x * vocab;
    unsigned at = target[blockIdx.x];
    float g = logp[blockIdx.x], bend = entropy ? entropy[blockIdx.x] : 0.0f, top = -INFINITY;
    for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) top = fmaxf(top, z[i] * cold);
    top = block_max(top, shared);
    float sum = 0.0f, bent = 0.0f;
    for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) {
        float shifted = z[i] * cold - top, e = expf(shifted);
        sum += e;
        bent += e * shifted;
    }
    sum = block_sum(sum, shared);
    bent = block_sum(bent, shared);
    float log_sum = logf(sum), h = log_sum - bent / sum;
    for (unsigned i = threadIdx.x; i < vocab; i += blockDim.x) {
        float shifted = z[i] * cold - top, p = expf(shifted) / sum;
        put(to[i], cold * ((i == at ? g : 0.0f) - p * (g + bend * (shifted - log_sum + h))));
    }
}

#define EACH(T, t)                                                                                                          \
    KERNEL turn_##t(const T *x, const float *cosines, const float *sines, T *y, unsigned heads, unsigned all,               \
                    unsigned half, float side) {                                                                            \
        turn(x, cosines, sines, y, heads, all, half, side);                                                                 \
    }                                                                                                                       \
    KERNEL swiglu_##t(const T *x, T *y, unsigned ff) { swiglu(x, y, ff); }                                                  \
    KERNEL swiglu_back_##t(const T *x, const T *d, T *dx, unsigned ff) { swiglu_back(x, d, dx, ff); }                       \
    KERNEL plus_##t(const float *x, const T *more, float *sum, unsigned n) { plus(x, more, sum, n); }                       \
    KERNEL tell_##t(const float *logits, const unsigned *target, float *said, T *p, unsigned vocab, float cold) {           \
        SHARED float shared[THREADS];                                                                                       \
        tell(logits, target, said, p, vocab, cold, shared);                                                                 \
    }                                                                                                                       \
    KERNEL tell_back_##t(const float *logits, const unsigned *target, const float *logp, const float *entropy, T *d,        \
                         unsigned vocab, float cold) {                                                                      \
        SHARED float shared[THREADS];                                                                                       \
        tell_back(logits, target, logp, entropy, d, vocab, cold, shared);                                                   \
    }

EACH(float, f)
EACH(bf16, b)

// Several adapters as one, in another type: every A stacked, and every scale*B as a diagonal block. Parts without an
// adapter have null and rank 0.
struct Part {
    const float *a, *b;
    unsigned rank, rows;
    float scale;
};

template <typename T>
DEVICE void join(const Part *parts, T *a, T *b, unsigned width) {
    unsigned ranks = parts[0].rank + parts[1].rank + parts[2].rank, rows = parts[0].rows + parts[1].rows + parts[2].rows;
    size_t above = (size_t)ranks * width, all = above + (size_t)rows * ranks;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < all; i += (size_t)gridDim.x * blockDim.x) {
        int p = 0;
        if (i < above) {
            unsigned row = i / width;
            while (row >= parts[p].rank) row -= parts[p++].rank;
            put(a[i], parts[p].a[(size_t)row * width + i % width]);
        } else {
            unsigned row = (i - above) / ranks, column = (i - above) % ranks;
            while (row >= parts[p].rows) {
                row -= parts[p].rows;
                column -= parts[p++].rank;
            }
            // A column left of the block has wrapped around and is out of range too.
            put(b[i - above], column < parts[p].rank ? parts[p].b[(size_t)row * parts[p].rank + column] * parts[p].scale : 0.0f);
        }
    }
}

#define JOIN(T, t)                                                                                                          \
    KERNEL join_##t(const float *a0, const float *b0, unsigned rank0, unsigned rows0, float scale0, const float *a1,        \
                    const float *b1, unsigned rank1, unsigned rows1, float scale1, const float *a2, const float *b2,        \
                    unsigned rank2, unsigned rows2, float scale2, T *a, T *b, unsigned width) {                             \
        Part parts[3] = {                                                                                                   \
            {a0, b0, rank0, rows0, scale0}, {a1, b1, rank1, rows1, scale1}, {a2, b2, rank2, rows2, scale2}};                \
        join(parts, a, b, width);                                                                                           \
    }

JOIN(float, f)
JOIN(bf16, b)

// The addresses and length of a parameter to update, or of a gradient to sum.
struct Entry {
    float *x;
    const float *g;
    float *m, *v;
    unsigned long long n;
};

// Elementwise AdamW of many parameters and their moments; `keep` is the factor on each parameter.
KERNEL adamw(const Entry *entries, const float *keep, float scale, float beta1, float beta2, float rest1, float rest2,
             float over, float eps, float rate) {
    Entry e = entries[blockIdx.y];
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < e.n; i += (size_t)gridDim.x * blockDim.x) {
        float d = e.g[i] * scale;
        e.m[i] = e.m[i] * beta1 + d * rest1;
        e.v[i] = e.v[i] * beta2 + d * d * rest2;
        e.x[i] = e.x[i] * keep[blockIdx.y] - e.m[i] / (sqrtf(e.v[i] * over) + eps) * rate;
    }
}

// The sums of squares of many gradients, gridDim.x parts of each.
KERNEL squares(const Entry *entries, float *sums) {
    SHARED float shared[THREADS];
    Entry e = entries[blockIdx.y];
    float sum = 0.0f;
    for (size_t i = (size_t)blockIdx.x * blockDim.x + threadIdx.x; i < e.n; i += (size_t)gridDim.x * blockDim.x) {
        sum += e.g[i] * e.g[i];
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) sums[(size_t)blockIdx.y * gridDim.x + blockIdx.x] = sum;
}
