"""Shoal in front of scripted origins, with certificates of an authority made for the run."""
import os
import socket
import subprocess
import sys
import threading
import time

START_LIMIT = 20.0
SOCKET_LIMIT = 30.0


def certificates(folder, hosts):
    """An authority and a certificate of it for these hosts: `ca.pem`, `cert.pem`, `key.pem`."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    names = ",".join([f"DNS:{host}" for host in hosts] + ["IP:127.0.0.1"])
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *key, "-subj", "/CN=Test", "-days", "2", "-keyout", "ca.key", "-out", "ca.pem",
            "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign")
    openssl("req", *key, "-subj", f"/CN={hosts[0]}", "-keyout", "key.pem", "-out", "cert.csr")
    with open(os.path.join(folder, "extensions"), "w") as file:
        file.write(f"subjectAltName={names}\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", "cert.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", "extensions",
            "-out", "cert.pem")


class Shoal:
    """A node; `http` and `https` are its ports."""

    def __init__(self, shoal, folder, config):
        path = os.path.join(folder, "shoal.toml")
        with open(path, "w") as file:
            file.write(config)
        self.child = subprocess.Popen([shoal, "run", "--config", path], stdout=subprocess.PIPE, text=True)
        ports = {}
        for line in self.child.stdout:
            words = line.split()
            if words[:1] == ["listening"]:
                ports[words[1]] = int(words[2].rpartition(":")[2])
            if words == ["ready"]:
                break
        else:
            sys.exit("shoal did not start")
        self.http, self.https = ports.get("http"), ports.get("https")

    def memory(self):
        """Resident bytes that are not of files."""
        with open(f"/proc/{self.child.pid}/status") as file:
            return next(int(line.split()[1]) << 10 for line in file if line.startswith("RssAnon"))

    def stop(self):
        self.child.kill()
        self.child.wait()


class Peak:
    """The most memory that a node has while this is open, above what it had before."""

    def __init__(self, shoal):
        self.shoal = shoal

    def __enter__(self):
        self.before = self.most = self.shoal.memory()
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()
        return self

    def watch(self):
        while not self.over.wait(0.02):
            self.most = max(self.most, self.shoal.memory())

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.grown = self.most - self.before


class Origin:
    """An origin that runs a script for each connection, by the path of its first request: `scripts[path](Wire)`."""

    def __init__(self, receive_buffer=None):
        self.scripts, self.wrong = {}, []
        self.socket = socket.socket()
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.listen(256)
        self.port = self.socket.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, _ = self.socket.accept()
            threading.Thread(target=self.serve, args=(Wire(connection),), daemon=True).start()

    def serve(self, wire):
        try:
            while wire.socket.fileno() >= 0 and (head := wire.head()):
                wire.asked = head
                self.scripts[head.path](wire)
        except (ConnectionError, TimeoutError):
            pass
        except Exception as error:  # said by the case that waits for it
            self.wrong.append(error)
        finally:
            wire.socket.close()


class Head:
    def __init__(self, data):
        self.line, *fields = data.decode("latin1").split("\r\n")
        self.fields = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
        self.path = self.line.split(" ")[1]
        self.status = self.line.split(" ")[1]


class Wire:
    """One connection, read by hand."""

    def __init__(self, connection):
        self.socket, self.data = connection, b""
        connection.settimeout(SOCKET_LIMIT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def to(cls, port, send_buffer=None):
        connection = socket.socket()
        if send_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        connection.connect(("127.0.0.1", port))
        return cls(connection)

    def send(self, data):
        self.socket.sendall(data)

    def ask(self, method, path, host, *fields):
        self.send("\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {host}", *fields, "", ""]).encode())

    def some(self):
        data, self.data = self.data or self.socket.recv(1 << 16), b""
        return data

    def until(self, end):
        while end not in self.data:
            more = self.socket.recv(1 << 16)
            if not more:
                return None
            self.data += more
        found, _, self.data = self.data.partition(end)
        return found

    def head(self):
        """The next head; None at the end."""
        found = self.until(b"\r\n\r\n")
        return None if found is None else Head(found)

    def exactly(self, count):
        while len(self.data) < count:
            more = self.socket.recv(1 << 16)
            if not more:
                raise ConnectionError(f"ended {count - len(self.data)} bytes too early")
            self.data += more
        found, self.data = self.data[:count], self.data[count:]
        return found

    def chunk(self):
        size = int(self.until(b"\r\n"), 16)
        data = self.exactly(size)
        assert self.exactly(2) == b"\r\n"
        return data

    def is_silent(self, seconds):
        """Whether nothing comes for so long."""
        if self.data:
            return False
        self.socket.settimeout(seconds)
        try:
            self.data = self.socket.recv(1 << 16)
            return False
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(SOCKET_LIMIT)

    def close(self):
        self.socket.close()


def eventually(what, test, limit=20.0):
    """Waits for a condition that nothing signals."""
    deadline = time.monotonic() + limit
    while not test():
        assert time.monotonic() < deadline, f"not within {limit} s: {what}"
        time.sleep(0.01)
