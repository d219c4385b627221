#include "sona/bundled_texts.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace ruvltra {
namespace {

std::vector<std::string> lines_of_file(const std::string& name) {
  std::ifstream file(RUVLTRA_SOURCE_DIR "/data/learning/" + name, std::ios::binary);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

// The files are read here a second time, by the standard library and nlohmann::json alone.
TEST(BundledTexts, WhiteningTextsAreTheLinesOfTheFile) {
  const auto texts = whitening_texts();
  const std::vector<std::string> lines = lines_of_file("whitening.txt");
  EXPECT_EQ(std::vector<std::string>(texts.begin(), texts.end()), lines);
}

TEST(BundledTexts, CanaryTextsAreTheLinesOfTheFile) {
  const auto texts = canary_texts();
  const std::vector<std::string> lines = lines_of_file("canary.jsonl");
  ASSERT_EQ(texts.size(), lines.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    const auto expected = nlohmann::json::parse(lines[i]);
    EXPECT_EQ(texts[i].id, expected["id"].get<std::string>());
    EXPECT_EQ(texts[i].domain, expected["domain"].get<std::string>());
    EXPECT_EQ(texts[i].text, expected["text"].get<std::string>());
  }
}

TEST(BundledTexts, EveryCallReturnsTheSameTexts) {
  EXPECT_EQ(whitening_texts().data(), whitening_texts().data());
  EXPECT_EQ(canary_texts().data(), canary_texts().data());
}

}  // namespace
}  // namespace ruvltra
