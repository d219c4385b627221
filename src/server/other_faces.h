// Anthropic's and Ollama's routes.
#pragma once

#include "server/service.h"

namespace ruvltra {

Handled anthropic_messages(Call& call);
Handled anthropic_count_tokens(Call& call);

Handled ollama_chat(Call& call);
Handled ollama_generate(Call& call);
Handled ollama_embed(Call& call);
Handled ollama_embeddings(Call& call);
Handled ollama_tags(Call& call);
Handled ollama_show(Call& call);
Handled ollama_ps(Call& call);
Handled ollama_version(Call& call);

}  // namespace ruvltra
