"""differential.py SHOAL [--requests N] [--seed S] [--only NUMBER]: is what Shoal forwards read alike by all?

Bent requests (`hostile`; each fourth over HTTP/2, `hostile2`) go to Shoal, one connection each. A recording origin keeps exactly what Shoal sends on each of its connections,
and checks that
- it is regular, to a strict reader (`wire`),
- each request that the origin got whole was answered to a client, once: nothing is forwarded that was not accepted as a request.
Each recorded connection is then replayed, byte by byte, to the programs of `servers`: all must see the requests that the strict reader saw,
the same and in the same order. If one does not, each request is replayed alone, to say which it is. A request that one refuses for a reason
of its own is a matter of that program if `EXEMPT` names the rule: nothing can be smuggled by what is refused.
"""
import argparse
import asyncio
import collections
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.parse

import hpack
from hostile import Case
from hostile2 import Case2
from servers import Servers, versions
from wire import Reader, Request

# Connections of clients at once, and replays at once.
CLIENTS, REPLAYS = 250, 40
# Requests on a connection of Shoal's until the recorder closes it.
STREAM_MAX = 20
# How long a client, a replay, the last connection, and a replay of what is incomplete may take.
CLIENT_LIMIT, REPLAY_LIMIT, QUIET_LIMIT, TAIL_LIMIT = 15.0, 20.0, 10.0, 1.0
FAILURES_SHOWN = 20
# Of each response: its status, and what is noted in its head. None of the bodies looks like a head.
HEAD = re.compile(rb"HTTP/1\.[01] ([1-5]\d\d) [^\r\n]*((?:\r\n[^\r\n]+)*)\r\n\r\n")
SERIAL = re.compile(rb"^x-recorded: (\d+)\r?$", re.I | re.M)
VIEW = re.compile(rb"^x-view: ([^\r\n]*)\r?$", re.I | re.M)
DONE = b"GET /done HTTP/1.1\r\nHost: done.test\r\nConnection: close\r\n\r\n"
NODE_METHODS = {method.encode() for method in (
    "ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE NOTIFY OPTIONS PATCH POST "
    "PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SOURCE SUBSCRIBE TRACE UNBIND UNLINK UNLOCK UNSUBSCRIBE").split()}
NGINX_SINGLE = [b"expect", b"if-modified-since", b"if-unmodified-since", b"if-match", b"if-none-match", b"range", b"if-range"]
# What Shoal answers itself: the client's fault, a loop, a method or version that it does not serve.
REFUSED = {400, 403, 404, 405, 408, 411, 413, 414, 417, 421, 431, 501, 505, 508}

CONFIG = """
[listen]
http = ["127.0.0.1:0"]
[limits]
header_timeout = "1s"
keepalive_timeout = "1s"
idle_timeout = "1s"
connections = 5000
connections_per_ip = 5000
[log]
filter = "error"
[[site]]
name = "differential"
hosts = ["*"]
origins = ["http://127.0.0.1:{port}"]
retries = 0
fail_max = 1000000
first_byte_timeout = "5s"
"""


def refuses(which):
    """The program answers these with an error, and closes."""
    return lambda request, seen: which(request) and len(seen) == 1 and seen[0].startswith("refused ")


def closes_after(which):
    """The program reads these right, and closes the connection behind them."""
    return lambda request, seen: which(request) and len(seen) == 2 and seen[0] == request.view() and seen[1] == "refused without a word"


def reads_target(change):
    """The program takes the target for another."""
    def test(request, seen):
        bare = Request(0, request.method, change(request.target), [(b"host", request.host)])
        bare.sum, bare.length = request.sum, request.length
        return seen == [bare.view()]
    return test


def has_odd_expectation(request):
    values = request.values(b"expect")
    return len(values) > 1 or any(value.lower() != b"100-continue" for value in values)


def is_websocket_without_key(request):
    return b"websocket" in b",".join(request.values(b"upgrade")).lower() and not request.values(b"sec-websocket-key")


def has_nul(request):
    return b"%00" in request.target.partition(b"?")[0]


def leaves_root(request):
    depth = 0
    for segment in urllib.parse.unquote_to_bytes(request.target.partition(b"?")[0]).split(b"/")[1:]:
        depth += {b"..": -1, b".": 0, b"": 0}.get(segment, 1)
        if depth < 0:
            return True
    return False


# What the programs are known to do otherwise, by a rule of their own: program, the rule, and whether it explains what was seen.
EXEMPT = [
    ("nginx", "methods are upper-case", refuses(lambda request: re.search(rb"[^A-Z_-]", request.method))),
    ("node", "methods are those of its list", refuses(lambda request: request.method not in NODE_METHODS)),
    ("node", "a connection that asked to leave HTTP is not used again", closes_after(lambda request: request.values(b"upgrade"))),
    ("apache", "of expectations it knows 100-continue", refuses(has_odd_expectation)),
    ("apache", "a connection with an expectation that was of no use is not used again",
     closes_after(lambda request: request.values(b"expect") and not request.length)),
    ("apache", "a proxy may be the last by Max-Forwards", refuses(lambda request: b"0" in request.values(b"max-forwards"))),
    ("apache", "a host of numbers is an address", refuses(lambda request: re.search(rb"(^|\.)(0x)?[0-9a-f]+\.?(:\d*)?\Z", request.host, re.I))),
    ("nginx", "a field that is no list comes once", refuses(lambda request: any(len(request.values(name)) > 1 for name in NGINX_SINGLE))),
    ("apache", "leading slashes are one", reads_target(lambda target: b"/" + target.lstrip(b"/"))),
    ("nginx", "targets begin with a slash", refuses(lambda request: request.target == b"*")),
    ("apache", "it answers OPTIONS * itself", refuses(lambda request: request.target == b"*")),
    ("haproxy", "PRI is of HTTP/2", refuses(lambda request: request.method == b"PRI")),
    ("haproxy", "a WebSocket handshake has a key", refuses(is_websocket_without_key)),
    ("nginx", "a path does not leave the root, and has no %00", refuses(lambda request: leaves_root(request) or has_nul(request))),
    ("apache", "a path does not leave the root, and has no %00", refuses(lambda request: leaves_root(request) or has_nul(request))),
    ("haproxy", "names have at most 255 bytes", refuses(lambda request: any(len(name) > 255 for name, _ in request.fields))),
]


class Stream(asyncio.Protocol):
    """One connection of Shoal's to the recording origin."""

    def __init__(self, recorder):
        self.recorder, self.reader = recorder, Reader()

    def connection_made(self, transport):
        self.transport = transport
        self.recorder.open += 1
        self.recorder.quiet.clear()

    def data_received(self, data):
        for request in self.reader.feed(data):
            self.answer(request)
        if self.reader.broken:
            self.transport.close()

    def answer(self, request):
        serial = self.recorder.record(self, request)
        last = len(self.reader.requests) >= STREAM_MAX
        close = b"Connection: close\r\n" if last else b""
        self.transport.write(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nX-Recorded: %d\r\n%sContent-Length: 0\r\n\r\n" % (serial, close))
        if last:
            self.transport.close()

    def connection_lost(self, _error):
        self.recorder.open -= 1
        self.recorder.ended(self.reader)
        if self.recorder.open == 0:
            self.recorder.quiet.set()


class Recorder:
    """The origin. `serials` has each request that came whole; what clients were answered is taken out."""

    def __init__(self):
        self.serials, self.count, self.open = {}, 0, 0
        self.ended, self.quiet = None, asyncio.Event()
        self.quiet.set()

    async def listen(self):
        self.server = await asyncio.get_running_loop().create_server(lambda: Stream(self), "127.0.0.1", 0, backlog=4096)
        return self.server.sockets[0].getsockname()[1]

    def record(self, stream, request):
        self.count += 1
        self.serials[self.count] = (stream.reader, request)
        return self.count


async def exchange(port, parts, limit, until_eof=True):
    """Sends the parts on a connection of its own and returns all that comes back, and whether it ended by itself."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    received = bytearray()
    try:
        async with asyncio.timeout(limit):
            for index, part in enumerate(parts):
                if index:
                    await asyncio.sleep(0.003)
                writer.write(part)
            if not until_eof:
                writer.write_eof()
            while data := await reader.read(65536):
                received += data
        return bytes(received), True
    except TimeoutError:
        return bytes(received), False
    except ConnectionError:
        return bytes(received), True
    finally:
        writer.transport.abort()


async def exchange2(port, case, limit):
    """Sends a case over HTTP/2, and behind it a correct request. Returns the fields of all final responses and whether both streams ended."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers, left, decoder = [], {1, 3}, hpack.Decoder()
    try:
        async with asyncio.timeout(limit):
            writer.write(streams(case))
            while left:
                head = await reader.readexactly(9)
                length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
                stream, payload = int.from_bytes(head[5:], "big"), await reader.readexactly(length)
                if kind == HEADERS:
                    fields = [(bytes(name), bytes(value)) for name, value in decoder.decode(payload, raw=True)]
                    if fields and fields[0][0] == b":status" and not fields[0][1].startswith(b"1"):
                        answers.append(fields)
                if kind in (HEADERS, DATA) and flags & END_STREAM or kind == RST_STREAM:
                    left.discard(stream)
                if kind == SETTINGS and not flags & ACK:
                    writer.write(frame(SETTINGS, ACK, 0, b""))
        return answers, True
    except TimeoutError:
        return answers, False
    except (ConnectionError, asyncio.IncompleteReadError):
        return answers, True
    finally:
        writer.transport.abort()


DATA, HEADERS, RST_STREAM, SETTINGS, CONTINUATION = 0, 1, 3, 4, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
FRAME_MAX = 16384


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def field_block(stream, block, end):
    """HEADERS, and CONTINUATION for what one frame does not hold."""
    parts = [block[at:at + FRAME_MAX] for at in range(0, len(block), FRAME_MAX)] or [b""]
    flags = END_STREAM if end else 0
    return b"".join(frame(CONTINUATION if index else HEADERS, (0 if index else flags) | (END_HEADERS if part is parts[-1] else 0), stream, part)
                    for index, part in enumerate(parts))


def streams(case):
    encoder = hpack.Encoder()
    sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, b"")
    sent += field_block(1, encoder.encode(case.fields), case.body is None)
    if case.body is not None:
        sent += frame(DATA, 0 if case.trailers else END_STREAM, 1, case.body)
    if case.trailers:
        sent += field_block(1, encoder.encode(case.trailers), True)
    last = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"end.test"), (b":path", b"/end%d" % case.number)]
    return sent + field_block(3, encoder.encode(last), True)


class Differential:
    def __init__(self, arguments, recorder, shoal, ports):
        self.arguments, self.recorder, self.shoal, self.ports = arguments, recorder, shoal, ports
        self.replays, self.replaying = asyncio.Semaphore(REPLAYS), set()
        self.statuses, self.exempt = collections.Counter(), collections.Counter()
        self.failures, self.forwarded, self.streams, self.tails = 0, 0, 0, 0

    def fail(self, *lines):
        self.failures += 1
        if self.failures <= FAILURES_SHOWN:
            print("\n".join(lines) + "\n", flush=True)

    # ---- to Shoal

    async def case(self, number):
        if number % 4 == 3:
            case = Case2(self.arguments.seed, number)
            answers, ended = await exchange2(self.shoal, case, CLIENT_LIMIT)
            statuses = [int(dict(fields)[b":status"]) for fields in answers]
            serials = [int(value) for fields in answers for name, value in fields if name == b"x-recorded"]
            self.judge(case.number, statuses, serials, ended, case.shown(), answers, True)
            return
        case = Case(self.arguments.seed, number)
        parts = [case.bytes]
        if number % 5 == 0:
            at = case.random.randint(1, len(case.bytes) - 1)
            parts = [case.bytes[:at], case.bytes[at:]]
        received, ended = await exchange(self.shoal, parts, CLIENT_LIMIT)
        statuses = [int(status) for status, _ in HEAD.findall(received) if not status.startswith(b"1")]
        serials = [int(serial) for serial in SERIAL.findall(received)]
        self.judge(case.number, statuses, serials, ended, repr(case.bytes), received, False)

    def judge(self, number, statuses, serials, ended, sent, received, is_http2):
        self.statuses.update(statuses or ["closed"])
        requests = [self.recorder.serials.pop(serial, None) for serial in serials]
        wrong = []
        if not ended:
            wrong.append(f"no end within {CLIENT_LIMIT} s")
        if statuses.count(200) != len(serials) or None in requests:
            wrong.append("answers that are not the origin's")
        if unexpected := [status for status in statuses if status != 200 and status not in REFUSED]:
            wrong.append(f"answered {unexpected}")
        if is_http2 and any(request and len(request[1].values(b"cookie")) > 1 for request in requests):
            wrong.append("the crumbs of a cookie are not put together (RFC 9113 §8.2.3)")
        for what in wrong:
            self.fail(f"case {number}: {what}", f"  sent      {sent}", f"  received  {received!r}")

    # ---- from Shoal

    def recorded(self, reader):
        """A connection of Shoal's has ended."""
        task = asyncio.get_running_loop().create_task(self.replay(reader))
        self.replaying.add(task)
        task.add_done_callback(self.replaying.discard)

    async def replay(self, reader):
        async with self.replays:
            self.streams += 1
            data, requests = bytes(reader.data), reader.requests
            self.forwarded += len(requests)
            if reader.broken:
                self.fail(f"Shoal forwarded what is irregular: {reader.broken}", f"  bytes  {data[reader.requests[-1].end if requests else 0:]!r}")
            if requests:
                whole = data[:requests[-1].end]
                expected = [request.view() for request in requests]
                views = await asyncio.gather(*(self.views(port, whole) for port in self.ports.values()))
                if any(view != expected for view in views):
                    await self.alone(data, requests, dict(zip(self.ports, views)))
            if not reader.broken and reader.rest():
                await self.tail(data[requests[-1].end if requests else 0:])

    async def views(self, port, data):
        """What a program made of some requests: a line for each, the last says if it refused."""
        received, ended = await exchange(port, [data + DONE], REPLAY_LIMIT)
        return self.read_views(received, ended)

    def read_views(self, received, ended):
        views = []
        for status, fields in HEAD.findall(received):
            if view := VIEW.search(fields):
                views.append(view[1].decode())
            elif not status.startswith(b"1"):
                views.append(f"refused {status.decode()}")
        if views and views[-1].startswith("GET /done done.test 0 "):
            return views[:-1]
        if not ended:
            return views + ["no answer"]
        return views if views and views[-1].startswith("refused") else views + ["refused without a word"]

    async def alone(self, data, requests, together):
        """Which of the requests of a connection is seen differently. A connection may only be seen differently as a whole
        if some request of it is exempt."""
        explained = False
        for request in requests:
            part, expected = data[request.start:request.end], [request.view()]
            views = dict(zip(self.ports, await asyncio.gather(*(self.views(port, part) for port in self.ports.values()))))
            wrong = {name: seen for name, seen in views.items() if seen != expected}
            if not wrong:
                continue
            explained = True
            if self.is_exempt(request, wrong):
                continue
            self.fail("a request is read differently", f"  bytes    {part!r}", f"  strict   {expected[0]}",
                      *(f"  {name:8} {' | '.join(seen)}" for name, seen in views.items()))
        if not explained:
            self.fail("a connection is read differently, though each of its requests alone is not", f"  bytes    {data!r}",
                      *(f"  {name:8} {' | '.join(seen)}" for name, seen in together.items()))

    def is_exempt(self, request, wrong):
        for name, seen in wrong.items():
            reasons = [reason for program, reason, explains in EXEMPT if program == name and explains(request, seen)]
            if not reasons:
                return False
            self.exempt[f"{name}: {reasons[0]}"] += 1
        return True

    async def tail(self, data):
        """Shoal gave up in the middle of a request: nobody may see a whole one."""
        self.tails += 1
        heard = await asyncio.gather(*(exchange(port, [data], TAIL_LIMIT, until_eof=False) for port in self.ports.values()))
        for name, (received, _) in zip(self.ports, heard):
            if views := VIEW.findall(received):
                self.fail(f"an incomplete request is whole to {name}", f"  bytes  {data!r}", f"  views  {views}")

    # ---- all

    async def run(self):
        numbers = range(self.arguments.requests)
        if self.arguments.only is not None:
            numbers = range(self.arguments.only, self.arguments.only + 1)
        numbers = iter(numbers)
        await asyncio.gather(*(self.client(numbers) for _ in range(CLIENTS)))

    async def client(self, numbers):
        for number in numbers:
            await self.case(number)
            # Not ahead of the replays without bound.
            async with self.replays:
                pass

    async def rest(self):
        """Replays what was recorded until Shoal ended, and asks for what nobody was answered."""
        await asyncio.wait_for(self.recorder.quiet.wait(), QUIET_LIMIT)
        await asyncio.gather(*self.replaying)
        for reader, request in self.recorder.serials.values():
            self.fail("forwarded, and answered to nobody", f"  bytes  {bytes(reader.data[request.start:request.end])!r}")


def report(test, seconds):
    print(f"{sum(test.statuses.values())} answers: " + ", ".join(f"{count} × {status}" for status, count in sorted(test.statuses.items(), key=str)))
    print(f"{test.forwarded} requests forwarded on {test.streams} connections, {test.tails} broken off; replayed in {seconds:.0f} s")
    for reason, count in sorted(test.exempt.items()):
        print(f"  {count} exempt, {reason}")
    print(f"{test.failures} disagreements")


def start_shoal(shoal, folder, origin):
    path = os.path.join(folder, "shoal.toml")
    with open(path, "w") as file:
        file.write(CONFIG.format(port=origin))
    child = subprocess.Popen([shoal, "run", "--config", path], stdout=subprocess.PIPE)
    for line in child.stdout:
        words = line.decode().split()
        if words[:2] == ["listening", "http"]:
            return child, int(words[2].rpartition(":")[2])
    sys.exit("shoal did not start")


async def main(arguments):
    began = time.monotonic()
    versions()
    print(f"seed {arguments.seed}, {arguments.requests} requests", flush=True)
    with tempfile.TemporaryDirectory(prefix="shoal-differential-") as folder:
        servers = Servers(folder, sys.executable)
        recorder = Recorder()
        child, port = start_shoal(arguments.shoal, folder, await recorder.listen())
        test = Differential(arguments, recorder, port, servers.ports)
        recorder.ended = test.recorded
        try:
            await test.run()
            if child.poll() is not None:
                test.fail(f"Shoal ended with {child.returncode}")
            child.terminate()
            await test.rest()
        finally:
            child.kill()
            child.wait()
            servers.stop()
    report(test, time.monotonic() - began)
    if not test.forwarded:
        sys.exit("nothing was forwarded")
    sys.exit(1 if test.failures else 0)


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("shoal")
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--only", type=int, help="this case of the seed")
    return parser.parse_args()


asyncio.run(main(arguments()))
