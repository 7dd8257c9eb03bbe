// Causal attention of segments that may share a prefix, forward and backward, on matrix units: no (tokens x tokens) matrix
// is created.
//
// A token's row is `[queries | keys | values]`, bf16. A block processes ROWS queries (or keys) of one segment and one head; its
// four warps process 16 rows each and loop over tiles of TILE of the others. Products are 16x16x16 with f32 accumulators. The
// forward computes the weights twice, first for their sums and then for the output, so that accumulators are never rescaled.
//
// A NaN score makes everything that depends on it NaN: the largest score is then NaN too, which fmaxf would not do.
//
// A block of queries is five numbers: first and last query, first and last key of the prefix, first key of the own segment.
// A block of keys is three: first and last key, and the end of the queries that attend to them: every position from a key
// to that end attends to it, since a prefix is followed by its branches.

#include "common.h"

#define ROWS 64
#define TILE 32
#define WARPS 4
#define LANES 32
// Rows in shared memory are padded against bank conflicts.
#define PAD 8
#define SCORES (TILE + 4)

struct Heads {
    const bf16 *qkv;
    unsigned heads, kv_heads;
    float scale;
};

#ifdef __CUDACC__
using namespace nvcuda;
#endif

typedef wmma::fragment<wmma::accumulator, 16, 16, 16, float> Sum;
typedef wmma::fragment<wmma::matrix_a, 16, 16, 16, bf16, wmma::row_major> Left;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::row_major> Right;
typedef wmma::fragment<wmma::matrix_b, 16, 16, 16, bf16, wmma::col_major> Turned;

// Copies `count` rows of width W, `stride` apart, to shared rows; missing ones of `rows` become 0.
template <int W>
DEVICE void fetch(bf16 *to, const bf16 *from, size_t stride, unsigned count, unsigned rows) {
    for (unsigned i = threadIdx.x; i < rows * W; i += blockDim.x) {
        unsigned row = i / W, k = i % W;
        to[row * (W + PAD) + k] = row < count ? from[row * stride + k] : narrow(0.0f);
    }
}

// 16 rows times TILE rows, both of width W: (16, TILE) dot products.
template <int W>
DEVICE void products(float *to, const bf16 *left, const bf16 *right) {
    for (int n = 0; n < TILE / 16; n++) {
        Sum sum;
        wmma::fill_fragment(sum, 0.0f);
        for (int k = 0; k < W / 16; k++) {
            Left a;
            Turned b;
            wmma::load_matrix_sync(a, left + k * 16, W + PAD);
            wmma::load_matrix_sync(b, right + n * 16 * (W + PAD) + k * 16, W + PAD);
            wmma::mma_sync(sum, a, b, sum);
        }
        wmma::store_matrix_sync(to + n * 16, sum, SCORES, wmma::mem_row_major);
    }
}

// Adds (16, TILE) times (TILE, W) to the accumulators.
template <int W>
DEVICE void collect(Sum *sums, const bf16 *left, const bf16 *right) {
    for (int k = 0; k < TILE / 16; k++) {
        Left a;
        wmma::load_matrix_sync(a, left + k * 16, TILE + PAD);
        for (int n = 0; n < W / 16; n++) {
            Right b;
            wmma::load_matrix_sync(b, right + k * 16 * (W + PAD) + n * 16, W + PAD);
            wmma::mma_sync(sums[n], a, b, sums[n]);
        }
    }
}

// Writes the first `count` rows of (16, W) accumulators as bf16, through 16 x SCORES floats of shared memory.
template <int W>
DEVICE void release(Sum *sums, float *through, bf16 *to, size_t stride, int count, unsigned lane) {
    for (int n = 0; n < W / 16; n++) {
        __syncwarp();
        wmma::store_matrix_sync(through, sums[n], SCORES, wmma::mem_row_major);
        __syncwarp();
        for (unsigned i = lane; i < 256; i += LANES) {
            int row = i / 16, k = i % 16;
            if (row < count) to[row * stride + n * 16 + k] = narrow(through[row * SCORES + k]);
        }
    }
}

// The tiles of keys that a block of queries attends to: those of the prefix, then its own segment's up to its last query.
struct Seen {
    unsigned prefix, prefix_end, own, end;
    DEVICE unsigned prefix_tiles() const { return (prefix_end - prefix + TILE - 1) / TILE; }
    DEVICE unsigned tiles() const { return prefix_tiles() + (end - own + TILE - 1) / TILE; }
    DEVICE unsigned first(unsigned tile) const {
        unsigned p = prefix_tiles();
        return tile < p ? prefix + tile * TILE : own + (tile - p) * TILE;
    }
    DEVICE unsigned last(unsigned tile) const {
        unsigned stop = tile < prefix_tiles() ? prefix_end : end, after = first(tile) + TILE;
        return after < stop ? after : stop;
    }
};

DEVICE Seen seen(const unsigned *block) {
    Seen s = {block[2], block[3], block[4], block[1]};
    return s;
}

// The larger of two, NaN where one of them is.
DEVICE float larger(float a, float b) { return b > a || b != b ? b : a; }

// out (tokens, heads*W) and log-sum-exp (tokens, heads).
template <int W>
DEVICE void forward(Heads h, const unsigned *blocks, bf16 *out, float *lse) {
    DYNAMIC(memory);
    bf16 *q = (bf16 *)memory, *k = q + ROWS * (W + PAD), *v = k + TILE * (W + PAD);
    float *scores = (float *)(v + TILE * (W + PAD));
    const unsigned *block = blocks + (size_t)blockIdx.x * 5;
    unsigned head = blockIdx.y, kv = head / (h.heads / h.kv_heads), first = block[0], last = block[1];
    size_t stride = (size_t)(h.heads + 2 * h.kv_heads) * W;
    const bf16 *keys = h.qkv + (size_t)(h.heads + kv) * W, *values = keys + (size_t)h.kv_heads * W;
    unsigned warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    // Two lanes share a row; each processes half of a tile's columns.
    unsigned row = lane / 2, half = lane % 2 * (TILE / 2), query = first + warp * 16 + row;
    float *own = scores + warp * 16 * SCORES;
    bf16 *weights = (bf16 *)own;
    Seen s = seen(block);
    fetch<W>(q, h.qkv + first * stride + (size_t)head * W, stride, last - first, ROWS);
    float top = -INFINITY, sum = 0.0f;
    for (unsigned tile = 0; tile < s.tiles(); tile++) {
        unsigned at = s.first(tile), end = s.last(tile);
        __syncthreads();
        fetch<W>(k, keys + at * stride, stride, end - at, TILE);
        __syncthreads();
        products<W>(own, q + warp * 16 * (W + PAD), k);
        __syncwarp();
        float most = top;
        for (unsigned i = 0; i < TILE / 2; i++) {
            unsigned key = at + half + i;
            if (key < end && key <= query) most = larger(most, own[row * SCORES + half + i] * h.scale);
        }
        if (most != -INFINITY) {
            sum *= expf(top - most);
            for (unsigned i = 0; i < TILE / 2; i++) {
                unsigned key = at + half + i;
                if (key < end && key <= query) sum += expf(own[row * SCORES + half + i] * h.scale - most);
            }
        }
        top = most;
        __syncwarp();
    }
    // Combines the two halves of a row.
    own[lane] = top;
    own[LANES + lane] = sum;
    __syncwarp();
    float left = own[lane & ~1u], right = own[lane | 1u], most = larger(left, right), total = 0.0f;
    if (left != -INFINITY) total += own[LANES + (lane & ~1u)] * expf(left - most);
    if (right != -INFINITY) total += own[LANES + (lane | 1u)] * expf(right - most);
    float log_sum = query < last ? most + logf(total) : 0.0f;
    if (query < last && lane % 2 == 0) lse[(size_t)query * h.heads + head] = log_sum;
    __syncwarp();

    Sum sums[W / 16];
    for (int n = 0; n < W / 16; n++) wmma::fill_fragment(sums[n], 0.0f);
    for (unsigned tile = 0; tile < s.tiles(); tile++) {
        unsigned at = s.first(tile), end = s.last(tile);
        __syncthreads();
        fetch<W>(k, keys + at * stride, stride, end - at, TILE);
        fetch<W>(v, values + at * stride, stride, end - at, TILE);
        __syncthreads();
        products<W>(own, q + warp * 16 * (W + PAD), k);
        __syncwarp();
        float p[TILE / 2];
        for (unsigned i = 0; i < TILE / 2; i++) {
            unsigned key = at + half + i;
            bool sees = key < end && key <= query && query < last;
            p[i] = sees ? expf(own[row * SCORES + half + i] * h.scale - log_sum) : 0.0f;
        }
        __syncwarp();
        for (unsigned i = 0; i < TILE / 2; i++) weights[row * (TILE + PAD) + half + i] = narrow(p[i]);
        __syncwarp();
        collect<W>(sums, weights, v);
        __syncwarp();
    }
    bf16 *to = out + (size_t)(first + warp * 16) * h.heads * W + (size_t)head * W;
    release<W>(sums, own, to, (size_t)h.heads * W, (int)last - (int)(first + warp * 16), lane);
}

// delta (tokens, heads): the sums of dout*out over a head. A block processes a token, a thread a head at a time.
template <int W>
DEVICE void delta(const bf16 *out, const bf16 *dout, float *to, unsigned heads) {
    for (unsigned head = threadIdx.x; head < heads; head += blockDim.x) {
        size_t at = ((size_t)blockIdx.x * heads + head) * W;
        float sum = 0.0f;
        for (unsigned i = 0; i < W; i++) sum += get(out[at + i]) * get(dout[at + i]);
        to[(size_t)blockIdx.x * heads + head] = sum;
    }
}

// dL/d of the queries, into the first columns of dqkv.
template <int W>
DEVICE void queries_back(Heads h, const unsigned *blocks, const bf16 *dout, const float *lse, const float *delta, bf16 *dqkv) {
    DYNAMIC(memory);
    bf16 *q = (bf16 *)memory, *d = q + ROWS * (W + PAD), *k = d + ROWS * (W + PAD), *v = k + TILE * (W + PAD);
    float *scores = (float *)(v + TILE * (W + PAD)), *pulls = scores + WARPS * 16 * SCORES;
    const unsigned *block = blocks + (size_t)blockIdx.x * 5;
    unsigned head = blockIdx.y, kv = head / (h.heads / h.kv_heads), first = block[0], last = block[1];
    size_t stride = (size_t)(h.heads + 2 * h.kv_heads) * W, wide = (size_t)h.heads * W;
    const bf16 *keys = h.qkv + (size_t)(h.heads + kv) * W, *values = keys + (size_t)h.kv_heads * W;
    unsigned warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    unsigned row = lane / 2, half = lane % 2 * (TILE / 2), query = first + warp * 16 + row;
    float *own = scores + warp * 16 * SCORES, *pull = pulls + warp * 16 * SCORES;
    bf16 *weights = (bf16 *)own;
    Seen s = seen(block);
    fetch<W>(q, h.qkv + first * stride + (size_t)head * W, stride, last - first, ROWS);
    fetch<W>(d, dout + first * wide + (size_t)head * W, wide, last - first, ROWS);
    float log_sum = query < last ? lse[(size_t)query * h.heads + head] : 0.0f;
    float along = query < last ? delta[(size_t)query * h.heads + head] : 0.0f;
    Sum sums[W / 16];
    for (int n = 0; n < W / 16; n++) wmma::fill_fragment(sums[n], 0.0f);
    for (unsigned tile = 0; tile < s.tiles(); tile++) {
        unsigned at = s.first(tile), end = s.last(tile);
        __syncthreads();
        fetch<W>(k, keys + at * stride, stride, end - at, TILE);
        fetch<W>(v, values + at * stride, stride, end - at, TILE);
        __syncthreads();
        products<W>(own, q + warp * 16 * (W + PAD), k);
        products<W>(pull, d + warp * 16 * (W + PAD), v);
        __syncwarp();
        float ds[TILE / 2];
        for (unsigned i = 0; i < TILE / 2; i++) {
            unsigned key = at + half + i, place = row * SCORES + half + i;
            bool sees = key < end && key <= query && query < last;
            ds[i] = sees ? expf(own[place] * h.scale - log_sum) * (pull[place] - along) * h.scale : 0.0f;
        }
        __syncwarp();
        for (unsigned i = 0; i < TILE / 2; i++) weights[row * (TILE + PAD) + half + i] = narrow(ds[i]);
        __syncwarp();
        collect<W>(sums, weights, k);
        __syncwarp();
    }
    bf16 *to = dqkv + (size_t)(first + warp * 16) * stride + (size_t)head * W;
    release<W>(sums, own, to, stride, (int)last - (int)(first + warp * 16), lane);
}

// dL/d of the keys and values, into the last columns of dqkv: every query head of the group adds to them.
template <int W>
DEVICE void keys_back(Heads h, const unsigned *blocks, const bf16 *dout, const float *lse, const float *delta, bf16 *dqkv) {
    DYNAMIC(memory);
    bf16 *k = (bf16 *)memory, *v = k + ROWS * (W + PAD), *q = v + ROWS * (W + PAD), *d = q + TILE * (W + PAD);
    float *scores = (float *)(d + TILE * (W + PAD)), *pulls = scores + WARPS * 16 * SCORES;
    const unsigned *block = blocks + (size_t)blockIdx.x * 3;
    unsigned kv = blockIdx.y, group = h.heads / h.kv_heads, first = block[0], last = block[1], until = block[2];
    size_t stride = (size_t)(h.heads + 2 * h.kv_heads) * W, wide = (size_t)h.heads * W;
    const bf16 *keys = h.qkv + (size_t)(h.heads + kv) * W, *values = keys + (size_t)h.kv_heads * W;
    unsigned warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    unsigned row = lane / 2, half = lane % 2 * (TILE / 2), key = first + warp * 16 + row;
    float *own = scores + warp * 16 * SCORES, *pull = pulls + warp * 16 * SCORES;
    bf16 *weights = (bf16 *)own, *changes = (bf16 *)pull;
    fetch<W>(k, keys + first * stride, stride, last - first, ROWS);
    fetch<W>(v, values + first * stride, stride, last - first, ROWS);
    Sum dk[W / 16], dv[W / 16];
    for (int n = 0; n < W / 16; n++) {
        wmma::fill_fragment(dk[n], 0.0f);
        wmma::fill_fragment(dv[n], 0.0f);
    }
    for (unsigned head = kv * group; head < (kv + 1) * group; head++) {
        for (unsigned at = first; at < until; at += TILE) {
            unsigned end = at + TILE < until ? at + TILE : until;
            __syncthreads();
            fetch<W>(q, h.qkv + at * stride + (size_t)head * W, stride, end - at, TILE);
            fetch<W>(d, dout + at * wide + (size_t)head * W, wide, end - at, TILE);
            __syncthreads();
            products<W>(own, k + warp * 16 * (W + PAD), q);
            products<W>(pull, v + warp * 16 * (W + PAD), d);
            __syncwarp();
            float p[TILE / 2], ds[TILE / 2];
            for (unsigned i = 0; i < TILE / 2; i++) {
                unsigned query = at + half + i, place = row * SCORES + half + i;
                bool sees = query < end && key <= query && key < last;
                size_t of = (size_t)query * h.heads + head;
                p[i] = sees ? expf(own[place] * h.scale - lse[of]) : 0.0f;
                ds[i] = sees ? p[i] * (pull[place] - delta[of]) * h.scale : 0.0f;
            }
            __syncwarp();
            for (unsigned i = 0; i < TILE / 2; i++) {
                weights[row * (TILE + PAD) + half + i] = narrow(p[i]);
                changes[row * (TILE + PAD) + half + i] = narrow(ds[i]);
            }
            __syncwarp();
            collect<W>(dv, weights, d);
            collect<W>(dk, changes, q);
            __syncwarp();
        }
    }
    bf16 *to = dqkv + (size_t)(first + warp * 16) * stride + (size_t)(h.heads + kv) * W;
    int count = (int)last - (int)(first + warp * 16);
    release<W>(dk, own, to, stride, count, lane);
    release<W>(dv, own, to + (size_t)h.kv_heads * W, stride, count, lane);
}

#define WIDTH(W)                                                                                                            \
    KERNEL attend_##W(const bf16 *qkv, const unsigned *blocks, bf16 *out, float *lse, unsigned heads, unsigned kv_heads,    \
                      float scale) {                                                                                        \
        Heads h = {qkv, heads, kv_heads, scale};                                                                            \
        forward<W>(h, blocks, out, lse);                                                                                    \
    }                                                                                                                       \
    KERNEL delta_##W(const bf16 *out, const bf16 *dout, float *to, unsigned heads) { delta<W>(out, dout, to, heads); }      \
    KERNEL queries_back_##W(const bf16 *qkv, const unsigned *blocks, const bf16 *dout, const float *lse,                    \
                            const float *along, bf16 *dqkv, unsigned heads, unsigned kv_heads, float scale) {               \
        Heads h = {qkv, heads, kv_heads, scale};                                                                            \
        queries_back<W>(h, blocks, dout, lse, along, dqkv);                                                                 \
    }                                                                                                                       \
    KERNEL keys_back_##W(const bf16 *qkv, const unsigned *blocks, const bf16 *dout, const float *lse, const float *along,   \
                         bf16 *dqkv, unsigned heads, unsigned kv_heads, float scale) {                                      \
        Heads h = {qkv, heads, kv_heads, scale};                                                                            \
        keys_back<W>(h, blocks, dout, lse, along, dqkv);                                                                    \
    }

WIDTH(64)
WIDTH(96)
WIDTH(128)
