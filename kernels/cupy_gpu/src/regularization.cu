// Penalties on parameters, and the limit on the gradient's length.
#include "nnf_spans.cuh"

struct Penalty {
    const real* p;
    real* g;  // or null
    Number l1;
    Number l2;
    Number normaliser;  // 1 for the penalty of a step
    Total total;
    Scratch scratch;
    index n;
};

struct Clip {
    real* g;
    Number clip_norm;
    Scratch scratch;
    index n;
    int factor;  // which of the partial sums keeps what to multiply by: the one after those of the blocks of nnf_norm
};

// total += (l1·Σ|p| + l2·Σp²)/normaliser, g += (l1·sign(p) + 2·l2·p)/normaliser
// A term only where it is asked for: 0·inf is NaN.
extern "C" __global__ void __launch_bounds__(256) nnf_penalty(const Penalty a) {
    double l1 = get(a.l1), l2 = get(a.l2);
    if (l1 == 0 && l2 == 0) return;
    const double normaliser = get(a.normaliser);
    if (l1 != 0) l1 /= normaliser;
    if (l2 != 0) l2 /= normaliser;
    const real first = real(l1), second = real(2 * l2);
    const bool wide = aligned(a.p) && aligned(a.g);
    double sum = 0;
    for (index i = first_pack<256>(); i < a.n; i += next_pack<256>()) {
        const Pack p = take(a.p, i, a.n, wide);
        Pack g = {};
        if (a.g) g = take(a.g, i, a.n, wide);
#pragma unroll
        for (int j = 0; j < PACK; ++j) {
            const real x = p.v[j], sign = x > 0 ? real(1) : x < 0 ? real(-1) : x;  // 0 and NaN are their own
            if (l1 != 0) {
                sum += l1 * fabs(double(x));
                g.v[j] += first * sign;
            }
            if (l2 != 0) {
                sum += l2 * (double(x) * x);
                g.v[j] += second * x;
            }
        }
        if (a.g) put(a.g, i, a.n, wide, g);
    }
    if (grid_sum<256>(sum, a.scratch, sum) && threadIdx.x == 0) *place(a.total) += sum;
}

// What g is to be multiplied by: min(1, clip_norm/‖g‖), and 1 where the norm is NaN. It waits among the partial sums
// for nnf_clip: that is the next launch, and a runner's launches run one after the other on working memory of its own.
extern "C" __global__ void __launch_bounds__(256) nnf_norm(const Clip a) {
    const double clip_norm = get(a.clip_norm);
    double* factor = a.scratch.partials + a.factor;
    if (clip_norm == positive_infinity()) {
        if (blockIdx.x == 0 && threadIdx.x == 0) *factor = 1;
        return;
    }
    const bool wide = aligned(a.g);
    double sum = 0;
    for (index i = first_pack<256>(); i < a.n; i += next_pack<256>()) {
        const Pack g = take(a.g, i, a.n, wide);
#pragma unroll
        for (int j = 0; j < PACK; ++j) sum += double(g.v[j]) * g.v[j];
    }
    if (grid_sum<256>(sum, a.scratch, sum) && threadIdx.x == 0) {
        const double norm = sqrt(sum);
        *factor = norm > clip_norm ? clip_norm / norm : 1;
    }
}

extern "C" __global__ void __launch_bounds__(256) nnf_clip(const Clip a) {
    const double factor = a.scratch.partials[a.factor];
    if (factor == 1) return;
    const bool wide = aligned(a.g);
    const real by = real(factor);
    for (index i = first_pack<256>(); i < a.n; i += next_pack<256>()) {
        Pack g = take(a.g, i, a.n, wide);
#pragma unroll
        for (int j = 0; j < PACK; ++j) g.v[j] *= by;
        put(a.g, i, a.n, wide, g);
    }
}
