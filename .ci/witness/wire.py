"""What a strict reader makes of the bytes of one connection: requests of HTTP/1.1, one behind the other, and what is irregular about them."""
import hashlib
import re
import urllib.parse

HEAD_MAX = 256 << 10
TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
# Field values: no control bytes but tab (RFC 9110 §5.5).
VALUE = re.compile(rb"[\t\x20-\x7e\x80-\xff]*\Z")
# Request targets without spaces and control bytes.
TARGET = re.compile(rb"[\x21-\x7e\x80-\xff]+\Z")
DIGITS = re.compile(rb"[0-9]{1,18}\Z")
CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,15}\Z")
LONG = 300


class Request:
    """One request of a connection, which lies at `start..end` of its bytes."""

    def __init__(self, start, method, target, fields):
        self.start, self.end = start, None
        self.method, self.target, self.fields = method, target, fields
        self.sum, self.length = hashlib.sha256(), 0
        hosts = self.values(b"host")
        self.host = hosts[0] if hosts else b""

    def values(self, name):
        return [value for other, value in self.fields if other == name]

    def take(self, data):
        self.sum.update(data)
        self.length += len(data)

    def view(self):
        return view(self.method, self.target, self.host, self.length, self.sum.hexdigest())


def view(method, target, host, length, body):
    """What of a request must be the same for all, in one line of printable characters."""
    return " ".join([*(printable(part) for part in (method, target, host)), str(length), body[:16]])


def printable(part):
    if len(part) > LONG:
        part = part[:40] + b"..%d.." % len(part) + hashlib.sha256(part).hexdigest()[:16].encode()
    return urllib.parse.quote_from_bytes(part, safe="/:?=&*-._~") or "-"


class Reader:
    """Takes the bytes of a connection as they come; `requests` are those that are complete. Once `broken`, it reads no further."""

    def __init__(self):
        self.data, self.at, self.scanned = bytearray(), 0, 0
        self.requests, self.broken = [], None
        self.request, self.step = None, self.head

    def feed(self, data):
        """Returns the requests that these bytes complete."""
        before = len(self.requests)
        self.data += data
        while self.broken is None and self.step():
            pass
        return self.requests[before:]

    def rest(self):
        """Whether an incomplete request has begun."""
        return self.at < len(self.data) or self.request is not None

    def fail(self, why):
        self.broken = why
        return False

    def line(self, limit=HEAD_MAX):
        end = self.data.find(b"\r\n", self.at)
        if end < 0:
            if len(self.data) - self.at > limit:
                self.fail("a line too long")
            return None
        line = bytes(self.data[self.at:end])
        self.at = end + 2
        return line

    def head(self):
        end = self.data.find(b"\r\n\r\n", max(self.at, self.scanned - 3))
        if end < 0:
            self.scanned = len(self.data)
            return False
        start, self.at = self.at, end + 4
        first, *lines = bytes(self.data[start:end]).split(b"\r\n")
        parts = first.split(b" ")
        if len(parts) != 3 or parts[2] not in (b"HTTP/1.1", b"HTTP/1.0"):
            return self.fail(f"request line {first!r}")
        method, target, _ = parts
        if not TOKEN.match(method) or not TARGET.match(target):
            return self.fail(f"request line {first!r}")
        fields = []
        for line in lines:
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.match(name) or not VALUE.match(value):
                return self.fail(f"field {line!r}")
            fields.append((name.lower(), value.strip(b" \t")))
        self.request = Request(start, method, target, fields)
        return self.frame()

    def frame(self):
        request = self.request
        lengths, codings = request.values(b"content-length"), request.values(b"transfer-encoding")
        if len(request.values(b"host")) > 1:
            return self.fail("Host twice")
        if lengths and codings:
            return self.fail("Content-Length and Transfer-Encoding")
        if codings:
            if codings != [b"chunked"]:
                return self.fail(f"Transfer-Encoding {codings}")
            self.step = self.chunk_size
            return True
        if lengths and (len(lengths) > 1 or not DIGITS.match(lengths[0])):
            return self.fail(f"Content-Length {lengths}")
        self.left = int(lengths[0]) if lengths else 0
        self.step = self.counted
        return True

    def counted(self):
        part = bytes(self.data[self.at:self.at + self.left])
        self.at, self.left = self.at + len(part), self.left - len(part)
        self.request.take(part)
        return self.complete() if self.left == 0 else False

    def chunk_size(self):
        line = self.line()
        if line is None:
            return False
        if not CHUNK_SIZE.match(line):
            return self.fail(f"chunk size {line!r}")
        self.left = int(line, 16)
        self.step = self.chunk if self.left else self.trailers
        return True

    def chunk(self):
        if len(self.data) < self.at + self.left + 2:
            return False
        end = self.at + self.left
        if self.data[end:end + 2] != b"\r\n":
            return self.fail("no line end behind a chunk")
        self.request.take(bytes(self.data[self.at:end]))
        self.at, self.step = end + 2, self.chunk_size
        return True

    def trailers(self):
        line = self.line()
        if line is None:
            return False
        if not line:
            return self.complete()
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name) or not VALUE.match(value):
            return self.fail(f"trailer {line!r}")
        return True

    def complete(self):
        self.request.end, self.scanned = self.at, self.at
        self.requests.append(self.request)
        self.request, self.step = None, self.head
        return True
