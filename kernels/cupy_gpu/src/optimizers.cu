// Optimizer steps: one launch over a range of parameters, each number read once and written once.
//
// The rates are made in double, once per block. Each step can also look for numbers that are not finite, in what it
// holds anyway: 0·x + probe is NaN from the first of them on.
#include "nnf_spans.cuh"

struct Sgd {
    real* p;
    const real* g;
    real* v;  // or null: the plain step
    Number learning_rate;
    Number momentum;
    index n;
    int nesterov;
    index* nonfinite;  // or null; the first step that was not finite, below 0 while there is none
    const index* step_index;
};

struct Adagrad {
    real* p;
    const real* g;
    real* cache;
    Number learning_rate;
    Number epsilon;
    index n;
    index* nonfinite;
    const index* step_index;
};

struct Rmsprop {
    real* p;
    const real* g;
    real* cache;
    Number learning_rate;
    Number epsilon;
    Number rho;
    index n;
    index* nonfinite;
    const index* step_index;
};

struct Adam {
    real* p;
    const real* g;
    real* m;
    real* v;
    Number learning_rate;
    Number beta_1;
    Number beta_2;
    Number epsilon;
    Number weight_decay;
    Count step;
    index n;
    index* nonfinite;
    const index* step_index;
};

// Note the running step where something was not finite. All who do write the same.
template <class Arguments>
__device__ inline void note(const Arguments& a, real probe) {
    if (a.nonfinite && !(probe == 0) && *a.nonfinite < 0) *a.nonfinite = *a.step_index;
}

__device__ inline real watched(real g, real p, real probe) { return fma(p, real(0), fma(g, real(0), probe)); }

// p −= lr·g, or v = momentum·v − lr·g and p += v, with Nesterov p += momentum·v − lr·g
extern "C" __global__ void __launch_bounds__(256) nnf_sgd(const Sgd a) {
    const real rate = real(get(a.learning_rate)), momentum = real(get(a.momentum));
    const bool wide = aligned(a.p) && aligned(a.g) && aligned(a.v), moving = a.v != nullptr, nesterov = a.nesterov;
    real probe = 0;
    for (index i = first_pack<256>(); i < a.n; i += next_pack<256>()) {
        Pack p = take(a.p, i, a.n, wide), v = {};
        const Pack g = take(a.g, i, a.n, wide);
        if (moving) v = take(a.v, i, a.n, wide);
#pragma unroll
        for (int j = 0; j < PACK; ++j) {
            const real step = rate * g.v[j];
            if (moving) {
                v.v[j] = momentum * v.v[j] - step;
                p.v[j] += nesterov ? momentum * v.v[j] - step : v.v[j];
            } else {
                p.v[j] -= step;
            }
            probe = watched(g.v[j], p.v[j], probe);
        }
        put(a.p, i, a.n, wide, p);
        if (moving) put(a.v, i, a.n, wide, v);
    }
    note(a, probe);
}

// cache = keep·cache + part·g², p −= lr·g/(√cache + ε)
template <class Arguments>
__device__ inline void descend(const Arguments& a, real keep, real part) {
    const real rate = real(get(a.learning_rate)), epsilon = real(get(a.epsilon));
    const bool wide = aligned(a.p) && aligned(a.g) && aligned(a.cache);
    real probe = 0;
    for (index i = first_pack<256>(); i < a.n; i += next_pack<256>()) {
        const Pack g = take(a.g, i, a.n, wide);
        Pack cache = take(a.cache, i, a.n, wide), p = take(a.p, i, a.n, wide);
#pragma unroll
        for (int j = 0; j < PACK; ++j) {
            cache.v[j] = keep * cache.v[j] + part * g.v[j] * g.v[j];
            p.v[j] -= rate * (g.v[j] / (sqrt(cache.v[j]) + epsilon));
            probe = watched(g.v[j], p.v[j], probe);
        }
        put(a.p, i, a.n, wide, p);
        put(a.cache, i, a.n, wide, cache);
    }
    note(a, probe);
}

extern "C" __global__ void __launch_bounds__(256) nnf_adagrad(const Adagrad a) {
    descend(a, 1, 1);
}

extern "C" __global__ void __launch_bounds__(256) nnf_rmsprop(const Rmsprop a) {
    const double rho = get(a.rho);
    descend(a, real(rho), real(1 - rho));
}

// What is the same for all parameters in one step of Adam.
struct AdamRates {
    real rate;  // lr·c/(1 − β₁ᵗ), where c = √(1 − β₂ᵗ)
    real epsilon;  // c·ε
    real decay;  // lr·weight_decay
};

// 1 − βᵗ with all digits, also where βᵗ is near 1; 1 where β is 0.
__device__ inline double one_minus_power(double beta, index t) { return -expm1(double(t) * log(beta)); }

// m = β₁m + (1 − β₁)g, v = β₂v + (1 − β₂)g², p −= lr·(m̂/(√v̂ + ε) + weight_decay·p)
extern "C" __global__ void __launch_bounds__(256) nnf_adam(const Adam a) {
    __shared__ AdamRates shared_rates;
    const double beta_1 = get(a.beta_1), beta_2 = get(a.beta_2);
    if (threadIdx.x == 0) {
        const index step = get(a.step);
        const double rate = get(a.learning_rate), c = sqrt(one_minus_power(beta_2, step));
        shared_rates.rate = real(rate * c / one_minus_power(beta_1, step));
        shared_rates.epsilon = real(c * get(a.epsilon));
        shared_rates.decay = real(rate * get(a.weight_decay));
    }
    __syncthreads();
    const AdamRates k = shared_rates;
    const real keep_m = real(beta_1), part_m = real(1 - beta_1), keep_v = real(beta_2), part_v = real(1 - beta_2);
    const bool wide = aligned(a.p) && aligned(a.g) && aligned(a.m) && aligned(a.v);
    real probe = 0;
    for (index i = first_pack<256>(); i < a.n; i += next_pack<256>()) {
        Pack p = take(a.p, i, a.n, wide), m = take(a.m, i, a.n, wide), v = take(a.v, i, a.n, wide);
        const Pack g = take(a.g, i, a.n, wide);
#pragma unroll
        for (int j = 0; j < PACK; ++j) {
            m.v[j] = keep_m * m.v[j] + part_m * g.v[j];
            v.v[j] = keep_v * v.v[j] + part_v * g.v[j] * g.v[j];
            if (k.decay != 0) p.v[j] -= k.decay * p.v[j];
            p.v[j] -= k.rate * (m.v[j] / (sqrt(v.v[j]) + k.epsilon));
            probe = watched(g.v[j], p.v[j], probe);
        }
        put(a.p, i, a.n, wide, p);
        put(a.m, i, a.n, wide, m);
        put(a.v, i, a.n, wide, v);
    }
    note(a, probe);
}
