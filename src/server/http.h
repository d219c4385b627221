// HTTP as the server's faces see it: a request that is complete, and one way to answer it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ruvltra/error.h"

namespace ruvltra {

struct HttpHeader {
  std::string name, value;
};

struct HttpRequest {
  std::string method = {};  // "GET", "POST", ...
  std::string path = {};    // as sent, without the query
  std::string query = {};
  std::vector<HttpHeader> headers = {};
  std::string body = {};
  std::string peer = {};  // address of the client
  std::string id = {};    // x-request-id, the client's or one made for it
  // The first header of that name, in any case; empty without one.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type = "application/json";
  std::string body = {};
  std::vector<HttpHeader> headers = {};  // besides type, length, request id and what keeps connections
};

// {"error": {message, type, param, code}}, with the type that belongs to the status; empty code and param are
// null.
HttpResponse error_response(int status, std::string_view message, std::string_view code = {},
                            std::string_view param = {});
// The name of a status in the field "type".
std::string_view error_type(int status);
std::string_view status_text(int status);

// Sizes in bytes, times in seconds (reliability.md section 9 of the design; docs/server.md).
struct HttpLimits {
  size_t max_request_line = 8 << 10, max_head = 16 << 10, max_fields = 64;
  size_t max_body = 4 << 20;
  double head_seconds = 10, body_seconds = 30, keep_alive_seconds = 60, stalled_write_seconds = 30;
  size_t max_connections = 2048, max_per_address = 128;  // the latter not of this machine's own
};

class Connection;

// A request and the answer to it, which begins once and ends once; one dropped without an answer gets 500.
//
// Thread safety: all functions from any thread; what is written from one thread keeps its order.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  Exchange(std::shared_ptr<Connection> connection, HttpRequest request);
  ~Exchange();
  Exchange(const Exchange&) = delete;
  Exchange& operator=(const Exchange&) = delete;

  HttpRequest& request() { return request_; }
  const HttpRequest& request() const { return request_; }

  // For whatever answer comes; before there is one.
  void add_headers(std::vector<HttpHeader> headers) { more_headers_ = std::move(headers); }
  void respond(HttpResponse response);
  // An answer in pieces: the head (its body is ignored), pieces, the end.
  void begin(HttpResponse head);
  void write(std::string piece);
  void end();
  // Sent whenever nothing else was for so long, until the end.
  void keep_awake(std::string piece, double seconds);

  bool begun() const;
  bool closed() const;     // nobody reads it any more
  size_t backlog() const;  // bytes written that the client has not taken
  // Called once, on the server's thread, when the client goes away before the end; at once if it has.
  void when_closed(std::function<void()> call);
  // Called on the server's thread, once, when the backlog is gone.
  void when_drained(std::function<void()> call);
  // Runs on the server's thread, at once or later.
  void post(std::function<void()> call);
  void after(double seconds, std::function<void()> call);

 private:
  const std::shared_ptr<Connection> connection_;
  const uint64_t serial_;
  HttpRequest request_;
  std::vector<HttpHeader> more_headers_;
};

struct HttpStats {
  size_t n_connections = 0;
  size_t n_exchanges = 0;      // requests that have no complete answer yet
  uint64_t n_disconnects = 0;  // clients that went away before the end
};

// Listens on one address. One thread does all reading and writing; handlers run on a few others and may
// block, as long as they return.
//
// Thread safety: all functions from any thread.
class HttpServer {
 public:
  struct Options {
    std::string host = "127.0.0.1";
    int port = 0;  // 0: any free one
    int n_workers = 8;
    HttpLimits limits = {};
  };
  // On the server's thread, when only the head is there: whatever it answers ends the request.
  using Screen = std::function<bool(const HttpRequest& head, HttpResponse& refusal)>;
  using Handler = std::function<void(std::shared_ptr<Exchange> exchange)>;
  // Of every answer, with its status, when it begins.
  using Tally = std::function<void(const HttpRequest& request, int status)>;

  // Errors: server.address (usage), server.listen.
  static Result<std::unique_ptr<HttpServer>> listen(const Options& options, Screen screen, Handler handler,
                                                    Tally tally);
  ~HttpServer();  // closes everything

  int port() const;
  // No new connections, and none is kept after its present answer.
  void drain();
  HttpStats stats() const;

 private:
  struct Impl;
  friend class Connection;
  explicit HttpServer(std::shared_ptr<Impl> impl);
  const std::shared_ptr<Impl> impl_;
};

}  // namespace ruvltra
