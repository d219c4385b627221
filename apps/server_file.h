// The file in the data folder by which other programs find the server that owns it.
#pragma once

#include <filesystem>
#include <string>

namespace ruvltra {

// Written when the server is ready, removed when it ends.
class ServerFile {
 public:
  ServerFile(const std::filesystem::path& data_dir, const std::string& url);
  ~ServerFile();
  ServerFile(const ServerFile&) = delete;
  ServerFile& operator=(const ServerFile&) = delete;

 private:
  const std::filesystem::path file_;
};

// Empty if there is none, or if it does not answer.
std::string url_of_running_server(const std::filesystem::path& data_dir);

}  // namespace ruvltra
