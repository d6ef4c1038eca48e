// The network: reads the weights that export/weights.py wrote, and one character in many rows.
#include "engine.h"

enum { MAGIC = 0x314d4c43 };
enum { LSTM, GRU, RNN };
enum { TABLE = 1 << 20 };  // most numbers in the table of projected inputs

static struct {
  int magic, cell, layers, units, symbols, inputs, embedding, output_matrices, codes;
} header;

typedef struct {
  Matrix kernel, recurrent;
  const float *bias;
} Layer;

static Layer layers[16];
static Matrix outputs[2];
static const float *output_bias;
static const int32_t *codes;  // (header.codes,), rising; the index is the id
static const float *table;    // (inputs, width): the first layer's projection, or the embedding
static int table_width, table_projected;

static int blocks, states, padded_units;
static float *projected, *fed;  // (ROWS, width of the layer)
float *state, *logits;
int state_size, logits_width;

extern unsigned char __heap_base;
static size_t heap_end;

void *allocate(size_t bytes) {
  size_t begin = ((heap_end ? heap_end : (size_t)&__heap_base) + 15) & ~(size_t)15;
  // Vectors are read beyond the end of an array, though not written.
  size_t end = begin + bytes + 16, pages = (end + 65535) / 65536, present = __builtin_wasm_memory_size(0);
  if (end < begin || (pages > present && __builtin_wasm_memory_grow(0, pages - present) == (size_t)-1))
    return NULL;
  heap_end = end;
  return (void *)begin;
}

EXPORT(reserve) void *reserve(int bytes) { return allocate((size_t)bytes); }

EXPORT(state_size) int width_of_state(void) { return state_size; }

int symbols(void) { return header.symbols; }

int32_t code_of(int id) { return codes[id]; }

// The next matrix of the file, whose end is `end`; returns 0 if it is cut off.
static int next(const char **at, const char *end, Stored *stored) {
  const int32_t *head = (const int32_t *)*at;
  if (end - *at < 12) return 0;
  stored->kind = head[0];
  stored->outputs = head[1];
  stored->inputs = head[2];
  *at += 12;
  uint64_t count = (uint64_t)(uint32_t)head[1] * (uint32_t)head[2];
  int eight = stored->kind >= INT8_WEIGHTS;
  uint64_t scales = eight ? (uint64_t)(uint32_t)head[1] * 4 : 0;
  uint64_t bytes = (count * (eight ? 1 : stored->kind == FLOAT16 ? 2 : 4) + 3) & ~(uint64_t)3;
  if (count > 1u << 30 || (uint64_t)(end - *at) < scales + bytes) return 0;
  stored->scales = (const float *)*at;
  stored->data = *at + scales;
  *at += scales + bytes;
  return 1;
}

static int is_shape(const Stored *stored, int outputs, int inputs) {
  return stored->outputs == outputs && stored->inputs == inputs;
}

static int open_layers(const char **at, const char *end) {
  int width = blocks * header.units, biases = header.cell == GRU ? 2 : 1;
  Stored stored;
  for (int i = 0; i < header.layers; i++) {
    int below = i ? header.units : header.embedding;
    if (below && (!next(at, end, &stored) || !is_shape(&stored, width, below) ||
                  !pack(&stored, &layers[i].kernel)))
      return 0;
    if (!next(at, end, &stored) || !is_shape(&stored, width, header.units) ||
        !pack(&stored, &layers[i].recurrent))
      return 0;
    if (!next(at, end, &stored) || !is_shape(&stored, biases, width)) return 0;
    if (!(layers[i].bias = as_floats(&stored))) return 0;
  }
  for (int i = 0; i < header.output_matrices; i++) {
    int inner = i ? header.embedding : header.units, last = i == header.output_matrices - 1;
    if (!next(at, end, &stored) ||
        !is_shape(&stored, last ? header.symbols : header.embedding, inner) ||
        !pack(&stored, &outputs[i]))
      return 0;
  }
  if (!next(at, end, &stored) || !is_shape(&stored, 1, header.symbols)) return 0;
  return (output_bias = as_floats(&stored)) != NULL;
}

// The first layer's product depends only on the id: a table of it saves the product.
static int project_table(const Stored *stored) {
  int width = blocks * header.units, padded = layers[0].kernel.padded;
  if (!(table = as_floats(stored))) return 0;
  table_width = stored->inputs;
  table_projected = !header.embedding;
  if (!header.embedding || (int64_t)header.inputs * width > TABLE) return 1;
  float *values = allocate(((size_t)header.inputs * padded + 8) * sizeof(float));
  if (!values) return 0;
  for (int id = 0; id < header.inputs; id++) {
    const float *row = table + (size_t)id * table_width;
    multiply(&layers[0].kernel, 1, &row, values + (size_t)id * padded);
  }
  table = values;
  table_width = padded;
  table_projected = 1;
  return 1;
}

// Opens the content of a weights file, which stays in memory. Returns 0 if it is none.
EXPORT(open) int open_weights(const char *content, int size) {
  const char *at = content + sizeof header, *end = content + size;
  if ((size_t)size < sizeof header) return 0;
  __builtin_memcpy(&header, content, sizeof header);
  if (header.magic != MAGIC || header.cell < LSTM || header.cell > RNN || header.layers < 1 ||
      header.layers > 16 || header.units < 1 || header.units > 1 << 16 || header.symbols < 2 ||
      header.inputs < header.symbols || header.embedding < 0 || header.embedding > 1 << 16 ||
      header.output_matrices < 1 || header.output_matrices > 2 || header.codes < 1 ||
      header.codes > header.inputs || (end - at) / 4 < header.codes)
    return 0;
  codes = (const int32_t *)at;
  at += (size_t)header.codes * 4;
  blocks = header.cell == LSTM ? 4 : header.cell == GRU ? 3 : 1;
  states = header.cell == LSTM ? 2 : 1;
  padded_units = (header.units + 3) & ~3;
  state_size = header.layers * states * padded_units;
  int most = header.units > header.embedding ? header.units : header.embedding;
  int wide = blocks * header.units > header.embedding ? blocks * header.units : header.embedding;
  size_t row = ROWS * sizeof(float);
  state = allocate(row * state_size);
  projected = allocate(row * (wide + 12));
  fed = allocate(row * (wide + 12));
  logits = allocate(row * (header.symbols + 12));
  Stored input;
  if (!state || !projected || !fed || !logits || !prepare_products(most) ||
      !prepare_draw(header.symbols) || !next(&at, end, &input) ||
      !is_shape(&input, header.inputs, header.embedding ? header.embedding : blocks * header.units))
    return 0;
  if (!open_layers(&at, end) || at != end || !project_table(&input)) return 0;
  logits_width = outputs[header.output_matrices - 1].padded;
  return prepare_rules(header.symbols);
}

int id_of(int32_t code) {
  int low = 0, high = header.codes - 1;
  while (low < high) {
    int middle = (low + high + 1) / 2;
    if (codes[middle] <= code) low = middle;
    else high = middle - 1;
  }
  return codes[low] == code ? low : 0;
}

// One step of a layer in one row: projected input x, recurrent product u, states h and c.
static void step(const Layer *layer, const float *x, const float *u, float *h, float *c) {
  const int units = header.units;
  const float *bias = layer->bias;
#define AT(p, block) wasm_v128_load((p) + (block)*units + j)
#define SUM(block) wasm_f32x4_add(wasm_f32x4_add(AT(x, block), AT(u, block)), AT(bias, block))
  for (int j = 0; j < units; j += 4) {
    v128_t out;
    if (header.cell == LSTM) {
      v128_t i = sigmoid(SUM(0)), f = sigmoid(SUM(1)), g = hyperbolic_tangent(SUM(2));
      v128_t cell = wasm_f32x4_add(wasm_f32x4_mul(f, wasm_v128_load(c + j)), wasm_f32x4_mul(i, g));
      wasm_v128_store(c + j, cell);
      out = wasm_f32x4_mul(sigmoid(SUM(3)), hyperbolic_tangent(cell));
    } else if (header.cell == GRU) {
      v128_t a[3], b[3];
      for (int k = 0; k < 3; k++) {
        a[k] = wasm_f32x4_add(AT(x, k), AT(bias, k));
        b[k] = wasm_f32x4_add(AT(u, k), AT(bias, k + 3));
      }
      v128_t z = sigmoid(wasm_f32x4_add(a[0], b[0])), r = sigmoid(wasm_f32x4_add(a[1], b[1]));
      v128_t g = hyperbolic_tangent(wasm_f32x4_add(a[2], wasm_f32x4_mul(r, b[2])));
      out = wasm_f32x4_add(wasm_f32x4_mul(z, wasm_v128_load(h + j)),
                           wasm_f32x4_mul(wasm_f32x4_sub(wasm_f32x4_splat(1), z), g));
    } else {
      out = hyperbolic_tangent(SUM(0));
    }
    wasm_v128_store(h + j, out);
  }
}

void advance(int count, const int *rows, const int *ids) {
  const float *x[ROWS], *h[ROWS];
  for (int layer = 0; layer < header.layers; layer++) {
    const Matrix *kernel = &layers[layer].kernel, *recurrent = &layers[layer].recurrent;
    for (int r = 0; r < count; r++) {
      h[r] = state + (size_t)rows[r] * state_size + layer * states * padded_units;
      x[r] = layer ? h[r] - states * padded_units : table + (size_t)ids[r] * table_width;
    }
    if (layer || !table_projected) {
      multiply(kernel, count, x, projected);
      for (int r = 0; r < count; r++) x[r] = projected + r * kernel->padded;
    }
    multiply(recurrent, count, h, fed);
    for (int r = 0; r < count; r++)
      step(&layers[layer], x[r], fed + r * recurrent->padded, (float *)h[r],
           (float *)h[r] + padded_units);
  }
}

void project(int count, const int *rows) {
  const float *x[ROWS];
  const Matrix *last = &outputs[header.output_matrices - 1];
  for (int r = 0; r < count; r++)
    x[r] = state + (size_t)rows[r] * state_size + (header.layers - 1) * states * padded_units;
  if (header.output_matrices == 2) {
    multiply(&outputs[0], count, x, fed);
    for (int r = 0; r < count; r++) x[r] = fed + r * outputs[0].padded;
  }
  multiply(last, count, x, logits);
  for (int r = 0; r < count; r++)
    for (int v = 0; v < header.symbols; v++) logits[r * last->padded + v] += output_bias[v];
}
