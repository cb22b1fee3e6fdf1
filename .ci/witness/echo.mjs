// node echo.mjs: an HTTP server that answers each request with what it took it for, in the field X-View. Prints its port.
import { createHash } from 'node:crypto';
import { createServer } from 'node:http';

const LONG = 300;
const SAFE = /[A-Za-z0-9/:?=&*\-._~]/;
const sha = (bytes) => createHash('sha256').update(bytes).digest('hex').slice(0, 16);

/** As `printable` of wire.py. */
function printable(text) {
  let bytes = Buffer.from(text, 'latin1');
  if (bytes.length > LONG) bytes = Buffer.from(`${bytes.toString('latin1', 0, 40)}..${bytes.length}..${sha(bytes)}`, 'latin1');
  let out = '';
  for (const byte of bytes) {
    const letter = String.fromCharCode(byte);
    out += SAFE.test(letter) ? letter : `%${byte.toString(16).toUpperCase().padStart(2, '0')}`;
  }
  return out || '-';
}

const answer = (request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => {
    const body = Buffer.concat(parts);
    const view = [...[request.method, request.url, request.headers.host ?? ''].map(printable), body.length, sha(body)].join(' ');
    response.writeHead(200, { 'X-View': view, 'Content-Length': 0 }).end();
  });
};
const server = createServer({ maxHeaderSize: 256 << 10, keepAliveTimeout: 5_000, requestTimeout: 20_000 }, answer);
// Expectations other than 100-continue are answered like any request: the origin is free to (RFC 9110 §10.1.1).
server.on('checkExpectation', answer);
server.maxHeadersCount = 0;
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
