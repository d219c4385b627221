// The web page (ui/), compiled into the program: nothing is fetched from elsewhere, nothing is read from
// disk.
#include <algorithm>

#include "base/sha256.h"
#include "server/status_routes.h"

// ruvltra_page() of CMakeLists.txt defines the paths of ui/dist and of its compressed copies.
#define RUVLTRA_BYTES(name, path)                                                                        \
  __asm__(".section .rodata\n.balign 16\nruvltra_" #name "_begin:\n.incbin \"" path "\"\nruvltra_" #name \
          "_end:\n.byte 0\n.previous\n");                                                                \
  extern "C" const char name##_begin[] __asm__("ruvltra_" #name "_begin")                                \
      __attribute__((visibility("hidden")));                                                             \
  extern "C" const char name##_end[] __asm__("ruvltra_" #name "_end") __attribute__((visibility("hidden")));

RUVLTRA_BYTES(index_html, RUVLTRA_UI "/index.html")
RUVLTRA_BYTES(app_js, RUVLTRA_UI "/app.js")
RUVLTRA_BYTES(app_css, RUVLTRA_UI "/app.css")
RUVLTRA_BYTES(index_html_gz, RUVLTRA_UI_GZ "/index.html.gz")
RUVLTRA_BYTES(app_js_gz, RUVLTRA_UI_GZ "/app.js.gz")
RUVLTRA_BYTES(app_css_gz, RUVLTRA_UI_GZ "/app.css.gz")

namespace ruvltra {
namespace {

constexpr std::string_view kPolicy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri "
    "'none'; form-action 'none'; frame-ancestors 'none'";

struct File {
  std::string_view path, type, bytes, compressed;
  std::string etag;
};

const std::vector<File>& files() {
  static const std::vector<File> all = [] {
    std::vector<File> list = {{"/",
                               "text/html; charset=utf-8",
                               {index_html_begin, index_html_end},
                               {index_html_gz_begin, index_html_gz_end},
                               {}},
                              {"/ui/app.js",
                               "text/javascript; charset=utf-8",
                               {app_js_begin, app_js_end},
                               {app_js_gz_begin, app_js_gz_end},
                               {}},
                              {"/ui/app.css",
                               "text/css; charset=utf-8",
                               {app_css_begin, app_css_end},
                               {app_css_gz_begin, app_css_gz_end},
                               {}}};
    for (File& file : list) {
      const Sha256Digest digest =
          sha256({reinterpret_cast<const uint8_t*>(file.bytes.data()), file.bytes.size()});
      file.etag = "\"" + to_hex(digest).substr(0, 24) + "\"";
    }
    return list;
  }();
  return all;
}

}  // namespace

Handled page(Call& call) {
  const HttpRequest& request = call.request();
  const auto file =
      std::find_if(files().begin(), files().end(), [&](const File& one) { return one.path == request.path; });
  if (file == files().end() || !call.service.options().ui)
    return error_response(404, "no such route", "not_found");
  HttpResponse response{.content_type = std::string(file->type),
                        .headers = {{"ETag", file->etag},
                                    {"Cache-Control", "no-cache"},
                                    {"Content-Security-Policy", std::string(kPolicy)},
                                    {"Referrer-Policy", "no-referrer"},
                                    {"Vary", "Accept-Encoding"}}};
  if (request.header("if-none-match") == file->etag) {
    response.status = 304;
    return response;
  }
  const bool compresses = request.header("accept-encoding").find("gzip") != std::string_view::npos;
  if (compresses) response.headers.push_back({"Content-Encoding", "gzip"});
  response.body = compresses ? file->compressed : file->bytes;
  return response;
}

}  // namespace ruvltra
