// An answer of the engine on its way to a client: the one pump behind every face. It reads the engine's
// events as they come, lets a presenter turn them into the face's form, and ends the work when the client
// goes away.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ruvltra/types.h"
#include "server/service.h"

namespace ruvltra {

// What several streams of one exchange have used.
struct Usage {
  size_t n_prompt = 0, n_cached = 0, n_completion = 0, n_drafted = 0, n_accepted = 0;
};

// One face's form of an answer. Choices are numbered through all prompts: prompt x n + choice. A presenter
// is used by one thread at a time.
class Presenter {
 public:
  virtual ~Presenter() = default;
  // Before anything else: the ids of the requests (one per prompt) and what they were drawn with.
  virtual void begin(std::span<const Stream> streams) = 0;

  // In pieces; what is returned is sent.
  virtual std::string content_type() const { return "text/event-stream"; }
  virtual std::string opening() { return {}; }
  virtual std::string progress(const PromptProgress&) { return {}; }
  // `event` is of choice `choice`; its final one has a generation.
  virtual std::string piece(size_t choice, const Event& event) = 0;
  virtual std::string closing(const Usage& usage) = 0;
  // In place of what is still to come.
  virtual std::string failure(const Error& error) = 0;
  virtual std::string_view ping() const { return ": ping\n\n"; }

  // In one piece.
  virtual Result<HttpResponse> whole(std::span<const Generation> generations, const Usage& usage) = 0;
};

struct AnswerOrder {
  std::vector<Request> requests;  // one per prompt
  bool streamed = false;
  bool with_progress = false;
  std::string preview;
  std::string id_prefix;  // of the response: "chatcmpl-"
};

// Submits the requests and begins to pump. Errors: those of Engine::stream, before anything is sent.
Handled answer(Call& call, AnswerOrder order, std::unique_ptr<Presenter> presenter);

// "timeout" is told as "length", as nothing else is known to clients.
std::string_view finish_reason(const Generation& generation);
// The beginning of a text, whole code points.
std::string preview_of(std::string_view text);
Json timings_json(const Generation& generation);
Json usage_json(const Usage& usage);

}  // namespace ruvltra
