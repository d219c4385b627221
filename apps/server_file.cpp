#include "server_file.h"

#include "base/file.h"
#include "server/http_client.h"

namespace ruvltra {
namespace {

constexpr const char* kName = "server.url";

}  // namespace

ServerFile::ServerFile(const std::filesystem::path& data_dir, const std::string& url)
    : file_(data_dir / kName) {
  std::error_code ignored;
  std::filesystem::create_directories(data_dir, ignored);
  // Only a convenience: without it other programs are told that the folder is taken.
  auto out = OutputFile::create(file_, true);
  if (!out) return;
  const std::string line = url + "\n";
  if (out->write({reinterpret_cast<const uint8_t*>(line.data()), line.size()})) (void)out->commit();
}

ServerFile::~ServerFile() {
  std::error_code ignored;
  std::filesystem::remove(file_, ignored);
}

std::string url_of_running_server(const std::filesystem::path& data_dir) {
  const auto text = read_text_file(data_dir / kName, 4096);
  if (!text) return {};
  const std::string url = text->substr(0, text->find('\n'));
  const auto reply = http_call("GET", url, "/health", "", {});
  return reply && reply->status == 200 ? url : std::string();
}

}  // namespace ruvltra
