#include <openssl/crypto.h>
#include <utf8proc.h>
#include <CLI/Version.hpp>

#include "base/json.h"
#include "kernels/dispatch.h"
#include "quant/format.h"
#include "verbs.h"

namespace ruvltra {
namespace {

struct Options {
  bool json = false;
};

constexpr const char* kCompiler =
#if defined(__clang__)
    "clang " __clang_version__;
#else
    "gcc " __VERSION__;
#endif

Json library_versions() {
  return {{"cli11", CLI11_VERSION},
          {"fmt", fmt::format("{}.{}.{}", FMT_VERSION / 10000, FMT_VERSION / 100 % 100, FMT_VERSION % 100)},
          {"json", fmt::format("{}.{}.{}", NLOHMANN_JSON_VERSION_MAJOR, NLOHMANN_JSON_VERSION_MINOR,
                               NLOHMANN_JSON_VERSION_PATCH)},
          {"openssl", OpenSSL_version(OPENSSL_VERSION_STRING)},
          {"utf8proc", utf8proc_version()}};
}

Result<int> version(const Options& options) {
  Json document;
  document["version"] = RUVLTRA_VERSION;
  document["commit"] = build_commit().empty() ? Json(nullptr) : Json(build_commit());
  document["compiler"] = kCompiler;
  document["isa"] = Json::array();
  for (const std::string_view isa : supported_isas()) document["isa"].push_back(isa);
  document["formats"] = Json::array();
  for (const Format& format : all_formats()) document["formats"].push_back(format.name);
  document["libraries"] = library_versions();
  if (options.json) {
    print("{}\n", to_json(document));
    return kExitOk;
  }
  const auto words = [](const Json& list) {
    std::string text;
    for (const Json& item : list) text += (text.empty() ? "" : " ") + item.get<std::string>();
    return text;
  };
  print("{}\n", version_line());
  print("compiler   {}\nISA        {}\nformats    {}\n", kCompiler, words(document["isa"]),
        words(document["formats"]));
  for (const auto& [name, text] : document["libraries"].items())
    print("{:<10} {}\n", name, text.get<std::string>());
  return kExitOk;
}

}  // namespace

std::string build_commit() { return RUVLTRA_COMMIT; }

std::string version_line() {
  const std::string commit = build_commit();
  return fmt::format("ruvltra {}{}", RUVLTRA_VERSION, commit.empty() ? "" : " (" + commit + ")");
}

void add_version_verb(Program& program) {
  auto options = std::make_shared<Options>();
  CLI::App& app = program.add_verb("version", "Version, compiler, instruction sets, formats, libraries",
                                   "  ruvltra version\n  ruvltra version --json\n",
                                   [options] { return version(*options); });
  app.add_flag("--json", options->json, "One JSON document");
}

}  // namespace ruvltra
