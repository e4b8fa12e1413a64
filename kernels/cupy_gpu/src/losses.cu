// Losses that are sums or means over outputs of what each output loses, and the cross-entropy on probabilities.
//
// Σ weight·loss needs no losses of rows, only the row of each output: so the gradient and the total come from one walk
// over flat arrays, 12 B an output, whatever the rows' length. The losses of rows, which training does not ask for, are
// a launch of their own, before the gradient takes the place of the outputs.
#include "nnf_rows.cuh"
#include "nnf_spans.cuh"

enum LossKind {
    SIGMOID_BINARY_CROSS_ENTROPY,
    CATEGORICAL_CROSS_ENTROPY,  // its targets as rows
    BINARY_CROSS_ENTROPY,
    MEAN_SQUARED_ERROR,
    MEAN_ABSOLUTE_ERROR,
    HUBER,
    POISSON
};

struct PairLoss {
    const real* z;
    const real* y;
    const real* weight;  // or null
    real* dz;  // or null; may be z
    Number normaliser;
    Number delta;  // of Huber
    Total total;
    Scratch scratch;
    index rows;
    index outputs;
    int kind;
};

struct RowLosses {
    const real* z;
    const real* y;
    real* losses;
    Number delta;
    index rows;
    index outputs;
    int kind;
    int lanes;  // per row, a power of two up to 32
};

struct LabelLoss {
    const real* z;
    const index* labels;
    const real* weight;  // or null
    real* dz;  // or null; may be z
    real* losses;  // or null
    Number normaliser;
    Total total;
    Scratch scratch;
    index rows;
    index outputs;
    int lanes;  // per row, a power of two up to 32
};

// What one output loses, and the slope.
struct Term {
    double loss;
    real slope;
};

// Kept away from 0 and 1; NaN stays NaN.
__device__ inline real clipped(real p) {
    const real low = real(1e-7), high = real(1 - 1e-7);
    return p < low ? low : p > high ? high : p;
}

// The outputs' share in the loss of their row.
__device__ inline double share_of(int kind, index outputs) {
    return kind == CATEGORICAL_CROSS_ENTROPY ? 1.0 : 1.0 / double(outputs);
}

template <int KIND>
__device__ inline Term term(real z, real y, real delta) {
    if (KIND == SIGMOID_BINARY_CROSS_ENTROPY) {  // max(z, 0) − y·z first, for it is 0 where it must be
        const real e = exp(-fabs(z)), positive = z < 0 ? real(0) : z;
        return {double((positive - y * z) + log1p(e)), (z < 0 ? e : real(1)) / (1 + e) - y};
    }
    if (KIND == CATEGORICAL_CROSS_ENTROPY) {
        const real p = clipped(z);
        return {y == 0 ? 0.0 : double(-y * log(p)), -y / p};
    }
    if (KIND == BINARY_CROSS_ENTROPY) {  // 1 − p clipped by itself: the largest p below 1 is not 1 − 1e-7 in float
        const real p = clipped(z), not_p = clipped(1 - z), not_y = 1 - y;
        return {double(-y * log(p) - not_y * log(not_p)), not_y / not_p - y / p};
    }
    if (KIND == POISSON) {
        const real rate = exp(z);
        return {double(rate - y * z), rate - y};
    }
    const real error = z - y, size = fabs(error);
    if (KIND == MEAN_SQUARED_ERROR) return {double(error) * error, 2 * error};
    if (KIND == MEAN_ABSOLUTE_ERROR) return {double(size), error > 0 ? real(1) : error < 0 ? real(-1) : error};
    const real slope = error < -delta ? -delta : error > delta ? delta : error;
    return {double(size <= delta ? error * error / 2 : delta * (size - delta / 2)), slope};
}

template <int KIND>
__device__ inline double walk(const PairLoss& a) {
    const index n = a.rows * a.outputs, stride = next_pack<256>(), row_stride = stride / a.outputs;
    const int column_stride = int(stride - row_stride * a.outputs), outputs = int(a.outputs);
    const bool wide_in = aligned(a.z) && aligned(a.y), wide_out = aligned(a.dz);
    const double share = share_of(KIND, a.outputs);
    const Scale scale(share, get(a.normaliser));
    const real delta = real(get(a.delta));
    index i = first_pack<256>(), row = 0;
    int column = 0;
    if (a.weight) {
        row = i / outputs;
        column = int(i - row * outputs);
    }
    double sum = 0;
    for (; i < n; i += stride) {
        Pack z = take(a.z, i, n, wide_in);
        const Pack y = take(a.y, i, n, wide_in);
        index at_row = row;
        int at_column = column;
        real weight = a.weight ? a.weight[row] : real(1);
#pragma unroll
        for (int v = 0; v < PACK; ++v) {
            const Term t = term<KIND>(z.v[v], y.v[v], delta);
            if (i + v < n) sum += double(weight) * t.loss;
            z.v[v] = t.slope * scale.of(weight);
            if (a.weight && ++at_column == outputs) {
                at_column = 0;
                if (++at_row < a.rows) weight = a.weight[at_row];
            }
        }
        if (a.dz) put(a.dz, i, n, wide_out, z);
        if (a.weight) {
            row += row_stride;
            column += column_stride;
            if (column >= outputs) {
                column -= outputs;
                ++row;
            }
        }
    }
    return sum * share;
}

extern "C" __global__ void __launch_bounds__(256, 2) nnf_pair_loss(const PairLoss a) {
    double sum = 0;
    switch (a.kind) {
        case SIGMOID_BINARY_CROSS_ENTROPY: sum = walk<SIGMOID_BINARY_CROSS_ENTROPY>(a); break;
        case CATEGORICAL_CROSS_ENTROPY: sum = walk<CATEGORICAL_CROSS_ENTROPY>(a); break;
        case BINARY_CROSS_ENTROPY: sum = walk<BINARY_CROSS_ENTROPY>(a); break;
        case MEAN_SQUARED_ERROR: sum = walk<MEAN_SQUARED_ERROR>(a); break;
        case MEAN_ABSOLUTE_ERROR: sum = walk<MEAN_ABSOLUTE_ERROR>(a); break;
        case HUBER: sum = walk<HUBER>(a); break;
        default: sum = walk<POISSON>(a);
    }
    if (grid_sum<256>(sum, a.scratch, sum) && threadIdx.x == 0) *place(a.total) += sum;
}

__device__ inline Term term(int kind, real z, real y, real delta) {
    switch (kind) {
        case SIGMOID_BINARY_CROSS_ENTROPY: return term<SIGMOID_BINARY_CROSS_ENTROPY>(z, y, delta);
        case CATEGORICAL_CROSS_ENTROPY: return term<CATEGORICAL_CROSS_ENTROPY>(z, y, delta);
        case BINARY_CROSS_ENTROPY: return term<BINARY_CROSS_ENTROPY>(z, y, delta);
        case MEAN_SQUARED_ERROR: return term<MEAN_SQUARED_ERROR>(z, y, delta);
        case MEAN_ABSOLUTE_ERROR: return term<MEAN_ABSOLUTE_ERROR>(z, y, delta);
        case HUBER: return term<HUBER>(z, y, delta);
        default: return term<POISSON>(z, y, delta);
    }
}

extern "C" __global__ void __launch_bounds__(256) nnf_row_losses(const RowLosses a) {
    const int lane = threadIdx.x & (a.lanes - 1), rows = 256 / a.lanes;
    const double share = share_of(a.kind, a.outputs);
    const real delta = real(get(a.delta));
    for (index first = index(blockIdx.x) * rows; first < a.rows; first += index(gridDim.x) * rows) {
        const index row = first + threadIdx.x / a.lanes;
        double sum = 0;
        if (row < a.rows)
            for (index j = lane; j < a.outputs; j += a.lanes)
                sum += term(a.kind, a.z[row * a.outputs + j], a.y[row * a.outputs + j], delta).loss;
        sum = lanes_sum(sum, a.lanes);
        if (row < a.rows && lane == 0) a.losses[row] = real(sum * share);
    }
}

// −log p and −1/p at the label, 0 elsewhere: only that p is read.
extern "C" __global__ void __launch_bounds__(256) nnf_label_loss(const LabelLoss a) {
    const int lane = threadIdx.x & (a.lanes - 1), rows = 256 / a.lanes;
    const Scale scale(1, get(a.normaliser));
    double sum = 0;
    for (index first = index(blockIdx.x) * rows; first < a.rows; first += index(gridDim.x) * rows) {
        const index row = first + threadIdx.x / a.lanes, base = row * a.outputs;
        const bool live = row < a.rows;
        const index label = live ? a.labels[row] : 0;
        const real p = clipped(live ? a.z[base + label] : real(1));
        const real weight = live && a.weight ? a.weight[row] : real(1);
        __syncwarp();  // all have read the label's output: dz may be z
        if (live && lane == 0) {
            const real loss = -log(p);
            if (a.losses) a.losses[row] = loss;
            sum += double(weight) * loss;
        }
        if (live && a.dz)
            for (index j = lane; j < a.outputs; j += a.lanes)
                a.dz[base + j] = j == label ? -1 / p * scale.of(weight) : real(0);
    }
    if (grid_sum<256>(sum, a.scratch, sum) && threadIdx.x == 0) *place(a.total) += sum;
}
