// Dropout, forward and backward alike: what is kept follows from where an element stands.
#include "nnf_philox.cuh"
#include "nnf_walk.cuh"

struct DropoutArgs {
    const real* x;
    real* y;  // may be x
    index n;
    index width;
    Number rate;
    Count key;
    Count step;
    Count layer;
    Count first_row;
};

// Four elements at a time, those of one block of the stream: x[i … i + 3], of which some may lie outside of 0 … n − 1.
template <bool PACKED>
__device__ inline void drop(const DropoutArgs& a, index i, Words words, unsigned limit, real scale) {
    if (PACKED) {
        constexpr int PACKS = 4 / PACK;
        Pack v[PACKS];
#pragma unroll
        for (int p = 0; p < PACKS; ++p) v[p] = reinterpret_cast<const Pack*>(a.x + i)[p];
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            real& x = v[j / PACK].v[j % PACK];
            x = words.w[j] >= limit ? x * scale : real(0);
        }
#pragma unroll
        for (int p = 0; p < PACKS; ++p) store(a.y + i + p * PACK, v[p]);
    } else {
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (i + j >= 0 && i + j < a.n) a.y[i + j] = words.w[j] >= limit ? a.x[i + j] * scale : real(0);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) nnf_dropout(const DropoutArgs a) {
    const double rate = get(a.rate);
    const unsigned limit = unsigned(rate * 4294967296.0);
    const real scale = real(1 / (1 - rate));
    const index key = get(a.key), step = get(a.step), first = get(a.first_row) * a.width;
    const unsigned layer = unsigned(get(a.layer));
    const index stride = index(gridDim.x) * 256;
    const index begin = first >> 2, end = (first + a.n + 3) >> 2;  // blocks of the stream
    const bool packed = (first & 3) == 0 && aligned(a.x) && aligned(a.y);
    for (index b = begin + index(blockIdx.x) * 256 + threadIdx.x; b < end; b += stride) {
        const Words words = stream(key, layer, step, b);
        const index i = b * 4 - first;
        if (packed && i + 4 <= a.n) drop<true>(a, i, words, limit, scale);
        else drop<false>(a, i, words, limit, scale);
    }
}
