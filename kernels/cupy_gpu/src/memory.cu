// Filling memory.
#include "nnf_common.cuh"

struct Zero {
    unsigned* words;
    index n;
};

extern "C" __global__ void __launch_bounds__(256) nnf_zero(const Zero a) {
    const index stride = index(gridDim.x) * 256;
    for (index i = index(blockIdx.x) * 256 + threadIdx.x; i < a.n; i += stride) a.words[i] = 0;
}
