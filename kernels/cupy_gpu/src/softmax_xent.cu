// The softmax cross-entropy and its gradient in one pass over the logits: each is read once and its gradient written
// once. Rows of up to 1024 classes stay in the registers of a warp or a part of one, longer ones in shared memory as
// far as that reaches; what is read a second time was read by the same threads just before, so a cache has it.
//
// With m the row's greatest logit and s = Σ e^(z − m): −Σ q·log p = Σ q·(m − z) + log s·Σ q, a sum of terms that are
// not negative, so nothing cancels. q = keep·target + share, where share = ε/C and keep = 1 − ε; the one of a label is
// kept out of the sums below. A row with a NaN or +inf, or with nothing but −inf, makes s NaN, or m − z.
#include "nnf_rows.cuh"

struct SoftmaxXent {
    const real* z;
    const index* labels;  // or null
    const real* targets;  // rows of probabilities, where labels are null
    const real* weight;  // or null
    real* dz;  // or null; may be z
    real* losses;  // or null
    Number normaliser;
    Number label_smoothing;
    Total total;
    Scratch scratch;
    index rows;
    int classes;
    int lanes;  // threads per row of up to 128 classes, a power of two up to 32
    int kept;  // logits of a row that find place in shared memory
};

// What all rows have in common.
struct Shares {
    real keep;
    real share;
    Scale scale;

    __device__ Shares(const SoftmaxXent& a) : scale(1, get(a.normaliser)) {
        const double smoothing = get(a.label_smoothing);
        keep = real(1 - smoothing);
        share = real(smoothing / a.classes);
    }
};

// Whether every class has a part in the target.
__device__ inline bool is_dense(const SoftmaxXent& a) { return a.targets || get(a.label_smoothing) != 0; }

// Σ q and Σ q·(top − z) over some classes of a row.
struct Pull {
    double mass;
    double distance;

    // Those of one pack of the row that begins at `base`.
    template <class RowOf>
    __device__ void add(const SoftmaxXent& a, const Shares& k, const RowOf& on, index base, int pack, bool wide,
                        real top, const Pack& z) {
        Pack q;
        if (a.targets) q = on.load(a.targets + base, pack, wide, 0);
#pragma unroll
        for (int v = 0; v < PACK; ++v) {
            if (on.at(pack, v) >= on.width) continue;
            const real part = (a.targets ? k.keep * q.v[v] : real(0)) + k.share;
            const real far = top - z.v[v];
            mass += part;
            if (part != 0 && far != 0) distance += double(part) * far;  // 0·inf is 0 here
        }
    }

    // The top has risen.
    __device__ void rise(real by) {
        if (mass != 0) distance += mass * by;
    }
};

// The loss of a row, and its part of the total; `of_label` is the label's logit.
__device__ inline double settle(
    const SoftmaxXent& a, const Shares& k, index row, real m, real s, real of_label, Pull pull) {
    const double log_s = log(s);
    const double loss = a.labels ? log_s + (double(k.keep) * (m - of_label) + pull.distance)
                                 : log_s * pull.mass + pull.distance;
    if (a.losses) a.losses[row] = real(loss);
    return a.weight ? double(a.weight[row]) * loss : loss;
}

// weight/normaliser·(e·factor − q) for one pack of a row that begins at `base`.
template <bool DENSE, class RowOf>
__device__ inline void store_gradient(
    const SoftmaxXent& a, const Shares& k, const RowOf& on, index base, int pack, Pack e, real factor, real scale,
    int label, bool wide_targets, bool wide_out) {
    Pack q;
    if (DENSE && a.targets) q = on.load(a.targets + base, pack, wide_targets, 0);
#pragma unroll
    for (int v = 0; v < PACK; ++v) {
        const real of_label = on.at(pack, v) == label ? k.keep : real(0);
        const real target = DENSE ? (a.targets ? k.keep * q.v[v] : of_label) + k.share : of_label;
        e.v[v] = scale * (e.v[v] * factor - target);
    }
    if (RowOf::BLOCK) on.put(a.dz + base, pack, wide_out, e);
    else on.store(a.dz + base, pack, wide_out, e);
}

// LANES threads per row, or `a.lanes` where LANES is 0, with up to ITEMS logits each.
template <int LANES, int ITEMS, bool PACKED, bool DENSE>
__device__ inline void in_registers(const SoftmaxXent& a) {
    constexpr int PACKS = ITEMS / PACK;
    const Shares k(a);
    const bool wide = aligned(a.z), wide_targets = aligned(a.targets), wide_out = aligned(a.dz);
    const int lanes = LANES ? LANES : a.lanes, rows = 256 / lanes, lane = threadIdx.x & (lanes - 1);
    double sum = 0;
    for (index first = index(blockIdx.x) * rows; first < a.rows; first += index(gridDim.x) * rows) {
        const index row = first + threadIdx.x / lanes, base = row * a.classes;
        const bool live = row < a.rows;  // the others keep their warp company
        const Row<LANES, PACKED> on = {lane, live ? a.classes : 0, lanes};
        const int label = live && a.labels ? int(a.labels[row]) : -1;
        const real of_label = label >= 0 ? a.z[base + label] : real(0);
        Pack e[PACKS];
        real m = real(-positive_infinity());
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            e[p] = on.load(a.z + base, p, wide, real(-positive_infinity()));
#pragma unroll
            for (int v = 0; v < PACK; ++v) m = greater(m, e[p].v[v]);
        }
        m = lanes_max(m, lanes);
        Pull pull = {0, 0};
        if (DENSE) {
#pragma unroll
            for (int p = 0; p < PACKS; ++p) pull.add(a, k, on, base, p, wide_targets, m, e[p]);
            pull.mass = lanes_sum(pull.mass, lanes);
            pull.distance = lanes_sum(pull.distance, lanes);
        }
        double s = 0;
#pragma unroll
        for (int p = 0; p < PACKS; ++p) {
            real part = 0;
#pragma unroll
            for (int v = 0; v < PACK; ++v) part += e[p].v[v] = exp(e[p].v[v] - m);
            s += part;
        }
        s = lanes_sum(s, lanes);
        __syncwarp();  // all have read the label's logit: dz may be z
        if (live && lane == 0) sum += settle(a, k, row, m, real(s), of_label, pull);
        if (live && a.dz) {
            const real factor = (a.labels ? real(1) : real(pull.mass)) / real(s);
            const real scale = k.scale.of(a.weight ? a.weight[row] : real(1));
#pragma unroll
            for (int p = 0; p < PACKS; ++p)
                store_gradient<DENSE>(a, k, on, base, p, e[p], factor, scale, label, wide_targets, wide_out);
        }
    }
    if (grid_sum<256>(sum, a.scratch, sum) && threadIdx.x == 0) *place(a.total) += sum;
}

// LANES threads per row, a warp or a block, which read it twice. Each keeps the sums of its logits relative to the
// greatest that it has met; the first `kept` logits of a block's row are found in shared memory the second time.
template <int THREADS, int LANES, bool PACKED, bool DENSE>
__device__ inline void in_passes(const SoftmaxXent& a) {
    constexpr int UNROLL = DENSE || sizeof(real) == 8 ? 1 : 4;  // packs on their way at once
    constexpr int STEP = LANES * PACK, ROWS = THREADS / LANES;
    NNF_DYNAMIC_SHARED(real, kept);
    const Shares k(a);
    const bool wide = aligned(a.z), wide_targets = aligned(a.targets), wide_out = aligned(a.dz);
    const Row<LANES, PACKED> on = {int(threadIdx.x) % LANES, a.classes};
    const int packs = (a.classes + STEP - 1) / STEP;
    const int packs_kept = LANES == 32 ? 0 : a.kept >= a.classes ? packs : a.kept / STEP;
    const real nothing = real(-positive_infinity());
    double sum = 0;
    for (index row = index(blockIdx.x) * ROWS + threadIdx.x / LANES; row < a.rows; row += index(gridDim.x) * ROWS) {
        const index base = row * a.classes;
        const int label = a.labels ? int(a.labels[row]) : -1;
        const real of_label = label >= 0 ? a.z[base + label] : real(0);
        real m = nothing;
        double s = 0;
        Pull pull = {0, 0};
#pragma unroll 1
        for (int first = 0; first < packs; first += UNROLL) {
            Pack z[UNROLL];
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) z[u] = on.load(a.z + base, first + u, wide, nothing);
#pragma unroll
            for (int u = 0; u < UNROLL; ++u) {
                const int p = first + u;
                if (!on.has(p)) continue;
                real most = m;
#pragma unroll
                for (int v = 0; v < PACK; ++v) most = greater(most, z[u].v[v]);
                if (most > m) {
                    s *= exp(m - most);
                    pull.rise(most - m);
                    m = most;
                }
                const real shift = m == nothing ? real(0) : m;
                real part = 0;
#pragma unroll
                for (int v = 0; v < PACK; ++v) part += exp(z[u].v[v] - shift);
                s += part;
                if (DENSE) pull.add(a, k, on, base, p, wide_targets, shift, z[u]);
                if (a.dz && p < packs_kept) on.store(kept, p, true, z[u]);
            }
        }
        const real most = LANES == 32 ? group_max<32>(m) : block_max<THREADS>(m);
        if (m > nothing) {
            s *= exp(m - most);
            pull.rise(most - m);
        }
        s = row_sum<THREADS, LANES>(s);
        if (DENSE) {
            pull.mass = row_sum<THREADS, LANES>(pull.mass);
            pull.distance = row_sum<THREADS, LANES>(pull.distance);
        }
        __syncwarp();  // all have read the label's logit: dz may be z
        if (on.lane == 0) sum += settle(a, k, row, most, real(s), of_label, pull);
        if (!a.dz) continue;
        const real factor = real((a.labels ? 1 : pull.mass) / s);
        const real scale = k.scale.of(a.weight ? a.weight[row] : real(1));
#pragma unroll 1
        for (int p = packs - 1; p >= 0; --p) {  // last read, first found in the cache
            if (!on.has(p)) continue;
            Pack e = p < packs_kept ? on.load(kept, p, true, nothing) : on.load(a.z + base, p, wide, nothing);
#pragma unroll
            for (int v = 0; v < PACK; ++v) e.v[v] = exp(e.v[v] - most);
            store_gradient<DENSE>(a, k, on, base, p, e, factor, scale, label, wide_targets, wide_out);
        }
    }
    if (grid_sum<THREADS>(sum, a.scratch, sum) && threadIdx.x == 0) *place(a.total) += sum;
}

template <int THREADS, int LANES>
__device__ inline void in_passes(const SoftmaxXent& a) {
    if (is_dense(a)) in_passes<THREADS, LANES, false, true>(a);
    else if (LANES > 32 && a.classes % PACK == 0) in_passes<THREADS, LANES, true, false>(a);
    else in_passes<THREADS, LANES, false, false>(a);
}

// Up to 128 classes, on `lanes` threads per row.
extern "C" __global__ void __launch_bounds__(256, 2) nnf_softmax_xent_narrow(const SoftmaxXent a) {
    if (is_dense(a)) in_registers<0, 4, false, true>(a);
    else if (a.classes % PACK == 0) in_registers<0, 4, true, false>(a);
    else in_registers<0, 4, false, false>(a);
}

// Up to 1024 classes, on a warp per row: as much of it as registers hold, or else the row is read twice.
extern "C" __global__ void __launch_bounds__(256, 2) nnf_softmax_xent_warp(const SoftmaxXent a) {
    const bool packed = a.classes % PACK == 0, dense = is_dense(a);
    if (packed && !dense && a.classes <= 256) in_registers<32, 8, true, false>(a);
    else if (packed && !dense && a.classes <= 512) in_registers<32, 16, true, false>(a);
    else if (packed && !dense) in_registers<32, 32, true, false>(a);
    else in_passes<256, 32>(a);
}

extern "C" __global__ void __launch_bounds__(256, 2) nnf_softmax_xent_block(const SoftmaxXent a) {
    in_passes<256, 256>(a);
}

extern "C" __global__ void __launch_bounds__(512) nnf_softmax_xent_wide(const SoftmaxXent a) {
    in_passes<512, 512>(a);
}
