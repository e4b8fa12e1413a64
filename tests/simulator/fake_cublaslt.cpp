// A stand-in for libcublasLt on the CPU: the C functions that a binding needs, with their signatures, their checks and
// their numbers, for column-major matrices of float or double and batches of them, equally far apart. It is stricter where
// the real one may vary.
//
// What the real library puts into a stream, this one puts into a record: `nnf_fake_matmul_prepare` takes the arguments of
// cublasLtMatmul, checks them and keeps all it needs; `nnf_fake_matmul_run` computes. cublasLtMatmul does both at once.
#include "fake_cublaslt_compute.h"

static bool wants_bias(uint32_t e) { return e & (BIAS | BGRAD | BGRADA | BGRADB); }

static bool known(uint32_t e) {
    switch (e) {
        case DEFAULT: case RELU: case BIAS: case RELU | BIAS: case RELU | AUX: case RELU | AUX | BIAS:
        case DRELU | AUX: case DRELU | AUX | BGRAD: case BGRADA: case BGRADB: return true;
    }
    return false;
}

// Whether the problem makes sense and whether it is supported, and the sizes. `pointers`: those of the descriptor count.
static int check(void* handle, void* desc, void* a, void* b, void* c, void* out, Record& r, bool pointers) {
    if (!is<Handle>(handle, HANDLE)) return NOT_INITIALIZED;
    Desc* d = is<Desc>(desc, DESC);
    Layout *la = is<Layout>(a, LAYOUT), *lb = is<Layout>(b, LAYOUT), *lc = is<Layout>(c, LAYOUT);
    Layout* ld = is<Layout>(out, LAYOUT);
    if (!d || !la || !lb || !lc || !ld) return INVALID_VALUE;
    r.d = *d;
    r.a = *la, r.b = *lb, r.c = *lc, r.out = *ld;
    for (const Layout& l : {r.a, r.b, r.c, r.out}) {
        if (!l.rows || !l.cols || l.rows > INT32_MAX || l.cols > INT32_MAX || l.ld < int64_t(l.rows)) return INVALID_VALUE;
        if (l.order) return NOT_SUPPORTED;
        if (l.batch < 1 || l.batch != r.a.batch || l.stride < 0) return INVALID_VALUE;
    }
    for (int t : d->trans) if (t < 0 || t > 2) return INVALID_VALUE;
    const int64_t last = int64_t(r.out.cols - 1) * r.out.ld + int64_t(r.out.rows);
    if (r.out.batch > 1 && r.out.stride < last) return NOT_SUPPORTED;  // results upon each other
    if (d->trans[2] || d->pointer_mode || d->fill != 2) return NOT_SUPPORTED;
    r.m = d->trans[0] ? r.a.cols : r.a.rows;
    r.k = d->trans[0] ? r.a.rows : r.a.cols;
    r.n = d->trans[1] ? r.b.rows : r.b.cols;
    const int64_t k = d->trans[1] ? r.b.cols : r.b.rows;
    const int64_t m = r.m, n = r.n;
    if (k != r.k || int64_t(r.out.rows) != m || int64_t(r.out.cols) != n) return INVALID_VALUE;
    if (int64_t(r.c.rows) != m || int64_t(r.c.cols) != n) return INVALID_VALUE;
    const bool wide = d->compute == C64 || d->compute == C64_PEDANTIC;
    if (!wide && d->compute != C32 && d->compute != C32_PEDANTIC && d->compute != C32_TF32) return NOT_SUPPORTED;
    const uint32_t type = wide ? R_64F : R_32F;
    if (uint32_t(d->scale) != type) return NOT_SUPPORTED;
    for (const Layout& l : {r.a, r.b, r.c, r.out}) if (l.type != type) return NOT_SUPPORTED;
    if (!known(d->epilogue)) return NOT_SUPPORTED;
    if (wide && d->epilogue != DEFAULT) return NOT_SUPPORTED;
    if (d->bias_type != -1 && uint32_t(d->bias_type) != type) return NOT_SUPPORTED;
    if (d->epilogue & AUX) {
        if (d->aux_ld % 128 || d->aux_ld < m) return NOT_SUPPORTED;
        if (uintptr_t(d->aux) % 16 || d->aux_stride % 128) return NOT_SUPPORTED;
        if (pointers && !d->aux) return INVALID_VALUE;
    }
    if (wants_bias(d->epilogue) && uintptr_t(d->bias) % (wide ? 8 : 4)) return NOT_SUPPORTED;
    if (pointers && wants_bias(d->epilogue) && !d->bias) return INVALID_VALUE;
    return SUCCESS;
}

// A number that an algo carries, so that it cannot be used for another problem than the one it was found for.
static uint64_t problem(const Record& r) {
    uint64_t h = 1469598103934665603ull;
    const int64_t parts[] = {r.m, r.n, r.k, r.d.trans[0], r.d.trans[1], r.d.compute, r.d.scale, r.d.epilogue,
                             r.a.ld, r.b.ld, r.c.ld, r.out.ld, r.a.type};
    for (int64_t p : parts) h = (h ^ uint64_t(p)) * 1099511628211ull;
    return h;
}

API int cublasLtMatmulAlgoGetHeuristic(void* handle, void* desc, void* a, void* b, void* c, void* d, void* pref,
                                       int requested, Result* results, int* returned) {
    Record r{};
    if (int status = check(handle, desc, a, b, c, d, r, false)) return status;
    Preference* p = is<Preference>(pref, PREFERENCE);
    if (!p || requested < 1 || !results || !returned) return INVALID_VALUE;
    if (p->search) return NOT_SUPPORTED;
    for (uint32_t align : p->alignment)
        if (!align || (align & (align - 1)) || align < (r.a.type == R_64F ? 8u : 4u)) return INVALID_VALUE;
    int count = 0;
    for (uint64_t i = 0; i < 3 && count < requested; ++i) {
        if (WORKSPACE[i] * r.out.batch > p->workspace) continue;
        Result& out = results[count++];
        out = Result{};
        out.algo = {ALGO, i, problem(r), WORKSPACE[i], {}};
        for (int j = 0; j < 4; ++j) out.algo.alignment[j] = p->alignment[j];
        out.workspace = WORKSPACE[i] * r.out.batch;
        out.state = SUCCESS;
        out.waves = 1.0f / float(i + 1);
    }
    *returned = count;
    return count ? SUCCESS : NOT_SUPPORTED;
}

API int cublasLtMatmulAlgoCheck(void* handle, void* desc, void* a, void* b, void* c, void* d, const Algo* algo,
                                Result* result) {
    Record r{};
    if (int status = check(handle, desc, a, b, c, d, r, false)) return status;
    if (!algo || !result || algo->kind != ALGO || algo->index > 2 || algo->problem != problem(r)) return INVALID_VALUE;
    result->workspace = WORKSPACE[algo->index] * r.out.batch;
    result->state = SUCCESS;
    result->waves = 1.0f;
    return SUCCESS;
}

static double scalar(const void* p, bool wide) {
    return wide ? *static_cast<const double*>(p) : double(*static_cast<const float*>(p));
}

API int nnf_fake_matmul_prepare(void* handle, void* desc, const void* alpha, const void* pa, void* a, const void* pb,
                                void* b, const void* beta, const void* pc, void* c, void* pd, void* d, const Algo* algo,
                                void* workspace, size_t workspace_size, void* stream, Record** record) {
    Record r{};
    if (int status = check(handle, desc, a, b, c, d, r, true)) return status;
    if (!alpha || !beta || !pa || !pb || !pc || !pd) return INVALID_VALUE;
    const bool wide = r.a.type == R_64F;
    r.alpha = scalar(alpha, wide), r.beta = scalar(beta, wide);
    r.pa = pa, r.pb = pb, r.pc = pc, r.pd = pd;
    uint64_t align[4] = {16, 16, 16, 16};
    if (algo) {
        if (algo->kind != ALGO || algo->index > 2 || algo->workspace != WORKSPACE[algo->index]) return INVALID_VALUE;
        if (algo->problem != problem(r)) return INVALID_VALUE;
        r.algo = algo->index;
        if (workspace_size < algo->workspace * r.out.batch) return INVALID_VALUE;
        if (algo->workspace && (!workspace || uintptr_t(workspace) % 16)) return INVALID_VALUE;
        for (int i = 0; i < 4; ++i) align[i] = algo->alignment[i];
    }
    const void* all[4] = {pa, pb, pc, pd};
    for (int i = 0; i < 4; ++i) if (uintptr_t(all[i]) % align[i]) return NOT_SUPPORTED;
    if (pc == pd && r.c.ld != r.out.ld) return INVALID_VALUE;
    r.workspace = workspace, r.workspace_size = WORKSPACE[r.algo] * r.out.batch;
    if (record) *record = new Record(r);
    return SUCCESS;
}

API void nnf_fake_matmul_run(const Record* r) { r->a.type == R_64F ? run_batch<double>(*r) : run_batch<float>(*r); }
API void nnf_fake_matmul_free(Record* r) { delete r; }

// The areas that a product touches: (address, bytes) of A, B, C (0 bytes where beta is 0), D, bias, aux, workspace.
API void nnf_fake_matmul_areas(const Record* r, uint64_t* areas) {
    const uint64_t item = r->a.type == R_64F ? 8 : 4;
    const uint64_t others = uint64_t(r->out.batch - 1);
    const auto bytes = [&](const Layout& l) { return ((l.cols - 1) * l.ld + l.rows + others * l.stride) * item; };
    const uint64_t row = uint64_t(r->d.epilogue & BGRADB ? r->n : r->m);
    const uint64_t bias = wants_bias(r->d.epilogue) ? (row + others * r->d.bias_stride) * item : 0;
    const uint64_t bits = uint64_t((r->n - 1) * r->d.aux_ld + r->m) + others * r->d.aux_stride;
    const uint64_t aux = r->d.epilogue & AUX ? (bits + 7) / 8 : 0;
    const uint64_t all[14] = {
        uint64_t(r->pa), bytes(r->a), uint64_t(r->pb), bytes(r->b), uint64_t(r->pc), r->beta != 0 ? bytes(r->c) : 0,
        uint64_t(r->pd), bytes(r->out), uint64_t(r->d.bias), bias, uint64_t(r->d.aux), aux,
        uint64_t(r->workspace), r->workspace_size};
    memcpy(areas, all, sizeof all);
}

API int cublasLtMatmul(void* handle, void* desc, const void* alpha, const void* pa, void* a, const void* pb, void* b,
                       const void* beta, const void* pc, void* c, void* pd, void* d, const Algo* algo, void* workspace,
                       size_t workspace_size, void* stream) {
    Record* r = nullptr;
    const int status = nnf_fake_matmul_prepare(handle, desc, alpha, pa, a, pb, b, beta, pc, c, pd, d, algo, workspace,
                                               workspace_size, stream, &r);
    if (status == SUCCESS) nnf_fake_matmul_run(r), nnf_fake_matmul_free(r);
    return status;
}
