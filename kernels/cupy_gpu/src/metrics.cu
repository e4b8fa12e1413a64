// Metrics: total += Σ weight·value over rows, in double. A row with a NaN in it, in output or target, is no hit.
#include "nnf_rows.cuh"

enum HitKind {
    BINARY_ACCURACY,  // (z > threshold) = (y > 1/2)
    REGRESSION_ACCURACY  // |z − y| <= precision
};

struct RankMetric {
    const real* z;
    const index* labels;  // or null
    const real* targets;  // rows, where labels are null: the label is the first of the greatest
    const real* weight;  // or null
    Number k;
    Total total;
    Scratch scratch;
    index rows;
    index outputs;
    int lanes;  // per row: a power of two up to 32, or 256
};

struct HitMetric {
    const real* z;
    const real* y;
    const real* weight;  // or null
    Number limit;  // threshold or precision
    Total total;
    Scratch scratch;
    index rows;
    index outputs;
    int kind;
    int lanes;  // as above
};

struct Moments {
    const real* z;
    const real* y;
    const real* weight;  // or null
    Total moments;  // (3, outputs)
    Scratch scratch;
    index rows;
    index outputs;
    index chunk;  // rows per block
    int lanes;  // columns per block, a power of two up to 32
};

__device__ inline double sum_of_row(double value, int lanes) {
    return lanes == 256 ? block_sum<256>(value) : lanes_sum(value, lanes);
}

// The greatest of some elements, the first of them where several are equal, and whether there is a NaN among them.
struct Best {
    real value;
    index at;
    bool nan;

    __device__ void add(real x, index j) {
        nan = nan || x != x;
        if (at < 0 || x > value || (x == value && j < at)) {
            value = x;
            at = j;
        }
    }

    __device__ void join(const Best& other) {
        nan = nan || other.nan;
        if (other.at >= 0) add(other.value, other.at);
    }
};

__device__ inline Best best_of_row(Best best, int lanes) {
    __shared__ Best warps[8];
    const int within = lanes < 32 ? lanes : 32;
    for (int offset = within >> 1; offset; offset >>= 1) {
        Best other;
        other.value = __shfl_xor_sync(FULL_WARP, best.value, offset);
        other.at = __shfl_xor_sync(FULL_WARP, best.at, offset);
        other.nan = __shfl_xor_sync(FULL_WARP, int(best.nan), offset);
        best.join(other);
    }
    if (lanes == 256) {
        if ((threadIdx.x & 31) == 0) warps[threadIdx.x >> 5] = best;
        __syncthreads();
        for (int w = 0; w < 8; ++w) best.join(warps[w]);
        __syncthreads();  // before anyone writes `warps` again
    }
    return best;
}

// 1 if fewer than k outputs stand before that of the label: the greater ones, and equal ones of a lower index
extern "C" __global__ void __launch_bounds__(256) nnf_rank_metric(const RankMetric a) {
    const int lane = threadIdx.x & (a.lanes - 1), rows = 256 / a.lanes;
    const double k = get(a.k);
    double sum = 0;
    for (index first = index(blockIdx.x) * rows; first < a.rows; first += index(gridDim.x) * rows) {
        const index row = first + threadIdx.x / a.lanes, base = row * a.outputs;
        const index outputs = row < a.rows ? a.outputs : 0;  // of the others none, but they keep their warp company
        index label = a.labels && outputs ? a.labels[row] : 0;
        bool known = true;
        if (a.targets) {
            Best best = {0, -1, false};
            for (index j = lane; j < outputs; j += a.lanes) best.add(a.targets[base + j], j);
            best = best_of_row(best, a.lanes);
            label = best.nan || best.at < 0 ? 0 : best.at;
            known = !best.nan;
        }
        const real of_label = outputs ? a.z[base + label] : real(0);
        double before = 0;  // or NaN
        for (index j = lane; j < outputs; j += a.lanes) {
            const real x = a.z[base + j];
            if (x != x) before += x;
            else if (x > of_label || (x == of_label && j < label)) before += 1;
        }
        before = sum_of_row(before, a.lanes);
        if (outputs && lane == 0) {
            const double weight = a.weight ? a.weight[row] : 1;
            sum += weight * (known && before < k ? 1 : 0);
        }
    }
    if (grid_sum<256>(sum, a.scratch, sum) && threadIdx.x == 0) *place(a.total) += sum;
}

// The mean over outputs of what is a hit
extern "C" __global__ void __launch_bounds__(256) nnf_hit_metric(const HitMetric a) {
    const int lane = threadIdx.x & (a.lanes - 1), rows = 256 / a.lanes;
    const real limit = real(get(a.limit));
    double sum = 0;
    for (index first = index(blockIdx.x) * rows; first < a.rows; first += index(gridDim.x) * rows) {
        const index row = first + threadIdx.x / a.lanes, base = row * a.outputs;
        double hits = 0;  // or NaN
        if (row < a.rows)
            for (index j = lane; j < a.outputs; j += a.lanes) {
                const real z = a.z[base + j], y = a.y[base + j];
                const bool hit = a.kind == BINARY_ACCURACY ? (z > limit) == (y > real(0.5)) : fabs(z - y) <= limit;
                hits += z != z || y != y ? double(z + y) : hit;
            }
        hits = sum_of_row(hits, a.lanes);
        if (row < a.rows && lane == 0) {
            const double weight = a.weight ? a.weight[row] : 1;
            sum += weight * (hits == hits ? hits / double(a.outputs) : 0);
        }
    }
    if (grid_sum<256>(sum, a.scratch, sum) && threadIdx.x == 0) *place(a.total) += sum;
}

// The sum over the threads of a block whose numbers are equal modulo `lanes`, known to all of them.
__device__ inline double column_sum(double value, int lanes) {
    __shared__ double all[256];
    all[threadIdx.x] = value;
    __syncthreads();
    for (int half = 128; half >= lanes; half >>= 1) {
        if (threadIdx.x < half) all[threadIdx.x] += all[threadIdx.x + half];
        __syncthreads();
    }
    const double total = all[threadIdx.x & (lanes - 1)];
    __syncthreads();  // before anyone writes `all` again
    return total;
}

// Per output: the weighted mean of y, Σ weight·(y − mean)², Σ weight·(y − z)². A block takes a chunk of rows of some
// columns about a mean of its own; the last one for these columns joins them: spreads add up once W·(mean − mean of
// all)² is added to each.
extern "C" __global__ void __launch_bounds__(256) nnf_r2_moments(const Moments a) {
    const int lane = threadIdx.x & (a.lanes - 1), step = 256 / a.lanes;
    const index column = index(blockIdx.y) * a.lanes + lane;
    const bool live = column < a.outputs;
    const index begin = blockIdx.x * a.chunk, end = begin + a.chunk < a.rows ? begin + a.chunk : a.rows;
    double whole = 0, mean = 0, spread = 0, error = 0;
    for (index n = begin + threadIdx.x / a.lanes; n < end; n += step) {
        const double weight = a.weight ? a.weight[n] : 1;
        whole += weight;
        if (live) mean += weight * a.y[n * a.outputs + column];
    }
    whole = column_sum(whole, a.lanes);
    const double weighted = column_sum(mean, a.lanes);
    mean = weighted / (whole != 0 ? whole : 1);
    for (index n = begin + threadIdx.x / a.lanes; live && n < end; n += step) {
        const double weight = a.weight ? a.weight[n] : 1, y = a.y[n * a.outputs + column];
        const double off = y - a.z[n * a.outputs + column];
        spread += weight * ((y - mean) * (y - mean));
        error += weight * (off * off);
    }
    spread = column_sum(spread, a.lanes);
    error = column_sum(error, a.lanes);
    const unsigned blocks = gridDim.x;
    double* partials = a.scratch.partials + index(blockIdx.y) * blocks * 4 * a.lanes;
    if (blocks > 1) {
        double* mine = partials + index(blockIdx.x) * 4 * a.lanes;
        if (threadIdx.x < a.lanes) {
            mine[lane] = whole;
            mine[a.lanes + lane] = weighted;
            mine[2 * a.lanes + lane] = spread;
            mine[3 * a.lanes + lane] = error;
        }
        if (!last_block(a.scratch.tickets + blockIdx.y, blocks)) return;
        double all = 0, sum = 0;
        for (unsigned b = threadIdx.x / a.lanes; b < blocks; b += step) {
            const double* its = partials + index(b) * 4 * a.lanes;
            all += __ldcg(its + lane);
            sum += __ldcg(its + a.lanes + lane);
        }
        all = column_sum(all, a.lanes);
        mean = column_sum(sum, a.lanes) / (all != 0 ? all : 1);
        spread = error = 0;
        for (unsigned b = threadIdx.x / a.lanes; b < blocks; b += step) {
            const double* its = partials + index(b) * 4 * a.lanes;
            const double w = __ldcg(its + lane), off = __ldcg(its + a.lanes + lane) / (w != 0 ? w : 1) - mean;
            spread += __ldcg(its + 2 * a.lanes + lane) + w * (off * off);
            error += __ldcg(its + 3 * a.lanes + lane);
        }
        spread = column_sum(spread, a.lanes);
        error = column_sum(error, a.lanes);
    }
    if (live && threadIdx.x < a.lanes) {
        double* moments = place(a.moments);
        moments[column] = mean;
        moments[a.outputs + column] = spread;
        moments[2 * a.outputs + column] = error;
    }
}
