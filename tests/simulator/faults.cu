// Kernels that are wrong where `wrong` is set and right where it is not, for tests of the simulator.
#include "nnf_common.cuh"

struct Fault {
    double* out;
    const real* x;
    int wrong;
    int n;
};

extern "C" __global__ void __launch_bounds__(64) f_exits_before_barrier(const Fault a) {
    if (a.wrong && threadIdx.x == 7) return;
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(64) f_two_barriers(const Fault a) {
    if (a.wrong && threadIdx.x == 7)
        __syncthreads();
    else
        __syncthreads();
}

extern "C" __global__ void __launch_bounds__(64) f_barrier_or_shuffle(const Fault a) {
    if (a.wrong && threadIdx.x == 7)
        __syncthreads();
    else
        a.out[0] = __shfl_sync(FULL_WARP, 1.0, 0);
}

extern "C" __global__ void __launch_bounds__(64) f_mask_names_exited_lane(const Fault a) {
    if (threadIdx.x == 39) return;
    const unsigned mask = a.wrong || threadIdx.x < 32 ? FULL_WARP : FULL_WARP & ~(1u << 7);
    a.out[threadIdx.x] = __shfl_xor_sync(mask, double(threadIdx.x), 16);
}

extern "C" __global__ void __launch_bounds__(64) f_mask_leaves_itself_out(const Fault a) {
    const unsigned mask = a.wrong ? FULL_WARP & ~(1u << 7) : FULL_WARP;
    a.out[threadIdx.x] = __any_sync(mask, 1);
}

extern "C" __global__ void __launch_bounds__(64) f_two_shuffles(const Fault a) {
    if (a.wrong && threadIdx.x == 7)
        a.out[0] = __shfl_sync(FULL_WARP, 1.0, 0);
    else
        a.out[0] = __shfl_sync(FULL_WARP, 1.0, 0);
}

extern "C" __global__ void __launch_bounds__(64) f_odd_width(const Fault a) {
    a.out[0] = __shfl_xor_sync(FULL_WARP, 1.0, 1, a.wrong ? 3 : 4);
}

extern "C" __global__ void __launch_bounds__(64) f_misaligned(const Fault a) {
    a.out[0] = reinterpret_cast<const Pack*>(a.x + (a.wrong ? 1 : 0))->v[1];
}

extern "C" __global__ void __launch_bounds__(64) f_null(const Fault a) {
    double* out = a.wrong ? nullptr : a.out;
    out[threadIdx.x] = 1;
}

// Downwards, as `out` may lie anywhere, close to the end of the address space too.
extern "C" __global__ void __launch_bounds__(64) f_far_away(const Fault a) {
    a.out[index(threadIdx.x) - (index(a.wrong) << 40)] = 1;
}

// 2^53 bytes away: x86-64 refuses such an address before it is looked up, and does not name it.
extern "C" __global__ void __launch_bounds__(64) f_beyond_addresses(const Fault a) {
    a.out[index(threadIdx.x) + (index(a.wrong) << 50)] = 1;
}

extern "C" __global__ void __launch_bounds__(64) f_shared_index(const Fault a) {
    __shared__ double few[32];
    few[(threadIdx.x + a.wrong) % 33 % (32 + a.wrong)] = 1;
    __syncthreads();
    a.out[0] = few[0];
}

extern "C" __global__ void __launch_bounds__(64) f_division(const Fault a) { a.out[0] = 64 / (a.wrong ? a.n : 1); }

// Turns a block around through shared memory.
extern "C" __global__ void __launch_bounds__(64) f_missing_barrier(const Fault a) {
    __shared__ real mirror[64];
    mirror[threadIdx.x] = a.x[threadIdx.x];
    if (!a.wrong) __syncthreads();
    a.out[threadIdx.x] = mirror[63 - threadIdx.x];
}

// The same within each warp.
extern "C" __global__ void __launch_bounds__(64) f_missing_warp_barrier(const Fault a) {
    __shared__ real mirror[64];
    mirror[threadIdx.x] = a.x[threadIdx.x];
    if (!a.wrong) __syncwarp();
    a.out[threadIdx.x] = mirror[threadIdx.x ^ 31];
}

// Uses one place twice.
extern "C" __global__ void __launch_bounds__(64) f_missing_second_barrier(const Fault a) {
    __shared__ real place;
    double sum = 0;
    for (int i = 0; i < 4; ++i) {
        if (threadIdx.x == unsigned(i)) place = a.x[i];
        __syncthreads();
        sum += place;
        if (!a.wrong) __syncthreads();
    }
    a.out[threadIdx.x] = sum;
}

template <class T, int N>
__device__ inline T* room() {
    __shared__ T places[N];
    return places;
}

// What stands in shared memory that nobody has written in this block.
extern "C" __global__ void __launch_bounds__(64) f_unset_shared(const Fault a) {
    NNF_DYNAMIC_SHARED(double, dynamic);
    __shared__ real plain[64];
    real* of_template = room<real, 64>();
    const unsigned t = threadIdx.x;
    if (!a.wrong) plain[t] = of_template[t] = real(dynamic[t] = 0);
    a.out[t] = double(plain[t]), a.out[64 + t] = double(of_template[t]), a.out[128 + t] = dynamic[t];
    plain[t] = of_template[t] = real(dynamic[t] = 5);  // gone by the next block
}

extern "C" __global__ void __launch_bounds__(64) f_subnormal(const Fault a) {
    a.out[0] = double(a.x[0] * real(0.5)) > 0;  // the smallest normal number, halved
    a.out[1] = double(a.x[1]) > 0 && a.x[1] * real(4) > 0;  // a subnormal number, read
}

// For sanitizers: writes `n` numbers where there is room for 32.

extern "C" __global__ void __launch_bounds__(64) f_global_write(const Fault a) {
    __syncthreads();
    if (threadIdx.x < unsigned(a.n)) a.out[threadIdx.x] = 1;  // planted: global
}

extern "C" __global__ void __launch_bounds__(64) f_static_write(const Fault a) {
    double* few = room<double, 32>();
    few[threadIdx.x % a.n] = 1;  // planted: static
    __syncthreads();
    a.out[0] = few[0];
}

extern "C" __global__ void __launch_bounds__(64) f_dynamic_write(const Fault a) {
    NNF_DYNAMIC_SHARED(double, few);
    few[threadIdx.x % a.n] = 1;  // planted: dynamic
    __syncthreads();
    a.out[0] = few[0];
}

extern "C" __global__ void __launch_bounds__(64) f_shift(const Fault a) {
    a.out[0] = 1 << a.n;  // planted: shift
}
