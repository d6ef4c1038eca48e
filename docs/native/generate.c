/* Generates text with a model.tflite of keras_charlm and LiteRT's C interface alone.
 *
 *     gcc -O2 generate.c -o generate -L DIR -l:libLiteRt.so -Wl,-rpath,DIR
 *     ./generate model.tflite "Once upon" 1          # prompt, seed
 *     ./generate --lines model.tflite "Mar" 1        # for a list: up to the end of the line
 *     ./generate --lines --rule a.rule model.tflite "" 1    # a line that fits a rule
 *
 * DIR has libLiteRt.so: the folder of the Python package ai_edge_litert, or LiteRT's own release
 * for other systems; 2.1.6 is the oldest that fits. The declarations below are those of LiteRT 2.3's
 * headers (its folder litert/c), so that this file builds without them.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct LiteRtEnvironmentT *LiteRtEnvironment;
typedef struct LiteRtModelT *LiteRtModel;
typedef struct LiteRtSignatureT *LiteRtSignature;
typedef struct LiteRtTensorT *LiteRtTensor;
typedef struct LiteRtOptionsT *LiteRtOptions;
typedef struct LiteRtCompiledModelT *LiteRtCompiledModel;
typedef struct LiteRtTensorBufferT *LiteRtTensorBuffer;
typedef struct LiteRtTensorBufferRequirementsT *LiteRtTensorBufferRequirements;
typedef struct { uint32_t element_type, layout[17]; } LiteRtRankedTensorType; /* only passed on */
typedef int LiteRtStatus;
enum { CPU = 1, READ_LOCK = 0, WRITE_LOCK = 1 };

LiteRtStatus LiteRtCreateEnvironment(int options, const void *, LiteRtEnvironment *);
LiteRtStatus LiteRtCreateModelFromFile(LiteRtEnvironment, const char *path, LiteRtModel *);
LiteRtStatus LiteRtGetNumModelSignatures(LiteRtModel, size_t *);
LiteRtStatus LiteRtGetModelSignature(LiteRtModel, size_t, LiteRtSignature *);
LiteRtStatus LiteRtGetSignatureKey(LiteRtSignature, const char **);
LiteRtStatus LiteRtGetNumSignatureInputs(LiteRtSignature, size_t *);
LiteRtStatus LiteRtGetNumSignatureOutputs(LiteRtSignature, size_t *);
LiteRtStatus LiteRtGetSignatureInputName(LiteRtSignature, size_t, const char **);
LiteRtStatus LiteRtGetSignatureOutputName(LiteRtSignature, size_t, const char **);
LiteRtStatus LiteRtGetSignatureInputTensorByIndex(LiteRtSignature, size_t, LiteRtTensor *);
LiteRtStatus LiteRtGetSignatureOutputTensorByIndex(LiteRtSignature, size_t, LiteRtTensor *);
LiteRtStatus LiteRtGetRankedTensorType(LiteRtTensor, LiteRtRankedTensorType *);
LiteRtStatus LiteRtCreateOptions(LiteRtOptions *);
LiteRtStatus LiteRtSetOptionsHardwareAccelerators(LiteRtOptions, int);
LiteRtStatus LiteRtCreateCompiledModel(LiteRtEnvironment, LiteRtModel, LiteRtOptions,
                                       LiteRtCompiledModel *);
LiteRtStatus LiteRtGetCompiledModelInputBufferRequirements(
    LiteRtCompiledModel, size_t signature, size_t input, LiteRtTensorBufferRequirements *);
LiteRtStatus LiteRtGetCompiledModelOutputBufferRequirements(
    LiteRtCompiledModel, size_t signature, size_t output, LiteRtTensorBufferRequirements *);
LiteRtStatus LiteRtCreateManagedTensorBufferFromRequirements(
    LiteRtEnvironment, const LiteRtRankedTensorType *, LiteRtTensorBufferRequirements,
    LiteRtTensorBuffer *);
LiteRtStatus LiteRtGetTensorBufferPackedSize(LiteRtTensorBuffer, size_t *bytes);
LiteRtStatus LiteRtLockTensorBuffer(LiteRtTensorBuffer, void **, int mode);
LiteRtStatus LiteRtUnlockTensorBuffer(LiteRtTensorBuffer);
LiteRtStatus LiteRtRunCompiledModel(LiteRtCompiledModel, size_t signature, size_t inputs,
                                    LiteRtTensorBuffer *, size_t outputs, LiteRtTensorBuffer *);
void LiteRtDestroyTensorBuffer(LiteRtTensorBuffer);
void LiteRtDestroyCompiledModel(LiteRtCompiledModel);
void LiteRtDestroyOptions(LiteRtOptions);
void LiteRtDestroyModel(LiteRtModel);
void LiteRtDestroyEnvironment(LiteRtEnvironment);

static void fail(const char *what, const char *why) {
  fprintf(stderr, "generate: %s: %s\n", what, why);
  exit(1);
}

static void check(LiteRtStatus status, const char *call) {
  if (!status) return;
  fprintf(stderr, "generate: LiteRT's status is %d for %s\n", status, call);
  exit(1);
}

#define TRY(call) check(call, #call)

/* A signature with its tensors; every element is four bytes wide. */
enum { MOST = 24 };
typedef struct {
  size_t count;
  const char *names[MOST];
  LiteRtTensorBuffer buffers[MOST];
} Tensors;

static LiteRtEnvironment environment;
static LiteRtModel model;
static LiteRtCompiledModel compiled;
static size_t signature;
static Tensors inputs, outputs;

static LiteRtTensorBuffer find(Tensors *tensors, const char *name) {
  for (size_t i = 0; i < tensors->count; i++)
    if (!strcmp(tensors->names[i], name)) return tensors->buffers[i];
  fail("the model has no tensor", name);
  return NULL;
}

static size_t width(Tensors *tensors, const char *name) {
  size_t bytes;
  TRY(LiteRtGetTensorBufferPackedSize(find(tensors, name), &bytes));
  return bytes / 4;
}

static void put(const char *name, const void *values, size_t count) {
  void *memory;
  LiteRtTensorBuffer buffer = find(&inputs, name);
  TRY(LiteRtLockTensorBuffer(buffer, &memory, WRITE_LOCK));
  memset(memory, 0, 4 * width(&inputs, name));
  memcpy(memory, values, 4 * count);
  TRY(LiteRtUnlockTensorBuffer(buffer));
}

static void put_int(const char *name, int32_t value) { put(name, &value, 1); }

static void put_float(const char *name, float value) { put(name, &value, 1); }

static void get(const char *name, void *values, size_t count) {
  void *memory;
  LiteRtTensorBuffer buffer = find(&outputs, name);
  TRY(LiteRtLockTensorBuffer(buffer, &memory, READ_LOCK));
  memcpy(values, memory, 4 * count);
  TRY(LiteRtUnlockTensorBuffer(buffer));
}

static void open_model(const char *path, const char *name) {
  LiteRtSignature found;
  LiteRtOptions options;
  size_t signatures;
  TRY(LiteRtCreateEnvironment(0, NULL, &environment));
  TRY(LiteRtCreateModelFromFile(environment, path, &model));
  TRY(LiteRtGetNumModelSignatures(model, &signatures));
  for (signature = 0; signature < signatures; signature++) {
    const char *key;
    TRY(LiteRtGetModelSignature(model, signature, &found));
    TRY(LiteRtGetSignatureKey(found, &key));
    if (!strcmp(key, name)) break;
  }
  if (signature == signatures) fail("the model has no signature", name);
  TRY(LiteRtCreateOptions(&options));
  TRY(LiteRtSetOptionsHardwareAccelerators(options, CPU));
  TRY(LiteRtCreateCompiledModel(environment, model, options, &compiled));
  LiteRtDestroyOptions(options);

  LiteRtTensor tensor;
  LiteRtRankedTensorType type;
  LiteRtTensorBufferRequirements needs;
  TRY(LiteRtGetNumSignatureInputs(found, &inputs.count));
  TRY(LiteRtGetNumSignatureOutputs(found, &outputs.count));
  if (inputs.count > MOST || outputs.count > MOST) fail(path, "it has too many tensors");
  for (size_t i = 0; i < inputs.count; i++) {
    TRY(LiteRtGetSignatureInputName(found, i, &inputs.names[i]));
    TRY(LiteRtGetSignatureInputTensorByIndex(found, i, &tensor));
    TRY(LiteRtGetRankedTensorType(tensor, &type));
    TRY(LiteRtGetCompiledModelInputBufferRequirements(compiled, signature, i, &needs));
    TRY(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs,
                                                        &inputs.buffers[i]));
  }
  for (size_t i = 0; i < outputs.count; i++) {
    TRY(LiteRtGetSignatureOutputName(found, i, &outputs.names[i]));
    TRY(LiteRtGetSignatureOutputTensorByIndex(found, i, &tensor));
    TRY(LiteRtGetRankedTensorType(tensor, &type));
    TRY(LiteRtGetCompiledModelOutputBufferRequirements(compiled, signature, i, &needs));
    TRY(LiteRtCreateManagedTensorBufferFromRequirements(environment, &type, needs,
                                                        &outputs.buffers[i]));
  }
}

static void close_model(void) {
  for (size_t i = 0; i < inputs.count; i++) LiteRtDestroyTensorBuffer(inputs.buffers[i]);
  for (size_t i = 0; i < outputs.count; i++) LiteRtDestroyTensorBuffer(outputs.buffers[i]);
  LiteRtDestroyCompiledModel(compiled);
  LiteRtDestroyModel(model);
  LiteRtDestroyEnvironment(environment);
}

/* Gives the model a rule, a file of kcharlm export --to rule; numbers in it are little-endian. */
static void load_rule(const char *path) {
  enum { HEADER = 7, MAGIC = 0x454C5552 };
  size_t symbols = width(&inputs, "classes"), most = width(&inputs, "moves");
  int32_t *numbers = calloc(HEADER + symbols + most, sizeof *numbers);
  FILE *file = fopen(path, "rb");
  if (!file || !numbers) fail(path, "it cannot be read");
  size_t count = fread(numbers, sizeof *numbers, HEADER + symbols + most, file);
  fclose(file);
  if (count < HEADER || numbers[0] != MAGIC || numbers[1] != 1) fail(path, "it is no rule file");
  if ((size_t)numbers[3] != symbols) fail(path, "it is for a model with another vocabulary");
  count -= HEADER + symbols;
  if (numbers[4] < 1 || numbers[5] < 1 || count > most || count / numbers[5] != (size_t)numbers[4])
    fail(path, "it is damaged");
  put("classes", numbers + HEADER, symbols);
  put("moves", numbers + HEADER + symbols, count);
  put_int("width", numbers[5]);
  free(numbers);
}

/* Reads `count` characters, draws `length` more and leaves the new state in `state`. */
static void generate(const int32_t *text, size_t count, int32_t position, int32_t length,
                     float *state, size_t state_size) {
  put("text", text, count);
  put_int("text_length", (int32_t)count);
  put_int("position", position);
  put_int("length", length);
  put("state", state, state_size);
  TRY(LiteRtRunCompiledModel(compiled, signature, inputs.count, inputs.buffers, outputs.count,
                             outputs.buffers));
  get("state", state, state_size);
}

/* One code point of UTF-8; a stray byte stands for itself, and the model will not know it. */
static const char *decode(const char *text, int32_t *code) {
  unsigned char first = (unsigned char)*text++;
  int more = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : first >= 0xC0 ? 1 : 0;
  *code = more ? first & (0x3F >> more) : first;
  for (; more && (*text & 0xC0) == 0x80; more--) *code = *code << 6 | (*text++ & 0x3F);
  return text;
}

static void print(int32_t code) {
  if (code < 0x80) {
    putchar(code);
    return;
  }
  int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  putchar((0xF0 << (3 - more) & 0xFF) | code >> 6 * more);
  while (more--) putchar(0x80 | (code >> 6 * more & 0x3F));
}

int main(int argc, char **argv) {
  int lines = argc > 1 && !strcmp(argv[1], "--lines");
  argc -= lines, argv += lines;
  const char *rule = argc > 2 && !strcmp(argv[1], "--rule") ? argv[2] : NULL;
  if (rule) argc -= 2, argv += 2;
  if (argc != 4) {
    fprintf(stderr, "usage: generate [--lines] [--rule FILE] MODEL PROMPT SEED\n");
    return 2;
  }
  open_model(argv[1], rule ? "constrained" : "generate");
  if (rule) load_rule(rule);

  /* A line begins after a newline, and so does a text without a prompt. */
  const char *prompt = argv[2];
  int32_t *codes = calloc(strlen(prompt) + 1, sizeof *codes);
  size_t count = 0, at = 0;
  if (!codes) fail("prompt", "out of memory");
  codes[count++] = '\n';
  while (*prompt) prompt = decode(prompt, &codes[count++]);

  /* The other rows of `constrained` have a text_length of 0: they are idle. */
  size_t rows = width(&inputs, "text_length");
  size_t state_size = width(&inputs, "state") / rows, read = width(&inputs, "text") / rows;
  float *state = calloc(state_size, sizeof *state); /* all zeros before a text */
  if (!state) fail("state", "out of memory");
  put_int("seed", atoi(argv[3]));
  put_int("stop", lines ? '\n' : -1);
  put_float("temperature", 0.8f);
  put_int("top_k", 0);
  put_float("top_p", 1.0f);
  put_float("min_p", 0.0f);
  if (rule) put_int("patience", 256), put_int("mask", !lines);
  fputs(argv[2], stdout);

  /* A call reads all of its text but the last character, which begins the next call's. */
  for (; count - at > read; at += read - 1) generate(codes + at, read, 0, 0, state, state_size);
  int32_t most = (int32_t)(width(&outputs, "text") / rows), longest = lines ? 1000 : 500;
  int32_t *drawn = calloc((size_t)most, sizeof *drawn), lengths, steps, done = 0, position = 0;
  if (!drawn) fail("text", "out of memory");
  for (int32_t shown = 0; shown < longest && !done; position += steps) {
    steps = longest - shown < most ? longest - shown : most;
    generate(codes + at, count - at, position, steps, state, state_size);
    get("text", drawn, (size_t)most);
    get("lengths", &lengths, 1);
    if (lengths < 0) fail(argv[1], "a setting is out of range");
    get("done", &done, 1);
    if (rule) get("steps", &steps, 1);
    if (rule && !steps) fail(rule, "no text that begins with the prompt fits it");
    for (int32_t i = 0; i < lengths; i++) print(drawn[i]);
    fflush(stdout); /* a long text is shown as it is drawn */
    codes[0] = lengths ? drawn[lengths - 1] : codes[count - 1];
    at = 0, count = 1;
    shown += lengths;
    /* What was shown stays; and what rarely fits must not take forever. */
    if (rule && (shown || position > 10000)) put_int("mask", 1);
  }
  putchar('\n');
  free(drawn), free(state), free(codes);
  close_model();
  return 0;
}
