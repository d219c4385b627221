#include "grammar/schema_compiler.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "base/fail.h"
#include "grammar/schema.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxBytes = size_t{4} << 20;
constexpr size_t kMaxOperations = 1'000'000;  // some 100 ms
constexpr size_t kMaxAlternatives = 100;
constexpr size_t kNoTrail = ~size_t{0};
constexpr size_t kRuleBytes = 128;  // of a rule and its place in the tables, on average

// "~1" is "/", "~0" is "~" (RFC 6901), after "%41" is "A".
std::string pointer_token(std::string_view text) {
  std::string out;
  const auto hex = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0) {
      c = static_cast<char>(hex(text[i + 1]) * 16 + hex(text[i + 2]));
      i += 2;
    }
    if (!out.empty() && out.back() == '~' && (c == '0' || c == '1')) {
      out.back() = c == '0' ? '\1' : '/';  // no second reading of what "~0" became
    } else {
      out += c;
    }
  }
  std::replace(out.begin(), out.end(), '\1', '~');
  return out;
}

const Json* child_of(const Json& value, const std::string& token) {
  if (value.is_object()) return find_keyword(value, token.c_str());
  if (!value.is_array() || token.empty() || token.size() > 6) return nullptr;
  size_t index = 0;
  for (const char c : token) {
    if (c < '0' || c > '9') return nullptr;
    index = index * 10 + static_cast<size_t>(c - '0');
  }
  return index < value.size() ? &value[index] : nullptr;
}

// Where `wanted` lies in the document, as "/properties/a"; empty if it does not. Without recursion.
std::string pointer_to(const Json& root, const Json& wanted) {
  struct Level {
    const Json* container;
    Json::const_iterator next, last;  // `last` was looked at before `next`
    size_t n_seen = 0;
  };
  std::vector<Level> open{{&root, root.cbegin(), root.cend(), 0}};
  while (!open.empty()) {
    Level& level = open.back();
    if (level.next == level.container->cend()) {
      open.pop_back();
      continue;
    }
    level.last = level.next++;
    ++level.n_seen;
    const Json& child = *level.last;
    if (child.is_structured()) open.push_back({&child, child.cbegin(), child.cend(), 0});
    if (&child != &wanted) continue;
    if (child.is_structured()) open.pop_back();
    std::string out;
    for (const Level& on_path : open) {
      out += '/';
      out += on_path.container->is_object() ? on_path.last.key() : std::to_string(on_path.n_seen - 1);
    }
    return out;
  }
  return "";
}

}  // namespace

Result<const Json*> SchemaCompiler::add_document(std::string_view text, std::string source) {
  ASSIGN_OR_RETURN(Json root, parse_json(text, source, {.max_bytes = kMaxSchemaBytes}));
  if (!root.is_object() && !root.is_boolean()) {
    return fail("schema.invalid", "{}: expected a schema, an object or true or false, found {}", source,
                ruvltra::quoted(to_json(root)));
  }
  RETURN_IF_ERROR(charge(0, text.size() / 8));
  documents_.push_back({std::move(root), std::move(source), {}});
  note_references(documents_.back().root, documents_.size() - 1);
  return &documents_.back().root;
}

void SchemaCompiler::note_references(const Json& root, size_t document) {
  std::vector<const Json*> open{&root};
  while (!open.empty()) {
    const Json& value = *open.back();
    open.pop_back();
    if (find_keyword(value, "$ref") != nullptr) owners_[&value] = document;
    for (const Json& child : value)
      if (child.is_structured()) open.push_back(&child);
  }
}

Result<void> SchemaCompiler::charge(size_t n_bytes, size_t n_operations) {
  n_bytes_ += n_bytes;
  n_operations_ += n_operations;
  if (n_bytes_ <= kMaxBytes && n_operations_ <= kMaxOperations) return {};
  return fail(
      "schema.too_complex", "{}: expected a schema that compiles to at most {} bytes in {} operations",
      documents_.empty() ? std::string("schema") : documents_.front().source, kMaxBytes, kMaxOperations);
}

tl::unexpected<Error> SchemaCompiler::at(const Json& schema, Error error) const {
  for (const Document& document : documents_) {
    const std::string pointer = pointer_to(document.root, schema);
    if (pointer.empty() && &document.root != &schema) continue;
    error.message = fmt::format("{}: #{}: {}", document.source, ruvltra::quoted(pointer, 200), error.message);
    break;
  }
  return tl::unexpected<Error>(std::move(error));
}

uint32_t SchemaCompiler::rule_for(const Conjunction& schemas) {
  Conjunction key;
  for (const Json* schema : schemas) key.push_back(behind_references(schema));
  std::sort(key.begin(), key.end());
  key.erase(std::unique(key.begin(), key.end()), key.end());
  const auto [place, is_new] = known_.emplace(std::move(key), static_cast<uint32_t>(grammar.rules.size()));
  if (is_new) {
    grammar.rules.emplace_back();
    wanted_.push_back(schemas);
  }
  return place->second;
}

// A schema that is a reference and nothing else is the schema it refers to: one rule for all who refer to it.
// What is wrong with it is said when it is read.
const Json* SchemaCompiler::behind_references(const Json* schema) {
  constexpr int kMostSteps = 100;
  for (int step = 0; step < kMostSteps; ++step) {
    const Json* reference = find_keyword(*schema, "$ref");
    if (reference == nullptr || !reference->is_string() || says_more_than_reference(*schema)) return schema;
    const auto target = resolve(*schema);
    if (!target) return schema;
    schema = *target;
  }
  return schema;
}

Result<void> SchemaCompiler::compile() {
  for (uint32_t rule = 0; rule < wanted_.size(); ++rule) RETURN_IF_ERROR(build(rule));
  find_needs();
  return {};
}

Result<void> SchemaCompiler::build(uint32_t rule) {
  const Conjunction schemas = wanted_[rule];
  RETURN_IF_ERROR(charge(kRuleBytes + 16 * schemas.size(), 1 + schemas.size()));
  ASSIGN_OR_RETURN(const std::vector<Parts> variants, variants_of(schemas));
  for (const Parts& parts : variants) RETURN_IF_ERROR(add_alternatives(rule, parts));
  if (grammar.rules[rule].alternatives.size() > kMaxAlternatives) {
    return at(*schemas.front(), fail("schema.too_complex", "expected at most {} alternatives, found {}",
                                     kMaxAlternatives, grammar.rules[rule].alternatives.size()));
  }
  return {};
}

// Every way through the anyOf of these schemas and of those they lead to, in order.
Result<std::vector<SchemaCompiler::Parts>> SchemaCompiler::variants_of(const Conjunction& schemas) {
  std::vector<Parts> out;
  trails_.clear();
  std::vector<Variant> open(1);
  for (const Json* schema : schemas) RETURN_IF_ERROR(add_pending(open[0], *schema, kNoTrail));
  while (!open.empty()) {
    Variant variant = std::move(open.back());
    open.pop_back();
    ASSIGN_OR_RETURN(const bool is_possible, flatten(variant));
    if (!is_possible) continue;
    if (variant.choices.empty()) {
      out.push_back(std::move(variant.parts));
      continue;
    }
    const auto [choice, trail] = variant.choices.back();
    variant.choices.pop_back();
    for (size_t i = choice->size(); i-- > 0;) {
      RETURN_IF_ERROR(charge(0, 8 + 2 * (variant.parts.size() + variant.choices.size())));
      open.push_back(variant);
      RETURN_IF_ERROR(add_pending(open.back(), (*choice)[i], trail));
    }
  }
  return out;
}

// A schema that leads to itself without a member or an item between says nothing, and never ends saying it.
Result<void> SchemaCompiler::add_pending(Variant& variant, const Json& schema, size_t trail) {
  for (size_t i = trail; i != kNoTrail; i = trails_[i].second) {
    RETURN_IF_ERROR(charge(0, 1));
    if (trails_[i].first == &schema) {
      return at(schema,
                fail("schema.reference_cycle",
                     "expected references that end at a schema, found one that leads back to itself"));
    }
  }
  RETURN_IF_ERROR(charge(0, 4));
  trails_.push_back({&schema, trail});
  variant.pending.push_back({&schema, trails_.size() - 1});
  return {};
}

// Works off what is pending. False if no value is possible.
Result<bool> SchemaCompiler::flatten(Variant& variant) {
  while (!variant.pending.empty()) {
    const Pending next = variant.pending.back();
    variant.pending.pop_back();
    RETURN_IF_ERROR(charge(0, 1 + variant.parts.size() / 8));
    const Json& schema = *next.schema;
    if (schema.is_boolean()) {
      if (!schema.get<bool>()) return false;
      continue;
    }
    if (std::find(variant.parts.begin(), variant.parts.end(), &schema) != variant.parts.end()) continue;
    if (checked_.insert(&schema).second) {
      RETURN_IF_ERROR(charge(0, schema.size()));
      if (auto found = check_schema(schema); !found) return at(schema, std::move(found).error());
    }
    variant.parts.push_back(&schema);
    RETURN_IF_ERROR(follow(variant, schema, next.trail));
  }
  return true;
}

Result<void> SchemaCompiler::follow(Variant& variant, const Json& schema, size_t trail) {
  if (find_keyword(schema, "$ref") != nullptr) {
    ASSIGN_OR_RETURN(const Json* target, resolve(schema));
    RETURN_IF_ERROR(add_pending(variant, *target, trail));
  }
  if (const Json* all = find_keyword(schema, "allOf")) {
    for (size_t i = all->size(); i-- > 0;) RETURN_IF_ERROR(add_pending(variant, (*all)[i], trail));
  }
  for (const char* keyword : {"oneOf", "anyOf"}) {
    if (const Json* any = find_keyword(schema, keyword)) variant.choices.push_back({any, trail});
  }
  return {};
}

Result<const Json*> SchemaCompiler::resolve(const Json& schema) {
  const std::string& reference = find_keyword(schema, "$ref")->get_ref<const std::string&>();
  Document& document = documents_[owners_[&schema]];
  const auto refuse = [&] {
    return at(schema, fail("schema.reference",
                           "$ref: expected \"#\" or a path \"#/...\" to a schema of this document, found {}",
                           ruvltra::quoted(reference)));
  };
  if (reference.empty() || reference[0] != '#') return refuse();
  if (const auto known = document.references.find(reference); known != document.references.end())
    return known->second;
  const Json* target = &document.root;
  std::string_view rest = std::string_view(reference).substr(1);
  while (target != nullptr && !rest.empty()) {
    if (rest[0] != '/') return refuse();
    const size_t end = std::min(rest.find('/', 1), rest.size());
    RETURN_IF_ERROR(charge(0, 1 + target->size() / 4));
    target = child_of(*target, pointer_token(rest.substr(1, end - 1)));
    rest.remove_prefix(end);
  }
  if (target == nullptr || !(target->is_object() || target->is_boolean())) return refuse();
  RETURN_IF_ERROR(charge(64 + reference.size(), 1));
  document.references.emplace(reference, target);
  return target;
}

uint32_t SchemaCompiler::add_text(const std::string& text) {
  const auto [place, is_new] = texts_.emplace(text, static_cast<uint32_t>(grammar.texts.size()));
  if (is_new) grammar.texts.push_back(text);
  return place->second;
}

uint32_t SchemaCompiler::add_trie(std::span<const std::string> strings) {
  grammar.tries.emplace_back(strings);
  return static_cast<uint32_t>(grammar.tries.size() - 1);
}

void SchemaCompiler::add_alternative(uint32_t rule, FrameKind kind, size_t arg) {
  const Alternative added{kind, static_cast<uint32_t>(arg), kEndless};
  auto& alternatives = grammar.rules[rule].alternatives;
  const auto same = [&](const Alternative& other) { return other.kind == kind && other.arg == added.arg; };
  if (std::none_of(alternatives.begin(), alternatives.end(), same)) alternatives.push_back(added);
}

uint32_t SchemaCompiler::need_of(const Alternative& alternative) const {
  uint32_t inside = 0;
  const auto take = [&](uint32_t rule) {
    inside = std::max(inside, rule == kNoRule ? kEndless : grammar.rules[rule].need);
  };
  if (alternative.kind == FrameKind::kObjectBegin) {
    const ObjectRule& object = grammar.objects[alternative.arg];
    for (uint32_t i = object.next_required(0); i < object.members.size(); i = object.next_required(i + 1))
      take(object.members[i].rule);
  } else if (alternative.kind == FrameKind::kArrayBegin) {
    const ArrayRule& array = grammar.arrays[alternative.arg];
    const auto n_first = static_cast<uint32_t>(array.first.size());
    for (uint32_t i = 0; i < std::min(array.least, n_first); ++i) take(array.first[i]);
    if (array.least > n_first) take(array.others);
  }
  return std::min(kEndless, inside + 1);
}

// The depth of the shortest value of every rule: after n rounds, right for all that are at most n deep.
void SchemaCompiler::find_needs() {
  bool changes = true;
  for (uint32_t round = 0; round <= kMaxGrammarDepth && changes; ++round) {
    changes = false;
    for (Rule& rule : grammar.rules) {
      for (Alternative& alternative : rule.alternatives) {
        alternative.need = need_of(alternative);
        if (alternative.need >= rule.need) continue;
        rule.need = alternative.need;
        changes = true;
      }
    }
  }
}

}  // namespace ruvltra
