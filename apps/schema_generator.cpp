#include "schema_generator.h"

#include <array>
#include <random>
#include <string>

namespace ruvltra {
namespace {

constexpr std::array kNames = {"name", "age",       "the king", "fox",  "crow",
                               "note", "caf\u00e9", "a\"b",     "list", "kind"};
constexpr int kDeepest = 3;

class Generator {
 public:
  explicit Generator(uint64_t number) : random_(number) {}

  Json document() {
    Json schema = value(0);
    if (!uses_node_) return schema;
    // A list of nodes, each of which may refer to the next.
    Json node = {{"type", "object"}};
    node["properties"]["v"] = scalar();
    node["properties"]["next"] = {{"anyOf", Json::array({{{"type", "null"}}, {{"$ref", "#/$defs/node"}}})}};
    node["required"] = Json::array({"v", "next"});
    Json out = schema.is_object() ? schema : Json{{"allOf", Json::array({schema})}};
    out["$defs"]["node"] = node;
    return out;
  }

 private:
  // The standard leaves distributions to the implementation; a remainder is the same everywhere.
  int below(int n) { return static_cast<int>(random_() % static_cast<uint64_t>(n)); }
  bool chance(int percent) { return below(100) < percent; }

  Json value(int depth) {
    Json out;
    switch (below(depth >= kDeepest ? 6 : 13)) {
      case 6:
      case 7:
      case 8:
        out = object(depth);
        break;
      case 9:
      case 10:
        out = array(depth);
        break;
      case 11:
        out = chance(50) ? choice(depth) : all_of(depth);
        break;
      case 12:
        uses_node_ = true;
        return {{"$ref", "#/$defs/node"}};
      default:
        out = scalar();
    }
    if (chance(20)) out["description"] = "what it means";
    if (out.contains("type") && out["type"].is_string() && chance(8)) out["nullable"] = true;
    return out;
  }

  Json scalar() {
    switch (below(7)) {
      case 0:
        return bounded(chance(70) ? "integer" : "number");
      case 1:
        return {{"enum", Json::array({"red", "green", "bl\u00fce", 12, 1, true, nullptr, 1.5})}};
      case 2:
        return {{"const", kNames[static_cast<size_t>(below(kNames.size()))]}};
      case 3:
        return {{"type", "boolean"}};
      case 4:
        return {{"type", Json::array({"integer", "null"})}};
      default:
        return text();
    }
  }

  Json text() {
    Json out = {{"type", "string"}, {"maxLength", 1 + below(24)}};
    if (chance(30)) out["minLength"] = below(1 + out["maxLength"].get<int>());
    return out;
  }

  Json bounded(const char* type) {
    Json out = {{"type", type}};
    const int least = below(400) - 200;
    if (chance(60)) out["minimum"] = least;
    if (chance(60)) out["maximum"] = least + below(500);
    return out;
  }

  Json object(int depth) {
    Json out = {{"type", "object"}};
    const int n = below(5), first = below(kNames.size());
    for (int i = 0; i < n; ++i) {
      const std::string name = kNames[static_cast<size_t>(first + i) % kNames.size()];
      out["properties"][name] = value(depth + 1);
      if (chance(60)) out["required"].push_back(name);
    }
    if (chance(30)) out["additionalProperties"] = chance(50) ? Json(false) : text();
    return out;
  }

  Json array(int depth) {
    Json out = {{"type", "array"}, {"maxItems", 1 + below(4)}};
    if (chance(80)) out["items"] = value(depth + 1);
    if (chance(30)) out["prefixItems"] = Json::array({value(depth + 1), scalar()});
    if (chance(40)) out["minItems"] = below(1 + out["maxItems"].get<int>());
    return out;
  }

  Json choice(int depth) {
    Json out;
    Json branches = Json::array();
    for (int i = 2 + below(2); i > 0; --i) branches.push_back(value(depth + 1));
    out["anyOf"] = branches;
    return out;
  }

  // Two halves of an object.
  Json all_of(int depth) {
    Json first = {{"type", "object"}}, second = {{"type", "object"}};
    first["properties"]["first"] = value(depth + 1);
    second["properties"]["second"] = scalar();
    second["required"] = Json::array({"second"});
    Json out;
    out["allOf"] = Json::array({first, second});
    // Exactly one holds: the kinds differ.
    if (chance(30)) {
      first["properties"]["kind"] = {{"const", "one"}};
      second["properties"]["kind"] = {{"const", "two"}};
      first["required"] = second["required"] = Json::array({"kind"});
      Json either;
      either["oneOf"] = Json::array({first, second});
      return either;
    }
    return out;
  }

  std::mt19937_64 random_;
  bool uses_node_ = false;
};

}  // namespace

Json random_schema(uint64_t number) { return Generator(number).document(); }

}  // namespace ruvltra
