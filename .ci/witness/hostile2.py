"""Requests of HTTP/2 that try to become something else over HTTP/1.1. Each is made from a seed and its number alone."""
import random

from hostile import (CHUNK_SIZES, CODINGS, CONNECTIONS, EXPECTS, FIELDS, HOSTS, METHODS, NAMES, LENGTH_NAMES, ODD_METHODS, PATHS, SIZES, TRAILERS,
                     UPGRADES)

# What would end a line, a head or a body over HTTP/1.1, with another request behind it.
SMUGGLED = b"GET /s HTTP/1.1\r\nHost: smuggled.test\r\n\r\n"
ESCAPES = [b"\r\nX-A: b", b"\nX-A: b", b"\r", b"\n", b"\x00", b"\r\nTransfer-Encoding: chunked", b"\r\nContent-Length: 0", b" HTTP/1.1\r\nX-A: b",
           b" HTTP/1.1\r\nHost: a\r\n\r\n" + SMUGGLED, b"\r\n\r\n" + SMUGGLED, b"\n\n" + SMUGGLED, b" ", b"\t", b"\xc4\x8d\xc4\x8a", b"\x0b"]


class Case2:
    """One stream: `fields` in order, pseudo fields too, then perhaps a body and trailers."""

    def __init__(self, seed, number):
        self.number = number
        self.random = random.Random(f"{seed}/h2/{number}")
        self.fields = [(b":method", self.pick(METHODS)), (b":scheme", b"http"), (b":authority", b"h%d.test" % number), (b":path", b"/c%d" % number),
                       (b"accept", b"*/*")]
        self.body = self.pick([None, None, b"", b"hello", SMUGGLED, b"0\r\n\r\n" + SMUGGLED, b"5\r\nhello\r\n0\r\n\r\n", b"x" * 3000])
        self.trailers = None
        if self.body is not None and self.random.random() < 0.5:
            self.fields.append((b"content-length", b"%d" % len(self.body)))
        for _ in range(self.pick([0, 1, 1, 1, 2, 2, 3])):
            self.pick(BENDS)(self)

    def pick(self, choices):
        return self.random.choice(choices)

    def insert(self, name, value, least=4):
        self.fields.insert(self.random.randint(min(least, len(self.fields)), len(self.fields)), (name, value))

    def replace(self, name, change):
        self.fields = [(other, change(value) if other == name else value) for other, value in self.fields]

    def shown(self):
        return repr((self.fields, self.body, self.trailers))


def pseudo(name, choices):
    def bend(case):
        value = case.pick(choices)
        case.replace(name, lambda _: value)
    return bend


def escaped(case):
    """A value that breaks out of its line."""
    index = case.random.randrange(len(case.fields))
    name, value = case.fields[index]
    case.fields[index] = (name, case.pick([value, b"/", b""]) + case.pick(ESCAPES) + case.pick([b"", b"x"]))


def escaped_name(case):
    case.insert(case.pick([b"x", b"", b"x-a: b", b"transfer-encoding: chunked"]) + case.pick(ESCAPES), case.pick([b"y", b"chunked", b"5"]))


def no_pseudo(case):
    gone = case.pick([b":method", b":scheme", b":authority", b":path"])
    case.fields = [(name, value) for name, value in case.fields if name != gone]


def pseudo_again(case):
    case.insert(case.pick([b":method", b":path", b":authority", b":scheme", b":status", b":x", b":protocol", b":"]), case.pick([b"/other", b"GET", b"a.test", b"x"]),
                least=0)


def shuffled(case):
    case.random.shuffle(case.fields)


def host(case):
    own = b"h%d.test" % case.number
    case.insert(b"host", case.pick(HOSTS + [own] * 10))
    if case.random.random() < 0.3:
        no = [(name, value) for name, value in case.fields if name != b":authority"]
        case.fields = no


def length(case):
    case.insert(case.pick([b"content-length"] * 5 + [name.lower() for name in LENGTH_NAMES]), case.pick(SIZES))
    if case.random.random() < 0.7:
        case.body = b"hello"


def coding(case):
    case.insert(case.pick([b"transfer-encoding"] * 5 + [name.lower() for name in NAMES]), case.pick(CODINGS))
    if case.random.random() < 0.5:
        case.body = case.pick(CHUNK_SIZES) + b"\r\nhello\r\n0\r\n\r\n"


def hop(case):
    name = case.pick([b"connection", b"upgrade", b"keep-alive", b"proxy-connection", b"http2-settings", b"te", b"trailer"])
    case.insert(name, case.pick({b"connection": CONNECTIONS, b"upgrade": UPGRADES}.get(name, [b"trailers", b"x", b"close", b"trailers, deflate"])))


def expect(case):
    case.insert(b"expect", case.pick(EXPECTS))
    case.body = case.body or b"hello"


def field(case):
    name, _, value = case.pick(FIELDS).partition(b":")
    case.insert(case.pick([name.lower(), name.lower(), name]), value.lstrip(b" "))


def crumbs(case):
    for crumb in (b"a=b", b"c=d", b"e=f"):
        case.insert(b"cookie", crumb)


def trailers(case):
    case.body = case.body or b"hello"
    parts = [case.pick(TRAILERS).partition(b":") for _ in range(case.pick([1, 2, 3]))]
    case.trailers = [(name.lower(), value.strip()) for name, _, value in parts]
    if case.random.random() < 0.2:
        case.trailers.append(case.pick([(b":path", b"/other"), (b"transfer-encoding", b"chunked"), (b"x\r\ny", b"z"), (b"x", b"y\r\n\r\n" + SMUGGLED)]))
    if case.random.random() < 0.5:
        case.insert(b"trailer", case.pick([b"x-checksum", b"x-a", b"content-length"]))


def many(case):
    for number in range(case.pick([50, 98, 101, 150, 300])):
        case.insert(b"x-%d" % number, b"y")


BENDS = [pseudo(b":method", ODD_METHODS), pseudo(b":path", PATHS), pseudo(b":path", PATHS), pseudo(b":authority", HOSTS),
         pseudo(b":scheme", [b"https", b"ftp", b"", b"http://a/b?", b"HTTP", b"ht tp", b"http\r\nX: y"]), escaped, escaped, escaped, escaped_name, escaped_name,
         no_pseudo, pseudo_again, shuffled, host, host, length, length, coding, coding, hop, hop, expect, field, field, field, crumbs, trailers, trailers, many]
