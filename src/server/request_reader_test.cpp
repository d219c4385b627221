#include "server/request_reader.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "server/requests_for_test.h"

namespace ruvltra {
namespace {

std::string post(const std::string& fields, const std::string& body) {
  return "POST /x HTTP/1.1\r\nHost: a\r\n" + fields + "\r\n" + body;
}

// The status of the first refusal; 0 without one.
int status_of(const std::string& bytes) { return read_all(bytes, bytes.size()).refusal; }

TEST(RequestReader, ReadsRequestsOneAfterAnother) {
  const std::string bytes =
      "\r\n\r\nGET /a?b=c HTTP/1.1\r\nHost: x\r\nX-One:  two \r\n\r\n" +
      post("content-length: 3\r\n", "abc") +
      post("Transfer-Encoding: Chunked\r\n", "2;e=\"1\"\r\nab\r\n01\r\nc\r\n0\r\nx-t: 1\r\n\r\n") +
      "HEAD / HTTP/1.0\r\n\r\n";
  const ReadRequests all = read_all(bytes, bytes.size());
  ASSERT_EQ(all.refusal, 0);
  ASSERT_EQ(all.requests.size(), 4U);
  EXPECT_EQ(all.requests[0].method, "GET");
  EXPECT_EQ(all.requests[0].path, "/a");
  EXPECT_EQ(all.requests[0].query, "b=c");
  EXPECT_EQ(all.requests[0].header("x-oNE"), "two");
  EXPECT_EQ(all.requests[1].body, "abc");
  EXPECT_EQ(all.requests[2].body, "abc");
  EXPECT_EQ(all.requests[2].header("x-t"), "");  // trailers are dropped
  EXPECT_EQ(all.keeps, (std::vector<bool>{true, true, true, false}));
}

TEST(RequestReader, EverySplitReadsTheSame) {
  const std::vector<std::string> samples = {
      "\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
      post("Content-Length: 5\r\n", "hello") +
          post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\na: b\r\n\r\n"),
      post("Transfer-Encoding: chunked\r\n", "3\r\nabcd\r\n0\r\n\r\n"),
      post("Transfer-Encoding: chunked\r\n", "3;a\nb\r\nabc\r\n0\r\n\r\n"),
      "GET / HTTP/1.1\r\nHost: x\r\nA: b\rc\r\n\r\n",
      "GET / HTTP/1.1\nHost: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n",
      "GET /" + std::string(40, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n",
      "GET / HTTP/1.1\r\nHost: x\r\nA: " + std::string(200, 'b') + "\n\r\n\r\n",
  };
  HttpLimits limits;
  limits.max_request_line = 40;
  limits.max_head = 160;
  for (const std::string& bytes : samples) {
    const ReadRequests whole = read_all(bytes, bytes.size(), limits);
    EXPECT_EQ(read_all(bytes, 1, limits), whole) << bytes;
    for (size_t at = 1; at < bytes.size(); ++at)
      EXPECT_EQ(read_in_two(bytes, at, limits), whole) << bytes << " at " << at;
  }
}

TEST(RequestReader, LimitsAreExact) {
  HttpLimits limits;
  limits.max_request_line = 30;
  limits.max_head = 80;
  limits.max_fields = 2;
  limits.max_body = 10;
  const auto status = [&](const std::string& bytes) {
    EXPECT_EQ(read_all(bytes, 1, limits), read_all(bytes, bytes.size(), limits));
    return read_all(bytes, bytes.size(), limits).refusal;
  };
  const auto line = [](size_t n) {
    return "GET /" + std::string(n - 14, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n";
  };
  EXPECT_EQ(status(line(30)), 0);
  EXPECT_EQ(status(line(31)), 414);
  EXPECT_EQ(status(std::string(32, 'A')), 414);
  EXPECT_EQ(status(std::string(31, 'A')), 0);  // a CR may follow
  const std::string head = "GET / HTTP/1.1\r\nHost: x\r\nA: ";
  EXPECT_EQ(status(head + std::string(80 - head.size() - 4, 'b') + "\r\n\r\n"), 0);
  EXPECT_EQ(status(head + std::string(81 - head.size() - 4, 'b') + "\r\n\r\n"), 431);
  EXPECT_EQ(status(head + std::string(81, 'b')), 431);
  EXPECT_EQ(status(head + "b\r\nC: d\r\n\r\n"), 431);
  EXPECT_EQ(status(post("Content-Length: 10\r\n", std::string(10, 'a'))), 0);
  EXPECT_EQ(status(post("Content-Length: 11\r\n", "")), 413);
  EXPECT_EQ(status(post("Transfer-Encoding: chunked\r\n", "a\r\n0123456789\r\n0\r\n\r\n")), 0);
  EXPECT_EQ(status(post("Transfer-Encoding: chunked\r\n", "b\r\n")), 413);
  EXPECT_EQ(status(post("Transfer-Encoding: chunked\r\n", "9\r\n012345678\r\n2\r\n")), 413);
}

TEST(RequestReader, RefusesWhatTwoReadersCouldTakeForDifferentThings) {
  const std::string good = "GET / HTTP/1.1\r\nHost: x\r\n";
  EXPECT_EQ(status_of(good + "\r\n"), 0);
  for (const char* fields : {"A : b\r\n", " A: b\r\n", "A: b\r\n c\r\n", "A\r\n", ": b\r\n", "A: \1\r\n",
                             "A: b\nC: d\r\n", "A: b\rC: d\r\n", "Host: x\r\n", "A\x7f: b\r\n", "A(: b\r\n"})
    EXPECT_EQ(status_of(good + fields + "\r\n"), 400) << fields;
  for (const char* fields :
       {"Content-Length: 1\r\nContent-Length: 1\r\n", "Content-Length: 1, 1\r\n", "Content-Length: +1\r\n",
        "Content-Length: -1\r\n", "Content-Length: 0x1\r\n", "Content-Length:\r\n",
        "Content-Length: 99999999999999999999\r\n", "Content-Length: 1\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"})
    EXPECT_EQ(status_of(post(fields, "1\r\na\r\n0\r\n\r\n")), 400) << fields;
  for (const char* encoding : {"gzip", "chunked, chunked", "gzip, chunked", "identity", "xchunked", ""})
    EXPECT_EQ(status_of(post("Transfer-Encoding: " + std::string(encoding) + "\r\n", "0\r\n\r\n")), 501)
        << encoding;
  for (const char* body :
       {"g\r\n", "-1\r\na\r\n", "0x1\r\na\r\n", " 1\r\na\r\n", "1 \r\na\r\n", "\r\n", ";a\r\n", "1\na\r\n",
        "1\ra\r\n", "1;a\nb\r\na\r\n", "1\r\nab\r\n", "1\r\na\n0\r\n\r\n", "11111111111111111\r\n", "0\r\n\n",
        "0\r\na\r\n\r\n", "0\r\na: b\n\r\n", "0\r\na: b\r\n c\r\n\r\n", "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nHost: b\r\n\r\n"})
    EXPECT_EQ(status_of(post("Transfer-Encoding: chunked\r\n", body)), 400) << body;
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\n\r\n"), 505);
  EXPECT_EQ(status_of("GET /\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);  // no Host
  EXPECT_EQ(status_of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET http://x/ HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
  EXPECT_EQ(status_of(post("Expect: money\r\n", "")), 417);
}

TEST(RequestReader, TrailersAreBounded) {
  std::string many = "0\r\n", long_one = "0\r\na: " + std::string(9000, 'b') + "\r\n\r\n";
  for (int i = 0; i < 66; ++i) many += "a: b\r\n";
  EXPECT_EQ(status_of(post("Transfer-Encoding: chunked\r\n", many + "\r\n")), 431);
  EXPECT_EQ(status_of(post("Transfer-Encoding: chunked\r\n", long_one)), 431);
}

TEST(RequestReader, HeadComesBeforeTheBody) {
  RequestReader reader{HttpLimits()};
  std::string in = post("Expect: 100-continue\r\nContent-Length: 2\r\n", "");
  EXPECT_EQ(reader.feed(in), RequestReader::Step::kHead);
  EXPECT_TRUE(reader.wants_continue());
  EXPECT_EQ(reader.request().path, "/x");
  EXPECT_EQ(reader.feed(in), RequestReader::Step::kNeedsMore);
  in = "abGET";
  EXPECT_EQ(reader.feed(in), RequestReader::Step::kComplete);
  EXPECT_EQ(reader.request().body, "ab");
  EXPECT_EQ(in, "GET");
}

}  // namespace
}  // namespace ruvltra
