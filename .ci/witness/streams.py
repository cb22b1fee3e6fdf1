"""streams.py SHOAL [CASE...] [--python2 FILE --autobahn FOLDER] [--all]: what streams passes as it comes, both ways, with bounded memory.

gRPC, server-sent events, Expect, large uploads, long polls, upgrades and WebSocket, through a real node. With --python2 also the Autobahn
suite, once against an echo server and once through Shoal, plain and over TLS: what it says must be the same. --all runs all of its cases.
"""
import argparse
import asyncio
import collections
import hashlib
import json
import os
import random
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
from concurrent import futures

import grpc

from rig import Origin, Peak, Shoal, Wire, certificates, eventually

HERE = os.path.dirname(os.path.abspath(__file__))
MIB = 1 << 20
# Bytes that may be on their way in the node and in the kernel's buffers of its two sockets, whose size the kernel chooses.
AHEAD_MAX = 16 * MIB
# What the node's memory may grow by, however long an upload is.
GROWTH_MAX = 64 * MIB
LARGE = 2048 * MIB

CONFIG = """
[listen]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
[limits]
body_bytes = 0
[log]
filter = "error"
"""
SITE = """
[[site]]
name = "{name}"
hosts = ["{name}.test"{more}]
tls = {{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}
origins = ["{origin}"]
"""


class Rig:
    def __init__(self, shoal, folder):
        self.folder, self.children = folder, []
        names = ["raw", "narrow", "ws", "grpc", "grpctls"]
        certificates(folder, [f"{name}.test" for name in names] + ["localhost"])
        self.origin, self.narrow = Origin(), Origin(receive_buffer=64 << 10)
        self.grpc = GrpcOrigin(folder)
        self.ws = self.program("echo_ws.py")
        config = CONFIG
        for name, origin in [("raw", self.origin.port), ("narrow", self.narrow.port), ("ws", self.ws), ("grpc", self.grpc.plain)]:
            # Autobahn asks for the host of its URL.
            more = ', "localhost"' if name == "ws" else ""
            config += SITE.format(name=name, more=more, folder=folder, origin=f"http://127.0.0.1:{origin}")
        config += "origin_http2 = true\n"
        config += SITE.format(name="grpctls", more="", folder=folder, origin=f"https://localhost:{self.grpc.tls}")
        config += f'origin_http2 = true\norigin_tls_ca = "{folder}/ca.pem"\n'
        self.shoal = Shoal(shoal, folder, config)

    def program(self, name):
        child = subprocess.Popen([sys.executable, os.path.join(HERE, name)], stdout=subprocess.PIPE)
        self.children.append(child)
        return int(child.stdout.readline())

    def client(self, **options):
        return Wire.to(self.shoal.http, **options)

    def curl(self, *arguments, host="raw.test", tls=False):
        """Runs curl against the node; what it prints."""
        port = self.shoal.https if tls else self.shoal.http
        scheme = "https" if tls else "http"
        command = ["curl", "-sS", "--max-time", "120", "--cacert", f"{self.folder}/ca.pem", "--resolve", f"{host}:{port}:127.0.0.1",
                   *(argument.replace("{base}", f"{scheme}://{host}:{port}") for argument in arguments)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.decode()

    def stop(self):
        self.shoal.stop()
        self.grpc.server.stop(0)
        for child in self.children:
            child.kill()
            child.wait()


# ---- gRPC


class GrpcOrigin(grpc.GenericRpcHandler):
    """Methods on plain bytes, over HTTP/2 with and without TLS."""

    def __init__(self, folder):
        self.cancelled, self.remaining = threading.Event(), None
        self.server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.max_receive_message_length", 16 * MIB)])
        self.server.add_generic_rpc_handlers((self,))
        self.plain = self.server.add_insecure_port("127.0.0.1:0")
        key, cert = (open(os.path.join(folder, name), "rb").read() for name in ("key.pem", "cert.pem"))
        self.tls = self.server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, cert)]))
        self.server.start()

    def service(self, details):
        return {
            "/t/Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "/t/Out": grpc.unary_stream_rpc_method_handler(self.out),
            "/t/In": grpc.stream_unary_rpc_method_handler(lambda messages, _: b"%d" % sum(len(message) for message in messages)),
            "/t/Both": grpc.stream_stream_rpc_method_handler(lambda messages, _: (message.upper() for message in messages)),
            "/t/Fail": grpc.unary_unary_rpc_method_handler(self.fail),
            "/t/FailLate": grpc.unary_stream_rpc_method_handler(self.fail_late),
            "/t/Endless": grpc.unary_stream_rpc_method_handler(self.endless),
        }.get(details.method)

    def unary(self, message, context):
        context.send_initial_metadata((("first", dict(context.invocation_metadata()).get("asked", "")),))
        context.set_trailing_metadata((("last", "yes"), ("last-bin", b"\x00\xff")))
        return message.upper()

    def out(self, message, context):
        for number in range(int(message)):
            yield b"%d" % number
        context.set_trailing_metadata((("count", message.decode()),))

    def fail(self, message, context):
        context.set_trailing_metadata((("why", "because"),))
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not so: ä%")

    def fail_late(self, message, context):
        yield b"one"
        context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no more")

    def endless(self, message, context):
        self.remaining = context.time_remaining()
        gone = threading.Event()
        context.add_callback(lambda: (gone.set(), self.cancelled.set()))
        yield b"begun"
        gone.wait(30)


def grpc_channels(rig):
    """From HTTP/2 with prior knowledge and over TLS, to both kinds of origins."""
    ca = open(os.path.join(rig.folder, "ca.pem"), "rb").read()
    for host in ("grpc.test", "grpctls.test"):
        yield grpc.insecure_channel(f"127.0.0.1:{rig.shoal.http}", [("grpc.default_authority", host)])
        name = [("grpc.ssl_target_name_override", host), ("grpc.default_authority", host)]
        yield grpc.secure_channel(f"127.0.0.1:{rig.shoal.https}", grpc.ssl_channel_credentials(ca), name)


def grpc_end_to_end(rig):
    for channel in grpc_channels(rig):
        with channel:
            grpc_calls(rig, channel)


def grpc_calls(rig, channel):
    answer, call = channel.unary_unary("/t/Unary").with_call(b"word", metadata=(("asked", "this"),), timeout=20)
    assert answer == b"WORD"
    assert dict(call.initial_metadata())["first"] == "this"
    trailing = dict(call.trailing_metadata())
    assert (trailing["last"], trailing["last-bin"]) == ("yes", b"\x00\xff"), trailing
    large = os.urandom(3 * MIB)
    assert channel.unary_unary("/t/Unary")(large, timeout=20) == large.upper()

    out = channel.unary_stream("/t/Out")(b"1000", timeout=20)
    assert list(out) == [b"%d" % number for number in range(1000)]
    assert dict(out.trailing_metadata())["count"] == "1000"
    assert channel.stream_unary("/t/In")((b"x" * 10000 for _ in range(500)), timeout=20) == b"5000000"
    grpc_talk(channel)
    grpc_failures(channel)
    grpc_ends(rig, channel)


def grpc_talk(channel):
    """Each message is sent only when the one before was answered, so nothing may be held back."""
    answered, queue = threading.Semaphore(1), iter(range(50))

    def messages():
        for number in queue:
            assert answered.acquire(timeout=20)
            yield b"m%d" % number

    got = []
    for answer in channel.stream_stream("/t/Both")(messages(), timeout=60):
        got.append(answer)
        answered.release()
    assert got == [b"M%d" % number for number in range(50)]


def grpc_failures(channel):
    def failure(call):
        try:
            list(call()) if callable(call) else call
        except grpc.RpcError as error:
            return error
        raise AssertionError("no error")

    error = failure(lambda: [channel.unary_unary("/t/Fail")(b"", timeout=20)])
    assert (error.code(), error.details()) == (grpc.StatusCode.FAILED_PRECONDITION, "not so: ä%"), error
    assert dict(error.trailing_metadata())["why"] == "because"
    error = failure(lambda: [channel.unary_unary("/t/Unknown")(b"", timeout=20)])
    assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error
    late = channel.unary_stream("/t/FailLate")(b"", timeout=20)
    assert next(late) == b"one"
    error = failure(lambda: late)
    assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "no more"), error


def grpc_ends(rig, channel):
    """A cancelled call ends at the origin; a deadline is known to it, and ends the call."""
    rig.grpc.cancelled.clear()
    call = channel.unary_stream("/t/Endless")(b"", timeout=60)
    assert next(call) == b"begun"
    call.cancel()
    assert rig.grpc.cancelled.wait(10), "the origin was not told of the cancellation"

    rig.grpc.cancelled.clear()
    call = channel.unary_stream("/t/Endless")(b"", timeout=1)
    assert next(call) == b"begun"
    assert 0 < rig.grpc.remaining < 2, rig.grpc.remaining
    try:
        next(call)
        raise AssertionError("went on after its deadline")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert rig.grpc.cancelled.wait(10), "the origin was not told of the deadline"


# ---- events and polls


def server_sent_events(rig):
    """The next event is sent only when the client has the one before."""
    seen = threading.Semaphore(0)

    def script(wire):
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(100):
            event = b"data: %.6f\n\n" % time.monotonic()
            wire.send(b"%x\r\n%s\r\n" % (len(event), event))
            assert seen.acquire(timeout=20)
        wire.send(b"0\r\n\r\n")

    rig.origin.scripts["/events"] = script
    client, delays = rig.client(), []
    client.ask("GET", "/events", "raw.test", "Accept: text/event-stream")
    assert client.head().status == "200"
    while event := client.chunk():
        delays.append(time.monotonic() - float(event.split()[1]))
        seen.release()
    events_over_http2(rig, seen, delays)
    assert len(delays) == 200 and sorted(delays)[100] < 0.1, sorted(delays)
    return f"median {sorted(delays)[100] * 1000:.1f} ms, longest {max(delays) * 1000:.1f} ms"


def events_over_http2(rig, seen, delays):
    curl = subprocess.Popen(["curl", "-sSN", "--http2-prior-knowledge", "-H", "Host: raw.test", f"http://127.0.0.1:{rig.shoal.http}/events"],
                            stdout=subprocess.PIPE)
    for line in curl.stdout:
        if line.startswith(b"data: "):
            delays.append(time.monotonic() - float(line.split()[1]))
            seen.release()
    assert curl.wait() == 0


def long_polls(rig):
    """Fifty wait at once, on one origin, and others do not wait for them; a client that goes takes its request with it."""
    open_now, gone, answer = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def wait(wire):
        open_now.release()
        assert answer.wait(20)
        wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nno")

    def leave(wire):
        open_now.release()
        assert wire.some() == b"", "the request of a client that went is not ended"
        gone.release()

    rig.origin.scripts["/left"] = leave
    rig.origin.scripts["/quick"] = lambda wire: wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    clients = []
    for number in range(50):
        rig.origin.scripts[f"/poll{number}"] = wait
        clients.append(rig.client())
        clients[-1].ask("GET", f"/poll{number}", "raw.test")
    assert all(open_now.acquire(timeout=20) for _ in clients)
    assert rig.curl("{base}/quick") == "ok"
    answer.set()
    for client in clients:
        assert client.head().status == "200" and client.exactly(2) == b"no"
    left = rig.client()
    left.ask("POST", "/left", "raw.test", "Content-Length: 0")
    assert open_now.acquire(timeout=20)
    left.close()
    assert gone.acquire(timeout=10), "the origin still works for a client that went"


# ---- uploads


def expect_continue(rig):
    """It is the origin that says to go on, and one that does not want the body gets nothing of it."""
    go_on, received = threading.Event(), []

    def careful(wire):
        assert wire.asked.fields["expect"] == "100-continue"
        assert wire.is_silent(0.2), "the body came before it was asked for"
        assert go_on.wait(20)
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        received.append(wire.exactly(int(wire.asked.fields["content-length"])))
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    def refuse(wire):
        wire.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        received.append(wire.some())

    rig.origin.scripts["/careful"], rig.origin.scripts["/refuse"] = careful, refuse
    client = rig.client()
    client.ask("PUT", "/careful", "raw.test", "Content-Length: 4", "Expect: 100-continue")
    assert client.is_silent(0.4), "told to go on, though the origin said nothing"
    go_on.set()
    assert client.head().status == "100"
    client.send(b"body")
    assert client.head().status == "200" and client.exactly(2) == b"ok"
    path = os.path.join(rig.folder, "upload")
    with open(path, "wb") as file:
        file.write(os.urandom(2 * MIB))
    assert rig.curl("-T", path, "-H", "Expect: 100-continue", "{base}/careful") == "ok"
    assert received == [b"body", open(path, "rb").read()]
    received.clear()
    said = rig.curl("-T", path, "-H", "Expect: 100-continue", "-w", " %{http_code} %{size_upload}", "{base}/refuse")
    assert said == "no 413 0", said
    eventually("the origin's connection ends", lambda: received)
    assert received == [b""], "the origin got a body that it had refused"


def counting(wire, done):
    """Reads a body of a stated length and answers with its length."""
    left, buffer = int(wire.asked.fields["content-length"]) - len(wire.data), bytearray(MIB)
    wire.data = b""
    while left:
        count = wire.socket.recv_into(buffer, min(left, MIB))
        if not count:
            raise ConnectionError("cut")
        left -= count
    done.set()
    wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def large_upload(rig):
    done = threading.Event()
    rig.origin.scripts["/large"] = lambda wire: counting(wire, done)
    began = time.monotonic()
    with Peak(rig.shoal) as peak:
        client = rig.client()
        client.ask("PUT", "/large", "raw.test", f"Content-Length: {LARGE}")
        part = os.urandom(MIB)
        for _ in range(LARGE // MIB):
            client.send(part)
        assert client.head().status == "200" and client.exactly(2) == b"ok"
    seconds = time.monotonic() - began
    path = os.path.join(rig.folder, "large")
    with open(path, "wb") as file:
        file.truncate(512 * MIB)
    with Peak(rig.shoal) as second:
        assert rig.curl("--http2", "-T", path, "{base}/large", tls=True) == "ok"
    assert max(peak.grown, second.grown) < GROWTH_MAX, (peak.grown, second.grown)
    return f"2 GiB in {seconds:.1f} s; memory grew by {peak.grown / MIB:.1f} MiB, over HTTP/2 by {second.grown / MIB:.1f} MiB"


def slow_origin(rig):
    """What an origin does not read, the client cannot send."""
    resume, state, total = threading.Event(), {"read": 0}, 64 * MIB

    def script(wire):
        summed = hashlib.sha256(wire.data)
        state["read"] = len(wire.data)
        while state["read"] < total:
            if state["read"] > MIB:
                assert resume.wait(60)
            data = wire.socket.recv(64 << 10)
            if not data:
                raise ConnectionError("cut")
            summed.update(data)
            state["read"] += len(data)
        wire.data = b""
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 64\r\n\r\n" + summed.hexdigest().encode())

    rig.narrow.scripts["/slow"] = script
    body = random.Random(1).randbytes(total)
    with Peak(rig.shoal) as peak:
        client = rig.client(send_buffer=64 << 10)
        client.ask("PUT", "/slow", "narrow.test", f"Content-Length: {total}")
        sent = 0
        client.socket.settimeout(1.0)
        try:
            while sent < total:
                sent += client.socket.send(body[sent:sent + (64 << 10)])
        except TimeoutError:
            pass
        ahead = sent - state["read"]
        resume.set()
        client.socket.settimeout(30)
        client.send(body[sent:])
        assert client.head().status == "200"
    assert client.exactly(64).decode() == hashlib.sha256(body).hexdigest()
    assert ahead < AHEAD_MAX, f"{ahead} bytes were taken ahead of the origin"
    assert peak.grown < GROWTH_MAX, peak.grown
    return f"{ahead / MIB:.1f} MiB ahead, memory grew by {peak.grown / MIB:.1f} MiB"


def aborted_upload(rig):
    """The origin of an upload that breaks off sees that it broke off, closed or reset."""
    for reset in (False, True):
        begun, ends = threading.Event(), []

        def script(wire):
            begun.set()
            try:
                wire.exactly(MIB)
                ends.append("whole")
            except (ConnectionError, TimeoutError) as error:
                ends.append(type(error).__name__)

        rig.origin.scripts["/cut"] = script
        client = rig.client()
        client.ask("PUT", "/cut", "raw.test", f"Content-Length: {MIB}")
        client.send(b"x" * 1000)
        assert begun.wait(20)
        if reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        eventually("the origin learns of the end", lambda: ends, 5.0)
        assert ends[0] in ("ConnectionError", "ConnectionResetError"), ends


# ---- upgrades

ASK_UPGRADE = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def upgrade_refused(rig):
    """Without 101 the connection is one of HTTP as before, also if the client sent its first frames ahead."""
    after = []

    def answer(wire):
        after.append("via" in wire.asked.fields)
        wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 5\r\n\r\nafter")

    rig.origin.scripts["/refused"] = lambda wire: wire.send(b"HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nContent-Length: 2\r\n\r\nno")
    rig.origin.scripts["/after"] = answer
    client = rig.client()
    client.ask("GET", "/refused", "raw.test", *ASK_UPGRADE)
    assert client.head().status == "200" and client.exactly(2) == b"no"
    client.ask("GET", "/after", "raw.test")
    assert client.head().status == "200" and client.exactly(5) == b"after"
    # What follows the head is another request, seen by the node, and no bytes for the origin.
    client = rig.client()
    client.send(b"GET /refused HTTP/1.1\r\nHost: raw.test\r\n" + "\r\n".join(ASK_UPGRADE).encode()
                + b"\r\n\r\nGET /after HTTP/1.1\r\nHost: raw.test\r\n\r\n")
    assert client.head().status == "200" and client.exactly(2) == b"no"
    assert client.head().status == "200" and client.exactly(5) == b"after"
    assert after == [True, True], "bytes behind a refused upgrade reached the origin as they were"


def upgrade_waits_for_101(rig):
    """Bytes behind the head go to the origin behind its 101; what it sends with its 101 comes with it."""
    def script(wire):
        assert wire.is_silent(0.3), "bytes of the tunnel came before the 101"
        wire.send(SWITCH + b"hello")
        assert wire.exactly(5) == b"early"
        wire.send(b"bye")
        wire.close()

    rig.origin.scripts["/early"] = script
    client = rig.client()
    client.send(b"GET /early HTTP/1.1\r\nHost: raw.test\r\n" + "\r\n".join(ASK_UPGRADE).encode() + b"\r\n\r\nearly")
    assert client.head().status == "101"
    assert client.exactly(8) == b"hellobye"
    assert client.socket.recv(1) == b"", "the end of the origin's side is not passed on"


def tunnel_of_any_bytes(rig):
    """Bytes of all kinds, in pieces of all sizes, both ways at once, plain and over TLS."""
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"  seed {seed}", flush=True)
    context = ssl.create_default_context(cafile=os.path.join(rig.folder, "ca.pem"))
    context.set_alpn_protocols(["http/1.1"])

    def script(wire):
        wire.send(SWITCH)
        total, at = 8 * MIB, 0
        while at < total:
            data = wire.some()
            at += len(data)
            wire.send(bytes(data).translate(INVERSE))
        wire.close()

    rig.origin.scripts["/bytes"] = script
    for tls in (False, True):
        pieces = random.Random(seed)
        body = pieces.randbytes(8 * MIB)
        # One thread for both ways: of two, OpenSSL's reader takes the writer's state for an end of the connection.
        options = {"port": rig.shoal.http} | ({"port": rig.shoal.https, "ssl": context, "server_hostname": "raw.test"} if tls else {})
        back = asyncio.run(asyncio.wait_for(echoed(options, body, pieces), 60))
        assert hashlib.sha256(back).digest() == hashlib.sha256(body.translate(INVERSE)).digest(), f"{len(back)} of {len(body)} bytes, TLS: {tls}"


async def echoed(options, body, pieces):
    """What comes back of `body`, sent behind an upgrade while it is read."""
    reader, writer = await asyncio.open_connection("127.0.0.1", **options)
    writer.write("\r\n".join(["GET /bytes HTTP/1.1", "Host: raw.test", *ASK_UPGRADE, "", ""]).encode())
    assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")

    async def send():
        at = 0
        while at < len(body):
            size = pieces.choice([1, 2, 125, 126, 127, 1400, 16384, 65537, 300000])
            writer.write(body[at:at + size])
            await writer.drain()
            at += size

    back, _ = await asyncio.gather(reader.read(), send())
    writer.close()
    return back


INVERSE = bytes(255 - byte for byte in range(256))

# Cases of Autobahn for each run: all but those of sizes and of compression, which take minutes.
QUICK = ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*", "9.1.1", "9.2.1", "9.3.1", "9.7.1", "12.1.1", "12.1.5", "13.1.1"]


def verdicts(outcomes):
    """What counts of each case. `NON-STRICT` is right too: whether a server fails before or behind its last echo is a matter of time."""
    return {case: (said["behavior"].replace("NON-STRICT", "OK"), said["behaviorClose"]) for case, said in outcomes.items()}


def autobahn(rig, python2, packages, cases):
    """Each case has the same outcome with and without Shoal between."""
    spec, reports = os.path.join(rig.folder, "spec.json"), os.path.join(rig.folder, "reports")
    launcher = os.path.join(rig.folder, "launch.py")
    with open(launcher, "w") as file:
        file.write("import site, sys\nsite.addsitedir(sys.argv.pop(1))\nfrom autobahntestsuite import wstest\nwstest.run()\n")
    servers = [{"agent": "direct", "url": f"ws://127.0.0.1:{rig.ws}"},
               {"agent": "plain", "url": f"ws://localhost:{rig.shoal.http}"},
               {"agent": "tls", "url": f"wss://localhost:{rig.shoal.https}"}]
    with open(spec, "w") as file:
        json.dump({"outdir": reports, "servers": servers, "cases": cases, "exclude-cases": [], "exclude-agent-cases": {}}, file)
    with open(os.path.join(rig.folder, "autobahn.log"), "w+") as log:
        ended = subprocess.run([python2, launcher, packages, "-m", "fuzzingclient", "-s", spec], cwd=rig.folder, stdout=log, stderr=log)
        log.seek(0)
        assert ended.returncode == 0, log.read()[-2000:]
    with open(os.path.join(reports, "index.json")) as file:
        outcomes = json.load(file)
    direct = verdicts(outcomes["direct"])
    for agent in ("plain", "tls"):
        through = verdicts(outcomes[agent])
        differs = {case: (direct[case], through.get(case)) for case in direct if through.get(case) != direct[case]}
        assert not differs, f"{agent}: {differs}"
    return f"{len(direct)} cases, each three times: " + ", ".join(f"{count} × {what}" for what, count in collections.Counter(
        behavior for behavior, _ in direct.values()).items())


CASES = [grpc_end_to_end, server_sent_events, long_polls, expect_continue, slow_origin, aborted_upload, upgrade_refused, upgrade_waits_for_101,
         tunnel_of_any_bytes, large_upload]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("shoal")
    parser.add_argument("cases", nargs="*")
    parser.add_argument("--python2")
    parser.add_argument("--autobahn")
    parser.add_argument("--all", action="store_true")
    arguments = parser.parse_args()
    cases = {case.__name__: case for case in CASES}
    if arguments.python2:
        chosen = ["*"] if arguments.all else QUICK
        cases["autobahn"] = lambda rig: autobahn(rig, arguments.python2, arguments.autobahn, chosen)
    with tempfile.TemporaryDirectory(prefix="shoal-streams-") as folder:
        rig = Rig(arguments.shoal, folder)
        try:
            for name in arguments.cases or cases:
                began = time.monotonic()
                said = cases[name](rig)
                assert not rig.origin.wrong and not rig.narrow.wrong, (rig.origin.wrong, rig.narrow.wrong)
                assert rig.shoal.child.poll() is None, "the node ended"
                print(f"{name}: {said or 'well'} ({time.monotonic() - began:.1f} s)", flush=True)
        finally:
            rig.stop()


main()
