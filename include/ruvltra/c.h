/* The C API: opaque handles, error codes, no exceptions. Stable: functions keep their meaning, structures
 * only grow at their end (struct_bytes says how much of one the caller knows).
 *
 * Every function that can fail returns a status; 0 is success. After a failure, ruvltra_last_error() of the
 * same thread tells what was expected and what was found. Output parameters are written on success only.
 * Handles of a model may be used from any thread, all others from one thread at a time. Strings are UTF-8 and
 * end with a zero byte; those returned belong to the handle they came from. */
#ifndef RUVLTRA_C_H
#define RUVLTRA_C_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum ruvltra_status {
  RUVLTRA_OK = 0,
  RUVLTRA_ERROR_INPUT = 1,       /* a file or request holds something invalid */
  RUVLTRA_ERROR_USAGE = 2,       /* a parameter is wrong */
  RUVLTRA_ERROR_IO = 3,          /* the system refused */
  RUVLTRA_ERROR_MEMORY = 4,      /* more memory needed than allowed or there */
  RUVLTRA_ERROR_UNSUPPORTED = 5, /* valid, but not for this build */
  RUVLTRA_ERROR_CANCELLED = 6,   /* stopped on request */
  RUVLTRA_ERROR_BUSY = 7,        /* not now: try again later */
  RUVLTRA_ERROR_INTERNAL = 8     /* a fault of the library */
} ruvltra_status;

typedef struct ruvltra_model ruvltra_model;
typedef struct ruvltra_generation ruvltra_generation;
typedef struct ruvltra_stream ruvltra_stream;

/* "0.1.0" */
const char* ruvltra_version(void);
/* One line for people, and a stable dotted name such as "request.too_long". Empty before the first failure.
 */
const char* ruvltra_last_error(void);
const char* ruvltra_last_error_id(void);

/* Zero or NULL members stand for the default. */
typedef struct ruvltra_model_options {
  size_t struct_bytes;    /* sizeof(ruvltra_model_options) */
  const char* profile;    /* "base", "coder", "agent" */
  int32_t context_length; /* longest prompt and answer together */
  int32_t n_threads;      /* physical cores */
  int32_t parallel;       /* requests computed together */
  const char* kv_type;    /* "f16", "q8_0" */
  uint64_t kv_bytes;      /* memory of the KV cache */
  uint64_t memory_limit_bytes;
  const char* isa;       /* "scalar", "avx2", ... */
  int32_t stream_tokens; /* a stream's reader may fall behind by so many before its answer waits */
} ruvltra_model_options;

/* options may be NULL. */
ruvltra_status ruvltra_model_load(const char* path, const ruvltra_model_options* options,
                                  ruvltra_model** model);
/* Waits for requests still running after cancelling them. Streams of the model must have been freed. */
void ruvltra_model_free(ruvltra_model* model);

/* *n_tokens is set to what the text needs, also when that is more than capacity (a usage error,
 * "c.capacity"). */
ruvltra_status ruvltra_tokenize(const ruvltra_model* model, const char* text, int parse_control,
                                int32_t* tokens, size_t capacity, size_t* n_tokens);

/* Filled with the model's own defaults by ruvltra_generate_params_init(). */
typedef struct ruvltra_generate_params {
  size_t struct_bytes;
  int32_t max_tokens;
  float temperature; /* 0 = greedy */
  float top_p;
  float min_p;
  int32_t top_k; /* 0 = off */
  float repeat_penalty;
  float presence_penalty;
  float frequency_penalty;
  int32_t has_seed; /* 0: one is drawn and reported */
  uint64_t seed;
  const char* const* stop; /* (n_stop) */
  size_t n_stop;
  int32_t n_logprobs;
  int32_t raw; /* the prompt is continued as it is, not answered as a chat message */
} ruvltra_generate_params;

void ruvltra_generate_params_init(const ruvltra_model* model, ruvltra_generate_params* params);

typedef struct ruvltra_message {
  const char* role; /* "system", "user", "assistant" */
  const char* content;
} ruvltra_message;

/* params may be NULL. Free the generation. */
ruvltra_status ruvltra_generate(ruvltra_model* model, const char* prompt,
                                const ruvltra_generate_params* params, ruvltra_generation** generation);
ruvltra_status ruvltra_chat(ruvltra_model* model, const ruvltra_message* messages, size_t n_messages,
                            const ruvltra_generate_params* params, ruvltra_generation** generation);

const char* ruvltra_generation_text(const ruvltra_generation* generation);
const char* ruvltra_generation_finish_reason(
    const ruvltra_generation* generation); /* "stop", "length", ... */
size_t ruvltra_generation_n_tokens(const ruvltra_generation* generation);
const int32_t* ruvltra_generation_tokens(const ruvltra_generation* generation);
/* Of token i; 0 without n_logprobs. */
double ruvltra_generation_logprob(const ruvltra_generation* generation, size_t i);
size_t ruvltra_generation_n_prompt(const ruvltra_generation* generation);
size_t ruvltra_generation_n_cached(const ruvltra_generation* generation);
uint64_t ruvltra_generation_seed(const ruvltra_generation* generation);
void ruvltra_generation_free(ruvltra_generation* generation);

/* The same, token by token. */
ruvltra_status ruvltra_stream_open(ruvltra_model* model, const char* prompt,
                                   const ruvltra_generate_params* params, ruvltra_stream** stream);
ruvltra_status ruvltra_stream_open_chat(ruvltra_model* model, const ruvltra_message* messages,
                                        size_t n_messages, const ruvltra_generate_params* params,
                                        ruvltra_stream** stream);
/* Waits for the next token. *text is what may be shown now, often empty; it stays until the next call. At the
 * end *text is NULL. What made an answer fail is the status of its last call. */
ruvltra_status ruvltra_stream_next(ruvltra_stream* stream, const char** text);
/* Reads to the end and gives the whole answer. Free the generation. */
ruvltra_status ruvltra_stream_wait(ruvltra_stream* stream, ruvltra_generation** generation);
void ruvltra_stream_cancel(ruvltra_stream* stream); /* from any thread */
void ruvltra_stream_free(ruvltra_stream* stream);   /* cancels what is not finished */

/* Length of an embedding. */
size_t ruvltra_embedding_size(const ruvltra_model* model);
/* The residual stream after `layer` (-1: the last), averaged over the text, in `values` (embedding size). */
ruvltra_status ruvltra_embed(ruvltra_model* model, const char* text, int32_t layer, float* values);

#ifdef __cplusplus
}
#endif

#endif
