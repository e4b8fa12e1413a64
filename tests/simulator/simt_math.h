// The math functions of device code: overloaded for float and double, the float ones computed in float.
#pragma once

// In a namespace of their own, beside the C functions of the same names.
namespace simt_math {

#define SIMT_MATH1(name)                                            \
    inline float name(float x) { return __builtin_##name##f(x); }   \
    inline double name(double x) { return __builtin_##name(x); }    \
    inline float name##f(float x) { return __builtin_##name##f(x); }
#define SIMT_MATH2(name)                                                        \
    inline float name(float x, float y) { return __builtin_##name##f(x, y); }   \
    inline double name(double x, double y) { return __builtin_##name(x, y); }   \
    inline float name##f(float x, float y) { return __builtin_##name##f(x, y); }

SIMT_MATH1(exp) SIMT_MATH1(exp2) SIMT_MATH1(expm1) SIMT_MATH1(log) SIMT_MATH1(log2) SIMT_MATH1(log10) SIMT_MATH1(log1p)
SIMT_MATH1(sin) SIMT_MATH1(cos) SIMT_MATH1(tan) SIMT_MATH1(asin) SIMT_MATH1(acos) SIMT_MATH1(atan)
SIMT_MATH1(sinh) SIMT_MATH1(cosh) SIMT_MATH1(tanh) SIMT_MATH1(erf) SIMT_MATH1(erfc)
SIMT_MATH1(sqrt) SIMT_MATH1(cbrt) SIMT_MATH1(fabs)
SIMT_MATH1(floor) SIMT_MATH1(ceil) SIMT_MATH1(trunc) SIMT_MATH1(round) SIMT_MATH1(rint) SIMT_MATH1(nearbyint)
SIMT_MATH2(fmax) SIMT_MATH2(fmin) SIMT_MATH2(fmod) SIMT_MATH2(pow) SIMT_MATH2(atan2) SIMT_MATH2(hypot)
SIMT_MATH2(copysign) SIMT_MATH2(fdim) SIMT_MATH2(nextafter)
#undef SIMT_MATH1
#undef SIMT_MATH2

inline float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline double fma(double x, double y, double z) { return __builtin_fma(x, y, z); }
inline float fmaf(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline float ldexp(float x, int e) { return __builtin_ldexpf(x, e); }
inline double ldexp(double x, int e) { return __builtin_ldexp(x, e); }
inline float ldexpf(float x, int e) { return __builtin_ldexpf(x, e); }
inline float abs(float x) { return __builtin_fabsf(x); }
inline double abs(double x) { return __builtin_fabs(x); }
inline int abs(int x) { return x < 0 ? -x : x; }
inline long long llabs(long long x) { return x < 0 ? -x : x; }
inline float rsqrt(float x) { return 1.0f / __builtin_sqrtf(x); }
inline double rsqrt(double x) { return 1.0 / __builtin_sqrt(x); }
inline float rsqrtf(float x) { return rsqrt(x); }

inline bool isnan(float x) { return x != x; }
inline bool isnan(double x) { return x != x; }
inline bool isinf(float x) { return __builtin_isinf(x); }
inline bool isinf(double x) { return __builtin_isinf(x); }
inline bool isfinite(float x) { return __builtin_isfinite(x); }
inline bool isfinite(double x) { return __builtin_isfinite(x); }
inline bool signbit(float x) { return __builtin_signbit(x); }
inline bool signbit(double x) { return __builtin_signbit(x); }

// sin(πx) and cos(πx): the nearest multiple of 1/2 is taken off, which is exact.
inline void sincospi(double x, double* s, double* c) {
    const double r = x - 2 * __builtin_rint(x / 2), n = __builtin_rint(2 * r), angle = (r - n / 2) * 3.14159265358979323846;
    const double sine = __builtin_sin(angle), cosine = __builtin_cos(angle);
    const int quarter = x - x == 0 ? int(n) & 3 : 0;
    *s = quarter == 0 ? sine : quarter == 1 ? cosine : quarter == 2 ? -sine : -cosine;
    *c = quarter == 0 ? cosine : quarter == 1 ? -sine : quarter == 2 ? -cosine : sine;
}
inline double sinpi(double x) {
    double s, c;
    sincospi(x, &s, &c);
    return s;
}
inline double cospi(double x) {
    double s, c;
    sincospi(x, &s, &c);
    return c;
}
inline float sinpi(float x) { return float(sinpi(double(x))); }
inline float cospi(float x) { return float(cospi(double(x))); }
inline float sinpif(float x) { return sinpi(x); }
inline float cospif(float x) { return cospi(x); }
inline void sincospi(float x, float* s, float* c) { *s = sinpi(x), *c = cospi(x); }
inline void sincospif(float x, float* s, float* c) { sincospi(x, s, c); }
inline void sincos(float x, float* s, float* c) { *s = __builtin_sinf(x), *c = __builtin_cosf(x); }
inline void sincos(double x, double* s, double* c) { *s = __builtin_sin(x), *c = __builtin_cos(x); }
inline void sincosf(float x, float* s, float* c) { sincos(x, s, c); }

// NaN gives way to a number, as in fmax and fmin.
inline float max(float x, float y) { return __builtin_fmaxf(x, y); }
inline float min(float x, float y) { return __builtin_fminf(x, y); }
inline double max(double x, double y) { return __builtin_fmax(x, y); }
inline double min(double x, double y) { return __builtin_fmin(x, y); }
#define SIMT_ORDER(T)                                       \
    inline T max(T x, T y) { return x > y ? x : y; }        \
    inline T min(T x, T y) { return x < y ? x : y; }
SIMT_ORDER(int) SIMT_ORDER(unsigned) SIMT_ORDER(long) SIMT_ORDER(unsigned long)
SIMT_ORDER(long long) SIMT_ORDER(unsigned long long)
#undef SIMT_ORDER

// Rounded operations, which the compiler does not contract. Nothing is contracted here anyway.
inline float __fadd_rn(float x, float y) { return x + y; }
inline float __fsub_rn(float x, float y) { return x - y; }
inline float __fmul_rn(float x, float y) { return x * y; }
inline float __fdiv_rn(float x, float y) { return x / y; }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return __builtin_sqrtf(x); }
inline float __fmaf_rn(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
inline double __dadd_rn(double x, double y) { return x + y; }
inline double __dsub_rn(double x, double y) { return x - y; }
inline double __dmul_rn(double x, double y) { return x * y; }
inline double __ddiv_rn(double x, double y) { return x / y; }
inline double __dsqrt_rn(double x) { return __builtin_sqrt(x); }
inline double __fma_rn(double x, double y, double z) { return __builtin_fma(x, y, z); }
inline int __float2int_rn(float x) { return int(__builtin_rintf(x)); }
inline int __double2int_rn(double x) { return int(__builtin_rint(x)); }

}  // namespace simt_math
using namespace simt_math;
