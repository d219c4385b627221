// From JSON schemas to the rules of a grammar. A rule stands for a set of schemas that hold of one value at
// once: a schema, and what allOf, $ref and the schemas around it add. Schemas that refer to themselves come
// back to a rule that is there.
#pragma once

#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "base/json.h"
#include "grammar/grammar.h"
#include "grammar/schema_keywords.h"
#include "ruvltra/error.h"

namespace ruvltra {

// Thread safety: none. Errors: those of schema.h.
class SchemaCompiler {
 public:
  // Of one value: all of them hold.
  using Conjunction = std::vector<const Json*>;

  // Parses a document; `source` names it in messages.
  Result<const Json*> add_document(std::string_view text, std::string source);
  uint32_t rule_for(const Conjunction& schemas);
  // Makes the rules asked for, and those they need.
  Result<void> compile();
  // Whether the rule has a value that fits beside `depth` frames.
  bool is_satisfiable(uint32_t rule, uint32_t depth) const {
    return grammar.rules[rule].need + depth <= kMaxGrammarDepth;
  }
  Result<void> charge(size_t n_bytes, size_t n_operations);

  uint32_t add_text(const std::string& text);
  uint32_t add_trie(std::span<const std::string> strings);
  // For what is written around values. Afterwards the compiler is done.
  Grammar grammar;

 private:
  struct Document {
    Json root;
    std::string source;
    std::unordered_map<std::string, const Json*> references;
  };
  // Schemas whose keywords hold together, none of them a choice: one way through all anyOf.
  using Parts = std::vector<const Json*>;
  struct Pending {
    const Json* schema;
    size_t trail;  // in trails_: the schemas that led here without leaving the value
  };
  struct Variant {
    Parts parts;
    std::vector<Pending> pending;
    std::vector<std::pair<const Json*, size_t>> choices;  // lists of schemas, and their trails
  };
  struct Member {
    std::string name;
    Conjunction schemas;
    bool is_required = false;
    bool is_forbidden = false;
  };

  Result<void> build(uint32_t rule);
  Result<std::vector<Parts>> variants_of(const Conjunction& schemas);
  Result<bool> flatten(Variant& variant);
  Result<void> follow(Variant& variant, const Json& schema, size_t trail);
  Result<void> add_pending(Variant& variant, const Json& schema, size_t trail);
  Result<const Json*> resolve(const Json& schema);
  const Json* behind_references(const Json* schema);
  void note_references(const Json& root, size_t document);

  Result<void> add_alternatives(uint32_t rule, const Parts& parts);
  Result<void> add_values(uint32_t rule, const ValueFacts& facts, const Parts& parts);
  Result<void> add_number(uint32_t rule, const ValueFacts& facts, const Parts& parts);
  Result<void> add_object(uint32_t rule, const Parts& parts);
  Result<void> add_array(uint32_t rule, const ValueFacts& facts, const Parts& parts);
  Result<std::vector<Member>> members_of(const Parts& parts);
  Result<void> collect_members(const Json& schema, std::vector<Member>& members,
                               std::unordered_map<std::string_view, size_t>& places);
  void add_alternative(uint32_t rule, FrameKind kind, size_t arg);

  void find_needs();
  uint32_t need_of(const Alternative& alternative) const;
  // The error, with the place of the schema it is about before its message.
  tl::unexpected<Error> at(const Json& schema, Error error) const;
  tl::unexpected<Error> at(const Json& schema, tl::unexpected<Error> error) const {
    return at(schema, std::move(error).value());
  }

  std::deque<Document> documents_;
  std::unordered_map<const Json*, size_t> owners_;  // documents of the schemas with a reference
  std::map<Conjunction, uint32_t> known_;           // sorted schemas to rules
  std::vector<Conjunction> wanted_;                 // of each rule
  std::unordered_set<const Json*> checked_;
  std::vector<std::pair<const Json*, size_t>> trails_;
  std::map<std::string, uint32_t> texts_;
  std::map<NumberBounds, uint32_t> numbers_;
  size_t n_bytes_ = 0, n_operations_ = 0;
};

}  // namespace ruvltra
