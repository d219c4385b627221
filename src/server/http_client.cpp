#include "server/http_client.h"

#include <utility>  // before Asio 1.74, whose coroutines miss it

#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>

#include "base/fail.h"

namespace ruvltra {

Result<HttpReply> http_call(std::string_view method, const std::string& url, std::string_view path,
                            std::string_view body, const std::vector<HttpHeader>& headers) {
  namespace asio = boost::asio;
  namespace http = boost::beast::http;
  using tcp = asio::ip::tcp;
  constexpr std::string_view kScheme = "http://";
  std::string host = url.substr(std::min(kScheme.size(), url.size()));
  const size_t colon = host.rfind(':');
  if (!url.starts_with(kScheme) || colon == std::string::npos)
    return fail(ErrorKind::kUsage, "client.url", "url: expected http://HOST:PORT, found {}",
                ruvltra::quoted(url));
  const std::string port = host.substr(colon + 1);
  host.resize(colon);
  std::string name = host;
  if (name.starts_with('[') && name.ends_with(']')) name = name.substr(1, name.size() - 2);

  boost::system::error_code error;
  asio::io_context io;
  tcp::resolver resolver(io);
  tcp::socket socket(io);
  const auto endpoints = resolver.resolve(name, port, error);
  if (!error) asio::connect(socket, endpoints, error);
  if (error) return fail(ErrorKind::kIo, "client.unreachable", "{}: {}", url, error.message());
  std::string text =
      fmt::format("{} {} HTTP/1.1\r\nHost: {}:{}\r\nConnection: close\r\nContent-Length: {}\r\n", method,
                  path, host, port, body.size());
  for (const HttpHeader& header : headers) text += header.name + ": " + header.value + "\r\n";
  text += "\r\n";
  text += body;
  asio::write(socket, asio::buffer(text), error);
  if (error) return fail(ErrorKind::kIo, "client.unreachable", "{}: {}", url, error.message());
  boost::beast::flat_buffer buffer;
  http::response_parser<http::string_body> parser;
  parser.body_limit(uint64_t{64} << 20);
  http::read(socket, buffer, parser, error);
  if (error) return fail(ErrorKind::kIo, "client.answer", "{}: no complete answer: {}", url, error.message());
  return HttpReply{static_cast<int>(parser.get().result_int()), std::move(parser.get().body())};
}

}  // namespace ruvltra
