// What one variant of a schema allows, type by type.
#include <algorithm>
#include <cmath>

#include "base/fail.h"
#include "grammar/schema_compiler.h"

namespace ruvltra {
namespace {

constexpr double kMostBound = 9'007'199'254'740'991;  // integers beyond are not exact in every reader

// 2^53 and more bind nothing that is written here, where they leave room; else they cannot be kept.
Result<std::optional<int64_t>> bound_of(double value, bool is_least, bool is_whole, bool is_integer) {
  const double inwards = is_least ? std::ceil(value) : std::floor(value);
  if (is_least ? inwards < -kMostBound : inwards > kMostBound) return std::nullopt;
  if (std::abs(inwards) > kMostBound || (!is_integer && !is_whole)) {
    return fail("schema.bound", "{}: expected {} of at most 2^53 - 1, found {}",
                is_least ? "minimum" : "maximum", is_integer ? "a number" : "an integer", value);
  }
  return static_cast<int64_t>(inwards);
}

bool is_false(const Json* schema) {
  return schema != nullptr && schema->is_boolean() && !schema->get<bool>();
}

}  // namespace

Result<void> SchemaCompiler::add_alternatives(uint32_t rule, const Parts& parts) {
  ValueFacts facts;
  for (const Json* part : parts) {
    RETURN_IF_ERROR(charge(0, 1 + part->size()));
    if (const Json* values = find_keyword(*part, "enum"))
      RETURN_IF_ERROR(charge(0, values->size() * (1 + (facts.values ? facts.values->size() : 0))));
    facts.add(*part);
  }
  if (facts.values) return add_values(rule, facts, parts);
  // Without a type: those that its keywords are about.
  const uint32_t types = facts.mentioned != 0 ? facts.types & facts.mentioned : facts.types;
  facts.types = types;
  if ((types & kTypeNull) != 0) add_alternative(rule, FrameKind::kText, add_text("null"));
  if ((types & kTypeBoolean) != 0) {
    add_alternative(rule, FrameKind::kText, add_text("true"));
    add_alternative(rule, FrameKind::kText, add_text("false"));
  }
  if ((types & kTypeString) != 0 && facts.string.least <= facts.string.most) {
    RETURN_IF_ERROR(charge(sizeof(StringRule), 1));
    grammar.strings.push_back(facts.string);
    add_alternative(rule, FrameKind::kString, grammar.strings.size() - 1);
  }
  if ((types & kTypeNumber) != 0) RETURN_IF_ERROR(add_number(rule, facts, parts));
  if ((types & kTypeObject) != 0) RETURN_IF_ERROR(add_object(rule, parts));
  if ((types & kTypeArray) != 0) RETURN_IF_ERROR(add_array(rule, facts, parts));
  return {};
}

// An enumeration: each value in one spelling.
Result<void> SchemaCompiler::add_values(uint32_t rule, const ValueFacts& facts, const Parts& parts) {
  std::vector<std::string> texts;
  size_t n_bytes = 0;
  for (const Json* value : *facts.values) {
    if (!facts.allows(*value)) continue;
    if (value->is_structured()) {
      for (const Json* part : parts) {
        for (const char* keyword : {"properties", "required", "additionalProperties", "items", "prefixItems",
                                    "minItems", "maxItems"}) {
          if (find_keyword(*part, keyword) == nullptr) continue;
          return at(*part, fail("schema.unsupported_keyword",
                                "{}: expected none beside an enumeration of objects or arrays", keyword));
        }
      }
    }
    texts.push_back(to_python_json(*value));
    n_bytes += texts.back().size();
    RETURN_IF_ERROR(charge(0, 1 + texts.back().size() / 8));
  }
  if (texts.empty()) return {};
  RETURN_IF_ERROR(charge(ByteTrie::bytes_for(n_bytes, texts.size()), n_bytes));
  add_alternative(rule, FrameKind::kChoice, add_trie(texts));
  return {};
}

Result<void> SchemaCompiler::add_number(uint32_t rule, const ValueFacts& facts, const Parts& parts) {
  NumberBounds bounds;
  bounds.is_integer = (facts.types & kTypeFraction) == 0;
  auto least = bound_of(facts.least, true, std::floor(facts.least) == facts.least, bounds.is_integer);
  auto most = bound_of(facts.most, false, std::floor(facts.most) == facts.most, bounds.is_integer);
  for (const auto* bound : {&least, &most})
    if (!*bound) return at(*parts.front(), Error(bound->error()));
  bounds.least = *least;
  bounds.most = *most;
  const auto [place, is_new] = numbers_.emplace(bounds, static_cast<uint32_t>(grammar.numbers.size()));
  if (is_new) {
    auto automaton = NumberAutomaton::make(bounds);
    if (!automaton) {
      numbers_.erase(place);
      return {};
    }
    RETURN_IF_ERROR(charge(automaton->n_states() * NumberAutomaton::kStateBytes, 10 * automaton->n_states()));
    grammar.numbers.push_back(std::move(*automaton));
  }
  add_alternative(rule, FrameKind::kNumber, place->second);
  return {};
}

// Names of properties and required ones, in the order in which they are met.
Result<void> SchemaCompiler::collect_members(const Json& schema, std::vector<Member>& members,
                                             std::unordered_map<std::string_view, size_t>& places) {
  const auto member = [&](const std::string& name) -> Member& {
    const auto [place, is_new] = places.emplace(name, members.size());
    if (is_new) members.push_back({name, {}});
    return members[place->second];
  };
  if (const Json* properties = find_keyword(schema, "properties")) {
    RETURN_IF_ERROR(charge(0, properties->size()));
    for (const auto& [name, inside] : properties->items()) member(name).schemas.push_back(&inside);
  }
  if (const Json* required = find_keyword(schema, "required")) {
    RETURN_IF_ERROR(charge(0, required->size()));
    for (const Json& name : *required) member(name.get_ref<const std::string&>()).is_required = true;
  }
  return {};
}

Result<std::vector<SchemaCompiler::Member>> SchemaCompiler::members_of(const Parts& parts) {
  std::vector<Member> members;
  std::unordered_map<std::string_view, size_t> places;
  for (const Json* part : parts) RETURN_IF_ERROR(collect_members(*part, members, places));
  // Members that a schema does not name are additional ones to it.
  for (const Json* part : parts) {
    const Json* additional = find_keyword(*part, "additionalProperties");
    if (additional == nullptr || (additional->is_boolean() && additional->get<bool>())) continue;
    const Json* properties = find_keyword(*part, "properties");
    std::unordered_set<std::string_view> named;
    if (properties != nullptr)
      for (const auto& [name, inside] : properties->items()) named.insert(name);
    RETURN_IF_ERROR(charge(0, members.size() + named.size()));
    for (Member& member : members) {
      if (named.count(member.name) > 0) continue;
      member.is_forbidden |= is_false(additional);
      member.schemas.push_back(additional);
    }
  }
  return members;
}

Result<void> SchemaCompiler::add_object(uint32_t rule, const Parts& parts) {
  ASSIGN_OR_RETURN(std::vector<Member> members, members_of(parts));
  std::vector<ObjectRule::Member> rules;
  std::vector<std::string> names;
  std::vector<bool> required;
  size_t n_bytes = 0;
  for (const Member& member : members) {
    if (member.is_forbidden && member.is_required) return {};
    if (member.is_forbidden) continue;
    rules.push_back({rule_for(member.schemas), 0});
    names.push_back(to_json(member.name).substr(1));
    required.push_back(member.is_required);
    n_bytes += names.back().size();
  }
  RETURN_IF_ERROR(
      charge(ByteTrie::bytes_for(n_bytes, names.size()) + rules.size() * sizeof(ObjectRule::Member),
             n_bytes + rules.size()));
  auto next = static_cast<uint32_t>(rules.size());
  for (size_t i = rules.size(); i-- > 0;) {
    if (required[i]) next = static_cast<uint32_t>(i);
    rules[i].next_required = next;
  }
  // Others are written where a schema speaks of them, or none speaks of any.
  bool is_closed = false, speaks = false, names_any = false;
  Conjunction others;
  for (const Json* part : parts) {
    const Json* additional = find_keyword(*part, "additionalProperties");
    names_any |= find_keyword(*part, "properties") != nullptr;
    if (additional == nullptr) continue;
    speaks = true;
    is_closed |= is_false(additional);
    others.push_back(additional);
  }
  ObjectRule object{std::move(rules), ByteTrie(names), kNoRule};
  if (!is_closed && (speaks || !names_any)) object.others = rule_for(others);
  grammar.objects.push_back(std::move(object));
  add_alternative(rule, FrameKind::kObjectBegin, grammar.objects.size() - 1);
  return {};
}

Result<void> SchemaCompiler::add_array(uint32_t rule, const ValueFacts& facts, const Parts& parts) {
  ArrayRule array;
  array.least = facts.least_items;
  array.most = facts.most_items;
  size_t n_first = 0;
  bool has_items = false;
  Conjunction others;
  for (const Json* part : parts) {
    const Json* first = find_keyword(*part, "prefixItems");
    const Json* items = find_keyword(*part, "items");
    const size_t n = first != nullptr ? first->size() : 0;
    n_first = std::max(n_first, n);
    if (items == nullptr) continue;
    has_items = true;
    others.push_back(items);
    if (is_false(items)) array.most = std::min(array.most, static_cast<uint32_t>(n));
  }
  // Beyond the first items, others are written where a schema speaks of them, or where they have to be.
  if (!has_items && n_first > 0 && array.least <= n_first)
    array.most = std::min(array.most, static_cast<uint32_t>(n_first));
  if (array.least > array.most) return {};
  for (size_t i = 0; i < std::min<size_t>(n_first, array.most); ++i) {
    Conjunction schemas;
    RETURN_IF_ERROR(charge(sizeof(uint32_t), parts.size()));
    for (const Json* part : parts) {
      const Json* first = find_keyword(*part, "prefixItems");
      const Json* items = find_keyword(*part, "items");
      if (first != nullptr && i < first->size()) {
        schemas.push_back(&(*first)[i]);
      } else if (items != nullptr) {
        schemas.push_back(items);
      }
    }
    array.first.push_back(rule_for(schemas));
  }
  if (array.most > array.first.size()) array.others = rule_for(others);
  RETURN_IF_ERROR(charge(sizeof(ArrayRule), 1));
  grammar.arrays.push_back(std::move(array));
  add_alternative(rule, FrameKind::kArrayBegin, grammar.arrays.size() - 1);
  return {};
}

}  // namespace ruvltra
