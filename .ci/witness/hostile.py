"""Requests of HTTP/1.1 as attackers send them: a correct one, bent in a few places. Each is made from a seed and its number alone."""
import random

METHODS = [b"GET"] * 9 + [b"POST"] * 9 + [b"PUT"] * 3 + [b"HEAD"] * 2 + [b"DELETE", b"OPTIONS", b"PATCH", b"QUERY", b"PROPFIND", b"M-SEARCH"]
ODD_METHODS = [b"TRACE", b"CONNECT", b"get", b"Post", b"GE!T", b"G ET", b" GET", b"GET\t", b"", b"G\x00ET", b"GET\x0b", b"PRI", b"\xc7ET",
               b"X" * 300, b"A_B", b"a-b", b"1", b"\r\nGET", b"GET:", b"{GET}"]
VERSIONS = [b"HTTP/1.0", b"HTTP/1.2", b"HTTP/2.0", b"HTTP/2", b"HTTP/0.9", b"HTTP/1.10", b"HTTP/01.1", b"HTTP/1.1 ", b" HTTP/1.1", b"http/1.1",
            b"HTTP/1,1", b"HTTP/1.1\t", b"HTTPS/1.1", b"HTTP/1", b"HTTP/1.\xb9", b"", b"ICE/1.0", b"HTTP/3.0", b"HTTP/1.1x", b"HTTP /1.1"]
SIZES = [b"0", b"1", b"5", b"6", b"00", b"+5", b"-1", b"-0", b"0x5", b"5 ", b" 5", b"\t5", b"5\t", b"5,5", b"5, 5", b"5,6", b"5;", b"5.0", b"5e0",
         b"", b" ", b"five", b"05", b"0000000000000000000005", b"18446744073709551616", b"18446744073709551621", b"9223372036854775808",
         b"4294967301", b"99999999999999999999999999", b"1_0", b"\xb5", b"5\x00", b"5\x0b", b"'5'", b"\"5\"", b"5 5", b",5", b"5,", b"0,5"]
CODINGS = [b"chunked", b"Chunked", b"CHUNKED", b" chunked", b"chunked ", b"\tchunked", b"chunked\t", b"\x0bchunked", b"chunked\x0c", b"xchunked",
           b"chunkedx", b"chunke", b"chunked,", b",chunked", b"chunked, chunked", b"chunked,identity", b"identity,chunked", b"identity",
           b"gzip, chunked", b"chunked, gzip", b"chunked;q=1", b"\"chunked\"", b"'chunked'", b"chunked\x00", b"c\x00hunked", b"", b" ", b"x",
           b"cow", b"chun\xe7ked", b"chunked\r", b"[chunked]", b"chunked chunked", b"chunked;", b"compress", b"deflate, chunked", b"none"]
NAMES = [b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING", b"Transfer_Encoding", b"Transfer-Encoding ", b" Transfer-Encoding",
         b"Transfer-Encoding\t", b"Transfer Encoding", b"Transfer-Encoding\x00", b"X\rTransfer-Encoding", b"X: y\nTransfer-Encoding",
         b"X: y\rTransfer-Encoding", b"Transfer-Encoding\x0b", b"\x0bTransfer-Encoding", b"Transfer\xadEncoding", b"Transfer-\xc4\xb1ncoding",
         b"(Transfer-Encoding)", b"\xef\xbb\xbfTransfer-Encoding", b"transfer-EncodinG", b"Content-Encoding", b"TE", b"Transfer-Encoding:"]
LENGTH_NAMES = [b"Content-Length", b"content-length", b"CONTENT-LENGTH", b"Content_Length", b"Content-Length ", b" Content-Length",
                b"Content-Length\t", b"Content Length", b"Content-Length\x00", b"X: y\nContent-Length", b"X: y\rContent-Length",
                b"Content\xadLength", b"Content-Length\x0b", b"\"Content-Length\"", b"Content-\xc5\xbfength"]
HOSTS = [b"", b" ", b"a b", b"a,b", b"a/b", b"a@b", b"user:pass@a.test", b"a:80", b"a:", b"a:x", b"a:99999", b"a:-1", b"a:080", b"[::1]", b"[::1]:80",
         b"[::1", b"::1", b"a..b", b".a", b"a.", b"-a", b"a_b.test", b"\xe4.test", b"a\x00b", b"a\tb", b"a\"b", b"a<b>", b"a?b", b"a#b", b"a\\b",
         b"127.0.0.1", b"0x7f.1", b"%61.test", b"a%2eb", b"A.TEST", b"http://a.test", b"a" * 300, b"a;b", b"*", b"a{b}", b"a|b", b"a^b", b"a`b",
         b"a.test, b.test", b"a.test b.test", b"a\x7fb", b"xn--a.test", b"a!$&'()*+,;=b"]
EXPECTS = [b"100-continue", b"100-Continue", b"100-continue, 100-continue", b"100-continue;x", b"200-ok", b"", b"100-continue\t", b"x", b"y 100-continue",
           b"100-continue, x", b"\"100-continue\""]
CONNECTIONS = [b"close", b"keep-alive", b"Close, Content-Length", b"Transfer-Encoding", b"keep-alive, Transfer-Encoding", b"Host", b"Content-Length",
               b"upgrade", b"Upgrade, HTTP2-Settings", b"X-Forwarded-For", b"te", b",", b"close,close", b"close;x", b"\"close\"", b"keep-alive\x00",
               b"Via, CDN-Loop", b"Cookie", b"Authorization", b"TE, trailers", b"Trailer", b"Expect", b"Connection", b"x" * 200]
UPGRADES = [b"websocket", b"h2c", b"HTTP/2.0", b"TLS/1.0", b"websocket, h2c", b"", b"x", b"WebSocket\t", b"IRC/6.9,h2c"]
CHUNK_SIZES = [b"5", b"05", b"0000000000005", b"5 ", b" 5", b"5\t", b"+5", b"-5", b"0x5", b"5;", b"5;a", b"5;a=b", b"5;a=\"b\"", b"5 ;a=b", b"5;a=\"\r\n\"",
               b"5;\n", b"5;a\rb", b"5;a\x00", b"5\x0b", b"5,5", b"5_", b"", b"g", b"5g", b"5.", b"FFFFFFFFFFFFFFFF", b"10000000000000005",
               b"ffffffffffffffffffff5", b"8000000000000005", b"100000005", b"5\x00", b"0x", b"5;" + b"a" * 5000, b"5;a=b;c=d;e", b"\xb5", b"5\r",
               b"5\xa0", b"5 5", b"5;\t", b"5 \t;a", b"0" * 300 + b"5"]
ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"", b"\r\n\r\n", b" \r\n", b"\x0b", b"x\r\n", b"\x00\r\n", b"\xe2\x80\xa8", b"\x85"]
TRAILERS = [b"X-Checksum: 1", b"Content-Length: 5", b"Transfer-Encoding: chunked", b"Host: trailer.test", b"Connection: close", b"Trailer: x",
            b"Authorization: Basic eA==", b"Cookie: a=b", b"X-A : b", b" folded", b"no colon", b": empty", b"X: \x00", b"X: a\rb", b"X: a\nY: b",
            b"Expect: 100-continue", b"X-\xe4: b", b"Content-Type: text/html", b"Set-Cookie: a=b", b"Upgrade: h2c", b"Age: 5", b"X: " + b"a" * 3000]
FIELDS = [b"X-A: b", b"X-A:b", b"X-A:", b"X-A: ", b"X-A:\tb\t", b"X-A: b  c", b"X-A: \xe4\xff", b"X-A: a\x01b", b"X-A: a\x7fb", b"X-A: a\x00b", b"X-A: a\rb",
          b"X-A: a\nX-B: c", b"X-A : b", b"X-A\t: b", b" X-A: b", b"X-A", b": b", b"X A: b", b"X-A\x00: b", b"X(A): b", b"X/A: b", b"X-\xe4: b", b"X_A: b",
          b"X.A: b", b"!#$%&'*+-.^_`|~09: b", b"\"X\": b", b"X-A: " + b"a" * 9000, b"X" * 300 + b": b", b"Cookie: a=b", b"Cookie: c=d", b"X-A: a\r\n b",
          b"X-A: a\r\n\tb", b"X-A: a\r\n \r\n b", b"X-A: \r\n b", b"Cache-Control: no-cache", b"Pragma: no-cache", b"If-None-Match: \"x\"",
          b"If-Modified-Since: Mon, 01 Jan 2024 00:00:00 GMT", b"Max-Forwards: 0", b"X-HTTP-Method-Override: POST", b"X-Original-URL: /other",
          b"X-Forwarded-For: 1.2.3.4", b"X-Forwarded-Host: evil.test", b"Forwarded: for=1.2.3.4;host=evil.test", b"X-Rewrite-URL: /other",
          b"Te: trailers", b"TE: chunked", b"TE: trailers, deflate;q=0.5", b"Trailer: X-Checksum", b"Trailer: Content-Length", b"Keep-Alive: timeout=5",
          b"Proxy-Connection: keep-alive", b"HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA", b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
          b"Sec-WebSocket-Version: 13", b"Content-Encoding: gzip", b"Content-Type: multipart/form-data; boundary=\"\r\"", b"Via: 1.1 x", b"Date: x",
          b"Authorization: Bearer x", b"Accept-Encoding: gzip;q=0, \x00", b"Origin: null", b"Early-Data: 1", b"X-A: \xc0\x80", b"X-A: \xe2\x80\xa8x"]
PATHS = [b"/", b"//", b"/a//b", b"/a/./b", b"/a/../b", b"/../a", b"/a/..", b"/%2e%2e/a", b"/a%2fb", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/a%00b", b"/a%", b"/a%zz",
         b"/a%2", b"/a;b=c", b"/a;/b", b"/a?b=c&d", b"/a?b;c", b"/a?", b"/a??b", b"/a?b#c", b"/a#b", b"/a%23b", b"/a%3fb", b"/a b", b"/a\tb", b"/a%20b", b"/a+b",
         b"/\xe4\xff", b"/\xc3\xa4", b"/a\x00b", b"/a\x01b", b"/a\x7fb", b"/a\"b", b"/a<b>", b"/a{b}", b"/a|b", b"/a^b", b"/a`b", b"/a[b]", b"/a'b", b"/~a", b"/a:b",
         b"/a@b", b"/a,b", b"/a!b", b"/a$b", b"/a*b", b"/a=b", b"/%c0%ae", b"/%u0041", b"/a%0d%0aX:%20y", b"/a\rb", b"/a\nb", b"a", b"", b"?a", b"#a", b"*", b"**",
         b"/*", b"\\a", b"%2fa", b"http://a.test/b", b"HTTP://a.test/b", b"https://a.test/b", b"http://a.test", b"http://a.test?b", b"http:///b",
         b"http://u:p@a.test/b", b"http://a.test:80/b", b"http:/a", b"http:a", b"//a.test/b", b"ftp://a.test/b", b"a.test:443", b"ws://a.test/b",
         b"http://a.test/b?c", b"http://[::1]/b", b"http://a.test\\b", b"http://a.test#b", b"http://\xe4.test/b", b"/" + b"a" * 3000, b"/" + b"a" * 9000,
         b"/a?" + b"b=c&" * 500, b"/a?b=%00", b"/a?b=\xe4", b"/a?<script>", b"/a%252fb", b"/A", b"/a/", b"/a/.", b"/.%2e/a", b"/%2E", b"/a%c3%a4"]


class Case:
    """One connection's bytes: a bent request, what is smuggled behind it, and a correct last request that asks to close."""

    def __init__(self, seed, number):
        self.number = number
        self.random = random.Random(f"{seed}/{number}")
        self.method, self.target, self.version = self.pick(METHODS), b"/c%d" % number, b"HTTP/1.1"
        self.eol, self.gap, self.lead, self.end = b"\r\n", b" ", b"", None
        self.fields = [b"Host: h%d.test" % number, b"Accept: */*"]
        self.body = b""
        self.frame()
        for _ in range(self.pick([0, 1, 1, 1, 2, 2, 3])):
            self.pick(BENDS)(self)
        self.bytes = self.written()

    def pick(self, choices):
        return self.random.choice(choices)

    def insert(self, line):
        self.fields.insert(self.random.randint(0, len(self.fields)), line)

    def smuggled(self):
        return b"%s /s%d HTTP/1.1\r\nHost: smuggled.test\r\n\r\n" % (self.pick([b"GET", b"POST", b"HEAD"]), self.number)

    def payload(self):
        """The content of a body: short, or something that looks like a request, or the end of a chunked body before one."""
        return self.pick([b"", b"hello", b"hello", self.smuggled(), b"0\r\n\r\n" + self.smuggled(), b"\r\n", b"\x00\xff" * 40, b"x=" + b"y" * 2000])

    def frame(self):
        """A correct body, more often where one is expected."""
        expected = self.method in (b"POST", b"PUT", b"PATCH", b"QUERY")
        how = self.pick(["none", "length", "length", "chunked", "chunked"] if expected else ["none"] * 4 + ["length", "chunked"])
        content = self.payload()
        if how == "length":
            self.fields.append(b"Content-Length: %d" % len(content))
            self.body = content
        elif how == "chunked":
            self.fields.append(b"Transfer-Encoding: chunked")
            self.body = self.chunked(content)
        elif expected and self.random.random() < 0.5:
            self.fields.append(b"Content-Length: 0")

    def chunked(self, content, trailers=()):
        parts = []
        while content:
            length = self.random.randint(1, len(content))
            parts.append(b"%x\r\n%s\r\n" % (length, content[:length]))
            content = content[length:]
        return b"".join(parts) + b"0\r\n" + b"".join(line + b"\r\n" for line in trailers) + b"\r\n"

    def written(self):
        line = self.gap.join(part for part in (self.method, self.target, self.version))
        head = self.lead + line + self.eol + b"".join(field + self.eol for field in self.fields) + (self.eol if self.end is None else self.end)
        behind = self.smuggled() if self.random.random() < 0.25 else b""
        last = b"GET /end%d HTTP/1.1\r\nHost: end.test\r\nConnection: close\r\n\r\n" % self.number
        return head + self.body + behind + last


# ---- how a request is bent


def odd_method(case):
    case.method = case.pick(ODD_METHODS)


def odd_target(case):
    case.target = case.pick(PATHS)


def odd_version(case):
    case.version = case.pick(VERSIONS)


def odd_line(case):
    case.gap = case.pick([b"  ", b"\t", b" \t", b"\x0b", b"\x00", b"\xa0", b"\r", b"\r\n "])


def odd_lead(case):
    case.lead = case.pick([b"\r\n", b"\r\n\r\n", b"\n", b"\r", b" ", b"\x00", b"\r\n\n", b"x\r\n", b"\xef\xbb\xbf", b"\r\n" * 20])


def odd_line_ends(case):
    case.eol = case.pick([b"\n", b"\r", b"\r\r\n", b"\n\r", b" \r\n"])


def odd_head_end(case):
    case.end = case.pick([b"\n", b"\r", b"\r\r\n", b"\n\n", b"", b" \r\n\r\n", b"\x00\r\n", b"\t\r\n"])


def odd_host(case):
    case.fields = [line for line in case.fields if not line.startswith(b"Host")]
    for _ in range(case.pick([0, 1, 1, 1, 1, 2])):
        case.insert(case.pick([b"Host: ", b"host:", b"HOST: ", b"Host : ", b"Host\t:"]) + case.pick(HOSTS))


def two_hosts(case):
    case.insert(b"Host: " + case.pick(HOSTS + [b"h%d.test" % case.number] * 20))


def length_again(case):
    case.insert(case.pick(LENGTH_NAMES) + b": " + case.pick(SIZES))


def length_instead(case):
    case.fields = [line for line in case.fields if not line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    case.body = b"hello"
    case.insert(b"Content-Length:" + case.pick([b" ", b"", b"\t", b"\r\n "]) + case.pick(SIZES))


def coding_again(case):
    case.insert(case.pick(NAMES) + case.pick([b": ", b":", b":\t", b":\r\n ", b": \r\n\t"]) + case.pick(CODINGS))


def coding_instead(case):
    case.fields = [line for line in case.fields if not line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    case.body = case.chunked(case.payload())
    case.insert(case.pick(NAMES) + b": " + case.pick(CODINGS))


def both(case):
    """Transfer-Encoding and Content-Length, each with a length that suits one reader."""
    case.fields = [line for line in case.fields if not line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    case.body = b"0\r\n\r\n" + case.pick([b"", case.smuggled()])
    case.insert(case.pick([b"Content-Length: %d" % len(case.body), b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 4"]))
    case.insert(case.pick(NAMES[:6]) + b": " + case.pick(CODINGS[:12]))


def odd_chunk(case):
    case.fields = [line for line in case.fields if not line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    case.fields.append(b"Transfer-Encoding: chunked")
    size, end = case.pick(CHUNK_SIZES), b"\r\n"
    after, last = b"\r\n", b"0"
    odd = case.random.randrange(5)
    if odd == 0:
        end, size = case.pick(ENDS), case.pick([size, b"5"])
    elif odd == 1:
        after, size = case.pick(ENDS), b"5"
    elif odd == 2:
        last, size = case.pick([b"00", b"0000", b"-0", b"0x0", b"0;a", b"0 ", b"0;a=\"b\"", b"", b"0\t", b"+0", b"0\n", b"0\x00", b"0,0"]), b"5"
    case.body = size + end + b"hello" + after + last + b"\r\n" + case.pick([b"\r\n"] * 4 + ENDS)


def odd_trailers(case):
    case.fields = [line for line in case.fields if not line.startswith((b"Content-Length", b"Transfer-Encoding"))]
    case.fields.append(b"Transfer-Encoding: chunked")
    trailers = [case.pick(TRAILERS) for _ in range(case.pick([1, 1, 2, 3]))]
    if case.random.random() < 0.5:
        case.insert(b"Trailer: " + case.pick([b"X-Checksum", b"Content-Length", b"*", b"x, y", b"Transfer-Encoding", b"Host"]))
    if case.random.random() < 0.3:
        case.insert(b"TE: trailers")
    case.body = case.chunked(case.payload(), trailers)


def odd_field(case):
    for _ in range(case.pick([1, 1, 1, 2, 4])):
        case.insert(case.pick(FIELDS))


def many_fields(case):
    for number in range(case.pick([50, 98, 99, 100, 101, 150, 300])):
        case.insert(b"X-%d: y" % number)


def expect(case):
    case.insert(b"Expect: " + case.pick(EXPECTS))


def connection(case):
    case.insert(b"Connection: " + case.pick(CONNECTIONS))


def upgrade(case):
    case.insert(b"Upgrade: " + case.pick(UPGRADES))
    case.insert(b"Connection: " + case.pick([b"upgrade", b"Upgrade", b"keep-alive, Upgrade", b"upgrade, HTTP2-Settings", b"x"]))


def cut(case):
    """A body that is shorter or longer than it says."""
    length = case.random.randint(0, len(case.body))
    case.body = case.pick([case.body[:length], case.body + case.pick([b"x", b"\r\n", b"0\r\n\r\n", case.smuggled()])])


def control_byte(case):
    """A byte of the head is another."""
    index = case.random.randrange(len(case.fields))
    line = bytearray(case.fields[index])
    line[case.random.randrange(len(line))] = case.random.choice([0, 1, 8, 9, 10, 11, 12, 13, 27, 32, 34, 44, 58, 59, 127, 128, 160, 255])
    case.fields[index] = bytes(line)


def folded(case):
    index = case.random.randrange(len(case.fields))
    name, _, value = case.fields[index].partition(b":")
    case.fields[index] = name + b":" + case.pick([b"\r\n ", b"\r\n\t", b"\n ", b"\r\n \r\n ", b" \r\n  "]) + value.strip()


def doubled(case):
    case.insert(case.pick(case.fields))


def swapped_case(case):
    index = case.random.randrange(len(case.fields))
    name, colon, value = case.fields[index].partition(b":")
    case.fields[index] = name.swapcase() + colon + value


def pipelined(case):
    """Another correct request behind this one."""
    case.body += b"%s /p%d HTTP/1.1\r\nHost: p.test\r\nContent-Length: 3\r\n\r\nabc" % (case.pick([b"POST", b"GET", b"PUT"]), case.number)


BENDS = [odd_method, odd_target, odd_target, odd_target, odd_version, odd_line, odd_lead, odd_line_ends, odd_head_end, odd_host, odd_host, two_hosts,
         length_again, length_again, length_instead, length_instead, coding_again, coding_again, coding_instead, coding_instead, both, both,
         odd_chunk, odd_chunk, odd_chunk, odd_trailers, odd_trailers, odd_field, odd_field, odd_field, many_fields, expect, connection, connection,
         upgrade, upgrade, cut, control_byte, control_byte, folded, doubled, swapped_case, pipelined]
