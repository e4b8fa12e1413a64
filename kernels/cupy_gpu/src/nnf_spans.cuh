// Flat arrays, PACK neighbouring elements per thread. Where an array begins decides no more than whether a pack is
// moved by one access or by several: what is computed in which order follows from the length alone.
#pragma once
#include "nnf_common.cuh"

// Elements i … i + PACK − 1 of n, zeros past the end.
__device__ inline Pack take(const real* p, index i, index n, bool wide) {
    if (wide && i + PACK <= n) return *reinterpret_cast<const Pack*>(p + i);
    Pack x;
#pragma unroll
    for (int v = 0; v < PACK; ++v) x.v[v] = i + v < n ? p[i + v] : real(0);
    return x;
}

__device__ inline void put(real* p, index i, index n, bool wide, const Pack& x) {
    if (wide && i + PACK <= n) {
        *reinterpret_cast<Pack*>(p + i) = x;
        return;
    }
#pragma unroll
    for (int v = 0; v < PACK; ++v)
        if (i + v < n) p[i + v] = x.v[v];
}

// The first element of this thread's first pack, and how far it is to its next.
template <int THREADS>
__device__ inline index first_pack() {
    return (index(blockIdx.x) * THREADS + threadIdx.x) * PACK;
}

template <int THREADS>
__device__ inline index next_pack() {
    return index(gridDim.x) * THREADS * PACK;
}
