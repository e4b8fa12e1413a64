// The start and the end of a step: which step it is, the rows of its batch, and whether its gradient is finite.
//
// `Job` is written once per job, `Step` by every step for the kernels that follow; both lie in device memory.
#include "nnf_common.cuh"

struct Job {
    const real* x;
    const index* labels;  // or null
    const real* y;  // or null
    const real* weight;  // or null
    real* output;  // or null
    const index* order;  // (epochs, rows), or null for the natural order
    double* sums;  // (steps, n_sums)
    const double* learning_rates;  // (steps,), or null for 0
    const double* normalisers;  // (steps,), or null for the rows of the batch
    const index* first_rows;  // (steps,), or null for 0
    index rows;
    index batch_size;
    index batches;  // of an epoch
    index first_batch;
    index first_step;
    index steps;
    index key;
    index n_sums;
};

struct Step {
    index next;  // the step that begins next, counted from 0 in the job
    index current;  // the one that runs
    index number;  // its number over the model's life
    index start;  // the place of its first row in the job
    index first_row;
    double learning_rate;
    double normaliser;
    double* sums;  // its row of sums
    index nonfinite;  // the first step whose gradient was not finite, or −1
};

struct BeginStepArgs {
    const Job* job;
    Step* step;
    real* x;  // where the batch goes; null: not wanted
    index* labels;
    real* y;
    real* weight;
    index rows;
    index inputs;
    index outputs;
    int x_blocks;  // blocks that copy x; those after them copy targets, the last one weights
    int y_blocks;
    Scratch scratch;
};

// Where the rows of a batch come from.
struct Rows {
    const index* order;  // of this batch, or null
    index start;
    index n;
};

// to[r] = from[source of row r] for rows of `width` units, by blocks first … first + blocks − 1.
template <class T>
__device__ inline void copy_rows(const T* from, T* to, index width, Rows rows, int first, int blocks) {
    constexpr int AT_ONCE = 4;
    if (!rows.order) {  // one long row
        from += rows.start * width;
        width *= rows.n;
        rows = {nullptr, 0, 1};
    }
    if (width == 0) return;
    const index total = width * rows.n, stride = index(blocks) * 256;
    const index rows_on = stride / width, columns_on = stride % width;
    index i = index(int(blockIdx.x) - first) * 256 + threadIdx.x;
    index row = i / width, column = i % width;
    while (i < total) {
        T unit[AT_ONCE];
        index at = i;
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (at < total) unit[k] = from[(rows.order ? rows.order[row] : 0) * width + column];
            at += stride;
            row += rows_on;
            column += columns_on;
            if (column >= width) {
                column -= width;
                ++row;
            }
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
            if (i < total) to[i] = unit[k];
            i += stride;
        }
    }
}

__device__ inline void copy_rows_of(const real* from, real* to, index width, Rows rows, int first, int blocks) {
    // In the natural order it is the beginning of the batch that counts, else that of every row.
    const bool packs = rows.order ? width % PACK == 0 : rows.n * width % PACK == 0;
    const real* const begin = rows.order ? from : from + rows.start * width;
    if (!packs || !aligned(begin) || !aligned(to)) {
        copy_rows(from, to, width, rows, first, blocks);
    } else if (rows.order) {
        copy_rows(reinterpret_cast<const Pack*>(from), reinterpret_cast<Pack*>(to), width / PACK, rows, first, blocks);
    } else {
        const index all = rows.n * width / PACK;
        const Rows one = {nullptr, 0, 1};
        copy_rows(reinterpret_cast<const Pack*>(begin), reinterpret_cast<Pack*>(to), all, one, first, blocks);
    }
}

// All blocks read which step it is; the last one to have copied its part says so to the kernels that follow.
extern "C" __global__ void __launch_bounds__(256) nnf_begin_step(const BeginStepArgs a) {
    const Job& job = *a.job;
    const index s = a.step->next, batch = job.first_batch + s;
    const index epoch = batch / job.batches, start = (batch - epoch * job.batches) * job.batch_size;
    const Rows rows = {job.order ? job.order + epoch * job.rows + start : nullptr, start, a.rows};
    const int b = blockIdx.x, y_end = a.x_blocks + a.y_blocks;
    if (b < a.x_blocks) {
        copy_rows_of(job.x, a.x, a.inputs, rows, 0, a.x_blocks);
    } else if (b < y_end) {
        if (a.labels) copy_rows(job.labels, a.labels, 1, rows, a.x_blocks, a.y_blocks);
        else copy_rows_of(job.y, a.y, a.outputs, rows, a.x_blocks, a.y_blocks);
    } else if (a.weight) {
        copy_rows_of(job.weight, a.weight, 1, rows, y_end, 1);
    }
    if (!last_block(a.scratch.tickets, gridDim.x)) return;
    double* const sums = job.sums + s * job.n_sums;
    for (index i = threadIdx.x; i < job.n_sums; i += 256) sums[i] = 0;
    if (threadIdx.x != 0) return;
    Step& step = *a.step;
    step.next = s + 1;
    step.current = s;
    step.number = job.first_step + s;
    step.start = start;
    step.first_row = job.first_rows ? job.first_rows[s] : 0;
    step.learning_rate = job.learning_rates ? job.learning_rates[s] : 0;
    step.normaliser = job.normalisers ? job.normalisers[s] : double(a.rows);
    step.sums = sums;
}

struct ScatterArgs {
    const Job* job;
    const Step* step;
    const real* output;
    index rows;
    index width;
};

// The batch's rows of the output go to their places in the job's.
extern "C" __global__ void __launch_bounds__(256) nnf_scatter_output(const ScatterArgs a) {
    copy_rows_of(a.output, a.job->output + a.step->start * a.width, a.width, {nullptr, 0, a.rows}, 0, gridDim.x);
}

struct CheckArgs {
    const real* values;
    index n;
    Step* step;
};

extern "C" __global__ void __launch_bounds__(256) nnf_check_finite(const CheckArgs a) {
    constexpr int AT_ONCE = 4;
    const index thread = index(blockIdx.x) * 256 + threadIdx.x, stride = index(gridDim.x) * 256;
    const index packs = aligned(a.values) ? a.n / PACK : 0;
    bool bad = false;
    for (index i = thread; i < packs; i += AT_ONCE * stride) {
        Pack p[AT_ONCE] = {};
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k)
            if (i + k * stride < packs) p[k] = reinterpret_cast<const Pack*>(a.values)[i + k * stride];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) {
#pragma unroll
            for (int j = 0; j < PACK; ++j) bad = bad || p[k].v[j] - p[k].v[j] != 0;
        }
    }
    for (index i = packs * PACK + thread; i < a.n; i += stride) bad = bad || a.values[i] - a.values[i] != 0;
    if (bad && a.step->nonfinite < 0) a.step->nonfinite = a.step->current;  // whoever writes it writes the same
}
