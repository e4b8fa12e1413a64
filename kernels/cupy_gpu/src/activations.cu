// Activations that work element by element, and their gradients.
#include "nnf_activation.cuh"
#include "nnf_walk.cuh"

struct ActivationArgs {
    const real* x;
    real* y;  // may be x
    index n;
    int kind;  // of enum Activation
    Number alpha;
};

extern "C" __global__ void __launch_bounds__(256) nnf_activation(const ActivationArgs a) {
    const real alpha = real(get(a.alpha));
    map<256>(a.x, a.y, a.n, [&](auto& x) {
        by_kind(a.kind, [&](auto kind) {
#pragma unroll
            for (real& v : x) v = activate<decltype(kind)::value>(v, alpha);
        });
    });
}

struct ActivationBackwardArgs {
    const real* saved;  // y, or x for GELU and SiLU
    const real* dy;
    real* dx;  // may be dy
    index n;
    int kind;
    Number alpha;
};

extern "C" __global__ void __launch_bounds__(256) nnf_activation_backward(const ActivationBackwardArgs a) {
    const real alpha = real(get(a.alpha));
    map<256>(a.saved, a.dy, a.dx, a.n, [&](auto& saved, auto& dy) {
        by_kind(a.kind, [&](auto kind) {
#pragma unroll
            for (unsigned j = 0; j < sizeof(dy) / sizeof(real); ++j) {
                saved[j] = slope<decltype(kind)::value>(saved[j], dy[j], alpha);
            }
        });
    });
}
