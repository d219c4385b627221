// What the faces of completions have in common: which model, how it is drawn, for whom.
#pragma once

#include <optional>
#include <string>

#include "ruvltra/types.h"
#include "server/service.h"

namespace ruvltra {

struct Order {
  std::string model;    // as the client named it
  std::string profile;  // base, coder, agent
  GenerateParams params;
  Treatment treatment;
  std::optional<uint64_t> adapter;
  bool stream = false, include_usage = false, return_progress = false, return_drafted = false;
  bool sona_options = false;  // a client of @claude-flow/providers, which wants more in its stream
  bool bank = false;
};

// The fields of interfaces.md section 2.3 of the design that all completions know, with the presets of the
// profile for those that are absent. Errors: request.field; model_not_found.
Result<Order> read_order(Call& call, const Json& body);

// The profile a model's name stands for: the server's own for the loaded model and its aliases. Error:
// model_not_found.
Result<std::string> profile_of_model(const Service& service, const std::string& model);

// One string, or an array of them, at most 16 of 1..256 bytes. Error: request.field.
Result<std::vector<std::string>> read_stop(const Json& body, std::string_view name = "stop");

// The sampling of a profile.
Result<SamplingParams> profile_sampling(const std::string& profile);

}  // namespace ruvltra
