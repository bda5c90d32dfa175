/* Tacotron's decoder, one step of all items a call: see native.py, which packs the weights and calls `step`.

   Rows of weights come in blocks of 16, filled up with zeros, and so do columns. So what stands in a vector behind its
   last number does no harm, as long as it is one: `wide` leaves room for it. */

#include <string.h>

#include "vectors.h"

typedef int16_t shorts __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

typedef struct {
    int32_t blocks, cols;
    const int16_t *weights; /* a block of 16 rows after the other; in it a column after the other */
    const float *scale;     /* of each row */
    const float *bias;      /* of each row, or null */
} Matrix;

typedef struct {
    int32_t mels, prenet, attention, memory, lstm, reduction, kernel, published;
    Matrix fc1, fc2, attend_context, attend_prenet, attend_query, query, in_context, in_query;
    Matrix lstm1_in, lstm1, lstm2_in, lstm2, mel, stop_hidden, stop_context;
    const float *v;
} Model;

typedef struct {
    int32_t items, tokens;
    const float *values, *keys; /* (items, tokens, up(memory)), (items, tokens, up(attention)) */
    const float *location;      /* (kernel, up(attention)) */
    const float *mask;          /* (items, tokens) 1 for tokens, 0 for padding */
    const uint8_t *open;        /* (items, tokens) where attention may be */
    const float *seen;          /* (items, up(memory)) what this step sees of the text, in place of attention, or null */
    const float *dropout;       /* (items, 2, prenet) what the prenet's layers are multiplied by */
    float *state;               /* zeros at the start, `state_size` of them */
    float *frames;              /* (items, mels * reduction) out */
    float *weights;             /* (items, tokens) out */
    float *stop;                /* (items) out: logits */
} Job;

INLINE int up(int n) { return (n + 15) / 16 * 16; }
INLINE int wide(int n) { return up(n) + 16; }

/* out[t][16 rows from block b on] = bias + W x[t], or more of it, for n items; n is a constant */
INLINE void block(const Matrix *m, const float *x, int x_step, int b, float *out, int out_step, int more, const int n) {
    const int sums = n == 1 ? 4 : 2; /* side by side: no addition waits for the one before */
    const int16_t *w = m->weights + (size_t)b * 16 * m->cols;
    floats acc[4][4][V];
    UNROLL for (int k = 0; k < sums; k++)
        UNROLL for (int t = 0; t < n; t++)
            UNROLL for (int v = 0; v < V; v++) acc[k][t][v] = (floats){0};
    for (int c = 0; c < m->cols; c += sums)
        UNROLL for (int k = 0; k < sums; k++)
            UNROLL for (int v = 0; v < V; v++) {
                floats weight = __builtin_convertvector(*(const shorts *)(w + 16 * (c + k) + v * LANES), floats);
                UNROLL for (int t = 0; t < n; t++) acc[k][t][v] += weight * x[t * x_step + c + k];
            }
    UNROLL for (int t = 0; t < n; t++)
        UNROLL for (int v = 0; v < V; v++) {
            const int row = 16 * b + v * LANES;
            floats total = acc[0][t][v] + acc[1][t][v];
            if (sums == 4) total += acc[2][t][v] + acc[3][t][v];
            total *= load(m->scale + row);
            if (m->bias) total += load(m->bias + row);
            if (more) total += load(out + t * out_step + row);
            store(out + t * out_step + row, total);
        }
}

static void product(const Matrix *m, const float *x, int x_step, float *out, int out_step, int items, int more) {
    for (int b = 0; b < m->blocks; b++)
        for (int t = 0; t < items; t += 4) /* the second pass finds the weights in the cache */
            switch (items - t < 4 ? items - t : 4) {
#define CASE(N)                                                                              \
    case N:                                                                                  \
        block(m, x + t * x_step, x_step, b, out + t * out_step, out_step, more, N); \
        break;
                CASE(1) CASE(2) CASE(3) CASE(4)
            }
}

static void gru(const float *in, const float *hidden, float *h, int size) {
    for (int i = 0; i < size; i += LANES) {
        floats reset = sigmoid(load(in + i) + load(hidden + i));
        floats update = sigmoid(load(in + size + i) + load(hidden + size + i));
        floats fresh = hyperbolic_tangent(load(in + 2 * size + i) + reset * load(hidden + 2 * size + i));
        store(h + i, fresh + update * (load(h + i) - fresh));
    }
}

/* h and c move on, x grows by the new h */
static void lstm(const float *gates, float *h, float *c, float *x, int size) {
    for (int i = 0; i < size; i += LANES) {
        floats in = sigmoid(load(gates + i)), forget = sigmoid(load(gates + size + i));
        floats fresh = hyperbolic_tangent(load(gates + 2 * size + i)), out = sigmoid(load(gates + 3 * size + i));
        floats cell = forget * load(c + i) + in * fresh, hidden = out * hyperbolic_tangent(cell);
        store(c + i, cell);
        store(h + i, hidden);
        store(x + i, load(x + i) + hidden);
    }
}

INLINE void relu(float *x, const float *factor, int size) {
    for (int i = 0; i < size; i++) x[i] = x[i] > 0 ? x[i] * factor[i] : 0;
}

/* Attention of item t: `cumulative` (kernel - 1 + tokens) grows by it, context (memory) is what it sees */
static void attend(const Model *m, const Job *job, int t, const float *query, float *cumulative, float *context) {
    const int n = job->tokens, size = up(m->attention), memory = up(m->memory);
    const float *keys = job->keys + (size_t)t * n * size, *values = job->values + (size_t)t * n * memory;
    const float *mask = job->mask + t * n;
    const uint8_t *open = job->open + t * n;
    float *weights = job->weights + t * n, top = -1e30f, total = 0;
    for (int i = 0; i < n; i++) {
        floats energy = {0};
        for (int a = 0; a < size; a += LANES) {
            floats x = load(query + a) + load(keys + (size_t)i * size + a);
            for (int k = 0; k < m->kernel; k++) x += load(job->location + k * size + a) * cumulative[i + k];
            energy += load(m->v + a) * hyperbolic_tangent(x);
        }
        weights[i] = sum(energy);
        if (m->published) weights[i] *= mask[i];
        if (open[i] && weights[i] > top) top = weights[i];
    }
    for (int i = 0; i < n; i++) total += weights[i] = open[i] ? exponential(all(weights[i] - top))[0] : 0;
    memset(context, 0, sizeof(float) * memory);
    for (int i = 0; i < n; i++) {
        weights[i] /= total;
        cumulative[m->kernel / 2 + i] += weights[i];
        for (int e = 0; e < memory; e += LANES)
            store(context + e, load(context + e) + weights[i] * load(values + (size_t)i * memory + e));
    }
}

typedef struct { /* steps from item to item, and where each part of the state begins */
    int frame, prenet, query, context, lstm, gates, mel, cumulative;
} Sizes;

INLINE Sizes sizes_of(const Model *m, const Job *job) {
    const int most = 4 * m->lstm > 3 * m->attention ? 4 * m->lstm : 3 * m->attention;
    return (Sizes){wide(m->mels), wide(m->prenet), wide(m->attention), wide(m->memory), wide(m->lstm), wide(most),
                   wide(m->mels * m->reduction), job->tokens + m->kernel - 1};
}

/* The next frames of every item, from the last ones in the state */
void step(const Model *m, const Job *job) {
    const int n = job->items;
    const Sizes s = sizes_of(m, job);
    float *frame = job->state, *query = frame + n * s.frame, *context = query + n * s.query;
    float *h1 = context + n * s.context, *c1 = h1 + n * s.lstm, *h2 = c1 + n * s.lstm, *c2 = h2 + n * s.lstm;
    float *prenet1 = c2 + n * s.lstm, *prenet2 = prenet1 + n * s.prenet, *gates = prenet2 + n * s.prenet;
    float *hidden = gates + n * s.gates, *place = hidden + n * s.gates, *x = place + n * s.query;
    float *mel = x + n * s.lstm, *stop = mel + n * s.mel, *cumulative = stop + n * 16;

    product(&m->fc1, frame, s.frame, prenet1, s.prenet, n, 0);
    for (int t = 0; t < n; t++) relu(prenet1 + t * s.prenet, job->dropout + 2 * t * m->prenet, m->prenet);
    product(&m->fc2, prenet1, s.prenet, prenet2, s.prenet, n, 0);
    for (int t = 0; t < n; t++) relu(prenet2 + t * s.prenet, job->dropout + (2 * t + 1) * m->prenet, m->prenet);

    product(&m->attend_context, context, s.context, gates, s.gates, n, 0);
    product(&m->attend_prenet, prenet2, s.prenet, gates, s.gates, n, 1);
    product(&m->attend_query, query, s.query, hidden, s.gates, n, 0);
    for (int t = 0; t < n; t++) gru(gates + t * s.gates, hidden + t * s.gates, query + t * s.query, m->attention);
    product(&m->query, query, s.query, place, s.query, n, 0);
    for (int t = 0; t < n; t++)
        if (job->seen)
            memcpy(context + t * s.context, job->seen + t * up(m->memory), sizeof(float) * up(m->memory));
        else
            attend(m, job, t, place + t * s.query, cumulative + t * s.cumulative, context + t * s.context);

    product(&m->in_context, context, s.context, x, s.lstm, n, 0);
    product(&m->in_query, query, s.query, x, s.lstm, n, 1);
    product(&m->lstm1_in, x, s.lstm, gates, s.gates, n, 0);
    product(&m->lstm1, h1, s.lstm, gates, s.gates, n, 1);
    for (int t = 0; t < n; t++)
        lstm(gates + t * s.gates, h1 + t * s.lstm, c1 + t * s.lstm, x + t * s.lstm, m->lstm);
    product(&m->lstm2_in, x, s.lstm, gates, s.gates, n, 0);
    product(&m->lstm2, h2, s.lstm, gates, s.gates, n, 1);
    for (int t = 0; t < n; t++)
        lstm(gates + t * s.gates, h2 + t * s.lstm, c2 + t * s.lstm, x + t * s.lstm, m->lstm);

    product(&m->mel, x, s.lstm, mel, s.mel, n, 0);
    product(&m->stop_hidden, x, s.lstm, stop, 16, n, 0);
    product(&m->stop_context, context, s.context, stop, 16, n, 1);
    for (int t = 0; t < n; t++) {
        const int r = m->reduction;
        memcpy(job->frames + (size_t)t * m->mels * r, mel + t * s.mel, sizeof(float) * m->mels * r);
        for (int i = 0; i < m->mels; i++) frame[t * s.frame + i] = mel[t * s.mel + i * r + r - 1];
        if (!job->seen) job->stop[t] = stop[16 * t];
    }
}

int state_size(const Model *m, const Job *job) {
    const Sizes s = sizes_of(m, job);
    return job->items * (s.frame + 2 * s.query + s.context + 5 * s.lstm + 2 * s.prenet + 2 * s.gates + s.mel + 16 +
                         s.cumulative) + 16;
}

int job_size(void) { return sizeof(Job); }
int model_size(void) { return sizeof(Model); }
