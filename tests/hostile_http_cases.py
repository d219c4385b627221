"""Requests nobody should send, and what each must get (docs/server-load.md).

    python3 tests/hostile_http_cases.py fuzz/corpus    writes short ones as seeds of http_request and chat_request
"""
import collections
import hashlib
import json
import os
import sys

# data: bytes, or a list of bytes sent one after another. statuses: what the answers may be, one set per answer of the
# connection; a set with None: closed without an answer is right, too.
Case = collections.namedtuple("Case", "name data statuses")
HOST = "127.0.0.1:8080"
CHAT = "/v1/chat/completions"
OK, BAD = {200}, {400}


def request(method="GET", target="/health", headers=(), body=b"", version="HTTP/1.1", host=HOST):
    lines = [f"{method} {target} {version}"]
    if host is not None:
        lines.append(f"Host: {host}")
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def post(target, body, headers=()):
    body = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request("POST", target, [("Content-Length", len(body)), *headers], body)


def chunked(body, target="/tokenize", headers=()):
    return request("POST", target, [("Transfer-Encoding", "chunked"), *headers], body)


class Table(list):
    def __init__(self):
        super().__init__()
        self.names = set()

    def add(self, name, data, *statuses):
        if name not in self.names:
            self.names.add(name)
            self.append(Case(name, data, [set(one) for one in statuses]))

    def add_body(self, name, target, body, statuses=BAD):
        self.add(name, post(target, body), statuses)


def request_lines(t):
    line = "request line: "
    t.add(line + "8,192 bytes", request(target="/health?" + "q" * (8192 - 21)), OK)
    t.add(line + "8,193 bytes", request(target="/health?" + "q" * (8193 - 21)), {414})
    t.add(line + "without end", b"GET /" + b"a" * 9000, {414})
    t.add(line + "16 KiB of method", b"A" * 16384 + b" / HTTP/1.1\r\n\r\n", {414})
    for text in ("GET /health", "GET", "GET /health HTTP", "GET  /health HTTP/1.1", "GET /health  HTTP/1.1",
                 " GET /health HTTP/1.1", "GET /health HTTP/1.1 ", "GET /health HTTP/1.1 HTTP/1.1", "GET HTTP/1.1",
                 "/health HTTP/1.1", "GET /a b HTTP/1.1", "GET\t/health\tHTTP/1.1", "G(T /health HTTP/1.1",
                 "GET health HTTP/1.1", "GET http://127.0.0.1/health HTTP/1.1", "GET //127.0.0.1:80 HTTP/1.1x",
                 "GET /health http/1.1", "GET /health HTTP /1.1", "G\u00cbT /health HTTP/1.1", "GET\v/health HTTP/1.1"):
        t.add(line + repr(text), text.encode() + b"\r\nHost: " + HOST.encode() + b"\r\n\r\n", {400, 505})
    t.add(line + "absolute form to another host",
          request(target="http://evil.example/health"), {400, 403})
    t.add(line + "CONNECT", request("CONNECT", "127.0.0.1:22"), {400, 404, 405})
    for version in ("HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3", "HTTP/1.10", "HTTP/01.1", "HTTP/1.1.1", "HTTP/-1.1",
                    "HTTP/1", "HTTP/11", "HTTPS/1.1", "ICY/1.1"):
        t.add(line + version, request(version=version), {400, 505})
    t.add(line + "HTTP/0.9 without version", b"GET /health\r\n\r\n", BAD)
    t.add("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505})
    t.add("TLS hello", bytes.fromhex("16030100c8010000c40303") + b"\0" * 189, BAD)
    t.add("SSH banner", b"SSH-2.0-OpenSSH_9.2\r\n\r\n", BAD)
    t.add("PROXY protocol", b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n" + request(), BAD)
    t.add(line + "HTTP/1.0 with a host", request(version="HTTP/1.0"), OK)
    t.add(line + "HTTP/1.0 without a host", request(version="HTTP/1.0", host=None), OK)
    t.add(line + "HTTP/1.0 without a host, where it matters", request(target="/v1/models", version="HTTP/1.0",
                                                                     host=None), {403})
    for n in (1, 2, 5):
        t.add(f"{n} empty lines before a request", b"\r\n" * n + request(), OK)
    t.add("empty line in two pieces", [b"\r", b"\n" + request()], OK)
    t.add("only empty lines", b"\r\n" * 2000 + request(), OK)


def methods(t):
    for method in ("PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "X", "get", "Get", "BREW", "M-SEARCH", "A" * 4000):
        t.add(f"method {method[:12]}", request(method), {405})
        t.add(f"method {method[:12]} of chat", request(method, CHAT), {405})
    t.add("method GET of chat", request("GET", CHAT), {405})
    t.add("method POST of health", request("POST", "/health", [("Content-Length", 0)]), {405})
    t.add("method OPTIONS", request("OPTIONS", CHAT), {204})
    t.add("method OPTIONS *", request("OPTIONS", "*"), {204})
    t.add("method GET *", request("GET", "*"), {404})
    t.add("method HEAD", request("HEAD"), OK)
    t.add("method HEAD of nothing", request("HEAD", "/nothing"), {404})
    t.add("method GET with a body", request("GET", "/health", [("Content-Length", 5)], b"hello") + request(), OK, OK)


def headers(t):
    t.add("headers: 64 fields", request(headers=[(f"x-{i}", 1) for i in range(63)]), OK)
    t.add("headers: 65 fields", request(headers=[(f"x-{i}", 1) for i in range(64)]), {431})
    t.add("headers: 20,000 empty fields", request(headers=[("a", "")] * 20000), {431})
    fixed = len(request(headers=[("x", "")]))
    t.add("headers: 16 KiB", request(headers=[("x", "v" * (16384 - fixed))]), OK)
    t.add("headers: 16 KiB and a byte", request(headers=[("x", "v" * (16385 - fixed))]), {431})
    t.add("headers: 1 MiB", request(headers=[("x", "v" * 2**20)]), {431})
    t.add("headers: a name of 16 KiB", request(headers=[("x" * 2**14, "v")]), {431})
    t.add("headers: a name of 8 KiB", request(headers=[("x" * 2**13, "v")]), OK)
    for name in ("", " x", "x ", "x\t", "x y", "x\"", "x(", "x/", "x[", "x@", "\u00e4", "x\x7f", "x\x01", "x,"):
        t.add(f"headers: name {name!r}", request(headers=[(name, "v")]), BAD)
    t.add("headers: space before the colon of a length",
          request("POST", "/tokenize", [("Content-Length ", 5)], b"hello"), BAD)
    t.add("headers: no colon", request().replace(b"\r\n\r\n", b"\r\nnocolon\r\n\r\n"), BAD)
    t.add("headers: a folded line", request(headers=[("x", "a\r\n b")]), BAD)
    t.add("headers: a line folded with a tab", request(headers=[("x", "a\r\n\tb")]), BAD)
    t.add("headers: a folded Transfer-Encoding",
          request("POST", "/tokenize", [("Transfer-Encoding", "\r\n chunked")], b"0\r\n\r\n"), {400, 501})
    t.add("headers: a folded first line", b"GET /health HTTP/1.1\r\n Host: x\r\n\r\n", BAD)
    for value in ("a\nb", "a\rb", "a\r\rb", "a\0b", "a\x01b", "a\x1bb", "a\x7fb", "a\vb", "a\fb", "\0", "\n", "\r"):
        t.add(f"headers: value {value!r}", request(headers=[("x", value)]), BAD)
    t.add("headers: bytes above 127 in a value", request(headers=[("x", "\udcff\udc80")]), OK)
    t.add("headers: a tab in a value", request(headers=[("x", "a\tb")]), OK)
    t.add("headers: bare LF everywhere", request().replace(b"\r\n", b"\n"), BAD)
    t.add("headers: bare LF at the end", request()[:-4] + b"\n\n", BAD)
    t.add("headers: bare CR everywhere", request().replace(b"\r\n", b"\r"), BAD)
    t.add("headers: bare LF after the request line", request().replace(b"\r\n", b"\n", 1), BAD)
    t.add("headers: NUL first", b"\0" + request(), BAD)
    t.add("headers: no Host", request(host=None), BAD)
    t.add("headers: two Hosts", request(headers=[("Host", HOST)]), BAD)
    t.add("headers: two Hosts, another case", request(headers=[("hOST", "evil.example")]), BAD)
    t.add("headers: x-request-id of 4,000 bytes", request(headers=[("x-request-id", "i" * 4000)]), OK)
    t.add("headers: x-request-id with a space", request(headers=[("x-request-id", "a b")]), OK)
    t.add("Expect: another", request("POST", "/tokenize", [("Expect", "money"), ("Content-Length", 2)], b"{}"), {417})
    t.add("Expect: 100-continue", request("POST", "/tokenize", [("Expect", "100-continue"), ("Content-Length", 2)],
                                          b"{}"), {100}, BAD)
    t.add("Expect: 100-continue, too large", request("POST", "/tokenize", [("Expect", "100-continue"),
                                                                           ("Content-Length", 2**30)]), {413})
    t.add("Upgrade: websocket", request(headers=[("Upgrade", "websocket"), ("Connection", "Upgrade")]), OK)
    t.add("Upgrade: h2c", request(headers=[("Upgrade", "h2c"), ("Connection", "Upgrade, HTTP2-Settings"),
                                           ("HTTP2-Settings", "AAMAAABkAAQAAP__")]), OK)
    t.add("Content-Encoding: gzip", post("/tokenize", b"\x1f\x8b\x08\0\0\0\0\0", [("Content-Encoding", "gzip")]),
          {400, 415})
    t.add("Content-Type: multipart", post("/tokenize", b"--x\r\n\r\n--x--", [("Content-Type", "multipart/form-data")]),
          BAD)
    t.add("Range", request(target="/ui/app.js", headers=[("Range", "bytes=0-18446744073709551615")]), {200, 206, 416})


def lengths(t):
    body = b'{"content": "a"}'
    right = str(len(body))
    for length in ("-1", "+16", "0x10", "1e1", " ", "", "16, 16", "16,16", "16 16", "16;", "a", "\"16\"", "16.0",
                   "18446744073709551615", "18446744073709551616", "9223372036854775808", "99999999999999999999999",
                   "0" * 40 + "16", "\u0661\u0666"):
        t.add(f"Content-Length: {length!r}", request("POST", "/tokenize", [("Content-Length", length)], body),
              {400, 413})
    for length in (2**22 + 1, 2**31, 2**32, 2**32 + 16, 2**48):
        t.add(f"Content-Length: {length}", request("POST", "/tokenize", [("Content-Length", length)], body), {413})
    t.add("two Content-Lengths", request("POST", "/tokenize", [("Content-Length", right), ("Content-Length", "0")],
                                         body), BAD)
    t.add("two equal Content-Lengths", request("POST", "/tokenize", [("Content-Length", right)] * 2, body), BAD)
    chunk = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    t.add("CL.TE", request("POST", "/tokenize", [("Content-Length", right), ("Transfer-Encoding", "chunked")], chunk),
          BAD)
    t.add("TE.CL", request("POST", "/tokenize", [("Transfer-Encoding", "chunked"), ("Content-Length", 4)], chunk), BAD)
    t.add("CL.TE in another case", request("POST", "/tokenize", [("content-length", 4), ("TRANSFER-ENCODING",
                                                                                         "Chunked")], chunk), BAD)
    t.add("CL 0 and TE", request("POST", "/tokenize", [("Content-Length", 0), ("Transfer-Encoding", "chunked")],
                                 chunk), BAD)
    t.add("two Transfer-Encodings", request("POST", "/tokenize", [("Transfer-Encoding", "chunked")] * 2, chunk), BAD)
    t.add("TE.TE with identity", request("POST", "/tokenize", [("Transfer-Encoding", "chunked"),
                                                               ("Transfer-Encoding", "identity")], chunk), {400, 501})
    for encoding in ("identity", "gzip", "gzip, chunked", "chunked, gzip", "chunked, chunked", "xchunked", "chunked;q=1",
                     "\"chunked\"", "chunked,", ",chunked", "chun ked", "\x0bchunked", "chunked\x0c", ""):
        t.add(f"Transfer-Encoding: {encoding!r}", request("POST", "/tokenize", [("Transfer-Encoding", encoding)],
                                                          chunk), {400, 501})
    t.add("Transfer-Encoding in HTTP/1.0", request("POST", "/tokenize", [("Transfer-Encoding", "chunked")], chunk,
                                                   "HTTP/1.0"), BAD)
    t.add("a request in the body of another",
          request("POST", "/tokenize", [("Content-Length", len(request()))], request()), BAD)
    t.add("no length, then bytes", request("POST", "/tokenize", [], b"xx\r\n\r\n"), BAD, BAD)


def chunks(t):
    good = b'10\r\n{"content": "a"}\r\n0\r\n\r\n'
    t.add("chunks: one", chunked(good), OK)
    t.add("chunks: one byte each", chunked(b"".join(b"1\r\n%c\r\n" % c for c in b'{"content": "a"}') + b"0\r\n\r\n"), OK)
    t.add("chunks: capital size and zeros", chunked(b'0000000000000010\r\n{"content": "a"}\r\n000\r\n\r\n'), {200, 400})
    t.add("chunks: an extension", chunked(good.replace(b"10\r\n", b'10;name="va;lue"\r\n', 1)), OK)
    t.add("chunks: a trailer", chunked(good[:-2] + b"x-check: 1\r\n\r\n"), OK)
    t.add("chunks, then a request", chunked(good) + request(), OK, OK)
    for size in (b"-1", b"-10", b"+10", b"0x10", b" 10", b"10 ", b"1 0", b"", b";", b"g", b"10g", b"1" * 17,
                 b"ffffffffffffffff", b"fffffffffffffff0", b"10000000000000010", b"8000000000000000", b"\xd9\xa1",
                 b"10\t", b"\t10", b"1_0", b"10h", b"1.0", b"10,"):
        t.add(f"chunks: size {size!r}", chunked(good.replace(b"10\r\n", size + b"\r\n", 1)), {400, 413})
    t.add("chunks: size 2^31", chunked(b"80000000\r\n"), {413})
    t.add("chunks: size 4 MiB and a byte", chunked(b"400001\r\n"), {413})
    t.add("chunks: together too large", chunked((b"40000\r\n" + b" " * 2**18 + b"\r\n") * 17 + b"0\r\n\r\n"), {413})
    t.add("chunks: bare LF after the size", chunked(good.replace(b"10\r\n", b"10\n", 1)), BAD)
    t.add("chunks: bare LF after the data", chunked(good.replace(b'}\r\n', b'}\n', 1)), BAD)
    t.add("chunks: bare CR after the size", chunked(good.replace(b"10\r\n", b"10\r", 1)), BAD)
    t.add("chunks: longer than its size", chunked(good.replace(b'"a"', b'"aa"', 1)), BAD)
    t.add("chunks: shorter than its size", chunked(good.replace(b'"a"', b'""', 1)), BAD)
    t.add("chunks: bare LF in an extension", chunked(good.replace(b"10\r\n", b"10;a\n0\r\n", 1)), BAD)
    t.add("chunks: bare CR in an extension", chunked(good.replace(b"10\r\n", b"10;a\rb\r\n", 1)), BAD)
    t.add("chunks: NUL in an extension", chunked(good.replace(b"10\r\n", b"10;a\0b\r\n", 1)), BAD)
    t.add("chunks: an extension of 32 KiB", chunked(good.replace(b"10\r\n", b"10;" + b"e" * 2**15 + b"\r\n", 1)), BAD)
    t.add("chunks: an extension without end", chunked(b"1;" + b"e" * 2**17), BAD)
    t.add("chunks: a size without end", chunked(b"0" * 2**17), BAD)
    t.add("chunks: trailers of 64 KiB", chunked(good[:-2] + b"x: y\r\n" * 11000 + b"\r\n"), {400, 431})
    t.add("chunks: a trailer of 64 KiB", chunked(good[:-2] + b"x: " + b"y" * 2**16 + b"\r\n\r\n"), {400, 431})
    t.add("chunks: a trailer without end", chunked(good[:-2] + b"x: " + b"y" * 2**16), {400, 431})
    t.add("chunks: bare LF in a trailer", chunked(good[:-2] + b"x: y\nz: 1\r\n\r\n"), BAD)
    t.add("chunks: bare LF ends the trailers", chunked(good[:-2] + b"\n"), BAD)
    t.add("chunks: a folded trailer", chunked(good[:-2] + b"x: y\r\n z\r\n\r\n"), BAD)
    t.add("chunks: a trailer without colon", chunked(good[:-2] + b"nothing\r\n\r\n"), BAD)
    t.add("chunks: a control in a trailer", chunked(good[:-2] + b"x: \0\r\n\r\n"), BAD)
    for name in (b"Content-Length", b"Transfer-Encoding", b"Host", b"Authorization"):
        t.add(f"chunks: trailer {name.decode()}", chunked(good[:-2] + name + b": 5\r\n\r\n" + request()), BAD)
    t.add("chunks: 100,000 of one byte", chunked(b"1\r\n \r\n" * 100_000 + good), OK)
    t.add("chunks in pieces", [chunked(b"1"), b"0\r", b"\n{\"content\"", b": \"a\"}\r", b"\n0", b"\r\n\r", b"\n"], OK)


def connections(t):
    t.add("two requests at once", request() + request(target="/v1/models"), OK, OK)
    t.add("twenty requests at once", request() * 20, *[OK] * 20)
    t.add("a good and a bad one", request() + b"X\r\n\r\n", OK, BAD)
    t.add("a bad and a good one", b"X\r\n\r\n" + request(), BAD)
    t.add("a request after Connection: close", request(headers=[("Connection", "close")]) + request(), OK)
    t.add("posts at once", post("/tokenize", {"content": "a"}) + post("/detokenize", {"tokens": [1]}) + request(),
          OK, OK, OK)
    t.add("garbage after a body", post("/tokenize", {"content": "a"}) + b"garbage\r\n\r\n", OK, BAD)
    t.add("a byte at a time", [bytes([c]) for c in request(headers=[("x", "y")])], OK)
    t.add("a body a byte at a time", [bytes([c]) for c in post("/tokenize", {"content": "a"})], OK)
    t.add("an early close in the line", [b"GET /he", None], {None})
    t.add("an early close in the head", [b"GET /health HTTP/1.1\r\nHost", None], {None})
    t.add("an early close in the body", [request("POST", "/tokenize", [("Content-Length", 50)], b"{"), None], {None})
    t.add("an early close in a chunk", [chunked(b"20\r\n{"), None], {None})
    t.add("half-closed after the request", [request(), None], {200, None})
    t.add("nothing at all", [None], {None})


def hosts(t):
    for host in ("localhost", "localhost:1", "LOCALHOST", "127.0.0.1", "127.1.2.3:99", "[::1]", "[::1]:8080"):
        t.add(f"Host: {host}", request(target="/v1/models", host=host), OK)
    for host in ("", "evil.example", "evil.example:8080", "localhost.", "127.0.0.1.", "localhost.evil.example",
                 "127.0.0.1.evil.example", "evil.example#127.0.0.1", "127.0.0.1@evil.example", "127.1", "2130706433",
                 "0x7f000001", "0177.0.0.1", "0.0.0.0", "0", "[::]", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]", "::1",
                 "[::1", "[::1]x", "[::1].evil.example", "[::1]@evil.example", "[::1%25lo]", "10.0.0.1", "128.0.0.1",
                 "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:80:80", "127.0.0.1:999999", "127.0.0.1/", "127.0.0.1, evil",
                 "127..0.1", "127.0.0", "127.0.0.1.2", "127.0.0.a", "127.0.0.0x1", "127.0.0.1\t.evil", "loc\u00e4lhost",
                 "l\u043ecalhost", "169.254.169.254", "metadata.google.internal", "a." * 2000, "rebind.127.0.0.1.nip.io",
                 "localhost\u3002", "%6cocalhost", "127.0.0.1%00.evil.example"):
        t.add(f"Host: {host[:40]!r}", request(target="/v1/models", host=host), {400, 403})
    t.add("Host: forged, of a probe", request(host="evil.example"), OK)
    t.add("Origin: the server's own", request(target="/v1/models", headers=[("Origin", "http://" + HOST)]), OK)
    for origin in ("null", "http://evil.example", "https://evil.example", "file://", "http://localhost", "*",
                   "http://127.0.0.1", "http://127.0.0.1:8081", "http://127.0.0.1:8080.evil.example",
                   "http://evil.example/127.0.0.1:8080", "http://127.0.0.1:8080@evil.example", "chrome-extension://abc",
                   "http://127.0.0.1:8080/", "127.0.0.1:8080", "http://localhost:8080", "ftp://127.0.0.1:8080"):
        t.add(f"Origin: {origin}", request(target="/v1/models", headers=[("Origin", origin)]), {403})
        t.add(f"Origin: {origin}, of a probe", request(headers=[("Origin", origin)]), {403})
    t.add("Origin: rebound to the host's name", request(target="/v1/models", host="evil.example",
                                                        headers=[("Origin", "http://evil.example")]), {403})
    t.add("Origin: preflight", request("OPTIONS", CHAT, [("Origin", "http://evil.example"),
                                                         ("Access-Control-Request-Method", "POST")]), {403})


def paths(t):
    for path in ("/ui/../health", "/ui/..%2fapp.js", "/ui/..", "/ui/.", "/ui/", "/ui", "/ui//app.js", "/ui/app.js/",
                 "/ui/app.js%00", "/ui/app.js%00.css", "/ui/%61pp.js", "/ui/APP.JS", "/ui/index.html", "/ui/app.js.gz",
                 "/../../etc/passwd", "/..\\..\\etc\\passwd", "/%2e%2e/%2e%2e/etc/passwd", "/ui/%2e%2e/%2e%2e/etc/passwd",
                 "/ui/....//....//etc/passwd", "/ui/..%c0%af..%c0%afetc/passwd", "/ui/..%255c..%255cetc/passwd",
                 "/ui/%252e%252e%252fetc%252fpasswd", "/etc/passwd", "//etc/passwd", "/%", "/%zz", "/.git/config",
                 "/.env", "/favicon.ico", "/robots.txt", "/v1", "/v1/", "/v1//models", "/V1/models", "/v1/models/",
                 "/v1/models/a/b", "/v1/chat", "/v1/chat/completions/", "/v1/chat/completions%20", "/health/", "/Health",
                 "/health;a", "/health%20", "/\udcff\udcfe", "/ui/\udcc0\udcae\udcc0\udcae/x", "/v1/models/" + "m" * 4000,
                 "/v1/models/..%2f..%2fetc%2fpasswd", "/v1/models/%00", "/" + "a/" * 3000):
        t.add(f"path {path[:50]!r}", request(target=path), {404})
    for path in ("/ui/app.js?../../etc/passwd", "/ui/app.js?", "/health?a=%00%ff", "/v1/models?limit=99999999999999"):
        t.add(f"path {path!r}", request(target=path), OK)
    for path in ("/v1/requests/../../x", "/v1/requests/..", "/v1/requests/chatcmpl-ffffffff1", "/v1/requests/%00"):
        t.add(f"cancel {path!r}", request("DELETE", path), {404})
    for path in ("/v1/trajectories/../end", "/v1/trajectories/x/end", "/v1/trajectories/%2e%2e/steps"):
        t.add(f"trajectory {path!r}", post(path, {"steps": []}), {404})


def json_texts(t):
    good = '"messages": [{"role": "user", "content": "a"}], "max_tokens": 1'
    nested = lambda n: "[" * n + "]" * n
    for name, body in {
            "empty": "", "a space": " ", "an array": "[]", "a string": '"a"', "a number": "1", "null": "null",
            "true": "true", "an open object": "{", "an open string": '{"a', "a bare name": "{a: 1}", "a comment": "{} // a",
            "single quotes": "{'a': 1}", "a comma at the end": '{"a": 1,}', "two documents": "{}{}", "a NUL after it":
            "{}\0", "NaN": '{"temperature": NaN}', "Infinity": '{"temperature": Infinity}', "-Infinity":
            '{"temperature": -Infinity}', "1e999": '{%s, "temperature": 1e999}' % good, "-1e999":
            '{%s, "seed": -1e999}' % good, "a number with a plus": '{"seed": +1}', "a number from zero": '{"seed": 01}',
            "hexadecimal": '{"seed": 0x10}', "a point alone": '{"seed": 1.}', "an open escape": '{"a": "\\',
            "a false escape": '{"a": "\\x41"}', "half a surrogate": '{"a": "\\ud800"}', "a low surrogate":
            '{"a": "\\udc00"}', "two high surrogates": '{"a": "\\ud800\\ud800"}', "a raw control": '{"a": "\x01"}',
            "a raw newline": '{"a": "\n"}', "a name twice": '{%s, "n": 1, "n": 1}' % good, "a name twice, escaped":
            '{%s, "n": 1, "\\u006e": 1}' % good, "messages twice": '{%s, "messages": []}' % good, "a name twice, deep":
            '{%s, "x": {"a": [{"b": 1, "b": 2}]}}' % good, "depth 65": '{%s, "x": %s}' % (good, nested(64)),
            "depth 100,000": '{"x": ' + nested(100_000) + "}", "open depth 1,000,000": "[" * 1_000_000,
            "open objects": '{"a":' * 200_000, "1,000,001 values": '{"x": [' + "0," * 1_000_001 + "0]}",
            "UTF-16": "\ufeff{}"}.items():
        t.add_body(f"json: {name}", CHAT, body.encode())
    t.add_body("json: a byte order mark", CHAT, ("\ufeff{%s}" % good).encode(), OK)  # RFC 8259 8.1 lets it pass
    t.add_body("json: UTF-16 LE", CHAT, ("{%s}" % good).encode("utf-16"))
    for name, raw in {"ff": b"\xff", "lone continuation": b"\x80", "overlong slash": b"\xc0\xaf", "overlong NUL":
                      b"\xc0\x80", "surrogate": b"\xed\xa0\x80", "beyond": b"\xf4\x90\x80\x80", "five bytes":
                      b"\xf8\x88\x80\x80\x80", "cut": b"\xe2\x82", "latin-1": b"caf\xe9"}.items():
        t.add_body(f"json: {name} in a text", CHAT, b'{"messages": [{"role": "user", "content": "' + raw + b'"}]}')
        t.add_body(f"json: {name} in a name", CHAT, b'{%s, "' % good.encode() + raw + b'": 1}')
    t.add_body("json: depth 64", CHAT, '{%s, "x": %s}' % (good, nested(63)) and
               ('{%s, "x": %s}' % (good, nested(63))).encode(), OK)
    t.add_body("json: unknown members", CHAT, ('{%s, "x": {"y": [1]}, "user": "u"}' % good).encode(), OK)
    t.add_body("json: 4 MiB of spaces", CHAT, b" " * 2**22)
    t.add_body("json: 4 MiB of quotes", CHAT, b'"' * 2**22)
    t.add_body("json: 4 MiB of backslashes", CHAT, b'{"a": "' + b"\\" * (2**22 - 7))
    t.add_body("json: a number of 1 MiB", CHAT, b'{"seed": ' + b"9" * 2**20 + b"}")
    t.add_body("json: a fraction of 1 MiB", CHAT, ('{%s, "temperature": 0.%s}' % (good, "1" * 2**20)).encode(), OK)
    for target in ("/v1/completions", "/v1/embeddings", "/tokenize", "/detokenize", "/apply-template", "/v1/route",
                   "/v1/trajectories", "/v1/feedback", "/v1/sona/freeze", "/v1/sona/tasks", "/v1/hnsw/search", "/query",
                   "/feedback", "/v1/messages", "/v1/messages/count_tokens", "/api/chat", "/api/generate", "/api/embed",
                   "/api/embeddings"):
        for name, body in {"empty": b"", "an array": b"[1]", "cut": b'{"a": [', "not UTF-8": b'{"a": "\xff"}',
                           "depth 65": b'{"x": ' + nested(64).encode() + b"}", "a name twice": b'{"a": 1, "a": 2}',
                           "without fields": b"{}"}.items():
            loads = (target, name) == ("/api/generate", "without fields")  # Ollama's way to load a model
            t.add_body(f"json: {name} to {target}", target, body, OK if loads else BAD)
    for name, body in {"empty": b"", "cut": b"{", "not UTF-8": b'"\xff"', "an array": b"[]", "depth": b"[" * 5000}.items():
        t.add_body(f"json: {name} to /mcp", "/mcp", body, {200, 400})  # JSON-RPC tells errors in its own form


MESSAGES = [{"role": "user", "content": "a"}]
CHAT_BODY = {"messages": MESSAGES, "max_tokens": 1}
TEXT_BODY = {"prompt": "a", "max_tokens": 1}
# field: type, and for numbers the least and the most; None: no such bound below 1e308.
INT, REAL = "integer", "number"
DRAWING = {"temperature": (REAL, 0, 2), "top_p": (REAL, 0, 1), "min_p": (REAL, 0, 1), "top_k": (INT, 0, 4096),
           "repeat_penalty": (REAL, 0, 10), "presence_penalty": (REAL, -2, 2), "frequency_penalty": (REAL, -2, 2),
           "seed": (INT, -2**63, 2**63 - 1), "n": (INT, 1, 8), "max_tokens": (INT, 1, 2**31 - 1)}
NUMBERS = {
    CHAT: (CHAT_BODY, {**DRAWING, "max_completion_tokens": (INT, 1, 2**31 - 1), "top_logprobs": (INT, 0, 20)}),
    "/v1/completions": (TEXT_BODY, {**DRAWING, "logprobs": (INT, 0, 20)}),
    "/v1/embeddings": ({"input": "a"}, {"dimensions": (INT, 1, 256)}),
    "/v1/messages": (CHAT_BODY, {"temperature": (REAL, 0, 2), "top_p": (REAL, 0, 1), "top_k": (INT, 0, 4096),
                                 "max_tokens": (INT, 1, 2**31 - 1)}),
    "/query": ({"query": "a", "max_tokens": 1}, {"temperature": (REAL, 0, 2), "max_tokens": (INT, 1, 2**31 - 1)}),
    "/v1/route": ({"task": "fix a bug"}, {"k": (INT, 1, 16)}),
    "/v1/hnsw/search": ({"query": "a"}, {"limit": (INT, 1, 100)}),
}


def numbers(t):
    """Every numeric field with everything that is no number of its range, and with what is just inside."""
    for target, (base, fields) in NUMBERS.items():
        for field, (kind, low, high) in fields.items():
            def allowed(value):
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    return False
                if kind == INT and value != int(value):
                    return False
                if field in ("top_p", "repeat_penalty") and value <= 1e-300:  # 0 as a float
                    return False
                return low <= value <= high
            step = 1 if kind == INT else 0.001
            values = [low - step, low, high + step, -1, 0, -0.0, 0.5, 2**31, 2**32, -2**31, 2**63, 2**64, 1e308, -1e308,
                      1e-308, "1", "", True, [], [1], {}, {"a": 1}]
            if not (field in ("max_tokens", "max_completion_tokens", "n") or target == "/query"):
                values.append(high)
            for value in values:
                expected = OK if allowed(value) else BAD
                body = {**base, field: value}
                if field == "top_logprobs":
                    body["logprobs"] = True
                if field == "max_completion_tokens" or (field == "max_tokens" and allowed(value)):
                    body["stop"] = ["e", "a", "t", " "]  # a short answer, whatever is asked
                t.add_body(f"{target}: {field} = {json.dumps(value)[:24]}", target, body, expected)
            t.add_body(f"{target}: {field} = null", target, {**base, field: None},
                       BAD if (target, field) == ("/v1/messages", "max_tokens") else OK)


TYPES = {
    CHAT: (CHAT_BODY, {
        "messages": [None, "a", 1, {}, [], [1], ["a"], [None], [[]], [{}], [{"role": "user", "content": 1}],
                     [{"role": 1, "content": "a"}], [{"role": "root", "content": "a"}], [{"content": "a"}],
                     [{"role": "user", "content": {}}], [{"role": "user", "content": [1]}],
                     [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}]}],
                     [{"role": "user", "content": [{"type": "text", "text": 1}]}],
                     [{"role": "user", "content": [{"type": "input_audio"}]}],
                     [{"role": "assistant", "tool_calls": 1}], [{"role": "assistant", "tool_calls": [1]}],
                     [{"role": "assistant", "tool_calls": [{"function": {"name": 1}}]}],
                     [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}],
                     [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "[" * 999}}]}],
                     [{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "1"}}]}],
                     MESSAGES * 4097, [{"role": "u" * 5000, "content": "a"}]],
        "model": [1, [], {}, True, "gpt-4", "../nano", "/etc/passwd", "m" * 5000, "\0", "ruvltra-root"],
        "stream": [1, 0, "true", [], {}], "stream_options": [1, "a", [], {"include_usage": 1}],
        "stop": [1, {}, True, "", [""], ["a", 1], ["a"] * 17, "a" * 257, ["a" * 257], [[]], [None]],
        "logit_bias": [1, "a", [], [1], {"a": 1}, {"-1": 1}, {"4096": 1}, {"999999999999": 1}, {"1.5": 1}, {" 1": 1},
                       {"1 ": 1}, {"+1": 1}, {"": 1}, {"1": "1"}, {"1": 101}, {"1": -101}, {"1": None}, {"1": 1e308},
                       {"1": []}, {str(i): 1 for i in range(1025)}],
        "logprobs": [1, 5, "true", [], {}], "top_logprobs": [1],
        "profile": [1, [], "root", "a" * 5000, ""],
        "session_id": [1, [], "s" * 129], "cache_salt": [1, {}, "s" * 257],
        "adapter": [-1, 1.5, "first", [], {}, True, 2**64], "bank": [1, "yes", []], "return_progress": [1, "a"],
        "return_drafted": [1, "a"],
        "tools": [1, "a", {}, [1], [{}], [{"type": "function"}], [{"type": "function", "function": {}}],
                  [{"type": "function", "function": {"name": ""}}], [{"type": "function", "function": {"name": 1}}],
                  [{"type": "function", "function": {"name": "f", "parameters": 1}}],
                  [{"type": "retrieval", "function": {"name": "f"}}],
                  [{"type": "function", "function": {"name": "f"}}] * 257],
        "tool_choice": [1, "any", [], {}, {"type": "function"}, {"function": {"name": 1}}, {"function": {"name": "f"}},
                        "required"],
        "parallel_tool_calls": [1, "a"],
        "response_format": [1, "json", [], {}, {"type": 1}, {"type": "xml"}, {"type": "json_schema"},
                            {"type": "json_schema", "json_schema": 1}, {"type": "json_schema", "json_schema": {}},
                            {"type": "json_schema", "json_schema": {"schema": 1}},
                            {"type": "json_schema", "json_schema": {"schema": []}}]}),
    "/v1/completions": (TEXT_BODY, {
        "prompt": [None, 1, {}, True, "", [], [""], [[]], [1, "a"], [1.5], [-1], [4096], [2**31], [2**63], [2**64 - 1],
                   [[1], [-1]], [["a"]], [{}], [None], ["a"] * 65, [[[1]]], [True]],
        "echo": [1, "a", []], "logprobs": [-1, 21, True, "1"], "stream": [1], "stop": [1, ["a"] * 17],
        "response_format": [{"type": "json_object"}, 1]}),
    "/v1/embeddings": ({"input": "a"}, {
        "input": [None, 1, {}, "", [], [""], [[]], [-1], [4096], [1.5], [2**63], ["a", 1], ["a"] * 65, [None], [[["a"]]]],
        "encoding_format": [1, "hex", ""], "model": [1, "gpt"]}),
    "/tokenize": ({"content": "a"}, {"content": [None, 1, [], {}], "parse_special": [1, "a"], "with_pieces": ["a", 1]}),
    "/detokenize": ({"tokens": [1]}, {"tokens": [None, 1, "a", {}, [-1], [4096], [1.5], ["1"], [2**63], [None], [[1]]]}),
    "/v1/route": ({"task": "fix a bug"}, {"task": [None, 1, "", [], "t" * 70_000], "context": [1, []],
                                          "preferSpeed": [1, "a"], "preferCost": ["a"]}),
    "/v1/trajectories": ({"task": "a"}, {
        "task": [None, 1, "", "t" * 70_000], "steps": [1, "a", {}, [1], [{}], [{"action": 1}], [{"action": ""}],
                                                       [{"action": "a", "quality": 2}],
                                                       [{"action": "a", "duration_ms": -1}],
                                                       [{"action": "a", "duration_ms": 2**60}],
                                                       [{"action": "a" * 300}]],
        "verdict": [1, [], "good", {}, {"type": "partial"}, {"type": "partial", "completion": 2},
                    {"type": "recovered", "attempts": 0}, {"type": "recovered", "attempts": 2**40}],
        "quality": [-0.1, 1.1, "1", 1e308, []], "rating": [0, 6, "5"], "agent": [1, "a" * 100]}),
    "/v1/hnsw/search": ({"query": "a"}, {"query": [None, "", 1, [], "q" * 70_000]}),
    "/query": ({"query": "a", "max_tokens": 1}, {"query": [None, "", 1, []], "n": [2, 17]}),
    "/feedback": ({"query": "a", "response": "b", "quality": 1}, {"query": [None, "", 1], "response": [1, []],
                                                                  "quality": [None, -1, 1.1, "1", 1e308, 2**63]}),
    "/v1/messages": (CHAT_BODY, {"messages": [None, 1, [], [1], [{"role": "system", "content": "a"}],
                                              [{"role": "user", "content": 1}],
                                              [{"role": "user", "content": [{"type": "image", "source": {}}]}]],
                                 "system": [1, [1]], "tools": [1, [1], [{"name": 1}]], "stop_sequences": [1, ["a"] * 17],
                                 "stream": [1]}),
    "/api/chat": ({"messages": MESSAGES, "stream": False, "options": {"num_predict": 1}}, {
        "messages": [None, 1, [1]], "options": [1, "a", [], {"num_predict": "a"}, {"temperature": 3},
                                                    {"temperature": "1"}, {"top_k": -1}, {"seed": 1e300},
                                                    {"stop": 1}], "format": [1, "xml", []], "model": [1, "x"],
        "stream": [1]}),
    "/api/generate": ({"prompt": "a", "stream": False, "options": {"num_predict": 1}}, {
        "prompt": [1, []], "system": [1], "raw": [1], "options": [1]}),
    "/api/embed": ({"input": "a"}, {"input": [None, 1, [], [1], "", ["a"] * 65]}),
    "/v1/sona/rollback": ({}, {"to_generation": [-1, 1.5, "1", 2**60, 1e308, []], "expected_generation": [-1, "a"],
                               "session_id": [1, "s" * 200]}),
    "/v1/sona/freeze": ({"frozen": False}, {"frozen": [1, "a", []]}),
    "/v1/sona/tasks": ({"name": "a"}, {"name": [None, 1, "", "n" * 200]}),
}


def types(t):
    """Every field with what has the wrong type, shape or size."""
    for target, (base, fields) in TYPES.items():
        for field, values in fields.items():
            for value in values:
                expected = BAD
                if field == "model" and isinstance(value, str) and len(value) <= 256:
                    expected = {404}
                t.add_body(f"{target}: {field} = {json.dumps(value)[:40]}", target, {**base, field: value}, expected)


def feedback(t):
    for name, body in {
            "nothing": {"quality": 1}, "quality 1.1": {"request_id": "a", "quality": 1.1}, "quality -0.1":
            {"request_id": "a", "quality": -0.1}, "quality 1e308": {"request_id": "a", "quality": 1e308}, "a text":
            {"request_id": "a", "quality": "1"}, "rating 0": {"request_id": "a", "rating": 0}, "rating 6":
            {"request_id": "a", "rating": 6}, "both": {"request_id": "a", "rating": 5, "quality": 1}, "success 1":
            {"request_id": "a", "success": 1}, "a long id": {"request_id": "a" * 200, "quality": 1}, "an id that is none":
            {"request_id": 1, "quality": 1}, "a long correction":
            {"request_id": "a", "correction": "c" * 70_000}}.items():
        t.add_body(f"feedback: {name}", "/v1/feedback", body)
    t.add_body("feedback: Infinity", "/v1/feedback", b'{"request_id": "a", "quality": Infinity}')
    t.add_body("feedback: 1e999", "/v1/feedback", b'{"request_id": "a", "quality": 1e999}')
    for field in ("request_id", "decision_id", "trajectory_id"):
        for id in ("a", "chatcmpl-000000001", "../x", "\0", "0" * 32, "f" * 26, "\u00e4", "-", "chatcmpl-"):
            t.add_body(f"feedback: {field} {id!r}", "/v1/feedback", {field: id, "quality": 1}, {404})


def prompts(t):
    long = "word " * 20_000
    t.add_body("a prompt longer than the context", "/v1/completions", {"prompt": long}, BAD)
    t.add_body("a chat longer than the context", CHAT, {"messages": [{"role": "user", "content": long}]}, BAD)
    t.add_body("token ids longer than the context", "/v1/completions", {"prompt": [1] * 60_000}, BAD)
    t.add_body("an embedding longer than the context", "/v1/embeddings", {"input": long}, BAD)
    t.add_body("messages longer than the context", "/v1/messages", {"messages": [{"role": "user", "content": long}],
                                                                   "max_tokens": 1}, BAD)
    t.add_body("a question longer than the context", "/query", {"query": long}, BAD)
    t.add_body("an echo longer than the context", "/v1/completions", {"prompt": long, "echo": True, "logprobs": 1,
                                                                     "max_tokens": 0}, BAD)
    for name, text in {"one letter": "a" * 2_000_000, "spaces": " " * 2_000_000, "newlines": "\n" * 1_000_000,
                       "digits": "7" * 2_000_000, "emoji": "\U0001f600" * 200_000, "combining marks": "a" + "\u0301" *
                       400_000, "apostrophes": "'" * 2_000_000, "a word of 26,000 letters": "antidisestablish" * 1625,
                       "control tokens": "<|im_end|>" * 100_000}.items():
        t.add_body(f"2 MB of {name}", CHAT, json.dumps({"messages": [{"role": "user", "content": text}]},
                                                       ensure_ascii=False).encode(), BAD)
    t.add_body("echo without tokens in a stream", "/v1/completions", {"prompt": "a", "echo": True, "max_tokens": 0,
                                                                     "stream": True})
    t.add_body("echo and logprobs in a stream", "/v1/completions", {"prompt": "a", "echo": True, "logprobs": 1,
                                                                   "stream": True, "max_tokens": 1})
    t.add_body("a million log-probabilities", "/v1/completions", {"prompt": [[1] * 1000] * 64, "echo": True,
                                                                  "logprobs": 20, "max_tokens": 0})
    t.add_body("a million log-probabilities of copies", "/v1/completions", {
        "prompt": [[1] * 1000] * 8, "echo": True, "logprobs": 20, "n": 16, "max_tokens": 1})
    t.add_body("8 answers to 4 prompts", "/v1/completions", {"prompt": ["a", "b", "c", "d"], "n": 8, "max_tokens": 1},
               OK)
    t.add_body("all features at once", CHAT, {
        "messages": MESSAGES, "max_tokens": 4, "n": 8, "logprobs": True, "top_logprobs": 20, "repeat_penalty": 10,
        "presence_penalty": 2, "frequency_penalty": -2, "temperature": 2, "top_k": 1, "min_p": 1, "logit_bias":
        {str(i): 100 for i in range(1024)}, "stop": ["x"] * 16, "response_format": {"type": "json_object"}}, OK)
    t.add_body("every id of a bias forbidden", CHAT, {**CHAT_BODY, "logit_bias": {str(i): -100 for i in range(1024)}}, OK)


def schemas(t):
    deep = {}
    for _ in range(50):
        deep = {"type": "object", "properties": {"a": deep}, "required": ["a"]}
    doubling = {"$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"type": "array", "prefixItems":
                [{"$ref": f"#/$defs/d{i + 1}"}] * 8}]} for i in range(40)}}
    doubling["$defs"]["d40"] = {"type": "null"}
    doubling["$ref"] = "#/$defs/d0"
    bombs = {
        "deep nesting": deep, "$ref to itself": {"$ref": "#"}, "a cycle of two": {
            "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        "an endless value": {"$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}},
                                             "required": ["a"]}}, "$ref": "#/$defs/a"},
        "allOf of itself": {"allOf": [{"$ref": "#"}]}, "anyOf of itself": {"anyOf": [{"$ref": "#"}]},
        "a reference to nowhere": {"$ref": "#/$defs/none"}, "a reference to a file": {"$ref": "file:///etc/passwd"},
        "a reference to the net": {"$ref": "http://127.0.0.1/schema"}, "a reference that is none": {"$ref": 1},
        "a huge enum": {"enum": [f"value {i}" for i in range(20_000)]}, "an enum of 1,000": {"enum": list(range(1000))},
        "an empty enum": {"enum": []}, "maxItems 2^31": {"type": "array", "items": {"type": "array", "maxItems": 2**31,
                                                         "minItems": 2**31}, "minItems": 2**31},
        "minItems 2^31": {"type": "array", "minItems": 2**31}, "maxItems -1": {"type": "array", "maxItems": -1},
        "maxItems 2^63": {"type": "array", "maxItems": 2**63}, "minItems above maxItems":
        {"type": "array", "minItems": 2, "maxItems": 1}, "minLength 2^31": {"type": "string", "minLength": 2**31},
        "minLength above maxLength": {"type": "string", "minLength": 2, "maxLength": 1},
        "doubling references": doubling, "a huge number": {"type": "integer", "minimum": 1e300},
        "minimum above maximum": {"type": "integer", "minimum": 2, "maximum": 1}, "a type that is none":
        {"type": "thing"}, "type 1": {"type": 1}, "types of nothing": {"type": []}, "properties 1":
        {"type": "object", "properties": 1}, "a property 1": {"type": "object", "properties": {"a": 1}},
        "required 1": {"type": "object", "required": 1}, "required of numbers": {"type": "object", "required": [1]},
        "false": {"type": "object", "properties": {"a": False}, "required": ["a"]}, "a pattern bomb":
        {"type": "string", "pattern": "(a+)+$"}, "more than 64 KiB": {"description": "d" * 70_000},
        "2,000 properties": {"type": "object", "properties": {f"p{i}": {} for i in range(2000)}, "required":
                             [f"p{i}" for i in range(2000)], "additionalProperties": {"type": "object"}},
        "nested anyOf": {"anyOf": [{"anyOf": [{"const": f"{i} {k}"} for k in range(40)]} for i in range(40)]},
    }
    may_pass = {"a huge enum", "maxItems 2^63", "2,000 properties", "a huge number", "anyOf of itself", "maxItems 2^31", "minItems 2^31",
                "minLength 2^31", "an enum of 1,000", "deep nesting", "doubling references", "nested anyOf"}
    for name, schema in bombs.items():
        # Some of these are schemas that a compiler within its budget may take; then the answer is held to them.
        expected = {200, 400} if name in may_pass else BAD
        t.add_body(f"schema: {name}", CHAT, {**CHAT_BODY, "response_format":
                   {"type": "json_schema", "json_schema": {"name": "s", "schema": schema}}}, expected)
        t.add_body(f"tool schema: {name}", CHAT, {**CHAT_BODY, "tool_choice": "required", "tools": [
            {"type": "function", "function": {"name": "f", "parameters": schema}}]}, expected)
    for keyword, value in {"pattern": "a", "format": "date", "not": {}, "if": {}, "contains": {}, "uniqueItems": True,
                           "patternProperties": {"a": {}}, "propertyNames": {}, "dependentRequired": {}, "multipleOf": 2,
                           "unevaluatedProperties": False, "minProperties": 1, "$dynamicRef": "#a"}.items():
        t.add_body(f"schema: the keyword {keyword}", CHAT, {**CHAT_BODY, "response_format": {
            "type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", keyword: value}}}})
        t.add_body(f"ollama schema: the keyword {keyword}", "/api/chat",
                   {"messages": MESSAGES, "stream": False, "format": {"type": "object", keyword: value}})


def all_cases():
    t = Table()
    for group in (request_lines, methods, headers, lengths, chunks, connections, hosts, paths, json_texts, numbers, types,
                  feedback, prompts, schemas):
        group(t)
    return t


# With keys: a wrong one never passes, and tells nothing.
SECRET = "correct-horse-battery-staple"


def key_cases():
    t = Table()
    right = ("Authorization", "Bearer " + SECRET)
    for target in ("/v1/models", CHAT, "/metrics", "/v1/requests", "/nothing", "/mcp", "/api/tags"):
        t.add(f"key: none to {target}", request(target=target), {401})
    for name, value in {"empty": "", "scheme only": "Bearer", "scheme and space": "Bearer ", "no scheme": SECRET,
                        "Basic": "Basic " + SECRET, "shorter": "Bearer " + SECRET[:-1], "longer": "Bearer " + SECRET + "x",
                        "another case": "Bearer " + SECRET.upper(), "two": f"Bearer {SECRET}, Bearer x", "its hash":
                        "Bearer sha256:" + hashlib.sha256(SECRET.encode()).hexdigest(), "the tenant": "Bearer alice",
                        "16 KB": "Bearer " + "k" * 12_000, "bytes": "Bearer \udcff\udcfe", "quoted":
                        f'Bearer "{SECRET}"', "a star": "Bearer *", "a wildcard": "Bearer %"}.items():
        t.add(f"key: {name}", request(target="/v1/models", headers=[("Authorization", value)]), {401})
    t.add("key: right", request(target="/v1/models", headers=[right]), OK)
    t.add("key: right, another scheme's case", request(target="/v1/models", headers=[("authorization",
                                                                                     "bEARER " + SECRET)]), OK)
    t.add("key: right, x-api-key", request(target="/v1/models", headers=[("x-api-key", SECRET)]), OK)
    t.add("key: in the query", request(target="/v1/models?api_key=" + SECRET), {401})
    t.add("key: of health, none", request(), OK)
    t.add("key: administrator's route", post("/v1/agents", b"[]", [right]).replace(b"POST", b"PUT", 1), {403, 503})
    t.add("key: another tenant's name", request(target="/v1/models", headers=[right, ("x-ruvltra-tenant", "bob")]), OK)
    t.add("key: none, a large body", request("POST", CHAT, [("Content-Length", 2**22)], b"x" * 1000), {401})
    t.add("key: none, a wrong host", request(target="/v1/models", host="evil.example"), {403})
    return t


def write_corpus(folder):
    """Seeds: the raw requests the parser cares about, and bodies of chats. The first two bytes say where to cut."""
    raw, bodies = Table(), Table()
    for group in (request_lines, headers, lengths, chunks, connections):
        group(raw)
    for group in (json_texts, types, schemas):
        group(bodies)
    for name, table, most in (("http_request", raw, 1024), ("chat_request", bodies, 700)):
        os.makedirs(os.path.join(folder, name), exist_ok=True)
        for case in table:
            data = case.data if isinstance(case.data, bytes) else b"".join(piece or b"" for piece in case.data)
            if table is bodies:
                if not data.startswith(b"POST " + CHAT.encode()):
                    continue
                data = data.split(b"\r\n\r\n", 1)[1]
            if len(data) <= most:
                with open(os.path.join(folder, name, hashlib.sha256(data).hexdigest()[:12]), "wb") as file:
                    file.write(b"\x07\0" + data)


if __name__ == "__main__":
    write_corpus(sys.argv[1])
