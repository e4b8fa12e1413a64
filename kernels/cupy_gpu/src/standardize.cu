// Standardizing: every feature shifted and scaled by constants of its own, forward and (without the shift) backward.
#include "nnf_common.cuh"

struct StandardizeArgs {
    const real* x;
    const real* mean;  // null: 0
    const real* std;
    real* y;
    index n;
    index width;  // of a row
};

extern "C" __global__ void __launch_bounds__(256) nnf_standardize(const StandardizeArgs a) {
    const index stride = index(gridDim.x) * 256, step = stride % a.width;
    index i = index(blockIdx.x) * 256 + threadIdx.x;
    index column = i % a.width;
    for (; i < a.n; i += stride) {
        const real shifted = a.mean ? a.x[i] - a.mean[column] : a.x[i];
        a.y[i] = shifted / a.std[column];
        column += step;
        if (column >= a.width) column -= a.width;
    }
}
