// Drawing a character from logits, with seeded random numbers: the functions of
// network/sampling.py, with the same order of additions, so that a seed draws the same text.
#include "engine.h"

static uint32_t mix(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x85EBCA6Bu;
  x = (x ^ (x >> 13)) * 0xC2B2AE35u;
  return x ^ (x >> 16);
}

float uniform(uint32_t seed, uint32_t position) {
  uint32_t key = mix((seed * 0x9E3779B1u) ^ 0x7F4A7C15u);
  uint32_t bits = mix(mix(key ^ (position * 0xC2B2AE3Du)) + key);
  return (float)(bits >> 8) * 0x1p-24f;
}

static float *weights, *below;  // (symbols,) each, rounded up to a multiple of 4
static uint64_t *heap;          // (symbols,)

int prepare_draw(int symbols) {
  size_t bytes = ((size_t)symbols + 4) * sizeof(float);
  weights = allocate(bytes);
  below = allocate(bytes);
  heap = allocate(2 * bytes);
  return weights && below && heap;
}

static void sift(int at, int size) {
  uint64_t item = heap[at];
  for (int child; (child = 2 * at + 1) < size; at = child) {
    if (child + 1 < size && heap[child + 1] < heap[child]) child++;
    if (item <= heap[child]) break;
    heap[at] = heap[child];
  }
  heap[at] = item;
}

// A key that is smaller for larger values, and for equal values smaller for the first.
static uint64_t key(float value, int index) {
  union { float value; uint32_t bits; } number = {value + 0.0f};  // -0 becomes 0
  uint32_t rising = number.bits & 0x80000000u ? ~number.bits : number.bits | 0x80000000u;
  return (uint64_t)~rising << 32 | (uint32_t)index;
}

// Sorts the `kept` largest values to the front of `heap`'s end: the i-th is heap[size - 1 - i].
static void sort(const float *values, int size, int kept) {
  for (int i = 0; i < size; i++) heap[i] = key(values[i], i);
  for (int i = size / 2 - 1; i >= 0; i--) sift(i, size);
  for (int i = size - 1; i >= size - kept && i > 0; i--) {
    uint64_t first = heap[0];
    heap[0] = heap[i];
    heap[i] = first;
    sift(0, i);
  }
}

static int count_below(int count, float limit, int or_equal) {
  int i = 0;
  while (i < count && (below[i] < limit || (or_equal && below[i] == limit))) i++;
  return i;
}

int draw(const float *logits, int symbols, float uniform, const Settings *settings) {
  const float *known = logits + 1;  // the unknown symbol is never drawn
  int size = symbols - 1, greedy = settings->temperature == 0;
  float divisor = greedy ? 1 : settings->temperature, largest = known[0];
  int kept = greedy ? 1 : settings->top_k <= 0 || settings->top_k > size ? size : settings->top_k;
  int sorted = kept < size || settings->top_p < 1 || settings->min_p > 0;
  for (int i = 1; i < size; i++) largest = known[i] > largest ? known[i] : largest;
  if (sorted) sort(known, size, kept);
  for (int i = 0; i < kept; i++) {
    float value = sorted ? known[(uint32_t)heap[size - 1 - i]] : known[i];
    weights[i] = (value - largest) / divisor;
  }
  for (int i = 0; i < kept; i += 4)
    wasm_v128_store(weights + i, exponential(wasm_v128_load(weights + i)));
  float mass = 0;
  for (int i = 0; i < kept; i++) below[i] = mass += weights[i];
  int last = count_below(kept, settings->top_p * mass, 0);
  if (last >= kept) last = kept - 1;
  while (last > 0 && weights[last] < settings->min_p) last--;  // the most likely one weighs 1
  int index = count_below(last, uniform * below[last], 1);
  return (int)(sorted ? (uint32_t)heap[size - 1 - index] : (uint32_t)index) + 1;
}
