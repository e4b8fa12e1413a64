// Rows shared out among threads: how a row's elements lie on its lanes, and sums and maxima over them.
#pragma once
#include "nnf_common.cuh"

// A row of `width` elements on LANES threads (on `lanes` where LANES is 0), PACK elements at a time: neighbours where
// PACKED, which asks for a width that PACK divides, else LANES apart. Which of the two it is never depends on where the
// array begins: that decides no more than whether a pack is moved by one access or by several.
template <int LANES, bool PACKED>
struct Row {
    int lane;
    int width;
    int lanes = LANES;
    static constexpr bool BLOCK = LANES > 32;  // a row is a whole block's

    __device__ int at(int pack, int v) const {
        const int step = LANES ? LANES : lanes;
        return PACKED ? (pack * step + lane) * PACK + v : (pack * PACK + v) * step + lane;
    }

    // Whether the lane has anything of this pack.
    __device__ bool has(int pack) const { return at(pack, 0) < width; }

    // The elements of a pack, `beyond` past the row's end.
    __device__ Pack load(const real* row, int pack, bool wide, real beyond) const {
        Pack p;
        if (PACKED && wide && has(pack)) return *reinterpret_cast<const Pack*>(row + at(pack, 0));
#pragma unroll
        for (int v = 0; v < PACK; ++v) p.v[v] = at(pack, v) < width ? row[at(pack, v)] : beyond;
        return p;
    }

    __device__ void store(real* row, int pack, bool wide, const Pack& p) const {
        if (PACKED && wide) {
            if (has(pack)) *reinterpret_cast<Pack*>(row + at(pack, 0)) = p;
            return;
        }
#pragma unroll
        for (int v = 0; v < PACK; ++v)
            if (at(pack, v) < width) row[at(pack, v)] = p.v[v];
    }

    // The same to global memory, in one access whatever the compiler thinks of it.
    __device__ void put(real* row, int pack, bool wide, const Pack& p) const {
        if (PACKED && wide) {
            if (has(pack)) ::store(row + at(pack, 0), p);
        } else {
            store(row, pack, false, p);
        }
    }
};

// The greater of two; a NaN in b is passed over.
__device__ inline real greater(real a, real b) { return b > a ? b : a; }

// Over groups of neighbouring lanes, a power of two of them up to 32; all lanes of a warp must call these.
template <int LANES>
__device__ inline real group_max(real value) {
#pragma unroll
    for (int offset = LANES / 2; offset; offset >>= 1) {
        const real other = __shfl_xor_sync(FULL_WARP, value, offset);
        value = greater(value, other);
    }
    return value;
}

template <int LANES, class T>
__device__ inline T group_sum(T value) {
#pragma unroll
    for (int offset = LANES / 2; offset; offset >>= 1) value += __shfl_xor_sync(FULL_WARP, value, offset);
    return value;
}

// The greatest value of a block, NaN passed over, known to all of its threads. All must call it.
template <int THREADS>
__device__ inline real block_max(real value) {
    __shared__ real warps[THREADS / 32];
    value = group_max<32>(value);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x >> 5] = value;
    __syncthreads();
    for (int w = 0; w < THREADS / 32; ++w) value = greater(value, warps[w]);
    __syncthreads();  // before anyone writes `warps` again
    return value;
}

// The sum over the lanes of a row: a warp, or the whole block.
template <int THREADS, int LANES>
__device__ inline double row_sum(double value) {
    return LANES == THREADS ? block_sum<THREADS>(value) : group_sum<LANES>(value);
}

// The same where the number of lanes is not known to the compiler.
__device__ inline real lanes_max(real value, int lanes) {
    for (int offset = lanes >> 1; offset; offset >>= 1) {
        const real other = __shfl_xor_sync(FULL_WARP, value, offset);
        value = greater(value, other);
    }
    return value;
}

__device__ inline double lanes_sum(double value, int lanes) {
    for (int offset = lanes >> 1; offset; offset >>= 1) value += __shfl_xor_sync(FULL_WARP, value, offset);
    return value;
}
