// What all kernels share: the working type, numbers that may change between two replays of a graph, and sums whose
// order does not depend on timing.
//
// Every kernel takes one struct by value. `kernels/cupy_gpu/sources.py` reads these structs and the kernels' signatures
// from the text, so both keep one form: a field a line, `extern "C" __global__ void __launch_bounds__(THREADS)`.
// No float atomics, no fast-math, no grid that depends on the GPU: the same call gives the same bits.
#pragma once

#ifndef NNF_DOUBLE  // 1: the working type is double
#define NNF_DOUBLE 0
#endif

#if NNF_DOUBLE
typedef double real;
#else
typedef float real;
#endif
typedef long long index;

#ifndef NNF_HOST  // the host build brings its own
#define NNF_DYNAMIC_SHARED(type, name) extern __shared__ __align__(16) unsigned char nnf_dynamic[]; \
    type* name = reinterpret_cast<type*>(nnf_dynamic)
#endif

constexpr unsigned FULL_WARP = 0xffffffffu;
constexpr int PACK = 16 / sizeof(real);  // elements of one 16-byte access

struct alignas(16) Pack {
    real v[PACK];
};

// A number of the run: in device memory where it may change without a new capture, else by value.
struct Number {
    const double* at;
    double value;
};

struct Count {
    const index* at;
    index value;
};

// Where a sum goes: to `at`, or into a column of the row that the running step writes.
struct Total {
    double* at;
    double* const* row;
    index column;
};

// Working memory of a reduction: a partial sum per block, and tickets that are zero before and after every launch.
struct Scratch {
    double* partials;
    unsigned* tickets;
};

__device__ inline double get(Number n) { return n.at ? *n.at : n.value; }
__device__ inline index get(Count n) { return n.at ? *n.at : n.value; }
__device__ inline double* place(Total t) { return t.row ? *t.row + t.column : t.at; }

// share/normaliser times a weight, in two steps where all of it at once would leave the range of a float.
struct Scale {
    real half;  // a power of two
    real rest;

    __device__ Scale(double share, double normaliser) {
        const double by = normaliser > 0x1p60 ? 0x1p-64 : normaliser < 0x1p-60 ? 0x1p64 : 1;
        half = real(by);
        rest = real(share / (normaliser * by));
    }
    __device__ real of(real weight) const { return weight * half * rest; }
};

__device__ inline double positive_infinity() { return __longlong_as_double(0x7ff0000000000000LL); }

template <class T>
__device__ inline bool aligned(const T* p) {
    return (reinterpret_cast<unsigned long long>(p) & 15) == 0;
}

// A store to global memory, not to shared, that stays one access: a plain assignment of a pack may be taken apart.
__device__ inline void store(real* p, Pack v) {
#if NNF_DOUBLE
    __stwb(reinterpret_cast<double2*>(p), make_double2(v.v[0], v.v[1]));
#else
    __stwb(reinterpret_cast<float4*>(p), make_float4(v.v[0], v.v[1], v.v[2], v.v[3]));
#endif
}

// The sum of a value over the threads of a block, known to all of them. All must call it.
template <int THREADS>
__device__ inline double block_sum(double value) {
    __shared__ double warps[THREADS / 32];
    for (int offset = 16; offset; offset >>= 1) value += __shfl_xor_sync(FULL_WARP, value, offset);
    if ((threadIdx.x & 31) == 0) warps[threadIdx.x >> 5] = value;
    __syncthreads();
    double total = 0;
    for (int w = 0; w < THREADS / 32; ++w) total += warps[w];
    __syncthreads();  // before anyone writes `warps` again
    return total;
}

// Whether this block is the last of `blocks` to take a ticket; what the others wrote before is then visible to it, read
// with __ldcg. All threads must call it. The ticket is zero again afterwards.
__device__ inline bool last_block(unsigned* ticket, unsigned blocks) {
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(ticket, 1u) == blocks - 1;
        if (last) *ticket = 0;
    }
    __syncthreads();
    __threadfence();
    return last;
}

// The sum over a one-dimensional grid, in the order of the blocks; true, with `total` set, in the last block only.
template <int THREADS>
__device__ inline bool grid_sum(double value, Scratch scratch, double& total) {
    total = block_sum<THREADS>(value);
    if (gridDim.x == 1) return true;
    if (threadIdx.x == 0) scratch.partials[blockIdx.x] = total;
    if (!last_block(scratch.tickets, gridDim.x)) return false;
    double part = 0;
    for (unsigned b = threadIdx.x; b < gridDim.x; b += THREADS) part += __ldcg(scratch.partials + b);
    total = block_sum<THREADS>(part);
    return true;
}
