// Walks over flat arrays by a one-dimensional grid: 16 bytes per access where the arrays allow it, and several accesses
// under way per thread. Arrays may be the same one: a thread writes only what it has read itself.
#pragma once
#include "nnf_common.cuh"

constexpr int UNDER_WAY = 8 / sizeof(real);

__device__ inline void store(real* p, real v) { *p = v; }

// f on the elements of a few units in registers, where units are packs or single elements.
template <int THREADS, class T, class F>
__device__ inline void map_units(const T* x, T* y, index n, F f) {
    constexpr int V = sizeof(T) / sizeof(real);
    const index stride = index(gridDim.x) * THREADS;
    for (index i = index(blockIdx.x) * THREADS + threadIdx.x; i < n; i += UNDER_WAY * stride) {
        T v[UNDER_WAY] = {};
#pragma unroll
        for (int k = 0; k < UNDER_WAY; ++k)
            if (i + k * stride < n) v[k] = x[i + k * stride];
        f(reinterpret_cast<real(&)[UNDER_WAY * V]>(v));
#pragma unroll
        for (int k = 0; k < UNDER_WAY; ++k)
            if (i + k * stride < n) store(reinterpret_cast<real*>(y + i + k * stride), v[k]);
    }
}

template <int THREADS, class T, class F>
__device__ inline void map_units(const T* a, const T* b, T* y, index n, F f) {
    constexpr int V = sizeof(T) / sizeof(real);
    const index stride = index(gridDim.x) * THREADS;
    for (index i = index(blockIdx.x) * THREADS + threadIdx.x; i < n; i += UNDER_WAY * stride) {
        T v[UNDER_WAY] = {}, w[UNDER_WAY] = {};
#pragma unroll
        for (int k = 0; k < UNDER_WAY; ++k) {
            if (i + k * stride < n) {
                v[k] = a[i + k * stride];
                w[k] = b[i + k * stride];
            }
        }
        f(reinterpret_cast<real(&)[UNDER_WAY * V]>(v), reinterpret_cast<real(&)[UNDER_WAY * V]>(w));
#pragma unroll
        for (int k = 0; k < UNDER_WAY; ++k)
            if (i + k * stride < n) store(reinterpret_cast<real*>(y + i + k * stride), v[k]);
    }
}

// y[i] = f(x[i]), where f(x) changes an array of some of them in place.
template <int THREADS, class F>
__device__ inline void map(const real* x, real* y, index n, F f) {
    const index packs = aligned(x) && aligned(y) ? n / PACK : 0, done = packs * PACK;
    if (packs) map_units<THREADS>(reinterpret_cast<const Pack*>(x), reinterpret_cast<Pack*>(y), packs, f);
    if (done < n) map_units<THREADS>(x + done, y + done, n - done, f);
}

// y[i] = f(a[i], b[i]), where f(a, b) puts its results into a.
template <int THREADS, class F>
__device__ inline void map(const real* a, const real* b, real* y, index n, F f) {
    const index packs = aligned(a) && aligned(b) && aligned(y) ? n / PACK : 0, done = packs * PACK;
    if (packs) {
        map_units<THREADS>(
            reinterpret_cast<const Pack*>(a), reinterpret_cast<const Pack*>(b), reinterpret_cast<Pack*>(y), packs, f);
    }
    if (done < n) map_units<THREADS>(a + done, b + done, y + done, n - done, f);
}
