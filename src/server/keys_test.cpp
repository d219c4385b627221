#include "server/keys.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

namespace ruvltra {
namespace {

TEST(Keys, LinesAreRead) {
  // The digest is that of "secret", from `printf secret | sha256sum`.
  const auto keys = parse_keys(
      "# who may call\n\n  alice key-of-alice admin\nbob\tkey-of-bob\r\n"
      "carol sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b\n",
      "keys");
  ASSERT_TRUE(keys);
  ASSERT_EQ(keys->size(), 3U);
  const ApiKey* alice = find_key(*keys, "key-of-alice");
  ASSERT_NE(alice, nullptr);
  EXPECT_EQ(alice->tenant, "alice");
  EXPECT_TRUE(alice->admin);
  ASSERT_NE(find_key(*keys, "key-of-bob"), nullptr);
  EXPECT_FALSE(find_key(*keys, "key-of-bob")->admin);
  ASSERT_NE(find_key(*keys, "secret"), nullptr);
  EXPECT_EQ(find_key(*keys, "secret")->tenant, "carol");
  for (const char* wrong :
       {"", "key-of-alic", "key-of-alicex", "KEY-OF-ALICE", " key-of-bob", "alice", "sha256:2bb80d537b1da3e3",
        "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"})
    EXPECT_EQ(find_key(*keys, wrong), nullptr) << wrong;
  EXPECT_EQ(find_key({}, "anything"), nullptr);
}

TEST(Keys, ErrorsNameTheLineAndNoKey) {
  const struct {
    const char *text, *line;
  } cases[] = {{"alice", "keys: line 1:"},
               {"# x\n\nalice hidden-key owner", "keys: line 3:"},
               {"a hidden-key\nb hidden-key admin hidden-key", "keys: line 2:"},
               {"a sha256:12", "keys: line 1:"},
               {"a sha256:zbb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b", "keys: line 1:"},
               {"", "keys: expected at least one key"},
               {"# nobody\n", "keys: expected at least one key"}};
  for (const auto& one : cases) {
    const auto keys = parse_keys(one.text, "keys");
    ASSERT_FALSE(keys) << one.text;
    EXPECT_EQ(keys.error().id, "server.keys");
    EXPECT_TRUE(keys.error().message.starts_with(one.line)) << keys.error().message;
    EXPECT_EQ(keys.error().message.find("hidden"), std::string::npos) << keys.error().message;
  }
  EXPECT_FALSE(parse_keys(std::string(65, 't') + " key", "keys"));
  std::string many;
  for (int i = 0; i < 1024; ++i) many += fmt::format("tenant{} key{}\n", i, i);
  EXPECT_TRUE(parse_keys(many, "keys"));
  EXPECT_FALSE(parse_keys(many + "one more", "keys"));
}

TEST(Keys, HostsOfThisMachine) {
  const std::vector<std::string> allowed = {"Chat.example.org", "other.example:9000"};
  for (const char* host : {"localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8080", "127.255.1.2", "[::1]",
                           "[::1]:8080", "chat.example.org", "CHAT.example.org:443", "other.example:9000"})
    EXPECT_TRUE(is_allowed_host(host, allowed)) << host;
  for (const char* host : {"",
                           ":",
                           ":80",
                           "localhost.",
                           "127.0.0.1.",
                           "localhost:",
                           "localhost:x",
                           "localhost:123456",
                           "localhost:80:80",
                           "localhost.evil.example",
                           "127.0.0.1.evil.example",
                           "127.evil.example",
                           "127.0.0",
                           "127.0.0.1.2",
                           "127..0.1",
                           "127.0.0.1234",
                           "127.0.0.x",
                           "0.0.0.0",
                           "128.0.0.1",
                           "::1",
                           "[::1",
                           "[::1]x",
                           "[::1]x:80",
                           "[::]",
                           "[::ffff:127.0.0.1]",
                           "evil.example",
                           "chat.example.org.",
                           "xchat.example.org",
                           "other.example",
                           "other.example:9001",
                           "localhost/",
                           "user@localhost",
                           "localhost, evil"})
    EXPECT_FALSE(is_allowed_host(host, allowed)) << host;
}

TEST(Keys, Origins) {
  const std::vector<std::string> allowed = {"https://Chat.example.org"};
  EXPECT_TRUE(is_allowed_origin("http://127.0.0.1:8080", "127.0.0.1:8080", allowed));
  EXPECT_TRUE(is_allowed_origin("https://LOCALHOST", "localhost", allowed));
  EXPECT_TRUE(is_allowed_origin("https://chat.example.org", "127.0.0.1:8080", allowed));
  for (const char* origin :
       {"", "null", "*", "http://127.0.0.1", "http://127.0.0.1:8081", "http://127.0.0.1:8080/",
        "http://127.0.0.1:8080.evil.example", "http://chat.example.org", "https://chat.example.org:444",
        "127.0.0.1:8080", "ftp://127.0.0.1:8080"})
    EXPECT_FALSE(is_allowed_origin(origin, "127.0.0.1:8080", allowed)) << origin;
}

}  // namespace
}  // namespace ruvltra
