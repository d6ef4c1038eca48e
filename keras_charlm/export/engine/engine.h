// Shared by the files of the engine: memory, matrices, and functions on vectors of four floats.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <wasm_simd128.h>

enum { ROWS = 64 };  // most rows of a call

// How a matrix is stored in the file. In memory FLOAT16 and INT8_WEIGHTS become FLOAT32.
enum { FLOAT32, FLOAT16, INT8_WEIGHTS, INT8 };

// A matrix as the file has it: row-major (outputs, inputs), with a scale for each output if int8.
typedef struct {
  int kind, outputs, inputs;
  const float *scales;
  const void *data;
} Stored;

// A matrix ready for products. The outputs are in blocks of eight, the last one padded with zeros.
typedef struct {
  int kind;             // FLOAT32 or INT8
  int padded, inputs;   // number of outputs, a multiple of 8; number of inputs
  const float *scales;  // INT8: (padded,)
  const void *data;     // FLOAT32: (padded / 8, inputs, 8); INT8: (padded / 8, inputs / 2 rounded up, 8, 2)
} Matrix;

void *allocate(size_t bytes);  // zeros, aligned to 16 bytes; NULL if there is no more memory

const float *as_floats(const Stored *stored);  // (outputs, inputs)
int pack(const Stored *stored, Matrix *matrix);  // 0 if there is no more memory
int prepare_products(int most_inputs);           // likewise; before the first `multiply`

// Inputs (rows) of (inputs,) each -> out (rows, padded).
void multiply(const Matrix *matrix, int rows, const float *const *in, float *out);

v128_t exponential(v128_t x);
v128_t sigmoid(v128_t x);
v128_t hyperbolic_tangent(v128_t x);

// How characters are drawn; see network/sampling.py.
typedef struct {
  float temperature, top_p, min_p;
  int top_k;
} Settings;

float uniform(uint32_t seed, uint32_t position);
int prepare_draw(int symbols);
int draw(const float *logits, int symbols, float uniform, const Settings *settings);

// The network: states of all layers by row, and logits of the rows of the last `project`.
extern float *state, *logits;         // (ROWS, state_size), (ROWS, logits_width)
extern int state_size, logits_width;
int symbols(void);                    // width of the vocabulary, without padding
int id_of(int32_t code);              // 0 for an unknown one
int32_t code_of(int id);
void advance(int count, const int *rows, const int *ids);  // reads one character in each row
void project(int count, const int *rows);                  // the logits after it
int prepare_rules(int symbols);

#define EXPORT(name) __attribute__((export_name(#name)))
