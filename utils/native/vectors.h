/* Vectors of floats as wide as the processor's, in GCC's and Clang's own terms: for every kernel.

   PLAIN: without anything of a particular processor. */

#pragma once
#include <stdint.h>

#if defined(PLAIN)
#define LANES 4
#elif defined(__AVX512F__) && defined(__AVX512BW__)
#include <immintrin.h>
#define LANES 16
#elif defined(__AVX2__)
#include <immintrin.h>
#define LANES 8
#else
#define LANES 4
#endif

typedef float floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t ints __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
#define V (16 / LANES) /* vectors in a block of rows */

INLINE floats load(const float *p) { return *(const floats *)p; }
INLINE void store(float *p, floats x) { *(floats *)p = x; }
INLINE floats all(float x) { return x - (floats){0}; }

INLINE floats choose(ints mask, floats a, floats b) { return (floats)((mask & (ints)a) | (~mask & (ints)b)); }
INLINE floats larger(floats a, floats b) { return choose(a > b, a, b); }

INLINE float sum(floats x) {
    float s = 0;
    UNROLL for (int i = 0; i < LANES; i++) s += x[i];
    return s;
}

INLINE float largest(floats x) {
    float m = x[0];
    UNROLL for (int i = 1; i < LANES; i++) m = x[i] > m ? x[i] : m;
    return m;
}

/* e^x, relative error below 2e-7: 2^n * e^r with |r| <= ln(2) / 2 */
INLINE floats exponential(floats x) {
    const floats round = all(12582912.0f); /* 1.5 * 2^23: the sum's last bits are the integer */
    x = larger(choose(x < 88.0f, x, all(88.0f)), all(-87.0f));
    floats n = x * 1.44269504f + round;
    ints power = ((ints)n - (ints)round) << 23;
    n -= round;
    floats r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
    floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    return (floats)((ints)p + power);
}

INLINE floats sigmoid(floats x) { return 1.0f / (1.0f + exponential(-x)); }
INLINE floats hyperbolic_tangent(floats x) { return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f; }
