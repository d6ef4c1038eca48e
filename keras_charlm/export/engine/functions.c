// exp, sigmoid and tanh of four floats at once, to about two units in the last place.
#include "engine.h"

static v128_t splat(float x) { return wasm_f32x4_splat(x); }

static v128_t times_plus(v128_t a, v128_t b, float c) {
  return wasm_f32x4_add(wasm_f32x4_mul(a, b), splat(c));
}

// Cephes's expf: e^x = 2^n e^r with |r| <= ln 2 / 2, and a polynomial for e^r.
v128_t exponential(v128_t x) {
  v128_t inside = wasm_f32x4_pmin(wasm_f32x4_pmax(x, splat(-87.3f)), splat(88.3f));
  v128_t n = wasm_f32x4_nearest(wasm_f32x4_mul(inside, splat(1.44269504f)));
  v128_t r = wasm_f32x4_sub(inside, wasm_f32x4_mul(n, splat(0.693359375f)));
  r = wasm_f32x4_sub(r, wasm_f32x4_mul(n, splat(-2.12194440e-4f)));
  v128_t p = splat(1.9875691500e-4f);
  p = times_plus(p, r, 1.3981999507e-3f);
  p = times_plus(p, r, 8.3334519073e-3f);
  p = times_plus(p, r, 4.1665795894e-2f);
  p = times_plus(p, r, 1.6666665459e-1f);
  p = times_plus(p, r, 5.0000001201e-1f);
  p = wasm_f32x4_add(wasm_f32x4_mul(p, wasm_f32x4_mul(r, r)), wasm_f32x4_add(r, splat(1)));
  v128_t power = wasm_i32x4_add(wasm_i32x4_trunc_sat_f32x4(n), wasm_i32x4_splat(127));
  v128_t value = wasm_f32x4_mul(p, wasm_i32x4_shl(power, 23));
  return wasm_v128_andnot(value, wasm_f32x4_lt(x, splat(-87.3f)));
}

v128_t sigmoid(v128_t x) {
  v128_t e = exponential(wasm_f32x4_neg(x));
  return wasm_f32x4_div(splat(1), wasm_f32x4_add(splat(1), e));
}

// Cephes's tanhf: near zero a polynomial, because 1 - 2 / (e^2x + 1) loses digits there.
v128_t hyperbolic_tangent(v128_t x) {
  v128_t size = wasm_f32x4_abs(x), z = wasm_f32x4_mul(x, x);
  v128_t e = exponential(wasm_f32x4_add(size, size));
  v128_t far = wasm_f32x4_sub(splat(1), wasm_f32x4_div(splat(2), wasm_f32x4_add(e, splat(1))));
  far = wasm_v128_or(far, wasm_v128_and(x, wasm_i32x4_splat((int)0x80000000)));
  v128_t p = splat(-5.70498872745e-3f);
  p = times_plus(p, z, 2.06390887954e-2f);
  p = times_plus(p, z, -5.37397155531e-2f);
  p = times_plus(p, z, 1.33314422036e-1f);
  p = times_plus(p, z, -3.33332819422e-1f);
  v128_t near = wasm_f32x4_add(x, wasm_f32x4_mul(wasm_f32x4_mul(p, z), x));
  return wasm_v128_bitselect(near, far, wasm_f32x4_lt(size, splat(0.625f)));
}
