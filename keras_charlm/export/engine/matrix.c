// Matrix products: float32, or int8 weights times inputs that are quantized row by row.
#include "engine.h"

static float half_to_float(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = half & 0x7fff;
  union { uint32_t bits; float value; } number = {rest << 13};
  number.value *= 0x1p112f;  // moves the bias of the exponent, also of subnormal numbers
  number.bits |= sign;
  return number.value;
}

const float *as_floats(const Stored *stored) {
  if (stored->kind == FLOAT32) return stored->data;
  size_t count = (size_t)stored->outputs * stored->inputs;
  float *values = allocate(count * sizeof(float));
  if (!values) return NULL;
  for (size_t i = 0; i < count; i++)
    values[i] = stored->kind == FLOAT16
                    ? half_to_float(((const uint16_t *)stored->data)[i])
                    : ((const int8_t *)stored->data)[i] * stored->scales[i / stored->inputs];
  return values;
}

int pack(const Stored *stored, Matrix *matrix) {
  int eight = stored->kind == INT8, inputs = stored->inputs;
  int even = eight ? (inputs + 1) & ~1 : inputs;
  matrix->kind = eight ? INT8 : FLOAT32;
  matrix->padded = (stored->outputs + 7) & ~7;
  matrix->inputs = inputs;
  size_t count = (size_t)matrix->padded * even;
  void *data = allocate(count * (eight ? sizeof(int8_t) : sizeof(float)));
  float *scales = eight ? allocate((size_t)matrix->padded * sizeof(float)) : NULL;
  const float *floats = eight ? NULL : as_floats(stored);
  if (!data || (eight ? !scales : !floats)) return 0;
  for (int n = 0; n < stored->outputs; n++) {
    size_t block = (size_t)(n / 8) * 8 * even, from = (size_t)n * inputs;
    for (int k = 0; k < inputs; k++) {
      if (eight)
        ((int8_t *)data)[block + (k / 2) * 16 + (n % 8) * 2 + k % 2] =
            ((const int8_t *)stored->data)[from + k];
      else
        ((float *)data)[block + (size_t)k * 8 + n % 8] = floats[from + k];
    }
    if (eight) scales[n] = stored->scales[n];
  }
  matrix->data = data;
  matrix->scales = scales;
  return 1;
}

static int16_t *quantized;  // inputs of INT8 products, less their zero point: (ROWS, most inputs)
static float input_scales[ROWS];
static int stride;

int prepare_products(int most_inputs) {
  stride = (most_inputs + 8) & ~7;
  quantized = allocate((size_t)ROWS * stride * sizeof(int16_t));
  return quantized != NULL;
}

// As XNNPACK does for LiteRT: the row's least and largest value, and 0, become -128 to 127.
static void quantize(int row, const float *in, int inputs) {
  v128_t lows = wasm_f32x4_splat(0), highs = lows;
  int whole = inputs & ~3;
  for (int k = 0; k < whole; k += 4) {
    lows = wasm_f32x4_pmin(lows, wasm_v128_load(in + k));
    highs = wasm_f32x4_pmax(highs, wasm_v128_load(in + k));
  }
  float low = 0, high = 0, least[4], largest[4];
  wasm_v128_store(least, lows);
  wasm_v128_store(largest, highs);
  for (int k = 0; k < 4; k++) {
    float rest = whole + k < inputs ? in[whole + k] : 0;
    low = least[k] < low ? least[k] : low;
    low = rest < low ? rest : low;
    high = largest[k] > high ? largest[k] : high;
    high = rest > high ? rest : high;
  }
  float scale = low == high ? 1 : 255 / (high - low);
  float from_low = low * scale, from_high = high * scale;
  float zero = (-128 + from_low) + (127 + from_high) > 0 ? -128 - from_low : 127 - from_high;
  zero = __builtin_rintf(zero < -128 ? -128 : zero > 127 ? 127 : zero);
  int16_t *out = quantized + row * stride;
  v128_t bottom = wasm_f32x4_splat(-128 - zero), top = wasm_f32x4_splat(127 - zero);
  for (int k = 0; k < inputs; k += 4) {
    v128_t value = wasm_f32x4_mul(wasm_v128_load(in + k), wasm_f32x4_splat(scale));
    value = wasm_f32x4_pmin(wasm_f32x4_pmax(wasm_f32x4_nearest(value), bottom), top);
    v128_t integers = wasm_i32x4_trunc_sat_f32x4(value);
    wasm_v128_store64_lane(out + k, wasm_i16x8_narrow_i32x4(integers, integers), 0);
  }
  for (int k = inputs; k < stride; k++) out[k] = 0;
  input_scales[row] = 1 / scale;
}

// Products of R rows with one block of eight outputs. R is a constant, so that loops unroll.
#define INLINE static inline __attribute__((always_inline))

INLINE void float_block(int R, const float *weights, int inputs, const float *const *in, float *out,
                        int padded) {
  v128_t left[4], right[4];
  for (int r = 0; r < R; r++) left[r] = right[r] = wasm_f32x4_splat(0);
  for (int k = 0; k < inputs; k++, weights += 8) {
    v128_t a = wasm_v128_load(weights), b = wasm_v128_load(weights + 4);
    for (int r = 0; r < R; r++) {
      v128_t x = wasm_v128_load32_splat(in[r] + k);
      left[r] = wasm_f32x4_add(left[r], wasm_f32x4_mul(x, a));
      right[r] = wasm_f32x4_add(right[r], wasm_f32x4_mul(x, b));
    }
  }
  for (int r = 0; r < R; r++) {
    wasm_v128_store(out + r * padded, left[r]);
    wasm_v128_store(out + r * padded + 4, right[r]);
  }
}

INLINE void int8_block(int R, const int8_t *weights, int inputs, const float *scales, int row,
                       float *out, int padded) {
  v128_t left[4], right[4];
  const int16_t *in = quantized + row * stride;
  for (int r = 0; r < R; r++) left[r] = right[r] = wasm_i32x4_splat(0);
  for (int k = 0; k < inputs; k += 2, weights += 16) {
    v128_t a = wasm_i16x8_load8x8(weights), b = wasm_i16x8_load8x8(weights + 8);
    for (int r = 0; r < R; r++) {
      v128_t x = wasm_v128_load32_splat(in + r * stride + k);
      left[r] = wasm_i32x4_add(left[r], wasm_i32x4_dot_i16x8(x, a));
      right[r] = wasm_i32x4_add(right[r], wasm_i32x4_dot_i16x8(x, b));
    }
  }
  for (int r = 0; r < R; r++) {
    v128_t scale = wasm_f32x4_splat(input_scales[row + r]);
    v128_t a = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(left[r]), scale);
    v128_t b = wasm_f32x4_mul(wasm_f32x4_convert_i32x4(right[r]), scale);
    wasm_v128_store(out + r * padded, wasm_f32x4_mul(a, wasm_v128_load(scales)));
    wasm_v128_store(out + r * padded + 4, wasm_f32x4_mul(b, wasm_v128_load(scales + 4)));
  }
}

INLINE void multiply_rows(int R, const Matrix *matrix, int row, const float *const *in,
                          float *out) {
  int padded = matrix->padded, inputs = matrix->inputs;
  for (int n = 0; n < padded; n += 8) {
    if (matrix->kind == INT8)
      int8_block(R, (const int8_t *)matrix->data + (size_t)n * ((inputs + 1) & ~1), inputs,
                 matrix->scales + n, row, out + row * padded + n, padded);
    else
      float_block(R, (const float *)matrix->data + (size_t)n * inputs, inputs, in + row,
                  out + row * padded + n, padded);
  }
}

void multiply(const Matrix *matrix, int rows, const float *const *in, float *out) {
  if (matrix->kind == INT8)
    for (int r = 0; r < rows; r++) quantize(r, in[r], matrix->inputs);
  int row = 0;
  for (; row + 4 <= rows; row += 4) multiply_rows(4, matrix, row, in, out);
  if (row + 2 <= rows) {
    multiply_rows(2, matrix, row, in, out);
    row += 2;
  }
  if (row < rows) multiply_rows(1, matrix, row, in, out);
}
