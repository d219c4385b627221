#include <utility>  // before Asio 1.74, whose coroutines miss it

#include <algorithm>
#include <array>
#include <atomic>
#include <boost/asio.hpp>
#include <chrono>
#include <deque>
#include <list>
#include <optional>
#include <thread>
#include <unordered_map>
#include <unordered_set>

#include "base/fail.h"
#include "base/record_id.h"
#include "server/http.h"
#include "server/request_reader.h"

namespace ruvltra {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using ErrorCode = boost::system::error_code;
using Clock = std::chrono::steady_clock;

constexpr size_t kPieceBytes = 4 << 10;      // taken from a socket at once
constexpr size_t kMaxWriteBytes = 64 << 10;  // given to a socket at once
constexpr size_t kMaxAheadBytes = 64 << 10;  // of later requests, while one is being answered
constexpr double kTickSeconds = 0.1;         // between two looks at all deadlines
constexpr double kLingerSeconds = 1;         // for what a refused client still sends

Clock::time_point from_now(double seconds) {
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// What an id of a client may hold to be repeated in a header.
bool is_plain(std::string_view text) {
  return !text.empty() && text.size() <= 128 &&
         std::all_of(text.begin(), text.end(), [](char c) { return c > 0x20 && c < 0x7f; });
}

}  // namespace

// What the connections of a server share. Everything but the counters belongs to the server's thread.
struct HttpServer::Impl : std::enable_shared_from_this<HttpServer::Impl> {
  Options options;
  Screen screen;
  Handler handler;
  Tally tally;
  asio::io_context io{1};
  tcp::acceptor acceptor{io};
  asio::steady_timer tick{io}, pause{io};
  int bound_port = 0;
  std::unordered_set<std::shared_ptr<Connection>> connections;
  std::unordered_map<std::string, size_t> n_by_address;
  std::atomic<bool> draining = false;
  std::atomic<size_t> n_connections = 0, n_exchanges = 0;
  std::atomic<uint64_t> n_disconnects = 0;
  std::optional<asio::thread_pool> workers;
  std::thread thread;

  void accept();
  void admit(tcp::socket socket);
  void look_at_deadlines();
  void forget(const std::shared_ptr<Connection>& connection);
};

// One client. Lives on the server's thread; the counters and flags that others read are atomic.
class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<HttpServer::Impl> server, tcp::socket socket, std::string peer, bool is_local)
      : shared_server_(std::move(server)),
        server_(*shared_server_),
        socket_(std::move(socket)),
        reader_(server_.options.limits),
        peer_(std::move(peer)),
        is_local_(is_local) {}

  void start() {
    deadline_ = from_now(limits().head_seconds);
    read();
  }
  const std::string& peer() const { return peer_; }
  bool is_local() const { return is_local_; }
  // Whether it has sent no complete head: what may be closed to make room.
  bool has_no_request() const { return !working_ && !head_seen_; }
  Clock::time_point since() const { return since_; }
  bool is_working() const { return working_; }
  asio::io_context& io() { return server_.io; }

  void close();
  void check(Clock::time_point now);
  void close_if_idle() {
    if (!working_ && !reader_.begun() && out_.empty()) close();
  }

  // Of the exchange with this number, while it is the present one; all on the server's thread.
  bool serves(uint64_t serial) const { return working_ && !gone_ && serial == serial_; }
  void respond(const HttpRequest& request, HttpResponse response);
  void begin(const HttpRequest& request, const HttpResponse& head, std::optional<size_t> n_bytes);
  void write_piece(std::string piece);
  void end();
  void dropped(const HttpRequest& request);
  void keep_awake(std::string piece, double seconds) {
    awake_piece_ = std::move(piece);
    awake_seconds_ = seconds;
    last_write_ = Clock::now();
  }
  void when_closed(std::function<void()> call) { on_closed_ = std::move(call); }
  void when_drained(std::function<void()> call) {
    if (backlog_ == 0) return call();
    on_drained_ = std::move(call);
  }

  std::atomic<uint64_t> serial_ = 0;  // grows when an exchange begins and when it ends
  std::atomic<bool> begun_ = false, gone_ = false;
  std::atomic<size_t> backlog_ = 0;

 private:
  const HttpLimits& limits() const { return server_.options.limits; }
  void read();
  void advance();
  void take_head();
  void hand_over();
  void refuse(const HttpResponse& response);
  void write(std::string bytes);
  void flush();
  void answered();
  void finish_and_close();
  void lost();

  const std::shared_ptr<HttpServer::Impl> shared_server_;  // outlives the last exchange
  HttpServer::Impl& server_;
  tcp::socket socket_;
  RequestReader reader_;
  const std::string peer_;
  const bool is_local_;
  const Clock::time_point since_ = Clock::now();

  std::array<char, kPieceBytes> piece_;
  std::string in_;
  bool reading_ = false;
  bool head_seen_ = false;  // of the present request
  bool working_ = false;    // an exchange is out
  bool closing_ = false;    // after what is being written
  bool keep_alive_ = false, chunked_ = false, no_body_ = false;
  std::optional<Clock::time_point> deadline_;

  std::deque<std::string> out_;
  bool writing_ = false;
  Clock::time_point last_write_ = Clock::now();
  std::string awake_piece_;
  double awake_seconds_ = 0;
  std::function<void()> on_closed_, on_drained_;
};

void Connection::read() {
  if (reading_ || gone_ || (working_ && in_.size() > kMaxAheadBytes)) return;
  reading_ = true;
  socket_.async_read_some(asio::buffer(piece_), [self = shared_from_this()](ErrorCode error, size_t n) {
    self->reading_ = false;
    if (error) return self->lost();
    if (self->closing_) {
      if (!self->gone_) self->read();  // to its end: a close with unread bytes would take back the answer
      return;
    }
    self->in_.append(self->piece_.data(), n);
    if (!self->working_) self->advance();
    self->read();
  });
}

void Connection::advance() {
  while (!working_ && !closing_ && !gone_) {
    const bool had_begun = reader_.begun();
    const RequestReader::Step step = reader_.feed(in_);
    if (!had_begun && reader_.begun()) deadline_ = from_now(limits().head_seconds);
    if (step == RequestReader::Step::kNeedsMore) return;
    if (step == RequestReader::Step::kRefused) return refuse(reader_.refusal());
    if (step == RequestReader::Step::kHead) take_head();
    if (step == RequestReader::Step::kComplete) hand_over();
  }
}

void Connection::take_head() {
  head_seen_ = true;
  deadline_ = from_now(limits().body_seconds);
  HttpRequest& request = reader_.request();
  request.peer = peer_;
  request.id = std::string(request.header("x-request-id"));
  if (!is_plain(request.id)) request.id = new_record_id().text();
  HttpResponse refusal;
  if (!server_.screen(request, refusal)) return refuse(refusal);
  if (reader_.wants_continue()) write("HTTP/1.1 100 Continue\r\n\r\n");
}

void Connection::hand_over() {
  working_ = true;
  begun_ = false;
  ++serial_;
  ++server_.n_exchanges;
  deadline_.reset();
  keep_alive_ = reader_.keep_alive() && !server_.draining;
  auto exchange = std::make_shared<Exchange>(shared_from_this(), std::move(reader_.request()));
  asio::post(*server_.workers, [&handler = server_.handler, exchange = std::move(exchange)] {
    // Memory that is not there, or a fault of ours, ends this request, and no other.
    try {
      handler(exchange);
    } catch (const std::exception&) {
      exchange->respond(error_response(500, "the request could not be answered", "internal_error"));
    }
  });
}

// Before there is an exchange: the answer is the last one of the connection.
void Connection::refuse(const HttpResponse& response) {
  const HttpRequest request = std::move(reader_.request());
  keep_alive_ = false;
  closing_ = true;
  begin(request, response, response.body.size());
  if (!no_body_) write(response.body);
  if (out_.empty()) finish_and_close();
}

void Connection::respond(const HttpRequest& request, HttpResponse response) {
  if (begun_) return;
  begin(request, response, response.body.size());
  if (!no_body_ && !response.body.empty()) write(std::move(response.body));
  answered();
}

void Connection::begin(const HttpRequest& request, const HttpResponse& head, std::optional<size_t> n_bytes) {
  if (gone_ || begun_) return;
  const bool has_length = n_bytes.has_value();
  begun_ = true;
  no_body_ = request.method == "HEAD" || head.status == 204 || head.status == 304;
  chunked_ = !has_length && !reader_.is_http_1_0();
  if (!has_length && reader_.is_http_1_0()) keep_alive_ = false;
  if (server_.draining) keep_alive_ = false;
  server_.tally(request, head.status);
  std::string text = fmt::format("HTTP/1.1 {} {}\r\n", head.status, status_text(head.status));
  const auto field = [&](std::string_view name, std::string_view value) {
    text.append(name).append(": ").append(value).append("\r\n");
  };
  if (!head.content_type.empty() && head.status != 204) field("Content-Type", head.content_type);
  if (has_length && head.status != 204 && head.status != 304)
    field("Content-Length", std::to_string(*n_bytes));
  if (chunked_) field("Transfer-Encoding", "chunked");
  field("Connection", keep_alive_ ? "keep-alive" : "close");
  field("X-Content-Type-Options", "nosniff");
  if (!request.id.empty()) field("X-Request-Id", request.id);
  for (const HttpHeader& header : head.headers) field(header.name, header.value);
  text += "\r\n";
  write(std::move(text));
}

void Connection::write_piece(std::string piece) {
  if (!begun_ || piece.empty() || no_body_) return;
  write(chunked_ ? fmt::format("{:x}\r\n{}\r\n", piece.size(), piece) : std::move(piece));
}

void Connection::end() {
  if (!begun_) return;
  if (chunked_ && !no_body_) write("0\r\n\r\n");
  answered();
}

void Connection::dropped(const HttpRequest& request) {
  if (!begun_) return respond(request, error_response(500, "the request was dropped without an answer"));
  // A half answer must not look like a whole one.
  close();
}

void Connection::answered() {
  working_ = false;
  ++serial_;
  begun_ = false;
  --server_.n_exchanges;
  head_seen_ = false;
  awake_seconds_ = 0;
  on_closed_ = nullptr;
  if (!keep_alive_) {
    closing_ = true;
    if (out_.empty()) finish_and_close();
    return;
  }
  reader_.next();
  deadline_ = from_now(limits().keep_alive_seconds);
  asio::post(server_.io, [self = shared_from_this()] {
    self->advance();
    self->read();
  });
}

void Connection::write(std::string bytes) {
  if (gone_ || bytes.empty()) return;
  if (out_.empty()) last_write_ = Clock::now();
  backlog_ += bytes.size();
  out_.push_back(std::move(bytes));
  // Not at once: what one call of the handler writes goes out together.
  if (!writing_) {
    writing_ = true;
    asio::post(server_.io, [self = shared_from_this()] { self->flush(); });
  }
}

void Connection::flush() {
  if (gone_) return out_.clear();
  if (out_.empty()) {
    writing_ = false;
    return;
  }
  std::vector<asio::const_buffer> buffers;
  const size_t n_pieces = std::min<size_t>(out_.size(), 64);
  for (size_t i = 0; i < n_pieces; ++i) buffers.emplace_back(out_[i].data(), out_[i].size());
  // A client that takes a large piece little by little is slow, not gone.
  const auto note_progress = [self = shared_from_this()](const ErrorCode& error, size_t) -> size_t {
    self->last_write_ = Clock::now();
    return error ? 0 : kMaxWriteBytes;
  };
  const auto written = [self = shared_from_this(), n_pieces](ErrorCode error, size_t n) {
    // What was written in full may be told of only after the connection was closed.
    if (self->gone_) return self->out_.clear();
    if (error) return self->lost();
    self->backlog_ -= n;
    self->out_.erase(self->out_.begin(), self->out_.begin() + static_cast<ptrdiff_t>(n_pieces));
    if (!self->out_.empty()) return self->flush();
    self->writing_ = false;
    if (self->on_drained_) std::exchange(self->on_drained_, nullptr)();
    if (self->closing_ && self->out_.empty()) self->finish_and_close();
  };
  asio::async_write(socket_, buffers, note_progress, written);
}

// Says that nothing more comes, and waits a little for the client to do the same.
void Connection::finish_and_close() {
  ErrorCode ignored;
  socket_.shutdown(tcp::socket::shutdown_send, ignored);
  deadline_ = from_now(kLingerSeconds);
  in_.clear();
  read();
}

void Connection::lost() {
  if (gone_) return;
  if (working_) ++server_.n_disconnects;
  close();
}

void Connection::close() {
  if (gone_.exchange(true)) return;
  if (working_) --server_.n_exchanges;
  ErrorCode ignored;
  socket_.close(ignored);
  if (!writing_) out_.clear();  // else a write still points into it
  backlog_ = 0;
  server_.forget(shared_from_this());
  if (on_closed_) std::exchange(on_closed_, nullptr)();
  if (on_drained_) std::exchange(on_drained_, nullptr)();
}

void Connection::check(Clock::time_point now) {
  if (!out_.empty() && now > last_write_ + std::chrono::duration<double>(limits().stalled_write_seconds))
    return lost();
  if (awake_seconds_ > 0 && out_.empty() &&
      now > last_write_ + std::chrono::duration<double>(awake_seconds_)) {
    last_write_ = now;
    write_piece(awake_piece_);
  }
  if (!deadline_ || now < *deadline_ || working_) return;
  if (closing_ || !reader_.begun() || !out_.empty()) return close();
  refuse(error_response(408,
                        head_seen_ ? "the body did not arrive in time" : "the head did not arrive in time",
                        "request_timeout"));
}

Exchange::Exchange(std::shared_ptr<Connection> connection, HttpRequest request)
    : connection_(std::move(connection)), serial_(connection_->serial_), request_(std::move(request)) {}

Exchange::~Exchange() {
  asio::post(connection_->io(), [connection = connection_, serial = serial_, request = std::move(request_)] {
    if (connection->serves(serial)) connection->dropped(request);
  });
}

void Exchange::respond(HttpResponse response) {
  response.headers.insert(response.headers.end(), more_headers_.begin(), more_headers_.end());
  asio::dispatch(connection_->io(), [self = shared_from_this(), response = std::move(response)]() mutable {
    if (self->connection_->serves(self->serial_))
      self->connection_->respond(self->request_, std::move(response));
  });
}

void Exchange::begin(HttpResponse head) {
  head.headers.insert(head.headers.end(), more_headers_.begin(), more_headers_.end());
  asio::dispatch(connection_->io(), [self = shared_from_this(), head = std::move(head)] {
    if (self->connection_->serves(self->serial_))
      self->connection_->begin(self->request_, head, std::nullopt);
  });
}

void Exchange::write(std::string piece) {
  asio::dispatch(connection_->io(), [self = shared_from_this(), piece = std::move(piece)]() mutable {
    if (self->connection_->serves(self->serial_)) self->connection_->write_piece(std::move(piece));
  });
}

void Exchange::end() {
  asio::dispatch(connection_->io(), [self = shared_from_this()] {
    if (self->connection_->serves(self->serial_)) self->connection_->end();
  });
}

void Exchange::keep_awake(std::string piece, double seconds) {
  asio::dispatch(connection_->io(), [self = shared_from_this(), piece = std::move(piece), seconds]() mutable {
    if (self->connection_->serves(self->serial_)) self->connection_->keep_awake(std::move(piece), seconds);
  });
}

bool Exchange::begun() const { return connection_->begun_ || closed(); }
bool Exchange::closed() const { return connection_->gone_ || connection_->serial_ != serial_; }
size_t Exchange::backlog() const { return connection_->backlog_; }

void Exchange::when_closed(std::function<void()> call) {
  asio::dispatch(connection_->io(), [self = shared_from_this(), call = std::move(call)]() mutable {
    if (self->connection_->gone_) return call();
    if (self->connection_->serves(self->serial_)) self->connection_->when_closed(std::move(call));
  });
}

void Exchange::when_drained(std::function<void()> call) {
  asio::dispatch(connection_->io(), [self = shared_from_this(), call = std::move(call)]() mutable {
    if (!self->connection_->serves(self->serial_)) return call();
    self->connection_->when_drained(std::move(call));
  });
}

void Exchange::post(std::function<void()> call) { asio::post(connection_->io(), std::move(call)); }

void Exchange::after(double seconds, std::function<void()> call) {
  auto timer = std::make_shared<asio::steady_timer>(connection_->io());
  timer->expires_after(std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds)));
  timer->async_wait([timer, call = std::move(call)](ErrorCode error) {
    if (!error) call();
  });
}

void HttpServer::Impl::accept() {
  acceptor.async_accept([self = shared_from_this()](ErrorCode error, tcp::socket socket) {
    if (!self->acceptor.is_open()) return;
    if (!error) {
      self->admit(std::move(socket));
      return self->accept();
    }
    // No descriptor is free, or the client was gone already: not to be tried in a loop.
    self->pause.expires_after(std::chrono::milliseconds(20));
    self->pause.async_wait([self](ErrorCode stopped) {
      if (!stopped && self->acceptor.is_open()) self->accept();
    });
  });
}

void HttpServer::Impl::admit(tcp::socket socket) {
  ErrorCode error;
  const tcp::endpoint from = socket.remote_endpoint(error);
  if (error) return;
  const std::string peer = from.address().to_string();
  const bool is_local = from.address().is_loopback();
  if (!is_local && n_by_address[peer] >= options.limits.max_per_address) return;  // closes it
  if (connections.size() >= options.limits.max_connections) {
    std::shared_ptr<Connection> oldest;
    for (const auto& connection : connections)
      if (connection->has_no_request() && (!oldest || connection->since() < oldest->since()))
        oldest = connection;
    if (!oldest) return;
    oldest->close();
  }
  socket.set_option(tcp::no_delay(true), error);
  ++n_by_address[peer];
  auto connection = std::make_shared<Connection>(shared_from_this(), std::move(socket), peer, is_local);
  connections.insert(connection);
  n_connections = connections.size();
  connection->start();
}

void HttpServer::Impl::forget(const std::shared_ptr<Connection>& connection) {
  if (connections.erase(connection) == 0) return;
  n_connections = connections.size();
  const auto count = n_by_address.find(connection->peer());
  if (--count->second == 0) n_by_address.erase(count);
}

void HttpServer::Impl::look_at_deadlines() {
  tick.expires_after(
      std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(kTickSeconds)));
  tick.async_wait([self = shared_from_this()](ErrorCode error) {
    if (error) return;
    const auto now = Clock::now();
    const std::vector<std::shared_ptr<Connection>> all(self->connections.begin(), self->connections.end());
    for (const auto& connection : all) connection->check(now);
    self->look_at_deadlines();
  });
}

Result<std::unique_ptr<HttpServer>> HttpServer::listen(const Options& options, Screen screen, Handler handler,
                                                       Tally tally) {
  auto impl = std::make_shared<Impl>();
  impl->options = options;
  impl->screen = std::move(screen);
  impl->handler = std::move(handler);
  impl->tally = std::move(tally);
  ErrorCode error;
  const std::string host = options.host == "localhost" ? "127.0.0.1" : options.host;
  const asio::ip::address address = asio::ip::make_address(host, error);
  if (error) {
    return fail(ErrorKind::kUsage, "server.address", "--host: expected an IP address or localhost, found {}",
                ruvltra::quoted(options.host));
  }
  const tcp::endpoint endpoint(address, static_cast<uint16_t>(options.port));
  impl->acceptor.open(endpoint.protocol(), error);
  if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) impl->acceptor.bind(endpoint, error);
  if (!error) impl->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    return fail(ErrorKind::kIo, "server.listen", "{}:{}: cannot listen: {}", options.host, options.port,
                error.message());
  }
  impl->bound_port = impl->acceptor.local_endpoint(error).port();
  impl->workers.emplace(static_cast<size_t>(options.n_workers));
  impl->accept();
  impl->look_at_deadlines();
  impl->thread = std::thread([impl = impl.get()] {
    while (!impl->io.stopped()) {
      try {
        impl->io.run();
      } catch (const std::exception&) {
        // No memory for one piece of work: its connection runs into a deadline, the others go on.
      }
    }
  });
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() {
  asio::post(impl_->io, [impl = impl_] {
    ErrorCode ignored;
    impl->acceptor.close(ignored);
    const std::vector<std::shared_ptr<Connection>> all(impl->connections.begin(), impl->connections.end());
    for (const auto& connection : all) connection->close();
  });
  impl_->workers->join();
  impl_->io.stop();
  impl_->thread.join();
}

int HttpServer::port() const { return impl_->bound_port; }

void HttpServer::drain() {
  impl_->draining = true;
  asio::post(impl_->io, [impl = impl_] {
    ErrorCode ignored;
    impl->acceptor.close(ignored);
    const std::vector<std::shared_ptr<Connection>> all(impl->connections.begin(), impl->connections.end());
    for (const auto& connection : all) connection->close_if_idle();
  });
}

HttpStats HttpServer::stats() const {
  return {.n_connections = impl_->n_connections,
          .n_exchanges = impl_->n_exchanges,
          .n_disconnects = impl_->n_disconnects};
}

}  // namespace ruvltra
