// Runs one kernel on the CPU: reads its name, grid, scalars and arrays from stdin, writes the arrays back to stdout.

#include "host.h"

#include <cstdio>
#include <map>
#include <string>

#include "attention.cu"
#include "rows.cu"

static uint32_t number() {
    uint32_t x;
    if (fread(&x, 4, 1, stdin) != 1) exit(2);
    return x;
}

struct Call {
    std::vector<std::vector<unsigned char>> arrays;
    std::vector<uint32_t> counts;
    std::vector<float> reals;
    float *f(int i) { return arrays[i].empty() ? nullptr : (float *)arrays[i].data(); }
    bf16 *b(int i) { return (bf16 *)arrays[i].data(); }
    uint32_t *u(int i) { return (uint32_t *)arrays[i].data(); }
};

#define HEADS c.counts[0], c.counts[1], c.reals[0]
static const std::map<std::string, void (*)(Call &)> kernels = {
    {"norm_fbb", [](Call &c) { norm_fbb(c.f(0), c.b(1), c.b(2), c.counts[0], c.reals[0]); }},
    {"norm_bfb", [](Call &c) { norm_bfb(c.b(0), c.f(1), c.b(2), c.counts[0], c.reals[0]); }},
    {"norm_fff", [](Call &c) { norm_fff(c.f(0), c.f(1), c.f(2), c.counts[0], c.reals[0]); }},
    {"norm_back_fbb", [](Call &c) { norm_back_fbb(c.f(0), c.b(1), c.b(2), c.f(3), c.f(4), c.counts[0], c.reals[0]); }},
    {"norm_back_bbb", [](Call &c) { norm_back_bbb(c.b(0), c.b(1), c.b(2), c.f(3), c.f(4), c.counts[0], c.reals[0]); }},
    {"turn_b", [](Call &c) { turn_b(c.b(0), c.f(1), c.f(2), c.b(3), c.counts[0], c.counts[1], c.counts[2], c.reals[0]); }},
    {"turn_f", [](Call &c) { turn_f(c.f(0), c.f(1), c.f(2), c.f(3), c.counts[0], c.counts[1], c.counts[2], c.reals[0]); }},
    {"swiglu_b", [](Call &c) { swiglu_b(c.b(0), c.b(1), c.counts[0]); }},
    {"swiglu_back_b", [](Call &c) { swiglu_back_b(c.b(0), c.b(1), c.b(2), c.counts[0]); }},
    {"plus_b", [](Call &c) { plus_b(c.f(0), c.b(1), c.f(2), c.counts[0]); }},
    {"tell_b", [](Call &c) { tell_b(c.f(0), c.u(1), c.f(2), c.b(3), c.counts[0], c.reals[0]); }},
    {"tell_f", [](Call &c) { tell_f(c.f(0), c.u(1), c.f(2), c.f(3), c.counts[0], c.reals[0]); }},
    {"tell_back_f", [](Call &c) { tell_back_f(c.f(0), c.u(1), c.f(2), c.f(3), c.f(4), c.counts[0], c.reals[0]); }},
    {"join_b",
     [](Call &c) {
         const std::vector<uint32_t> &n = c.counts;
         const std::vector<float> &r = c.reals;
         join_b(c.f(0), c.f(1), n[0], n[1], r[0], c.f(2), c.f(3), n[2], n[3], r[1], c.f(4), c.f(5), n[4], n[5], r[2], c.b(6),
                c.b(7), n[6]);
     }},
    {"adamw",
     [](Call &c) {
         const std::vector<float> &r = c.reals;
         Entry all[2] = {{c.f(0), c.f(1), c.f(2), c.f(3), c.counts[0]}, {c.f(4), c.f(5), c.f(6), c.f(7), c.counts[1]}};
         adamw(all, c.f(8), r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7]);
     }},
    {"squares",
     [](Call &c) {
         Entry all[2] = {{nullptr, c.f(0), nullptr, nullptr, c.counts[0]}, {nullptr, c.f(1), nullptr, nullptr, c.counts[1]}};
         squares(all, c.f(2));
     }},
    {"attend_64", [](Call &c) { attend_64(c.b(0), c.u(1), c.b(2), c.f(3), HEADS); }},
    {"attend_128", [](Call &c) { attend_128(c.b(0), c.u(1), c.b(2), c.f(3), HEADS); }},
    {"delta_64", [](Call &c) { delta_64(c.b(0), c.b(1), c.f(2), c.counts[0]); }},
    {"delta_128", [](Call &c) { delta_128(c.b(0), c.b(1), c.f(2), c.counts[0]); }},
    {"queries_back_64", [](Call &c) { queries_back_64(c.b(0), c.u(1), c.b(2), c.f(3), c.f(4), c.b(5), HEADS); }},
    {"queries_back_128", [](Call &c) { queries_back_128(c.b(0), c.u(1), c.b(2), c.f(3), c.f(4), c.b(5), HEADS); }},
    {"keys_back_64", [](Call &c) { keys_back_64(c.b(0), c.u(1), c.b(2), c.f(3), c.f(4), c.b(5), HEADS); }},
    {"keys_back_128", [](Call &c) { keys_back_128(c.b(0), c.u(1), c.b(2), c.f(3), c.f(4), c.b(5), HEADS); }},
};

int main() {
    std::string name(number(), 0);
    if (fread(&name[0], 1, name.size(), stdin) != name.size()) return 2;
    auto found = kernels.find(name);
    if (found == kernels.end()) return 3;
    unsigned columns = number(), rows = number(), threads = number();
    Call call;
    call.counts.resize(number());
    for (uint32_t &x : call.counts) x = number();
    call.reals.resize(number());
    for (float &x : call.reals) {
        uint32_t bits = number();
        memcpy(&x, &bits, 4);
    }
    call.arrays.resize(number());
    for (auto &array : call.arrays) {
        array.resize(number());
        if (!array.empty() && fread(array.data(), 1, array.size(), stdin) != array.size()) return 2;
    }
    launch(columns, rows, threads, [&] { found->second(call); });
    for (auto &array : call.arrays) fwrite(array.data(), 1, array.size(), stdout);
    return 0;
}
