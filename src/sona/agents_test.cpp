// Registry, import, front matter, words and the lexical index.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "sona/agent_import.h"
#include "sona/agent_registry.h"
#include "sona/front_matter.h"
#include "sona/lexical.h"
#include "sona/words.h"

namespace ruvltra {
namespace {

namespace fs = std::filesystem;

struct Folder {
  fs::path path;
  Folder() {
    std::string name = (fs::temp_directory_path() / "agents_test_XXXXXX").string();
    path = mkdtemp(name.data());
  }
  ~Folder() { fs::remove_all(path); }
  void write(const std::string& name, std::string_view text) const {
    fs::create_directories((path / name).parent_path());
    std::ofstream(path / name, std::ios::binary) << text;
  }
};

AgentProfile agent(std::string id) {
  AgentProfile out;
  out.id = std::move(id);
  out.description = "does things";
  return out;
}

TEST(AgentRegistry, DefaultsHoldFifteenAgentsWithTextsAndAliases) {
  const AgentRegistry registry = AgentRegistry::defaults();
  EXPECT_EQ(registry.agents().size(), 15u);
  EXPECT_EQ(registry.task_types().size(), 10u);
  for (const AgentProfile& a : registry.agents()) {
    EXPECT_GE(a.examples.size(), 12u) << a.id;
    EXPECT_FALSE(a.task_types.empty()) << a.id;
  }
  EXPECT_EQ(registry.agents()[*registry.find("optimizer")].id, "performance-engineer");
  EXPECT_EQ(registry.agents()[*registry.find("planner")].id, "coordinator");
  EXPECT_FALSE(registry.find("nobody"));
  const auto again = AgentRegistry::parse(to_json(registry.json()), "again");
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->hash(), registry.hash());
}

TEST(AgentRegistry, RefusesWhatIsInvalidAndNamesIt) {
  const auto types = AgentRegistry::defaults().task_types();
  const auto message = [&](std::vector<AgentProfile> agents) {
    const auto result = AgentRegistry::create(std::move(agents), types, "here");
    if (result) return std::string("none");
    EXPECT_EQ(result.error().id, "routing.registry");
    return result.error().message;
  };
  const auto has = [](const std::string& text, std::string_view part) {
    return text.find(part) != std::string::npos;
  };
  EXPECT_TRUE(has(message({}), "1 to 256"));
  EXPECT_TRUE(has(message(std::vector<AgentProfile>(257, agent("a"))), "257"));
  EXPECT_TRUE(has(message({agent("Bad Id")}), "Bad Id"));
  EXPECT_TRUE(has(message({agent("a"), agent("a")}), "two agents"));
  AgentProfile odd = agent("a");
  odd.description.clear();
  EXPECT_TRUE(has(message({odd}), "a: description"));
  odd = agent("a");
  odd.task_types = {"cooking"};
  EXPECT_TRUE(has(message({odd}), "cooking"));
  odd = agent("a");
  odd.examples = {std::string(5000, 'x')};
  EXPECT_TRUE(has(message({odd}), "5000"));
  odd = agent("a");
  odd.enabled = false;
  EXPECT_TRUE(has(message({odd}), "enabled"));
  EXPECT_FALSE(AgentRegistry::parse("{\"agents\": 3}", "here"));
  EXPECT_FALSE(AgentRegistry::parse("[{\"id\": 3}]", "here"));
}

TEST(AgentRegistry, AddingTakesTheNameFromOthersAliases) {
  const AgentRegistry before = AgentRegistry::defaults();
  const AgentRegistry after = before.with({agent("debugger"), agent("coder")}, "test").value();
  EXPECT_EQ(after.agents().size(), 16u);
  EXPECT_EQ(after.agents()[*after.find("debugger")].id, "debugger");
  EXPECT_EQ(after.agents()[0].description, "does things");
  EXPECT_EQ(before.agents()[*before.find("debugger")].id, "coder");
  EXPECT_EQ(after.without("coder").value().agents().size(), 15u);
  EXPECT_EQ(after.without("nobody").error().id, "routing.agent");
}

TEST(AgentImport, JsonAndTomlSayTheSame) {
  const auto json = import_agents_json(
      R"({"agents": [{"name": "cook", "description": "cooks", "examples": ["soup"], "enabled": false}]})",
      "j");
  const auto toml = import_agents_toml(
      "[[agents]]\nname = \"cook\"\ndescription = \"cooks\"\nexamples = [\"soup\"]\nenabled = false\n", "t");
  ASSERT_TRUE(json && toml);
  EXPECT_EQ(to_json(agent_to_json(json->at(0))), to_json(agent_to_json(toml->at(0))));
  EXPECT_EQ(import_agents_toml("x = " + std::string(100'000, '['), "t").error().id, "routing.registry");
  EXPECT_EQ(import_agents_toml("a" + std::string(100'000, '.') + " = 1", "t").error().id, "routing.registry");
}

TEST(AgentImport, AFolderOfMarkdownFiles) {
  const Folder folder;
  folder.write("core/cook.md",
               "---\nname: Chief Cook\ndescription: \"Cooks: soups, cakes\"\ncolor: red\n---\n# x\n");
  folder.write("b/deep/waiter.md",
               "---\r\nname: waiter\r\ndescription: serves  # well\r\nx:\r\n  name: no\r\n---\r\n");
  folder.write("README.md", "# no front matter\n");
  folder.write("note.txt", "---\nname: a\n");
  const auto agents = import_folder(folder.path);
  ASSERT_TRUE(agents.has_value()) << agents.error().message;
  ASSERT_EQ(agents->size(), 2u);
  EXPECT_EQ(agents->at(0).id, "waiter");
  EXPECT_EQ(agents->at(0).description, "serves");
  EXPECT_EQ(agents->at(1).id, "chief-cook");
  EXPECT_EQ(agents->at(1).description, "Cooks: soups, cakes");
}

TEST(AgentImport, ErrorsNameFileAndLine) {
  const auto message = [](std::string_view text) {
    const Folder folder;
    folder.write("a.md", text);
    const auto result = import_folder(folder.path);
    return result ? std::string("none") : result.error().message.substr(folder.path.string().size());
  };
  EXPECT_EQ(message("---\nname: a\ndescription: |\n  x\n---\n").substr(0, 20), "/a.md:3: description");
  EXPECT_EQ(message("---\nname: a\nname: b\n").substr(0, 12), "/a.md:3: nam");
  EXPECT_EQ(message("---\nname: [a]\n---\n").substr(0, 12), "/a.md:2: nam");
  EXPECT_EQ(message("---\nx: y\nname: \xc3\x84rger\ndescription: d\n---\n").substr(0, 8), "/a.md:3:");
  EXPECT_EQ(message("---\nname: a\n---\n").substr(0, 8), "/a.md:1:");
  EXPECT_NE(message("---\nname: a\n").find("ends the front matter"), std::string::npos);
  EXPECT_NE(message("# nothing\n").find("found none"), std::string::npos);
  EXPECT_NE(message("---\nname: a\ndescription: d\n---\n" + std::string(70'000, 'x')), "none");
}

TEST(AgentImport, LinksLeadNowhereElse) {
  const Folder outside, folder;
  outside.write("secret.md", "---\nname: secret\ndescription: d\n---\n");
  folder.write("a.md", "---\nname: a\ndescription: d\n---\n");
  fs::create_symlink(outside.path, folder.path / "linked_folder");
  EXPECT_EQ(import_folder(folder.path)->size(), 1u);
  fs::create_symlink(outside.path / "secret.md", folder.path / "b.md");
  const auto result = import_folder(folder.path);
  ASSERT_FALSE(result.has_value());
  EXPECT_NE(result.error().message.find("b.md"), std::string::npos);
}

TEST(Words, IdentifiersAreTakenApartAndFormsOfAWordMeet) {
  EXPECT_EQ(raw_words("parseHTTPHeader_v2 isn't C++, \xc3\x84rger!"),
            (std::vector<std::string>{"parsehttpheader", "parse", "http", "header", "v2", "isnt", "c++",
                                      "\xc3\xa4rger"}));
  const auto same = [](std::initializer_list<const char*> words) {
    for (const char* word : words) {
      if (stem(word) != stem(*words.begin())) return false;
    }
    return true;
  };
  EXPECT_TRUE(same({"deploy", "deploys", "deployed", "deploying", "deployment"}));
  EXPECT_TRUE(same({"optimise", "optimize", "optimising", "optimization", "optimizer", "optimised"}));
  EXPECT_TRUE(same({"analyse", "analyze", "analysis", "analysing"}));
  EXPECT_TRUE(same({"vulnerability", "vulnerabilities", "vulnerable"}));
  EXPECT_TRUE(same({"planning", "plans", "planned"}));
  EXPECT_TRUE(same({"query", "queries"}));
  EXPECT_TRUE(same({"verify", "verifies", "verified", "verification"}));
  EXPECT_NE(stem("need"), stem("new"));
  EXPECT_EQ(stem("x9y8z7"), "x9y8z7");
  EXPECT_EQ(content_words("Please do it for me"), (std::vector<std::string>{}));
}

// BM25 of the label's words as one document, in the plain formula.
TEST(LexicalIndex, ScoresAndLeaveOneOutAgreeWithAnIndexBuiltWithout) {
  std::vector<LexicalIndex::Document> documents = {{0, "bake bread"},
                                                   {0, "bake cake cream"},
                                                   {1, "weld steel"},
                                                   {1, "steel beam bread"},
                                                   {2, "paint wall"}};
  const LexicalIndex all(3, documents);
  const std::vector<std::string> words = content_words("cream bread beam");
  std::vector<LexicalIndex::Document> fewer = documents;
  fewer.erase(fewer.begin() + 3);
  const LexicalIndex without(3, fewer);
  const auto whole = all.scores(words), left_out = all.scores(words, 3), built = without.scores(words);
  EXPECT_GT(whole[1], left_out[1]);
  // "beam" is in the left-out text alone, "bread" then only with label 0.
  EXPECT_EQ(left_out[1], 0);
  EXPECT_EQ(built[1], 0);
  EXPECT_EQ(left_out[2], 0);
  EXPECT_NEAR(left_out[0], built[0], 0.25 * built[0]);  // mean lengths differ a little
  // Whole words: a part of one is nothing.
  EXPECT_EQ(all.scores(content_words("eel"))[1], 0);
}

TEST(LexicalIndex, VectorsAreOfUnitLengthAndLikeTextsAreNear) {
  const std::vector<LexicalIndex::Document> documents = {
      {0, "bake bread and cake"}, {1, "weld steel beams"}, {2, "paint the wall"}};
  const LexicalIndex index(3, documents);
  const auto dot = [](const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += double{a[i]} * b[i];
    return sum;
  };
  const auto bread = index.profile(content_words("some bread")),
             cake = index.profile(content_words("a cake"));
  const auto steel = index.profile(content_words("steel"));
  EXPECT_NEAR(dot(bread, bread), 1, 1e-5);
  EXPECT_GT(dot(bread, cake), 0.5);  // no common word, the same label
  EXPECT_LT(dot(bread, steel), 0.5);
  EXPECT_LT(std::abs(dot(index.hashed(content_words("bread")), index.hashed(content_words("cake")))), 0.5);
  EXPECT_EQ(dot(index.hashed({}), index.hashed({})), 0);
}

}  // namespace
}  // namespace ruvltra
