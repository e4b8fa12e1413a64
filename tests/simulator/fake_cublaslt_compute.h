// The products of the stand-in for libcublasLt, with their epilogues.
#pragma once

#include <algorithm>
#include <vector>

#include "fake_cublaslt_objects.h"

static float tf32(float x) {  // to ten bits after the point, to nearest
    uint32_t u;
    memcpy(&u, &x, 4);
    if ((u & 0x7f800000u) != 0x7f800000u) u = (u + 0x0fffu + ((u >> 13) & 1)) & ~0x1fffu;
    memcpy(&x, &u, 4);
    return x;
}
static double tf32(double x) { return x; }

template <class T>
struct Operand {
    const T* p;
    int64_t ld;
    bool transposed, rounded;
    T operator()(int64_t i, int64_t j) const {
        const T x = transposed ? p[j + i * ld] : p[i + j * ld];
        return rounded ? tf32(x) : x;
    }
};

template <class T>
static void run(const Record& r) {
    const bool rounded = r.d.compute == C32_TF32;
    const Operand<T> A{static_cast<const T*>(r.pa), r.a.ld, r.d.trans[0] != 0, rounded};
    const Operand<T> B{static_cast<const T*>(r.pb), r.b.ld, r.d.trans[1] != 0, rounded};
    const T* C = static_cast<const T*>(r.pc);
    T* D = static_cast<T*>(r.pd);
    T* bias = static_cast<T*>(r.d.bias);
    unsigned char* aux = static_cast<unsigned char*>(r.d.aux);
    const uint32_t e = r.d.epilogue;
    const int64_t m = r.m, n = r.n, k = r.k;
    if (r.workspace_size) memset(r.workspace, 0x5a, 4096);
    std::vector<T> packed(m * k), sums(2 * m), grad(e & BGRAD ? m : 0);
    for (int64_t l = 0; l < k; ++l)
        for (int64_t i = 0; i < m; ++i) packed[l * m + i] = A(i, l);
    if (e & BGRADA)  // before D is written, in whose place an operand must not lie anyway
        for (int64_t i = 0; i < m; ++i) {
            T total = 0;
            for (int64_t l = 0; l < k; ++l) total += packed[l * m + i];
            bias[i] = total;
        }
    for (int64_t j = 0; j < n; ++j) {
        std::fill(sums.begin(), sums.end(), T(0));
        T column = 0;
        for (int64_t l = 0; l < k; ++l) {
            // Each algorithm adds in an order of its own: one after the other, odd and even apart, two halves.
            T* acc = sums.data() + (r.algo == 0 ? 0 : r.algo == 1 ? l & 1 : l >= k / 2) * m;
            const T* row = packed.data() + l * m;
            const T factor = B(l, j);
            column += factor;
            for (int64_t i = 0; i < m; ++i) acc[i] += row[i] * factor;
        }
        if (e & BGRADB) bias[j] = column;
        for (int64_t i = 0; i < m; ++i) {
            T x = T(r.alpha) * (sums[i] + sums[m + i]);
            if (r.beta != 0) x += T(r.beta) * C[i + j * r.c.ld];
            const int64_t bit = j * r.d.aux_ld + i;
            if (e & BIAS) x += bias[i];
            if (e & RELU) {
                const bool on = x > 0;  // false for NaN
                if (e & AUX) aux[bit / 8] = (aux[bit / 8] & ~(1 << bit % 8)) | (on << bit % 8);
                x = on ? x : T(0);
            }
            if (e & DRELU) x = aux[bit / 8] >> bit % 8 & 1 ? x : T(0);
            if (e & BGRAD) grad[i] += x;
            D[i + j * r.out.ld] = x;
        }
    }
    if (e & BGRAD) for (int64_t i = 0; i < m; ++i) bias[i] = grad[i];
}

// One product after the other.
template <class T>
static void run_batch(const Record& r) {
    for (int64_t b = 0; b < r.out.batch; ++b) {
        Record one = r;
        one.pa = static_cast<const T*>(r.pa) + b * r.a.stride;
        one.pb = static_cast<const T*>(r.pb) + b * r.b.stride;
        one.pc = static_cast<const T*>(r.pc) + b * r.c.stride;
        one.pd = static_cast<T*>(r.pd) + b * r.out.stride;
        one.d.bias = static_cast<T*>(r.d.bias) + b * r.d.bias_stride;
        one.d.aux = static_cast<unsigned char*>(r.d.aux) + b * r.d.aux_stride / 8;
        run<T>(one);
    }
}
