// Draws texts in many rows at once. The host fills the input arrays (see `address`), calls `generate`
// or `constrained`, and reads the output arrays: those of the signatures in export/graph.py.
#include "engine.h"

enum { READ = 64, DRAW = 64, LINE = 256, ENTRIES = 65536 };
static const float NEVER = -1e30f;  // the logit of a character that does not fit a rule

static int32_t text[ROWS * READ], text_length[ROWS], seed[ROWS], position[ROWS];
static int32_t drawn[ROWS * LINE], lengths[ROWS], done[ROWS], steps[ROWS];
static int32_t *classes, moves[ENTRIES], rule_state[ROWS];  // see generation/tables.py
static float *first;                                        // states where rows begin again
static int width;                                           // classes of the rule; 0 without one

EXPORT(address) void *address(int array) {
  void *arrays[] = {text, text_length, seed,    position, state, drawn,
                    lengths, done,     classes, moves,    rule_state, steps};
  return arrays[array];
}

int prepare_rules(int symbols) {
  classes = allocate((size_t)symbols * sizeof(int32_t));
  first = allocate((size_t)ROWS * state_size * sizeof(float));
  return classes && first;
}

// What a symbol leads to from a state of the rule; negative if it does not fit.
static int move(int from, int id) {
  int64_t index = (int64_t)from * width + classes[id];
  return moves[index < 0 ? 0 : index >= ENTRIES ? ENTRIES - 1 : index];
}

// The rule's state after a symbol. Labels, whose ids follow those of the symbols, leave it.
static int after(int from, int id) {
  int to = id < symbols() ? move(from, id) : from;
  return to < 0 ? -1 - to : to;
}

static void step(int count, const int *rows, const int *ids) {
  advance(count, rows, ids);
  for (int r = 0; width && r < count; r++) rule_state[rows[r]] = after(rule_state[rows[r]], ids[r]);
}

// Reads every row's text up to its last character, whose id is returned in `last`.
static void read_text(int rows, int *last) {
  int active[ROWS], ids[ROWS];
  for (int r = 0; r < rows; r++) {
    if (text_length[r] > READ) text_length[r] = READ;
    lengths[r] = steps[r] = 0;
    done[r] = text_length[r] <= 0;
  }
  for (int t = 0, count = 1; count; t++) {
    count = 0;
    for (int r = 0; r < rows; r++) {
      int id = t < text_length[r] ? id_of(text[r * READ + t]) : 0;
      if (t == text_length[r] - 1) last[r] = id;
      if (t >= text_length[r] - 1) continue;
      active[count] = r;
      ids[count++] = id;
    }
    if (count) step(count, active, ids);
  }
}

// Shortens the drawn rows to `most` columns and fills them up with -1.
static void finish(int rows, int most) {
  for (int r = 0; r < rows; r++)
    for (int n = 0; n < most; n++)
      drawn[r * most + n] = n < lengths[r] ? drawn[r * LINE + n] : -1;
}

EXPORT(generate)
void generate(int rows, int length, int stop, float temperature, int top_k, float top_p,
              float min_p) {
  const Settings settings = {temperature, top_p, min_p, top_k};
  int last[ROWS], active[ROWS], ids[ROWS], count = 0, end = id_of(stop);
  width = 0;
  if (rows > ROWS) rows = ROWS;
  if (length > DRAW) length = DRAW;
  read_text(rows, last);
  for (int r = 0; r < rows; r++)
    if (!done[r]) active[count++] = r;
  for (int n = 0; n < length && count; n++) {
    for (int r = 0; r < count; r++) ids[r] = last[active[r]];
    step(count, active, ids);
    project(count, active);
    int going = 0;
    for (int r = 0; r < count; r++) {
      int row = active[r];
      float random = uniform((uint32_t)seed[row], (uint32_t)(position[row] + n));
      last[row] = draw(logits + r * logits_width, symbols(), random, &settings);
      if (last[row] == end) {
        done[row] = 1;
        continue;
      }
      drawn[row * LINE + lengths[row]++] = code_of(last[row]);
      active[going++] = row;
    }
    count = going;
  }
  finish(rows, DRAW);
}

static int has_fitting(int from) {
  for (int id = 0; id < symbols(); id++)
    if (move(from, id) >= 0) return 1;
  return 0;
}

// Draws the n-th character of a row; returns whether the row goes on.
static int draw_fitting(int row, int n, float *row_logits, int mask, int end, int length,
                        int patience, int begin, int begin_rule, const Settings *settings,
                        int *before) {
  int from = rule_state[row];
  for (int id = 0; mask && id < symbols(); id++)
    if (move(from, id) < 0) row_logits[id] = NEVER;
  float random = uniform((uint32_t)seed[row], (uint32_t)(position[row] + n));
  int chosen = draw(row_logits, symbols(), random, settings);
  steps[row] = n + 1;
  if (move(from, chosen) < 0) {  // begins again
    size_t at = (size_t)row * state_size;
    __builtin_memcpy(state + at, first + at, (size_t)state_size * sizeof(float));
    rule_state[row] = begin_rule;
    lengths[row] = 0;
    *before = begin;
    return n + 1 < patience;
  }
  if (chosen == end) {
    done[row] = 1;
    return 0;
  }
  drawn[row * LINE + lengths[row]++] = code_of(chosen);
  *before = chosen;
  return lengths[row] < length;
}

EXPORT(constrained)
void constrained(int rows, int length, int stop, float temperature, int top_k, float top_p,
                 float min_p, int rule_width, int mask, int patience) {
  const Settings settings = {temperature, top_p, min_p, top_k};
  int last[ROWS], before[ROWS], begin_rule[ROWS], active[ROWS], ids[ROWS], count = 0;
  int end = id_of(stop);
  width = rule_width;
  mask |= temperature == 0 || top_k == 1;  // beginning again would draw the same text
  if (rows > ROWS) rows = ROWS;
  if (length > LINE) length = LINE;
  read_text(rows, last);
  __builtin_memcpy(first, state, (size_t)rows * state_size * sizeof(float));
  for (int r = 0; r < rows; r++) {
    begin_rule[r] = rule_state[r];
    if (done[r]) continue;
    before[r] = last[r];
    done[r] = !has_fitting(after(rule_state[r], last[r]));
    if (!done[r] && length > 0) active[count++] = r;
  }
  for (int n = 0; count; n++) {
    for (int r = 0; r < count; r++) ids[r] = before[active[r]];
    step(count, active, ids);
    project(count, active);
    int going = 0;
    for (int r = 0; r < count; r++) {
      int row = active[r];
      if (draw_fitting(row, n, logits + r * logits_width, mask, end, length, patience, last[row],
                       begin_rule[row], &settings, &before[row]))
        active[going++] = row;
    }
    count = going;
  }
  finish(rows, LINE);
}
