// What surrounds the products of a dense layer: bias and activation in place, the slopes, and the bias gradient.
#include "nnf_activation.cuh"
#include "nnf_walk.cuh"

struct BiasActivationArgs {
    real* y;
    const real* b;
    index n;  // elements of y
    index outputs;  // of a row
    int kind;  // of enum Activation
    Number alpha;
};

// Elements of a bias from a column on, which goes round at the row's end.
template <class T>
__device__ inline T bias_at(const real* b, index column, index outputs, bool whole) {
    constexpr int V = sizeof(T) / sizeof(real);
    if (whole) return *reinterpret_cast<const T*>(b + column);
    T bias;
    real* const v = reinterpret_cast<real*>(&bias);
#pragma unroll
    for (int j = 0; j < V; ++j) {
        v[j] = b[column];
        if (++column == outputs) column = 0;
    }
    return bias;
}

// y[i] = act(y[i] + b[i mod outputs]) for i < n, a multiple of T's elements, from y[0] on.
template <class T>
__device__ inline void add_bias(const BiasActivationArgs& a, index first, index n, real alpha) {
    constexpr int V = sizeof(T) / sizeof(real), AT_ONCE = 16 / sizeof(real);
    const index units = (n - first) / V, stride = index(gridDim.x) * 256;
    const bool whole = V == 1 || (a.outputs % V == 0 && aligned(a.b));
    T* const y = reinterpret_cast<T*>(a.y + first);
    index i = index(blockIdx.x) * 256 + threadIdx.x;
    index column = (first + i * V) % a.outputs;
    const index step = stride * V % a.outputs;
    for (; i < units; i += AT_ONCE * stride) {
        T v[AT_ONCE] = {};
        real* const z = reinterpret_cast<real*>(v);
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (i + k * stride < units) v[k] = y[i + k * stride];
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            const T bias = bias_at<T>(a.b, column, a.outputs, whole);
#pragma unroll
            for (int j = 0; j < V; ++j) z[k * V + j] += reinterpret_cast<const real*>(&bias)[j];
            column += step;
            if (column >= a.outputs) column -= a.outputs;
        }
        by_fused_kind(a.kind, [&](auto kind) {
#pragma unroll
            for (int j = 0; j < AT_ONCE * V; ++j) z[j] = activate<decltype(kind)::value>(z[j], alpha);
        });
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (i + k * stride < units) store(reinterpret_cast<real*>(y + i + k * stride), v[k]);
        }
    }
}

extern "C" __global__ void __launch_bounds__(256) nnf_bias_activation(const BiasActivationArgs a) {
    const real alpha = real(get(a.alpha));
    const index packed = aligned(a.y) ? a.n / PACK * PACK : 0;
    if (packed) add_bias<Pack>(a, 0, packed, alpha);
    if (packed < a.n) add_bias<real>(a, packed, a.n, alpha);
}

// The elements of y, dy and dz as a matrix of units: V elements each, `width` of them per row. A unit's columns are the
// same in all rows, so a narrow layer may have several of its rows in one such row. A block takes a tile of `lanes`
// units per row, and `chunk` rows.
struct DenseSlopesArgs {
    const real* y;  // not read if linear
    const real* dy;
    real* dz;  // null: not written; may be dy
    real* db;
    index rows;
    index width;
    index chunk;
    index outputs;
    int rest;  // elements beyond the last row, fewer than a row has, where one tile has them all
    int lanes;
    int columns;  // of the layer in a tile: each stands in lanes·V/columns places of it
    int kind;
    Number alpha;
    Scratch scratch;
};

// sums[j·256 + r·lanes + l] for r < rows become sums over r, at r = 0, in an order that depends on `rows` only.
template <int V>
__device__ inline void fold_rows(double* sums, int rows, int lanes) {
    while (rows > 1) {
        const int half = (rows + 1) / 2;
        __syncthreads();
        if (int(threadIdx.x) < (rows - half) * lanes) {
#pragma unroll
            for (int j = 0; j < V; ++j) sums[j * 256 + threadIdx.x] += sums[j * 256 + threadIdx.x + half * lanes];
        }
        rows = half;
    }
    __syncthreads();
}

// A unit moved by one access where all arrays allow it.
template <class T>
__device__ inline T load_unit(const real* p, bool wide) {
    if (wide) return *reinterpret_cast<const T*>(p);
    T unit;
#pragma unroll
    for (int j = 0; j < int(sizeof(T) / sizeof(real)); ++j) reinterpret_cast<real*>(&unit)[j] = p[j];
    return unit;
}

template <class T>
__device__ inline void store_unit(real* p, bool wide, T unit) {
    if (wide) return store(p, unit);
#pragma unroll
    for (int j = 0; j < int(sizeof(T) / sizeof(real)); ++j) p[j] = reinterpret_cast<const real*>(&unit)[j];
}

// dz of a thread's units, and their sums.
template <class T>
__device__ inline void slopes(const DenseSlopesArgs& a, double* sums) {
    constexpr int V = sizeof(T) / sizeof(real), AT_ONCE = 2;
    const real alpha = real(get(a.alpha));
    const bool linear = a.kind == LINEAR, wide = V == 1 || (aligned(a.y) && aligned(a.dy) && aligned(a.dz));
    const int pass = 256 / a.lanes, r = int(threadIdx.x) / a.lanes;
    const index unit = index(blockIdx.x) * a.lanes + int(threadIdx.x) % a.lanes;
    const index first = blockIdx.y * a.chunk, end = first + a.chunk < a.rows ? first + a.chunk : a.rows;
    if (r >= pass || unit >= a.width) return;
    const index step = pass * a.width * V;  // between a thread's elements
    index i = ((first + r) * a.width + unit) * V;
    for (int left = int((end - first - r + pass - 1) / pass); left > 0; left -= AT_ONCE) {
        T saved[AT_ONCE] = {}, d[AT_ONCE] = {};
        const real* const y = reinterpret_cast<const real*>(saved);
        real* const dz = reinterpret_cast<real*>(d);
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (k < left) {
                if (!linear) saved[k] = load_unit<T>(a.y + i + k * step, wide);
                d[k] = load_unit<T>(a.dy + i + k * step, wide);
            }
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (k < left) {
                by_fused_kind(a.kind, [&](auto kind) {
#pragma unroll
                    for (int j = k * V; j < k * V + V; ++j) dz[j] = slope<decltype(kind)::value>(y[j], dz[j], alpha);
                });
#pragma unroll
                for (int j = 0; j < V; ++j) sums[j] += dz[k * V + j];
                if (a.dz) store_unit<T>(a.dz + i, wide, d[k]);
                i += step;
            }
        }
    }
}

// One element of what is beyond the last row.
__device__ inline real slope_of(const DenseSlopesArgs& a, index i) {
    real dz = a.dy[i];
    const real y = a.kind == LINEAR ? real(0) : a.y[i], alpha = real(get(a.alpha));
    by_fused_kind(a.kind, [&](auto kind) { dz = slope<decltype(kind)::value>(y, dz, alpha); });
    if (a.dz) a.dz[i] = dz;
    return dz;
}

template <class T>
__device__ inline void slopes_and_sums(const DenseSlopesArgs& a) {
    constexpr int V = sizeof(T) / sizeof(real);
    __shared__ double shared[V * 256];
    double sums[V] = {};
    slopes<T>(a, sums);
#pragma unroll
    for (int j = 0; j < V; ++j) shared[j * 256 + threadIdx.x] = sums[j];
    const int t = threadIdx.x;
    if (a.rest && blockIdx.y == gridDim.y - 1) {
        __syncthreads();
        if (t < a.rest) shared[t % V * 256 + t / V] += slope_of(a, a.rows * a.width * V + t);
    }
    fold_rows<V>(shared, 256 / a.lanes, a.lanes);

    // A column's places in the tile, one after the other.
    const index column = index(blockIdx.x) * a.columns + t;
    double total = 0;
    if (t < a.columns) {
        for (int e = t; e < a.lanes * V; e += a.columns) total += shared[e % V * 256 + e / V];
    }
    if (gridDim.y > 1) {
        double* const partials = a.scratch.partials + index(blockIdx.x) * gridDim.y * a.columns;
        if (t < a.columns) partials[index(blockIdx.y) * a.columns + t] = total;
        if (!last_block(a.scratch.tickets + blockIdx.x, gridDim.y)) return;
        const int groups = 256 / a.columns, g = t / a.columns;
        double part = 0;
        if (g < groups) {
            const double* const mine = partials + t % a.columns;
            for (unsigned b = g; b < gridDim.y; b += groups) part += __ldcg(mine + index(b) * a.columns);
        }
        shared[t] = part;
        fold_rows<1>(shared, groups, a.columns);
        total = shared[t];
    }
    if (t < a.columns && column < a.outputs) a.db[column] = real(total);
}

extern "C" __global__ void __launch_bounds__(256) nnf_dense_slopes(const DenseSlopesArgs a) {
    slopes_and_sums<Pack>(a);
}

extern "C" __global__ void __launch_bounds__(256) nnf_dense_slopes_scalar(const DenseSlopesArgs a) {
    slopes_and_sums<real>(a);
}
