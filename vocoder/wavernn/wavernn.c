/* The recurrent part of a WaveRNN, many samples a call: see kernel.py, which packs the weights and calls `run`.

   Vectors are those of `vectors.h`, `dot` is the one operation that they lack. Rows of weights come in blocks of 16;
   all sizes are multiples of 16, filled up with zeros. Nothing here allocates but `run`, and nothing is global. */

#include <stdlib.h>
#include <string.h>

#include "vectors.h"

#if defined(__ARM_FEATURE_DOTPROD) && !defined(PLAIN)
#include <arm_neon.h>
#endif

/* acc + the products of 4 (or 2) weights a row with as many activations; exact integers, the same in all variants.
   PACK: weights of a row side by side. OFFSET is added to activations, and taken off again by Matrix.start. */
#if LANES == 16 && defined(__AVX512VNNI__)
#define VARIANT "AVX-512 VNNI"
#define PACK 4
#define OFFSET 128
typedef uint8_t activation;
INLINE ints dot(ints acc, const int8_t *w, const activation *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return (ints)_mm512_dpbusd_epi32((__m512i)acc, _mm512_set1_epi32(four), _mm512_loadu_si512(w));
}
#elif LANES == 16
#define VARIANT "AVX-512"
#define PACK 2
#define OFFSET 0
typedef int16_t activation;
INLINE ints dot(ints acc, const int8_t *w, const activation *x) {
    int32_t two;
    memcpy(&two, x, 4);
    __m512i wide = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)w));
    return acc + (ints)_mm512_madd_epi16(wide, _mm512_set1_epi32(two));
}
#elif LANES == 8 && defined(__AVXVNNI__)
#define VARIANT "AVX VNNI"
#define PACK 4
#define OFFSET 128
typedef uint8_t activation;
INLINE ints dot(ints acc, const int8_t *w, const activation *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return (ints)_mm256_dpbusd_avx_epi32((__m256i)acc, _mm256_set1_epi32(four), _mm256_loadu_si256((const __m256i *)w));
}
#elif LANES == 8
#define VARIANT "AVX2"
#define PACK 2
#define OFFSET 0
typedef int16_t activation;
INLINE ints dot(ints acc, const int8_t *w, const activation *x) {
    int32_t two;
    memcpy(&two, x, 4);
    __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)w));
    return acc + (ints)_mm256_madd_epi16(wide, _mm256_set1_epi32(two));
}
#elif defined(__ARM_FEATURE_DOTPROD) && !defined(PLAIN)
#define VARIANT "NEON"
#define PACK 4
#define OFFSET 0
typedef int8_t activation;
INLINE ints dot(ints acc, const int8_t *w, const activation *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return (ints)vdotq_s32((int32x4_t)acc, vld1q_s8(w), vreinterpretq_s8_s32(vdupq_n_s32(four)));
}
#else
#define VARIANT "plain C"
#define PACK 4
#define OFFSET 0
typedef int8_t activation;
INLINE ints dot(ints acc, const int8_t *w, const activation *x) {
    for (int i = 0; i < LANES; i++)
        acc[i] += w[4 * i] * x[0] + w[4 * i + 1] * x[1] + w[4 * i + 2] * x[2] + w[4 * i + 3] * x[3];
    return acc;
}
#endif

/* Blocks of rows and folds that share one pass over the weights: as many sums as registers hold */
#define BLOCKS (LANES == 16 ? 4 : 1)
#define FOLDS 5

enum { FLOAT32, INT8, SPARSE };

typedef struct {
    int32_t kind, blocks, cols;
    const void *weights;     /* a block of 16 rows after the other; in it a column (INT8: PACK columns) after the other */
    const float *scale;      /* INT8: of each row */
    const int32_t *start;    /* INT8: where each row's sum starts: -OFFSET * sum of its weights */
    const int32_t *runs;     /* SPARSE: block b holds the columns runs[b] .. runs[b + 1], a multiple of 4 of them */
    const int32_t *columns;  /* SPARSE: which they are */
} Matrix;

typedef struct {
    int32_t size, dense, outputs, labels; /* rows of a GRU's gate, of fc1 and fc2, of fc3, and how many of those count */
    int32_t hop, half_kernel, taps;
    Matrix gru1, gru2_in, gru2, fc1, fc2, fc3;
    const float *sample_in; /* (4 size) what the sample before adds to [input layer | gates of GRU 1] */
    const float *guide_in;  /* (taps, 4 size) the same of the guide's samples */
    const float *gru1_bias, *gru2_bias; /* (size) of the new gate's hidden part */
    const float *fc3_bias;
    const float *upsample_kernel; /* (hop, 2 half_kernel + 1) how the samples of a frame mix the frames around it */
} Model;

typedef struct {
    int32_t folds, frames, steps, greedy;
    const float *mel;      /* (frames + 2 half_kernel, 4 size) */
    const float *fixed;    /* (frames + 1, 7 size + 2 dense) what a frame adds to each layer; last: past the end */
    const float *guide;    /* (frames * hop + taps), or null: sample i adds guide_in times those from i on */
    const int64_t *starts; /* (folds) */
    const float *draws;    /* (folds, steps) uniform in [0, 1) */
    int16_t *labels;       /* (folds, steps) out */
    float *logits;         /* (folds, steps, outputs) out, or null */
    float *state;          /* (folds) samples before | (folds, size) GRU 1 | the same of GRU 2, zero at the start */
    int64_t first;         /* steps made before this call */
} Job;

/* out[t][rows of `blocks` blocks from b on] = weights * x[t], for `folds` folds; the last two are constants */
INLINE void multiply_float(const Matrix *m, const float *x, int b, float *out, const int blocks, const int folds) {
    const int cols = m->cols;
    const float *w = (const float *)m->weights + (size_t)b * 16 * cols;
    floats acc[BLOCKS][FOLDS][V];
    UNROLL for (int r = 0; r < blocks; r++)
        UNROLL for (int t = 0; t < folds; t++)
            UNROLL for (int v = 0; v < V; v++) acc[r][t][v] = (floats){0};
    for (int c = 0; c < cols; c++)
        UNROLL for (int r = 0; r < blocks; r++)
            UNROLL for (int v = 0; v < V; v++) {
                floats weight = load(w + (size_t)r * 16 * cols + 16 * c + v * LANES);
                UNROLL for (int t = 0; t < folds; t++) acc[r][t][v] += weight * x[t * cols + c];
            }
    UNROLL for (int r = 0; r < blocks; r++)
        UNROLL for (int t = 0; t < folds; t++)
            UNROLL for (int v = 0; v < V; v++)
                store(out + (size_t)t * 16 * m->blocks + 16 * (b + r) + v * LANES, acc[r][t][v]);
}

INLINE void multiply_int8(
    const Matrix *m, const activation *x, const float *scale, int b, float *out, const int blocks, const int folds) {
    const int cols = m->cols;
    const int8_t *w = (const int8_t *)m->weights + (size_t)b * 16 * cols;
    ints acc[BLOCKS][FOLDS][V];
    UNROLL for (int r = 0; r < blocks; r++)
        UNROLL for (int t = 0; t < folds; t++)
            UNROLL for (int v = 0; v < V; v++) acc[r][t][v] = *(const ints *)(m->start + 16 * (b + r) + v * LANES);
    for (int c = 0; c < cols; c += PACK)
        UNROLL for (int r = 0; r < blocks; r++)
            UNROLL for (int v = 0; v < V; v++)
                UNROLL for (int t = 0; t < folds; t++)
                    acc[r][t][v] =
                        dot(acc[r][t][v], w + (size_t)r * 16 * cols + 16 * c + v * LANES * PACK, x + t * cols + c);
    UNROLL for (int r = 0; r < blocks; r++)
        UNROLL for (int t = 0; t < folds; t++)
            UNROLL for (int v = 0; v < V; v++) {
                floats y = __builtin_convertvector(acc[r][t][v], floats);
                y *= load(m->scale + 16 * (b + r) + v * LANES) * scale[t];
                store(out + (size_t)t * 16 * m->blocks + 16 * (b + r) + v * LANES, y);
            }
}

INLINE void multiply_sparse(const Matrix *m, const float *x, int b, float *out, const int folds) {
    const float *w = (const float *)m->weights;
    floats acc[4][FOLDS][V]; /* four sums side by side: no addition waits for the one before */
    UNROLL for (int k = 0; k < 4; k++)
        UNROLL for (int t = 0; t < folds; t++)
            UNROLL for (int v = 0; v < V; v++) acc[k][t][v] = (floats){0};
    for (int i = m->runs[b]; i < m->runs[b + 1]; i += 4)
        UNROLL for (int k = 0; k < 4; k++)
            UNROLL for (int v = 0; v < V; v++) {
                floats weight = load(w + (size_t)16 * (i + k) + v * LANES);
                UNROLL for (int t = 0; t < folds; t++) acc[k][t][v] += weight * x[t * m->cols + m->columns[i + k]];
            }
    UNROLL for (int t = 0; t < folds; t++)
        UNROLL for (int v = 0; v < V; v++)
            store(out + (size_t)t * 16 * m->blocks + 16 * b + v * LANES,
                  (acc[0][t][v] + acc[1][t][v]) + (acc[2][t][v] + acc[3][t][v]));
}

INLINE void multiply(const Matrix *m, const float *x, const activation *q, const float *scale, int b, float *out,
                     const int blocks, const int folds) {
    if (m->kind == FLOAT32)
        multiply_float(m, x, b, out, blocks, folds);
    else if (m->kind == INT8)
        multiply_int8(m, q, scale, b, out, blocks, folds);
    else
        UNROLL for (int r = 0; r < blocks; r++) multiply_sparse(m, x, b + r, out, folds);
}

/* x (cols) -> q, 127 steps up to the largest magnitude; the size of a step */
static float quantize(const float *x, int cols, activation *q) {
    floats top = all(1e-20f);
    for (int c = 0; c < cols; c += LANES) top = larger(larger(load(x + c), -load(x + c)), top);
    const float scale = largest(top) / 127;
    const floats round = all(12582912.0f);
    for (int c = 0; c < cols; c += LANES) {
        ints n = (ints)(load(x + c) * (1 / scale) + round) - (ints)round + OFFSET;
        typedef activation narrow __attribute__((vector_size(sizeof(activation) * LANES), aligned(1), may_alias));
        *(narrow *)(q + c) = __builtin_convertvector(n, narrow);
    }
    return scale;
}

typedef struct { /* what a call needs for itself, for every fold */
    float *y, *in, *hidden, *scale;
    activation *q;
} Scratch;

/* out (folds, rows) = matrix * x (folds, cols) */
static void linear(const Matrix *m, const float *x, int folds, Scratch *s, float *out) {
    const int cols = m->cols, rows = 16 * m->blocks;
    if (m->kind == INT8)
        for (int t = 0; t < folds; t++) s->scale[t] = quantize(x + t * cols, cols, s->q + t * cols);
    for (int b = 0, blocks; b < m->blocks; b += blocks) {
        blocks = m->blocks - b < BLOCKS ? 1 : BLOCKS;
        for (int t = 0; t < folds; t += FOLDS) /* the second pass finds the weights in the cache */
            switch (10 * blocks + (folds - t < FOLDS ? folds - t : FOLDS)) {
#define CASE(B, N)                                                                                 \
    case 10 * B + N:                                                                               \
        multiply(m, x + t * cols, s->q + t * cols, s->scale + t, b, out + (size_t)t * rows, B, N); \
        break;
                CASE(1, 1) CASE(1, 2) CASE(1, 3) CASE(1, 4) CASE(1, 5)
#if BLOCKS > 1
                CASE(BLOCKS, 1) CASE(BLOCKS, 2) CASE(BLOCKS, 3) CASE(BLOCKS, 4) CASE(BLOCKS, 5)
#endif
            }
    }
}

INLINE const float *fixed_row(const Model *m, const Job *job, int64_t position) {
    const int64_t frame = position / m->hop;
    return job->fixed + (size_t)(frame < job->frames ? frame : job->frames) * (7 * m->size + 2 * m->dense);
}

/* out (4 size), [input layer | gates 1] of one fold: from its frame, the mels around it and the sample before */
static void inputs(const Model *m, const Job *job, int64_t position, float x, float *out) {
    const int size = 4 * m->size, width = 2 * m->half_kernel + 1;
    const int64_t frame = position / m->hop;
    const float *fixed = fixed_row(m, job, position);
    for (int i = 0; i < size; i += LANES) store(out + i, load(fixed + i) + load(m->sample_in + i) * x);
    if (frame >= job->frames) return;
    for (int k = 0; job->guide && k < m->taps; k++)
        for (int i = 0; i < size; i += LANES)
            store(out + i, load(out + i) + load(m->guide_in + (size_t)k * size + i) * job->guide[position + k]);
    const float *mel = job->mel + (size_t)frame * size, *upsample_kernel = m->upsample_kernel + position % m->hop * width;
    for (int k = 0; k < width; k++, mel += size) {
        const float tap = upsample_kernel[k];
        if (tap != 0)
            for (int i = 0; i < size; i += LANES) store(out + i, load(out + i) + load(mel + i) * tap);
    }
}

/* The new state from the linear parts in[r | z | n] and hidden[r | z | n] of one fold and the old state */
static void gru(const float *in, const float *hidden, const float *bias, const float *old, int size, float *new) {
    for (int i = 0; i < size; i += LANES) {
        floats reset = sigmoid(load(in + i) + load(hidden + i));
        floats update = sigmoid(load(in + size + i) + load(hidden + size + i));
        floats part = reset * (load(hidden + 2 * size + i) + load(bias + i));
        floats fresh = hyperbolic_tangent(load(in + 2 * size + i) + part);
        store(new + i, fresh + update * (load(old + i) - fresh));
    }
}

INLINE void add(float *out, const float *x, int n) {
    for (int i = 0; i < n; i += LANES) store(out + i, load(out + i) + load(x + i));
}

/* Where the cumulated probabilities of the logits pass `uniform`; greedy: the likeliest. Overwrites the logits. */
static int draw(const Model *m, float *logits, float uniform, int greedy) {
    floats top = load(logits), total = {0};
    for (int i = LANES; i < m->outputs; i += LANES) top = larger(top, load(logits + i));
    const float highest = largest(top);
    if (greedy)
        for (int i = 0; i < m->labels; i++)
            if (logits[i] == highest) return i;
    for (int i = 0; i < m->outputs; i += LANES) {
        floats e = exponential(load(logits + i) - highest);
        store(logits + i, e);
        total += e;
    }
    const float target = uniform * sum(total);
    float passed = 0;
    for (int i = 0; i < m->outputs; i += LANES) {
        const float here = sum(load(logits + i));
        if (passed + here > target || i + LANES >= m->outputs)
            for (int k = i; k < m->labels; k++)
                if ((passed += logits[k]) > target) return k;
        passed += here;
    }
    return m->labels - 1;
}

/* One sample of every fold, after the samples x; logits go to s->y, labels to job->labels */
static void one_step(const Model *m, const Job *job, int step, float *x, Scratch *s) {
    const int n = job->folds, size = m->size, dense = m->dense, outputs = m->outputs;
    float *h1 = job->state + n, *h2 = h1 + n * size;
    linear(&m->gru1, h1, n, s, s->hidden);
    for (int t = 0; t < n; t++) {
        float *in = s->in + t * 4 * size, *h = h1 + t * size, *y = s->y + t * size;
        inputs(m, job, job->starts[t] + job->first + step, x[t], in);
        gru(in + size, s->hidden + t * 3 * size, m->gru1_bias, h, size, h);
        for (int i = 0; i < size; i += LANES) store(y + i, load(in + i) + load(h + i));
    }
    linear(&m->gru2_in, s->y, n, s, s->in);
    linear(&m->gru2, h2, n, s, s->hidden);
    for (int t = 0; t < n; t++) {
        float *in = s->in + t * 3 * size, *h = h2 + t * size;
        add(in, fixed_row(m, job, job->starts[t] + job->first + step) + 4 * size, 3 * size);
        gru(in, s->hidden + t * 3 * size, m->gru2_bias, h, size, h);
        add(s->y + t * size, h, size);
    }
    for (int layer = 0; layer < 2; layer++) {
        linear(layer ? &m->fc2 : &m->fc1, layer ? s->in : s->y, n, s, layer ? s->hidden : s->in);
        for (int t = 0; t < n; t++) {
            float *out = (layer ? s->hidden : s->in) + t * dense;
            add(out, fixed_row(m, job, job->starts[t] + job->first + step) + 7 * size + layer * dense, dense);
            for (int i = 0; i < dense; i += LANES) store(out + i, larger(load(out + i), all(0)));
        }
    }
    linear(&m->fc3, s->hidden, n, s, s->y);
    for (int t = 0; t < n; t++) {
        const size_t at = (size_t)t * job->steps + step;
        add(s->y + t * outputs, m->fc3_bias, outputs);
        if (job->logits) memcpy(job->logits + at * outputs, s->y + t * outputs, sizeof(float) * outputs);
        const int label = draw(m, s->y + t * outputs, job->draws[at], job->greedy);
        job->labels[at] = (int16_t)label;
        x[t] = 2.0f * label / (m->labels - 1) - 1;
    }
}

/* job->steps samples of every fold. 0: done; 1: no memory */
int run(const Model *m, const Job *job) {
    const size_t n = job->folds, size = m->size, dense = m->dense, outputs = m->outputs;
    const size_t widest = size > dense ? size : dense, y = widest > outputs ? widest : outputs;
    const size_t in = 4 * size > dense ? 4 * size : dense, hidden = 3 * size > dense ? 3 * size : dense;
    char *memory = malloc(n * (sizeof(float) * (y + in + hidden + 1) + sizeof(activation) * widest) + 64);
    if (!memory) return 1;
    Scratch s;
    s.y = (float *)(((uintptr_t)memory + 63) / 64 * 64);
    s.in = s.y + n * y;
    s.hidden = s.in + n * in;
    s.q = (activation *)(s.hidden + n * hidden);
    s.scale = (float *)(s.q + n * widest);
    for (int step = 0; step < job->steps; step++) one_step(m, job, step, job->state, &s);
    free(memory);
    return 0;
}

const char *variant(void) { return VARIANT; }
int pack(void) { return PACK; }
int offset(void) { return OFFSET; }
int job_size(void) { return sizeof(Job); }
int model_size(void) { return sizeof(Model); }
