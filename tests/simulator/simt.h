// What a CUDA source needs to be compiled by g++: the built-in variables, intrinsics and math functions of device code.
//
// The fibers behind the barriers are in simt_runtime.cpp. No standard header is included, since NVRTC has none either:
// what compiles here without being CUDA should be little. Absent on purpose: atomics on floating-point numbers and the
// fast-math intrinsics, whose results depend on timing or on the GPU.
#pragma once

typedef unsigned long long simt_bits;

struct simt_dim3 {
    unsigned x, y, z;
};

extern simt_dim3 threadIdx, blockIdx, blockDim, gridDim;  // not const: another thread continues after every barrier
constexpr int warpSize = 32;

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ static  // simt_runtime.cpp fills all such variables of a unit, its .bss, before every block

extern void* simt_dynamic_shared;
#define NNF_DYNAMIC_SHARED(type, name) type* name = static_cast<type*>(simt_dynamic_shared)

// One launch, as the generated launchers describe it. Null or the text of a fault comes back.
struct simt_launch {
    const char* kernel;
    void (*body)(const void* args);
    const void* args;
    unsigned threads, grid_x, grid_y, grid_z;
    unsigned long long shared;
    int order;  // 0 forward, 1 reversed, 2 shuffled
    unsigned long long seed;
    int flush;  // subnormal numbers are zero
};
const char* simt_run(const simt_launch& launch);

// A lane's part in an operation of its warp: what it brings, and what it gets.
struct simt_lane {
    simt_bits value, result;
    int argument, width;
};
typedef void simt_combine(simt_lane* lanes, unsigned mask);

void simt_barrier(const char* file, int line);
simt_bits simt_warp(const char* what, unsigned mask, simt_bits value, int argument, int width, simt_combine* combine,
                    const char* file, int line);
[[noreturn]] void simt_fault(const char* text, const char* file, int line);

#define SIMT_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

template <class T>
inline simt_bits simt_as_bits(T value) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles move 4 or 8 bytes");
    simt_bits bits = 0;
    __builtin_memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
inline T simt_from_bits(simt_bits bits) {
    T value;
    __builtin_memcpy(&value, &bits, sizeof value);
    return value;
}

// Barriers and shuffles.

inline void __syncthreads(SIMT_HERE) { simt_barrier(file, line); }

inline void __syncwarp(unsigned mask = 0xffffffffu, SIMT_HERE) {
    simt_warp("__syncwarp", mask, 0, 0, 32, [](simt_lane*, unsigned) {}, file, line);
}

// What lane `source` brought; all bits set (NaN) where that lane takes no part, since nothing is promised there.
inline void simt_take(simt_lane* lanes, unsigned mask, int lane, int source) {
    lanes[lane].result = mask >> source & 1 ? lanes[source].value : ~0ull;
}

#define SIMT_SHUFFLE(name, argument_type, SOURCE)                                                                     \
    template <class T>                                                                                                \
    inline T name(unsigned mask, T value, argument_type argument, int width = 32, SIMT_HERE) {                        \
        const auto combine = [](simt_lane* lanes, unsigned mask) {                                                    \
            for (int lane = 0; lane < 32; ++lane) {                                                                   \
                if (!(mask >> lane & 1)) continue;                                                                    \
                const int arg = lanes[lane].argument, first = lane & -lanes[lane].width;                              \
                const int last = first + lanes[lane].width - 1;                                                       \
                (void)arg, (void)last;                                                                                \
                simt_take(lanes, mask, lane, SOURCE);                                                                 \
            }                                                                                                         \
        };                                                                                                            \
        return simt_from_bits<T>(                                                                                     \
            simt_warp(#name, mask, simt_as_bits(value), int(argument), width, combine, file, line));                  \
    }

SIMT_SHUFFLE(__shfl_sync, int, first + (arg & (lanes[lane].width - 1)))
SIMT_SHUFFLE(__shfl_xor_sync, int, (lane ^ arg) > last ? lane : (lane ^ arg))
SIMT_SHUFFLE(__shfl_up_sync, unsigned, lane - arg < first ? lane : lane - arg)
SIMT_SHUFFLE(__shfl_down_sync, unsigned, lane + arg > last ? lane : lane + arg)
#undef SIMT_SHUFFLE

inline unsigned simt_ballot(const char* what, unsigned mask, int predicate, const char* file, int line) {
    const auto combine = [](simt_lane* lanes, unsigned mask) {
        unsigned ballot = 0;
        for (int lane = 0; lane < 32; ++lane) ballot |= unsigned(mask >> lane & 1 && lanes[lane].value) << lane;
        for (int lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1) lanes[lane].result = ballot;
    };
    return unsigned(simt_warp(what, mask, predicate != 0, 0, 32, combine, file, line));
}
inline unsigned __ballot_sync(unsigned mask, int predicate, SIMT_HERE) {
    return simt_ballot("__ballot_sync", mask, predicate, file, line);
}
inline int __any_sync(unsigned mask, int predicate, SIMT_HERE) {
    return simt_ballot("__any_sync", mask, predicate, file, line) != 0;
}
inline int __all_sync(unsigned mask, int predicate, SIMT_HERE) {
    return simt_ballot("__all_sync", mask, predicate, file, line) == mask;
}

// Memory. Blocks run one after the other, and a thread runs alone until its next barrier.

inline void __threadfence() {}
inline void __threadfence_block() {}
[[noreturn]] inline void __trap(SIMT_HERE) { simt_fault("__trap", file, line); }

#define SIMT_LOAD(name) \
    template <class T>  \
    inline T name(const T* p) { return *p; }
SIMT_LOAD(__ldg) SIMT_LOAD(__ldcg) SIMT_LOAD(__ldca) SIMT_LOAD(__ldcs) SIMT_LOAD(__ldcv)
#undef SIMT_LOAD
#define SIMT_STORE(name) \
    template <class T>   \
    inline void name(T* p, T value) { *p = value; }
SIMT_STORE(__stwb) SIMT_STORE(__stcg) SIMT_STORE(__stcs) SIMT_STORE(__stwt)
#undef SIMT_STORE

#define SIMT_ATOMIC(T, name, NEXT)        \
    inline T name(T* p, T value) {        \
        const T old = *p;                 \
        *p = (NEXT);                      \
        return old;                       \
    }
#define SIMT_ATOMICS(T, U)                                        \
    SIMT_ATOMIC(T, atomicAdd, T(U(old) + U(value)))               \
    SIMT_ATOMIC(T, atomicExch, value)                             \
    SIMT_ATOMIC(T, atomicMax, old > value ? old : value)          \
    SIMT_ATOMIC(T, atomicMin, old < value ? old : value)          \
    SIMT_ATOMIC(T, atomicAnd, old & value)                        \
    SIMT_ATOMIC(T, atomicOr, old | value)                         \
    SIMT_ATOMIC(T, atomicXor, old ^ value)                        \
    inline T atomicCAS(T* p, T compare, T value) {                \
        const T old = *p;                                         \
        if (old == compare) *p = value;                           \
        return old;                                               \
    }
SIMT_ATOMICS(int, unsigned)
SIMT_ATOMICS(unsigned, unsigned)
SIMT_ATOMICS(simt_bits, simt_bits)
SIMT_ATOMIC(int, atomicSub, int(unsigned(old) - unsigned(value)))
SIMT_ATOMIC(unsigned, atomicSub, old - value)
SIMT_ATOMIC(unsigned, atomicInc, old >= value ? 0 : old + 1)
SIMT_ATOMIC(unsigned, atomicDec, old == 0 || old > value ? value : old - 1)
#undef SIMT_ATOMICS
#undef SIMT_ATOMIC

// Integers and bits.

inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __ffs(int x) { return __builtin_ffs(x); }
inline int __ffsll(long long x) { return __builtin_ffsll(x); }
inline int __clz(int x) { return x ? __builtin_clz(unsigned(x)) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll((unsigned long long)(x)) : 64; }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned((unsigned long long)(a) * b >> 32); }
inline int __mulhi(int a, int b) { return int((long long)(a) * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)(a) * b >> 64);
}
inline long long __mul64hi(long long a, long long b) { return (long long)((__int128)(a) * b >> 64); }
inline float __int_as_float(int x) { return simt_from_bits<float>(unsigned(x)); }
inline float __uint_as_float(unsigned x) { return simt_from_bits<float>(x); }
inline int __float_as_int(float x) { return int(simt_as_bits(x)); }
inline unsigned __float_as_uint(float x) { return unsigned(simt_as_bits(x)); }
inline double __longlong_as_double(long long x) { return simt_from_bits<double>(simt_bits(x)); }
inline long long __double_as_longlong(double x) { return (long long)(simt_as_bits(x)); }
inline float __uint2float_rn(unsigned x) { return float(x); }

// The vector types that one access moves.

#define SIMT_VECTORS(T, name)                                                                   \
    struct alignas(2 * sizeof(T)) name##2 {                                                     \
        T x, y;                                                                                 \
    };                                                                                          \
    struct alignas(16) name##4 {                                                                \
        T x, y, z, w;                                                                           \
    };                                                                                          \
    inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                  \
    inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
SIMT_VECTORS(float, float)
SIMT_VECTORS(double, double)
SIMT_VECTORS(int, int)
SIMT_VECTORS(unsigned, uint)
#undef SIMT_VECTORS

#include "simt_math.h"
