/* Answers a question with the C API, showing the text as it comes:
 *   generate MODEL.gguf "Tell me a story about a fox and a crow." */
#include <ruvltra/c.h>
#include <stdio.h>

static int report(const char* what) {
  fprintf(stderr, "%s: %s (%s)\n", what, ruvltra_last_error(), ruvltra_last_error_id());
  return 1;
}

static int answer(ruvltra_model* model, const char* prompt) {
  ruvltra_generate_params params;
  ruvltra_generate_params_init(model, &params);
  params.max_tokens = 64;
  params.has_seed = 1;
  params.seed = 7;

  ruvltra_stream* stream = NULL;
  if (ruvltra_stream_open(model, prompt, &params, &stream) != RUVLTRA_OK) return report("open");
  const char* text = NULL;
  ruvltra_status status;
  while ((status = ruvltra_stream_next(stream, &text)) == RUVLTRA_OK && text != NULL) {
    fputs(text, stdout);
    fflush(stdout);
  }
  putchar('\n');
  ruvltra_generation* generation = NULL;
  if (status == RUVLTRA_OK) status = ruvltra_stream_wait(stream, &generation);
  if (status != RUVLTRA_OK) {
    ruvltra_stream_free(stream);
    return report("answer");
  }
  fprintf(stderr, "%zu tokens, %s\n", ruvltra_generation_n_tokens(generation),
          ruvltra_generation_finish_reason(generation));
  ruvltra_generation_free(generation);
  ruvltra_stream_free(stream);
  return 0;
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL.gguf PROMPT\n", argv[0]);
    return 2;
  }
  ruvltra_model_options options = {0};
  options.struct_bytes = sizeof options;
  options.context_length = 1024;
  ruvltra_model* model = NULL;
  if (ruvltra_model_load(argv[1], &options, &model) != RUVLTRA_OK) return report("load");
  const int code = answer(model, argv[2]);
  ruvltra_model_free(model);
  return code;
}
