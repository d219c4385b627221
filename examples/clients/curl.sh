#!/bin/sh
# Every interface of `ruvltra serve` once. RUVLTRA_URL and RUVLTRA_KEY say which server.
set -eu
url=${RUVLTRA_URL:-http://127.0.0.1:8080}
ask() {  # ask PATH [JSON]
  echo "--- $1"
  if [ $# -gt 1 ]; then
    curl -sS --fail-with-body -H "Authorization: Bearer ${RUVLTRA_KEY:-local}" "$url$1" -d "$2"
  else
    curl -sS --fail-with-body -H "Authorization: Bearer ${RUVLTRA_KEY:-local}" "$url$1"
  fi
  echo
}

ask /health
ask /v1/models
ask /v1/chat/completions '{"messages": [{"role": "user", "content": "Tell me a story about a fox."}], "max_tokens": 32}'
# A stream of events; the last one is data: [DONE]
ask /v1/chat/completions '{"messages": [{"role": "user", "content": "And a crow?"}], "max_tokens": 16, "stream": true}'
# The answer has the form of the schema, whatever the model would rather say.
ask /v1/chat/completions '{"messages": [{"role": "user", "content": "Is a fox an animal?"}], "max_tokens": 64,
  "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema":
    {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": false}}}}'
ask /v1/embeddings '{"input": ["a fox", "a crow"], "dimensions": 8}'
ask /v1/messages '{"max_tokens": 32, "messages": [{"role": "user", "content": "Tell me a story about a fox."}]}'
ask /api/chat '{"model": "ruvltra-base", "stream": false, "options": {"num_predict": 32},
  "messages": [{"role": "user", "content": "Tell me a story about a fox."}]}'
ask /mcp '{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}'
ask /metrics
