// One kernel per kind of intrinsic, for tests of the simulator.
#include "nnf_common.cuh"
#include "nnf_philox.cuh"

enum Type { INT, UNSIGNED, INDEX, FLOAT, DOUBLE };
enum Shuffle { FROM, XOR, UP, DOWN };

struct Shuffled {
    const double* values;
    double* out;
    int low_mask;  // of the lanes that shuffle together; the others do so by themselves
    int argument;
    int width;
    int type;
    int shuffle;
};

template <class T>
__device__ inline double shuffled(const Shuffled& a) {
    const T value = T(a.values[threadIdx.x]);
    const unsigned low = unsigned(a.low_mask), mask = low >> (threadIdx.x & 31) & 1 ? low : ~low;
    if (a.shuffle == FROM) return double(__shfl_sync(mask, value, a.argument, a.width));
    if (a.shuffle == XOR) return double(__shfl_xor_sync(mask, value, a.argument, a.width));
    if (a.shuffle == UP) return double(__shfl_up_sync(mask, value, unsigned(a.argument), a.width));
    return double(__shfl_down_sync(mask, value, unsigned(a.argument), a.width));
}

extern "C" __global__ void __launch_bounds__(64) s_shuffle(const Shuffled a) {
    double result = 0;
    if (a.type == INT) result = shuffled<int>(a);
    if (a.type == UNSIGNED) result = shuffled<unsigned>(a);
    if (a.type == INDEX) result = shuffled<index>(a);
    if (a.type == FLOAT) result = shuffled<float>(a);
    if (a.type == DOUBLE) result = shuffled<double>(a);
    a.out[threadIdx.x] = result;
}

struct Voted {
    const int* votes;
    unsigned* out;
    int mask;
};

extern "C" __global__ void __launch_bounds__(64) s_vote(const Voted a) {
    const int vote = a.votes[threadIdx.x];
    const unsigned low = unsigned(a.mask), mask = low >> (threadIdx.x & 31) & 1 ? low : ~low;
    a.out[3 * threadIdx.x] = __ballot_sync(mask, vote);
    a.out[3 * threadIdx.x + 1] = unsigned(__any_sync(mask, vote));
    a.out[3 * threadIdx.x + 2] = unsigned(__all_sync(mask, vote));
}

enum Atomic { ADD, SUB, EXCH, MAX, MIN, AND, OR, XOR_BITS, INC, DEC, CAS };

struct Counted {
    const unsigned* values;
    unsigned* cell;
    int* signed_cell;
    index* wide_cell;
    unsigned* before;
    int atomic;
};

extern "C" __global__ void __launch_bounds__(64) s_atomic(const Counted a) {
    const unsigned v = a.values[threadIdx.x];
    unsigned long long* wide_cell = reinterpret_cast<unsigned long long*>(a.wide_cell);
    unsigned old = 0;
    if (a.atomic == ADD) {
        old = atomicAdd(a.cell, v);
        atomicAdd(a.signed_cell, -int(v));
        atomicAdd(wide_cell, 0x100000000ull * v);
    }
    if (a.atomic == SUB) old = atomicSub(a.cell, v);
    if (a.atomic == EXCH) old = atomicExch(a.cell, v);
    if (a.atomic == MAX) {
        old = atomicMax(a.cell, v);
        atomicMax(a.signed_cell, -int(v));
        atomicMax(wide_cell, 0x100000000ull * v);
    }
    if (a.atomic == MIN) {
        old = atomicMin(a.cell, v);
        atomicMin(a.signed_cell, -int(v));
    }
    if (a.atomic == AND) old = atomicAnd(a.cell, v);
    if (a.atomic == OR) old = atomicOr(a.cell, v);
    if (a.atomic == XOR_BITS) old = atomicXor(a.cell, v);
    if (a.atomic == INC) old = atomicInc(a.cell, v);
    if (a.atomic == DEC) old = atomicDec(a.cell, v);
    if (a.atomic == CAS) old = atomicCAS(a.cell, 7u, v);
    a.before[threadIdx.x] = old;
}

struct Bits {
    const index* x;
    const index* y;
    index* out;
    index n;
};

extern "C" __global__ void __launch_bounds__(32) s_bits(const Bits a) {
    for (index i = threadIdx.x; i < a.n; i += 32) {
        const unsigned long long x = a.x[i], y = a.y[i];
        unsigned long long* out = reinterpret_cast<unsigned long long*>(a.out) + 14 * i;
        out[0] = unsigned(__popc(unsigned(x)));
        out[1] = unsigned(__popcll(x));
        out[2] = unsigned(__ffs(int(x)));
        out[3] = unsigned(__ffsll((long long)(x)));
        out[4] = unsigned(__clz(int(x)));
        out[5] = unsigned(__clzll((long long)(x)));
        out[6] = __umulhi(unsigned(x), unsigned(y));
        out[7] = (unsigned long long)(index(__mulhi(int(x), int(y))));
        out[8] = __umul64hi(x, y);
        out[9] = (unsigned long long)(__mul64hi(index(x), index(y)));
        out[10] = unsigned(__float_as_int(__int_as_float(int(x))));
        out[11] = (unsigned long long)(__double_as_longlong(__longlong_as_double(index(x))));
        out[12] = __ldg(a.x + i);
        out[13] = __ldcg(a.x + i);
    }
}

enum Function {
    EXP, LOG, LOG1P, EXPM1, TANH, SQRT, ERF, ERFC, FABS, SIN, COS, EXP2, LOG2, FLOOR, CEIL, TRUNC, RINT, RSQRT,
    SINPI, COSPI, SINCOSPI_SINE, SINCOSPI_COSINE, ISNAN, ISINF, ISFINITE, ABS,
    FMAX, FMIN, MAXIMUM, MINIMUM, POW, FMOD, COPYSIGN, FMA,
};

struct Computed {
    const real* x;
    const real* y;
    real* out;
    index n;
    int function;
};

static_assert(sizeof(exp(1.0f)) == 4 && sizeof(max(1.0f, 2.0f)) == 4 && sizeof(fma(1.0f, 1.0f, 1.0f)) == 4, "in float");
static_assert(sizeof(exp(1.0)) == 8 && sizeof(erfc(1.0)) == 8 && sizeof(fmax(1.0, 2.0)) == 8, "in double");

extern "C" __global__ void __launch_bounds__(32) s_compute(const Computed a) {
    for (index i = threadIdx.x; i < a.n; i += 32) {
        const real x = a.x[i], y = a.y[i];
        real sine, cosine;
        sincospi(x, &sine, &cosine);
        real result = 0;
        switch (a.function) {
            case EXP: result = exp(x); break;
            case LOG: result = log(x); break;
            case LOG1P: result = log1p(x); break;
            case EXPM1: result = expm1(x); break;
            case TANH: result = tanh(x); break;
            case SQRT: result = sqrt(x); break;
            case ERF: result = erf(x); break;
            case ERFC: result = erfc(x); break;
            case FABS: result = fabs(x); break;
            case SIN: result = sin(x); break;
            case COS: result = cos(x); break;
            case EXP2: result = exp2(x); break;
            case LOG2: result = log2(x); break;
            case FLOOR: result = floor(x); break;
            case CEIL: result = ceil(x); break;
            case TRUNC: result = trunc(x); break;
            case RINT: result = rint(x); break;
            case RSQRT: result = rsqrt(x); break;
            case SINPI: result = sinpi(x); break;
            case COSPI: result = cospi(x); break;
            case SINCOSPI_SINE: result = sine; break;
            case SINCOSPI_COSINE: result = cosine; break;
            case ISNAN: result = isnan(x); break;
            case ISINF: result = isinf(x); break;
            case ISFINITE: result = isfinite(x); break;
            case ABS: result = abs(x); break;
            case FMAX: result = fmax(x, y); break;
            case FMIN: result = fmin(x, y); break;
            case MAXIMUM: result = max(x, y); break;
            case MINIMUM: result = min(x, y); break;
            case POW: result = pow(x, y); break;
            case FMOD: result = fmod(x, y); break;
            case COPYSIGN: result = copysign(x, y); break;
            case FMA: result = fma(x, y, real(1)); break;
        }
        a.out[i] = result;
    }
}

struct Placed {
    unsigned* out;  // five numbers per thread
    unsigned* counter;
};

extern "C" __global__ void __launch_bounds__(96) s_place(const Placed a) {
    const unsigned turn = atomicAdd(a.counter, 1u);
    unsigned* out = a.out + 5 * turn;
    out[0] = threadIdx.x + 1000 * threadIdx.y + 1000 * threadIdx.z;
    out[1] = blockIdx.x;
    out[2] = blockIdx.y;
    out[3] = blockDim.x + 1000 * (blockDim.y - 1) + 1000 * (blockDim.z - 1);
    out[4] = gridDim.x + 1000 * gridDim.y + 1000000 * (gridDim.z - 1);
}

struct Counters {
    const unsigned* counter;  // four words
    unsigned* out;
    unsigned long long key;
};

extern "C" __global__ void __launch_bounds__(32) s_philox(const Counters a) {
    const Words words = philox(a.key, a.counter[0], a.counter[1], a.counter[2], a.counter[3]);
    if (threadIdx.x < 4) a.out[threadIdx.x] = words.w[threadIdx.x];
}
