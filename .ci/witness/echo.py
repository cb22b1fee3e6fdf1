"""echo.py h11|strict: an HTTP server that answers each request with what it took it for, in the field X-View. Prints its port.

`h11` reads with the library of that name; `strict` with `wire`, which is what stands behind the proxies.
"""
import asyncio
import hashlib
import sys

from wire import Reader, view

BAD = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


def answer(what, close=False):
    return b"HTTP/1.1 200 OK\r\nX-View: %s\r\n%sContent-Length: 0\r\n\r\n" % (what.encode(), b"Connection: close\r\n" if close else b"")


class Strict(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.reader, self.told = transport, Reader(), None

    def data_received(self, data):
        for request in self.reader.feed(data):
            self.transport.write(answer(request.view()))
            if b"close" in request.values(b"connection"):
                self.transport.close()
        waiting = self.reader.request
        if waiting and waiting is not self.told and waiting.values(b"expect"):
            self.told = waiting
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.reader.broken:
            self.transport.write(b"HTTP/1.1 200 OK\r\nX-View: irregular: %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                                 % self.reader.broken.encode())
            self.transport.close()


class H11(asyncio.Protocol):
    def connection_made(self, transport):
        import h11
        self.h11, self.transport = h11, transport
        self.connection = h11.Connection(h11.SERVER, max_incomplete_event_size=256 << 10)
        self.request = None

    def data_received(self, data):
        self.connection.receive_data(data)
        try:
            while self.event():
                pass
        except self.h11.RemoteProtocolError:
            self.transport.write(BAD)
            self.transport.close()

    def event(self):
        event = self.connection.next_event()
        if type(event) is self.h11.Request:
            self.request, self.sum, self.length = event, hashlib.sha256(), 0
        elif type(event) is self.h11.Data:
            self.sum.update(event.data)
            self.length += len(event.data)
        elif type(event) is self.h11.EndOfMessage:
            return self.respond()
        elif event is self.h11.PAUSED:
            self.connection.start_next_cycle()
        else:
            return event is not self.h11.NEED_DATA and type(event) is not self.h11.ConnectionClosed
        return True

    def respond(self):
        host = next((value for name, value in self.request.headers if name == b"host"), b"")
        what = view(self.request.method, self.request.target, host, self.length, self.sum.hexdigest())
        for event in (self.h11.Response(status_code=200, headers=[("X-View", what), ("Content-Length", "0")]), self.h11.EndOfMessage()):
            self.transport.write(self.connection.send(event) or b"")
        if self.connection.our_state is self.h11.MUST_CLOSE:
            self.transport.close()
            return False
        self.connection.start_next_cycle()
        return True


async def main():
    kind = {"h11": H11, "strict": Strict}[sys.argv[1]]
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
