// Stands in for CUDA when a C++ compiler builds the kernels for tests on the CPU: a block's threads are threads, blocks run
// one after another, and each thread of a warp does the warp's matrix operations itself.

#pragma once

#include <barrier>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#define KERNEL extern "C" void
#define DEVICE inline
#define SHARED static
#define DYNAMIC(name) unsigned char *name = dynamic_memory

struct Place {
    unsigned x, y, z;
};
inline thread_local Place threadIdx;
inline Place blockIdx, blockDim, gridDim;
alignas(128) inline unsigned char dynamic_memory[1 << 17];
inline std::barrier<> *meeting;

inline void __syncthreads() { meeting->arrive_and_wait(); }
// All of a block's threads wait: its warps take the same branches.
inline void __syncwarp() { meeting->arrive_and_wait(); }

struct bf16 {
    uint16_t bits;
};
inline float widen(bf16 x) {
    uint32_t bits = (uint32_t)x.bits << 16;
    float out;
    memcpy(&out, &bits, 4);
    return out;
}
inline bf16 narrow(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    // Rounding must not turn NaN into a number.
    if (x != x) return bf16{(uint16_t)(bits >> 16 | 0x40)};
    bf16 out = {(uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
    return out;
}

namespace wmma {
struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major };
template <typename Use, int M, int N, int K, typename T, typename Layout = void>
struct fragment {
    float x[16][16];
};
template <typename F>
void fill_fragment(F &f, float v) {
    for (auto &row : f.x)
        for (float &x : row) x = v;
}
template <typename Use, typename Layout>
void load_matrix_sync(fragment<Use, 16, 16, 16, bf16, Layout> &f, const bf16 *from, unsigned ld) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) f.x[i][j] = widen(std::is_same<Layout, col_major>::value ? from[j * ld + i] : from[i * ld + j]);
}
template <typename A, typename B, typename C>
void mma_sync(C &d, const A &a, const B &b, const C &c) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) {
            float sum = c.x[i][j];
            for (int k = 0; k < 16; k++) sum += a.x[i][k] * b.x[k][j];
            d.x[i][j] = sum;
        }
}
template <typename C>
void store_matrix_sync(float *to, const C &c, unsigned ld, layout_t) {
    if (threadIdx.x % 32 != 0) return;
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) to[i * ld + j] = c.x[i][j];
}
}  // namespace wmma

// Runs a kernel on a grid, block after block.
inline void launch(unsigned columns, unsigned rows, unsigned threads, const std::function<void()> &kernel) {
    blockDim = {threads, 1, 1};
    gridDim = {columns, rows, 1};
    for (unsigned y = 0; y < rows; y++)
        for (unsigned x = 0; x < columns; x++) {
            blockIdx = {x, y, 0};
            std::barrier<> here(threads);
            meeting = &here;
            std::vector<std::thread> all;
            for (unsigned t = 0; t < threads; t++)
                all.emplace_back([&kernel, t] {
                    threadIdx = {t, 0, 0};
                    kernel();
                });
            for (std::thread &one : all) one.join();
        }
}
