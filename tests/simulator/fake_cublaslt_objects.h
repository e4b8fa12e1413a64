// What the functions of the stand-in for libcublasLt share: its numbers, and the descriptors with their attributes.
#pragma once

#include <cstdint>
#include <cstring>

#define API extern "C" __attribute__((visibility("default")))

enum Status { SUCCESS = 0, NOT_INITIALIZED = 1, ALLOC_FAILED = 3, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
enum Type { R_32F = 0, R_64F = 1 };
enum Compute { C32 = 68, C32_PEDANTIC = 69, C64 = 70, C64_PEDANTIC = 71, C32_TF32 = 77 };
enum Epilogue { DEFAULT = 1, RELU = 2, BIAS = 4, DRELU = 8, BGRAD = 16, AUX = 128, BGRADA = 256, BGRADB = 512 };

constexpr uint64_t HANDLE = 0x4c74, DESC = 0x4c7401, LAYOUT = 0x4c7402, PREFERENCE = 0x4c7403, ALGO = 0x4c7404;

struct Handle { uint64_t kind; };

struct Desc {
    uint64_t kind;
    int32_t compute, scale, pointer_mode, trans[3], fill;
    uint32_t epilogue;
    void* bias;
    void* aux;
    int64_t aux_ld, bias_stride, aux_stride;
    int32_t bias_type, aux_type;
};

struct Layout {
    uint64_t kind;
    uint32_t type;
    int32_t order;
    uint64_t rows, cols;
    int64_t ld;
    int32_t batch;
    int64_t stride;
};

struct Preference {
    uint64_t kind;
    uint32_t search, reduction, alignment[4];
    uint64_t workspace, impl;
    float waves;
};

// What the heuristic fills the eight opaque words with: the problem that it was asked about, and which algorithm.
struct Algo { uint64_t kind, index, problem, workspace, alignment[4]; };
static_assert(sizeof(Algo) == 64, "cublasLtMatmulAlgo_t has eight words");

struct Result {
    Algo algo;
    size_t workspace;
    int32_t state;
    float waves;
    int32_t reserved[4];
};
static_assert(sizeof(Result) == 96, "cublasLtMatmulHeuristicResult_t");

constexpr uint64_t WORKSPACE[3] = {0, 1 << 20, 32 << 20};

struct Field { void* at; size_t size; };

static int set(Field f, const void* buf, size_t size) {
    if (!f.at || !buf || size != f.size) return INVALID_VALUE;
    memcpy(f.at, buf, size);
    return SUCCESS;
}

static int get(Field f, void* buf, size_t size, size_t* written) {
    if (!f.at || (size == 0 && !written) || (size && (!buf || size != f.size))) return INVALID_VALUE;
    if (size) memcpy(buf, f.at, size);
    if (written) *written = f.size;
    return SUCCESS;
}

static Field field(Desc* d, int attr) {
    switch (attr) {
        case 0: return {&d->compute, 4};
        case 1: return {&d->scale, 4};
        case 2: return {&d->pointer_mode, 4};
        case 3: case 4: case 5: return {&d->trans[attr - 3], 4};
        case 6: return {&d->fill, 4};
        case 7: return {&d->epilogue, 4};
        case 8: return {&d->bias, 8};
        case 10: return {&d->bias_stride, 8};
        case 11: return {&d->aux, 8};
        case 12: return {&d->aux_ld, 8};
        case 13: return {&d->aux_stride, 8};
        case 22: return {&d->aux_type, 4};
        case 26: return {&d->bias_type, 4};
    }
    return {nullptr, 0};
}

static Field field(Layout* l, int attr) {
    switch (attr) {
        case 0: return {&l->type, 4};
        case 1: return {&l->order, 4};
        case 2: return {&l->rows, 8};
        case 3: return {&l->cols, 8};
        case 4: return {&l->ld, 8};
        case 5: return {&l->batch, 4};
        case 6: return {&l->stride, 8};
    }
    return {nullptr, 0};
}

static Field field(Preference* p, int attr) {
    switch (attr) {
        case 0: return {&p->search, 4};
        case 1: return {&p->workspace, 8};
        case 3: return {&p->reduction, 4};
        case 5: case 6: case 7: case 8: return {&p->alignment[attr - 5], 4};
        case 9: return {&p->waves, 4};
        case 12: return {&p->impl, 8};
    }
    return {nullptr, 0};
}

template <class T>
static T* is(void* p, uint64_t kind) {
    T* t = static_cast<T*>(p);
    return t && t->kind == kind ? t : nullptr;
}

template <class T>
static int destroy(void* p, uint64_t kind) {
    T* t = is<T>(p, kind);
    if (!t) return INVALID_VALUE;
    t->kind = 0;
    delete t;
    return SUCCESS;
}

API size_t cublasLtGetVersion() { return 131000; }
API size_t cublasLtGetCudartVersion() { return 13000; }

API const char* cublasLtGetStatusName(int status) {
    switch (status) {
        case SUCCESS: return "CUBLAS_STATUS_SUCCESS";
        case NOT_INITIALIZED: return "CUBLAS_STATUS_NOT_INITIALIZED";
        case ALLOC_FAILED: return "CUBLAS_STATUS_ALLOC_FAILED";
        case INVALID_VALUE: return "CUBLAS_STATUS_INVALID_VALUE";
        case NOT_SUPPORTED: return "CUBLAS_STATUS_NOT_SUPPORTED";
    }
    return "CUBLAS_STATUS_UNKNOWN";
}
API const char* cublasLtGetStatusString(int status) { return cublasLtGetStatusName(status); }

API int cublasLtCreate(void** handle) {
    if (!handle) return INVALID_VALUE;
    *handle = new Handle{HANDLE};
    return SUCCESS;
}
API int cublasLtDestroy(void* handle) { return destroy<Handle>(handle, HANDLE) ? NOT_INITIALIZED : SUCCESS; }

API int cublasLtMatmulDescCreate(void** desc, int compute, int scale) {
    if (!desc) return INVALID_VALUE;
    *desc = new Desc{DESC, compute, scale, 0, {0, 0, 0}, 2, DEFAULT, nullptr, nullptr, 0, 0, 0, -1, -1};
    return SUCCESS;
}
API int cublasLtMatmulDescDestroy(void* desc) { return destroy<Desc>(desc, DESC); }
API int cublasLtMatmulDescSetAttribute(void* desc, int attr, const void* buf, size_t size) {
    Desc* d = is<Desc>(desc, DESC);
    return d ? set(field(d, attr), buf, size) : INVALID_VALUE;
}
API int cublasLtMatmulDescGetAttribute(void* desc, int attr, void* buf, size_t size, size_t* written) {
    Desc* d = is<Desc>(desc, DESC);
    return d ? get(field(d, attr), buf, size, written) : INVALID_VALUE;
}

API int cublasLtMatrixLayoutCreate(void** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
    if (!layout) return INVALID_VALUE;
    *layout = new Layout{LAYOUT, uint32_t(type), 0, rows, cols, ld, 1, 0};
    return SUCCESS;
}
API int cublasLtMatrixLayoutDestroy(void* layout) { return destroy<Layout>(layout, LAYOUT); }
API int cublasLtMatrixLayoutSetAttribute(void* layout, int attr, const void* buf, size_t size) {
    Layout* l = is<Layout>(layout, LAYOUT);
    return l ? set(field(l, attr), buf, size) : INVALID_VALUE;
}
API int cublasLtMatrixLayoutGetAttribute(void* layout, int attr, void* buf, size_t size, size_t* written) {
    Layout* l = is<Layout>(layout, LAYOUT);
    return l ? get(field(l, attr), buf, size, written) : INVALID_VALUE;
}

API int cublasLtMatmulPreferenceCreate(void** pref) {
    if (!pref) return INVALID_VALUE;
    *pref = new Preference{PREFERENCE, 0, 7, {256, 256, 256, 256}, 0, ~uint64_t(0), 0.0f};
    return SUCCESS;
}
API int cublasLtMatmulPreferenceDestroy(void* pref) { return destroy<Preference>(pref, PREFERENCE); }
API int cublasLtMatmulPreferenceSetAttribute(void* pref, int attr, const void* buf, size_t size) {
    Preference* p = is<Preference>(pref, PREFERENCE);
    return p ? set(field(p, attr), buf, size) : INVALID_VALUE;
}
API int cublasLtMatmulPreferenceGetAttribute(void* pref, int attr, void* buf, size_t size, size_t* written) {
    Preference* p = is<Preference>(pref, PREFERENCE);
    return p ? get(field(p, attr), buf, size, written) : INVALID_VALUE;
}

// One product, with all that the descriptors said at the time of the call.
struct Record {
    Desc d;
    Layout a, b, c, out;
    const void *pa, *pb, *pc;
    void *pd, *workspace;
    uint64_t workspace_size, algo;
    int64_t m, n, k;
    double alpha, beta;
};
