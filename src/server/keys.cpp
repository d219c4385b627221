#include "server/keys.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <sstream>

#include "base/fail.h"
#include "base/num.h"

namespace ruvltra {
namespace {

constexpr size_t kMaxKeys = 1024;

std::string lowered(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

bool parse_digest(std::string_view hex, Sha256Digest& digest) {
  if (hex.size() != 2 * digest.size()) return false;
  for (size_t i = 0; i < digest.size(); ++i) {
    const int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    digest[i] = static_cast<uint8_t>(16 * high + low);
  }
  return true;
}

Sha256Digest digest_of(std::string_view key) {
  return sha256({reinterpret_cast<const uint8_t*>(key.data()), key.size()});
}

// "name:port", "[v6]:port" -> the name; empty if it is not of that form.
std::string_view without_port(std::string_view host) {
  const size_t colon = host.starts_with('[') ? host.find(':', host.find(']') + 1) : host.find(':');
  if (host.starts_with('[') && host.find(']') == std::string_view::npos) return {};
  if (colon == std::string_view::npos) return host;
  const std::string_view port = host.substr(colon + 1);
  if (port.empty() || port.size() > 5 ||
      !std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return {};
  return host.substr(0, colon);
}

bool is_this_machine(std::string_view name) {
  if (name == "localhost" || name == "[::1]") return true;
  if (!name.starts_with("127.")) return false;
  // Four decimal numbers: "127.evil.example" is a name.
  int n_parts = 0;
  for (size_t at = 0; at <= name.size(); ++n_parts) {
    const size_t end = std::min(name.find('.', at), name.size());
    const std::string_view part = name.substr(at, end - at);
    if (part.empty() || part.size() > 3 ||
        !std::all_of(part.begin(), part.end(), [](char c) { return c >= '0' && c <= '9'; }))
      return false;
    at = end + 1;
  }
  return n_parts == 4;
}

}  // namespace

ApiKey make_key(std::string_view key, std::string tenant, bool admin) {
  return {std::move(tenant), digest_of(key), admin};
}

Result<std::vector<ApiKey>> parse_keys(std::string_view text, std::string_view source) {
  std::vector<ApiKey> keys;
  std::istringstream lines{std::string(text)};
  std::string line;
  for (int number = 1; std::getline(lines, line); ++number) {
    std::istringstream words(line);
    std::string tenant, key, role, rest;
    words >> tenant;
    if (tenant.empty() || tenant.starts_with('#')) continue;
    words >> key >> role >> rest;
    const auto wrong = [&](std::string_view what) {
      return fail(ErrorKind::kUsage, "server.keys", "{}: line {}: expected TENANT KEY [admin], found {}",
                  source, number, what);
    };
    if (key.empty()) return wrong("no key");
    if (tenant.size() > 64) return wrong("a tenant longer than 64 bytes");
    if (!rest.empty() || (!role.empty() && role != "admin")) return wrong("more words");
    ApiKey parsed{tenant, {}, role == "admin"};
    if (key.starts_with("sha256:")) {
      if (!parse_digest(std::string_view(key).substr(7), parsed.digest))
        return wrong("sha256: without 64 hexadecimal digits");
    } else {
      parsed.digest = digest_of(key);
    }
    if (keys.size() == kMaxKeys) return wrong("more than 1,024 keys");
    keys.push_back(std::move(parsed));
  }
  if (keys.empty())
    return fail(ErrorKind::kUsage, "server.keys", "{}: expected at least one key, found none", source);
  return keys;
}

const ApiKey* find_key(std::span<const ApiKey> keys, std::string_view key) {
  const Sha256Digest digest = digest_of(key);
  const ApiKey* found = nullptr;
  for (const ApiKey& candidate : keys) {
    const bool same = CRYPTO_memcmp(candidate.digest.data(), digest.data(), digest.size()) == 0;
    found = same ? &candidate : found;
  }
  return found;
}

bool is_allowed_host(std::string_view host, std::span<const std::string> allowed) {
  const std::string whole = lowered(host);
  const std::string_view name = without_port(whole);
  if (name.empty()) return false;
  if (is_this_machine(name)) return true;
  return std::any_of(allowed.begin(), allowed.end(), [&](const std::string& entry) {
    const std::string wanted = lowered(entry);
    return whole == wanted || name == wanted;
  });
}

bool is_allowed_origin(std::string_view origin, std::string_view host, std::span<const std::string> allowed) {
  const std::string from = lowered(origin), own = lowered(host);
  if (from == "http://" + own || from == "https://" + own) return true;
  return std::any_of(allowed.begin(), allowed.end(),
                     [&](const std::string& entry) { return lowered(entry) == from; });
}

}  // namespace ruvltra
