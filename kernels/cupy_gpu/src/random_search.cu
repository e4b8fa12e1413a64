// Random search: candidates from normal numbers, and the choice between the candidate and the best so far.
#include "nnf_philox.cuh"
#include "nnf_walk.cuh"

struct ProposeArgs {
    const real* p;  // null: q = scale·normal
    real* q;
    index n;
    Count key;
    Count step;
    Number scale;
    Count offset;  // the number of p[0] in its stream
};

// √(−2·log u) for u = (v + 1)/2³². Above ½ from 1 − u, which tells more of a u that is close to 1.
__device__ inline real radius(unsigned v) {
#if NNF_DOUBLE
    return sqrt(-2 * log((double(v) + 1) * 0x1p-32));
#else
    const float log_u = v >> 31 ? log1pf(float(~v) * -0x1p-32f) : logf(float(v + 1) * 0x1p-32f);
    return sqrtf(-2 * log_u);
#endif
}

// The cosine and the sine of 2π·w/2³²: of an eighth of the circle, turned by quarters. The cut into quarters is exact.
__device__ inline void circle(unsigned w, real& cosine, real& sine) {
    const unsigned quarters = (w + (1u << 29)) >> 30;
    const real half_turns = real(int(w - (quarters << 30))) * real(0x1p-31);  // −¼ … ¼
    real c, s;
#if NNF_DOUBLE
    sincospi(half_turns, &s, &c);
#else
    sincospif(half_turns, &s, &c);
#endif
    cosine = quarters & 1 ? -s : c;
    sine = quarters & 1 ? c : s;
    if (quarters & 2) {
        cosine = -cosine;
        sine = -sine;
    }
}

extern "C" __global__ void __launch_bounds__(256) nnf_random_search_propose(const ProposeArgs a) {
    const index key = get(a.key), step = get(a.step), first = get(a.offset);
    const real scale = real(get(a.scale));
    const index stride = index(gridDim.x) * 256;
    const index begin = first >> 2, end = (first + a.n + 3) >> 2;
    const bool packed = (first & 3) == 0 && aligned(a.p) && aligned(a.q);
    for (index b = begin + index(blockIdx.x) * 256 + threadIdx.x; b < end; b += stride) {
        const Words words = stream(key, SEARCH_STREAM, step, b);
        const index i = b * 4 - first;
        real normal[4];
#pragma unroll
        for (int j = 0; j < 4; j += 2) {
            const real r = radius(words.w[j]) * scale;
            circle(words.w[j + 1], normal[j], normal[j + 1]);
            normal[j] *= r;
            normal[j + 1] *= r;
        }
        if (packed && i + 4 <= a.n) {
#pragma unroll
            for (int k = 0; k < 4; k += PACK) {
                Pack v = {};
                if (a.p) v = *reinterpret_cast<const Pack*>(a.p + i + k);
#pragma unroll
                for (int j = 0; j < PACK; ++j) v.v[j] += normal[k + j];
                store(a.q + i + k, v);
            }
        } else {
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                if (i + j >= 0 && i + j < a.n) a.q[i + j] = (a.p ? a.p[i + j] : real(0)) + normal[j];
            }
        }
    }
}

struct AcceptArgs {
    real* p;
    const real* q;
    index n;
    Total sums;
    Total best;
    index columns;
    Number normaliser;
    Scratch scratch;
};

// Every block decides for itself, from sums that the last one to have done so overwrites.
extern "C" __global__ void __launch_bounds__(256) nnf_random_search_accept(const AcceptArgs a) {
    double* const sums = place(a.sums);
    double* const best = place(a.best);
    const double normaliser = get(a.normaliser);
    const bool better = sums[0] / normaliser + sums[1] < best[0] / normaliser + best[1];
    if (better) {
        const index stride = index(gridDim.x) * 256, packs = aligned(a.p) && aligned(a.q) ? a.n / PACK : 0;
        const index thread = index(blockIdx.x) * 256 + threadIdx.x;
#pragma unroll 1
        for (index i = thread; i < packs; i += stride) store(a.p + i * PACK, reinterpret_cast<const Pack*>(a.q)[i]);
#pragma unroll 1
        for (index i = packs * PACK + thread; i < a.n; i += stride) a.p[i] = a.q[i];
    }
    if (!last_block(a.scratch.tickets, gridDim.x)) return;
    for (index s = threadIdx.x; s < a.columns; s += 256) {
        if (better) best[s] = sums[s];
        else sums[s] = best[s];
    }
}
