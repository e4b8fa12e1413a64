// Softmax along rows and its gradient. Rows of up to 512 floats stay in registers of a warp or a part of one; longer
// ones have a block, which keeps what it can of them in shared memory and reads the rest a second time.
//
// A row with a NaN or +inf in it, or with nothing but −inf, comes out as NaN: NaN is passed over in the maximum m, but
// not in Σ e^(x − m), and the other two make e^(x − m) NaN.
#include "nnf_activation.cuh"
#include "nnf_rows.cuh"
#include "nnf_walk.cuh"

struct SoftmaxArgs {
    const real* x;
    real* y;  // may be x
    index rows;
    int width;
    int kept;  // elements of a row that find place in shared memory, a multiple of a block's packs, or all
};

struct SoftmaxBackwardArgs {
    const real* y;
    const real* dy;
    real* dx;  // may be dy or y
    index rows;
    int width;
    int kept;  // of each of y and dy
};

// LANES threads per row with PACKS packs each.
template <int LANES, int PACKS, bool PACKED>
__device__ inline void in_registers(const SoftmaxArgs& a) {
    constexpr int ROWS = 256 / LANES;
    const bool wide_in = aligned(a.x), wide_out = aligned(a.y);
    const real nothing = real(-positive_infinity());
    for (index first = index(blockIdx.x) * ROWS; first < a.rows; first += index(gridDim.x) * ROWS) {
        const index row = first + threadIdx.x / LANES, base = row * a.width;
        const Row<LANES, PACKED> on = {int(threadIdx.x % LANES), row < a.rows ? a.width : 0};
        Pack e[PACKS];
        real m = nothing;
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            e[p] = on.load(a.x + base, p, wide_in, nothing);
#pragma unroll
            for (int v = 0; v < PACK; ++v) m = greater(m, e[p].v[v]);
        }
        m = group_max<LANES>(m);
        real s = 0;
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
#pragma unroll
            for (int v = 0; v < PACK; ++v) s += e[p].v[v] = exp_of(e[p].v[v] - m);
        }
        s = 1 / group_sum<LANES>(s);
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
#pragma unroll
            for (int v = 0; v < PACK; ++v) e[p].v[v] *= s;
            on.put(a.y + base, p, wide_out, e[p]);
        }
    }
}

template <int LANES, int PACKS, bool PACKED>
__device__ inline void in_registers(const SoftmaxBackwardArgs& a) {
    constexpr int ROWS = 256 / LANES;
    const bool wide_y = aligned(a.y), wide_dy = aligned(a.dy), wide_out = aligned(a.dx);
    for (index first = index(blockIdx.x) * ROWS; first < a.rows; first += index(gridDim.x) * ROWS) {
        const index row = first + threadIdx.x / LANES, base = row * a.width;
        const Row<LANES, PACKED> on = {int(threadIdx.x % LANES), row < a.rows ? a.width : 0};
        Pack y[PACKS], dy[PACKS];
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            y[p] = on.load(a.y + base, p, wide_y, 0);
            dy[p] = on.load(a.dy + base, p, wide_dy, 0);
        }
        real inner = 0;
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
#pragma unroll
            for (int v = 0; v < PACK; ++v) inner += y[p].v[v] * dy[p].v[v];
        }
        inner = group_sum<LANES>(inner);
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
#pragma unroll
            for (int v = 0; v < PACK; ++v) y[p].v[v] *= dy[p].v[v] - inner;
            on.put(a.dx + base, p, wide_out, y[p]);
        }
    }
}

// A block per row. Each thread keeps the sum of its elements relative to the greatest that it has met.
template <int LANES, int PACKS, bool PACKED>
__device__ inline void in_block(const SoftmaxArgs& a) {
    constexpr int STEP = LANES * PACK;
    NNF_DYNAMIC_SHARED(real, kept);
    const bool wide_in = aligned(a.x), wide_out = aligned(a.y);
    const real nothing = real(-positive_infinity());
    const Row<LANES, PACKED> on = {int(threadIdx.x), a.width};
    const int packs = (a.width + STEP - 1) / STEP;
    const int packs_kept = a.kept >= a.width ? packs : a.kept / STEP;
    for (index row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const index base = row * a.width;
        real m = nothing;
        double s = 0;
        for (int first = 0; first < packs; first += PACKS) {
            Pack x[PACKS];
#pragma unroll
            for (int u = 0; u < PACKS; ++u) x[u] = on.load(a.x + base, first + u, wide_in, nothing);
#pragma unroll
            for (int u = 0; u < PACKS; ++u) {
                if (!on.has(first + u)) break;
                real most = m;
#pragma unroll
                for (int v = 0; v < PACK; ++v) most = greater(most, x[u].v[v]);
                if (most > m) {
                    s *= exp_of(m - most);
                    m = most;
                }
                const real shift = m == nothing ? real(0) : m;
                real part = 0;
#pragma unroll
                for (int v = 0; v < PACK; ++v) part += exp_of(x[u].v[v] - shift);
                s += part;
                if (first + u < packs_kept) on.store(kept, first + u, true, x[u]);
            }
        }
        const real most = block_max<LANES>(m);
        if (m > nothing) s *= exp_of(m - most);
        m = most;
        const real factor = real(1 / block_sum<LANES>(s));
        for (int p = packs - 1; p >= 0; --p) {  // last read, first found in the cache
            if (!on.has(p)) continue;
            Pack e = p < packs_kept ? on.load(kept, p, true, nothing) : on.load(a.x + base, p, wide_in, nothing);
#pragma unroll
            for (int v = 0; v < PACK; ++v) e.v[v] = exp_of(e.v[v] - m) * factor;
            on.put(a.y + base, p, wide_out, e);
        }
    }
}

template <int LANES, int PACKS, bool PACKED>
__device__ inline void in_block(const SoftmaxBackwardArgs& a) {
    constexpr int STEP = LANES * PACK;
    NNF_DYNAMIC_SHARED(real, kept);
    const bool wide_y = aligned(a.y), wide_dy = aligned(a.dy), wide_out = aligned(a.dx);
    const Row<LANES, PACKED> on = {int(threadIdx.x), a.width};
    const int packs = (a.width + STEP - 1) / STEP;
    const int packs_kept = a.kept >= a.width ? packs : a.kept / STEP;
    real* const kept_dy = kept + packs_kept * STEP;
    for (index row = blockIdx.x; row < a.rows; row += gridDim.x) {
        const index base = row * a.width;
        double sum = 0;
        for (int first = 0; first < packs; first += PACKS) {
            Pack y[PACKS], dy[PACKS];
#pragma unroll
            for (int u = 0; u < PACKS; ++u) {
                y[u] = on.load(a.y + base, first + u, wide_y, 0);
                dy[u] = on.load(a.dy + base, first + u, wide_dy, 0);
            }
#pragma unroll
            for (int u = 0; u < PACKS; ++u) {
                if (!on.has(first + u)) break;
                real part = 0;
#pragma unroll
                for (int v = 0; v < PACK; ++v) part += y[u].v[v] * dy[u].v[v];
                sum += part;
                if (first + u < packs_kept) {
                    on.store(kept, first + u, true, y[u]);
                    on.store(kept_dy, first + u, true, dy[u]);
                }
            }
        }
        const real inner = real(block_sum<LANES>(sum));
        for (int p = packs - 1; p >= 0; --p) {
            if (!on.has(p)) continue;
            Pack y = p < packs_kept ? on.load(kept, p, true, 0) : on.load(a.y + base, p, wide_y, 0);
            const Pack dy = p < packs_kept ? on.load(kept_dy, p, true, 0) : on.load(a.dy + base, p, wide_dy, 0);
#pragma unroll
            for (int v = 0; v < PACK; ++v) y.v[v] *= dy.v[v] - inner;
            on.put(a.dx + base, p, wide_out, y);
        }
    }
}

template <int LANES, int PACKS, class Args>
__device__ inline void softmax(const Args& a) {
    if (a.width % PACK == 0) in_registers<LANES, PACKS, true>(a);
    else in_registers<LANES, PACKS, false>(a);
}

template <int THREADS, class Args>
__device__ inline void softmax_in_block(const Args& a) {
    if (a.width % PACK == 0) in_block<THREADS, UNDER_WAY, true>(a);
    else in_block<THREADS, UNDER_WAY, false>(a);
}

// Lanes per row, and packs per lane.

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_1x1(const SoftmaxArgs a) {
    softmax<1, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_4x1(const SoftmaxArgs a) {
    softmax<4, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_16x1(const SoftmaxArgs a) {
    softmax<16, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_32x1(const SoftmaxArgs a) {
    softmax<32, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_32x2(const SoftmaxArgs a) {
    softmax<32, 2>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_32x4(const SoftmaxArgs a) {
    softmax<32, 4>(a);
}

extern "C" __global__ void __launch_bounds__(128) nnf_softmax_block_128(const SoftmaxArgs a) {
    softmax_in_block<128>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_block_256(const SoftmaxArgs a) {
    softmax_in_block<256>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_backward_1x1(const SoftmaxBackwardArgs a) {
    softmax<1, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_backward_4x1(const SoftmaxBackwardArgs a) {
    softmax<4, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_backward_16x1(const SoftmaxBackwardArgs a) {
    softmax<16, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_backward_32x1(const SoftmaxBackwardArgs a) {
    softmax<32, 1>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_backward_32x2(const SoftmaxBackwardArgs a) {
    softmax<32, 2>(a);
}

extern "C" __global__ void __launch_bounds__(128) nnf_softmax_backward_block_128(const SoftmaxBackwardArgs a) {
    softmax_in_block<128>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_softmax_backward_block_256(const SoftmaxBackwardArgs a) {
    softmax_in_block<256>(a);
}
