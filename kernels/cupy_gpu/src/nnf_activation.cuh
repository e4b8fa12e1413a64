// The activations and their slopes. Every choice is made by `x <= 0`, which is false for NaN, so that NaN takes the
// branch that carries it on.
#pragma once
#include "nnf_common.cuh"

enum Activation {
    LINEAR,
    RELU,
    LEAKY_RELU,
    ELU,
    SOFTPLUS,
    SIGMOID,
    TANH,
    GELU,  // this one and the next have slopes that follow from x only, not from y
    SILU,
};

// Function names that mean the working type, whatever a compiler overloads.
#if NNF_DOUBLE
__device__ inline real exp_of(real x) { return exp(x); }
__device__ inline real expm1_of(real x) { return expm1(x); }
__device__ inline real log1p_of(real x) { return log1p(x); }
__device__ inline real tanh_of(real x) { return tanh(x); }
__device__ inline real erfc_of(real x) { return erfc(x); }
__device__ inline real larger(real a, real b) { return fmax(a, b); }  // drops NaN
#else
__device__ inline real exp_of(real x) { return expf(x); }
__device__ inline real expm1_of(real x) { return expm1f(x); }
__device__ inline real log1p_of(real x) { return log1pf(x); }
__device__ inline real tanh_of(real x) { return tanhf(x); }
__device__ inline real erfc_of(real x) { return erfcf(x); }
__device__ inline real larger(real a, real b) { return fmaxf(a, b); }
#endif

// 1/(1 + e⁻ˣ); 0 where e⁻ˣ overflows
__device__ inline real logistic(real x) { return 1 / (1 + exp_of(-x)); }

// Φ(x) = ½·erfc(−x/√2)
__device__ inline real normal_cdf(real x) { return real(0.5) * erfc_of(x * real(-0.70710678118654752440)); }

// y from x
template <int KIND>
__device__ inline real activate(real x, real alpha) {
    if constexpr (KIND == RELU) return x <= 0 ? real(0) : x;
    if constexpr (KIND == LEAKY_RELU) return x <= 0 ? alpha * x : x;
    if constexpr (KIND == ELU) return x <= 0 ? alpha * expm1_of(x) : x;
    if constexpr (KIND == SOFTPLUS) return (x <= 0 ? real(0) : x) + log1p_of(exp_of(x <= 0 ? x : -x));
    if constexpr (KIND == SIGMOID) return logistic(x);
    if constexpr (KIND == TANH) return tanh_of(x);
    if constexpr (KIND == GELU) return x * normal_cdf(x);
    if constexpr (KIND == SILU) return x / (1 + exp_of(-x));  // not x·σ(x): σ(x) may be too small to be normal
    return x;
}

// dx from dy and what was saved: y, or x for GELU and SiLU
template <int KIND>
__device__ inline real slope(real saved, real dy, real alpha) {
    const real y = saved, x = saved;
    if constexpr (KIND == RELU) return dy * (y <= 0 ? real(0) : real(1));  // a product: inf·0 is NaN
    if constexpr (KIND == LEAKY_RELU) return y <= 0 ? alpha * dy : dy;
    if constexpr (KIND == ELU) return y <= 0 ? dy * (y + alpha) : dy;
    if constexpr (KIND == SOFTPLUS) return dy * -expm1_of(-y);
    if constexpr (KIND == SIGMOID) return dy * (y * (1 - y));
    if constexpr (KIND == TANH) return dy * ((1 - y) * (1 + y));
    if constexpr (KIND == GELU) {
        const real density = exp_of(real(-0.5) * x * x) * real(0.39894228040143267794);
        return dy * (normal_cdf(x) + x * density);
    }
    if constexpr (KIND == SILU) {
        const real s = logistic(x);
        return dy * (s * (1 + x * (1 - s)));
    }
    return dy;
}

template <int KIND>
struct Kind {
    static constexpr int value = KIND;
};

// f(Kind<kind>()), for those that may be part of a dense layer.
template <class F>
__device__ inline void by_fused_kind(int kind, F f) {
    switch (kind) {
        case LINEAR: return f(Kind<LINEAR>());
        case RELU: return f(Kind<RELU>());
        case LEAKY_RELU: return f(Kind<LEAKY_RELU>());
        case ELU: return f(Kind<ELU>());
        case SOFTPLUS: return f(Kind<SOFTPLUS>());
        case SIGMOID: return f(Kind<SIGMOID>());
        case TANH: return f(Kind<TANH>());
    }
}

// f(Kind<kind>()), for all.
template <class F>
__device__ inline void by_kind(int kind, F f) {
    if (kind == GELU) return f(Kind<GELU>());
    if (kind == SILU) return f(Kind<SILU>());
    by_fused_kind(kind, f);
}
