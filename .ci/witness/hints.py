"""hints.py SHOAL: early hints (103) get to clients while the origin still works on the answer (RFC 8297).

The witness is Chromium: an origin sends hints for a style sheet and holds the page back until it is asked for the sheet, or for a while. A
browser that was given the hints asks at once. The same is done with a server without Shoal, with and without hints, to see that the witness
can tell. Over HTTP/1.1, where browsers take no hints, a client by hand reads them.
"""
import base64
import hashlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

import h2.config
import h2.connection
import h2.events

from rig import Origin, Shoal, Wire, certificates

HOST = "hints.test"
# How long the page is held back for a request for its style sheet, and how long the browser may take.
HELD, BROWSER_LIMIT = 5.0, 60
LINK = "</style.css>; rel=preload; as=style"
PAGE = b"<!doctype html><title>page</title><link rel=stylesheet href=/style.css><p id=done>whole"
STYLE = b"p { color: rgb(1, 2, 3) }"
CONFIG = """
[listen]
http = ["127.0.0.1:0"]
https = ["127.0.0.1:0"]
[log]
filter = "error"
[[site]]
name = "hints"
hosts = ["{host}"]
tls = {{ cert = "{folder}/cert.pem", key = "{folder}/key.pem" }}
origins = ["http://127.0.0.1:{port}"]
"""


class Site:
    """The page and its style sheet, and what was asked for when."""

    def __init__(self, hints):
        self.hints, self.asked_style, self.order = hints, threading.Event(), []

    def page(self):
        """Waits as an origin works."""
        self.order.append("page asked")
        self.asked_style.wait(HELD)
        self.order.append("page sent")

    def style(self):
        self.order.append("style asked")
        self.asked_style.set()

    def asks_early(self):
        return "style asked" in self.order[:self.order.index("page sent")]


def origin(site):
    """The site as an origin of HTTP/1.1."""
    def page(wire):
        if site.hints:
            wire.send(f"HTTP/1.1 103 Early Hints\r\nLink: {LINK}\r\n\r\n".encode())
        site.page()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nCache-Control: no-store\r\nLink: %s\r\nContent-Length: %d\r\n\r\n%s"
                  % (LINK.encode(), len(PAGE), PAGE))

    def style(wire):
        site.style()
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/css\r\nCache-Control: max-age=600\r\nContent-Length: %d\r\n\r\n%s" % (len(STYLE), STYLE))

    def nothing(wire):
        wire.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    started = Origin()
    started.scripts.update({"/": page, "/style.css": style, "/favicon.ico": nothing})
    return started


class Reference:
    """The site as a server of HTTP/2 over TLS, to see what the browser does when nobody stands between."""

    def __init__(self, site, folder):
        self.site = site
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem"))
        self.context.set_alpn_protocols(["h2"])
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            stream = self.context.wrap_socket(connection, server_side=True)
            http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
            lock = threading.Lock()
            http.initiate_connection()
            stream.sendall(http.data_to_send())
            while data := stream.recv(1 << 16):
                with lock:
                    events = http.receive_data(data)
                    stream.sendall(http.data_to_send())
                for event in events:
                    if isinstance(event, h2.events.RequestReceived):
                        path = dict(event.headers)[":path"]
                        threading.Thread(target=self.answer, args=(http, lock, stream, event.stream_id, path), daemon=True).start()
        except OSError:
            pass

    def answer(self, http, lock, stream, number, path):
        def say(status, fields, body=None):
            with lock:
                http.send_headers(number, [(":status", status), *fields])
                if body is not None:
                    http.send_data(number, body, end_stream=True)
                stream.sendall(http.data_to_send())

        if path == "/style.css":
            self.site.style()
            say("200", [("content-type", "text/css"), ("cache-control", "max-age=600")], STYLE)
        elif path == "/":
            if self.site.hints:
                say("103", [("link", LINK)])
            self.site.page()
            say("200", [("content-type", "text/html"), ("cache-control", "no-store")], PAGE)
        else:
            say("404", [], b"")


def browse(folder, port):
    """Chromium loads the page."""
    profile = tempfile.mkdtemp(dir=folder)
    key = subprocess.run("openssl x509 -in cert.pem -noout -pubkey | openssl pkey -pubin -outform der", shell=True, check=True, cwd=folder,
                         stdout=subprocess.PIPE).stdout
    pin = base64.b64encode(hashlib.sha256(key).digest()).decode()
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
               "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}",
               f"--ignore-certificate-errors-spki-list={pin}", f"--host-resolver-rules=MAP {HOST} 127.0.0.1", "--dump-dom",
               f"https://{HOST}:{port}/"]
    try:
        seen = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=BROWSER_LIMIT).stdout.decode()
    finally:
        shutil.rmtree(profile, ignore_errors=True)
    assert "whole" in seen, f"the page was not loaded: {seen!r}"


def by_hand(shoal):
    """Over HTTP/1.1: the hints, with the fields of the origin and none of the hop, before the origin sends the page."""
    client = Wire.to(shoal.http)
    client.ask("GET", "/", HOST)
    head = client.head()
    assert head.status == "103" and head.fields.get("link") == LINK, (head.line, head.fields)
    client_of_style = Wire.to(shoal.http)
    client_of_style.ask("GET", "/style.css", HOST)
    assert client_of_style.head().status == "200"
    head = client.head()
    assert head.status == "200" and client.exactly(len(PAGE)) == PAGE, (head.line, head.fields)


def main():
    with tempfile.TemporaryDirectory(prefix="shoal-hints-", ignore_cleanup_errors=True) as folder:
        certificates(folder, [HOST])
        for hints in (False, True):
            site = Site(hints)
            browse(folder, Reference(site, folder).port)
            assert site.asks_early() == hints, f"without Shoal, the browser with{'' if hints else 'out'} hints: {site.order}"
        print("the witness can tell")
        for seen, ask in (("over HTTP/1.1", by_hand), ("by Chromium over HTTP/2", lambda shoal: browse(folder, shoal.https))):
            site = Site(True)
            shoal = Shoal(sys.argv[1], folder, CONFIG.format(host=HOST, folder=folder, port=origin(site).port))
            try:
                ask(shoal)
                assert site.asks_early(), f"hints are not seen {seen}: {site.order}"
                print(f"hints are seen {seen}")
            finally:
                shoal.stop()


main()
