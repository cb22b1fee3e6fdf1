// node draw.mjs OUT PROMETHEUS [SECONDS]: draws each dashboard over the last SECONDS of a live Prometheus into OUT/<uid>.png.
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { spawn } from 'node:child_process';
import { build } from 'esbuild';

const here = dirname(fileURLToPath(import.meta.url));
const [out, prometheus, seconds = '180'] = process.argv.slice(2);
const boards = process.env.DASHBOARDS ?? join(here, '../../grafana/dashboards');
const WIDTH = 1600, MARGIN = 16, HEAD = 60, ROW = 38;
/** Milliseconds of virtual time that a page has to ask and draw. */
const BUDGET_MS = 20_000;

// The load has just ended.
const to = Math.floor(Date.now() / 1000), step = Math.max(1, Math.round(Number(seconds) / 240));

const { outputFiles } = await build({
  entryPoints: [join(here, 'page.jsx')], bundle: true, write: false, outdir: 'page', format: 'iife', minify: true, logLevel: 'error',
  // Its default export is found by bundlers only from files that are not .mjs.
  alias: { 'react-custom-scrollbars-2': join(here, 'scrollbars.js') },
  define: { global: 'window', 'process.env.NODE_ENV': '"production"' },
  loader: { '.svg': 'dataurl', '.woff2': 'dataurl', '.woff': 'dataurl', '.ttf': 'dataurl', '.js': 'jsx' },
});
const text = (ending) => outputFiles.find((file) => file.path.endsWith(ending))?.text ?? '';
const [script, style] = [text('.js'), text('.css')];

const shape = { prometheus, from: to - Number(seconds), to, step, width: WIDTH, rateInterval: '15s' };

const page = (board) => `<!doctype html><meta charset="utf-8"><style>${style}
  *, ::before, ::after { box-sizing: border-box } body { margin: ${MARGIN}px; background: #111217; color: #ccccdc; font-family: Inter, "DejaVu Sans", sans-serif }
</style><div id="root"></div><script>window.DRAW = ${JSON.stringify({ ...shape, board })}</script><script src="/page.js"></script>`;

const pages = new Map(readdirSync(boards).filter((name) => name.endsWith('.json')).map((name) => {
  const board = JSON.parse(readFileSync(join(boards, name)));
  return [`/${board.uid}`, board];
}));
const server = createServer((request, response) => {
  const board = pages.get(request.url);
  const [type, body] = request.url === '/page.js' ? ['text/javascript', script] : ['text/html', board ? page(board) : ''];
  response.writeHead(board || type !== 'text/html' ? 200 : 404, { 'content-type': `${type}; charset=utf-8` }).end(body);
});
await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));

const chromium = (profile, args) => new Promise((resolve) => {
  const child = spawn('chromium', ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--hide-scrollbars',
    '--disable-background-networking', '--disable-component-update', '--disable-sync', `--user-data-dir=${profile}`,
    `--virtual-time-budget=${BUDGET_MS}`, ...args], { stdio: ['ignore', 'pipe', 'ignore'] });
  let said = '';
  child.stdout.on('data', (bytes) => { said += bytes; });
  child.on('close', () => resolve(said));
});

mkdirSync(out, { recursive: true });
let failed = false;
for (const [path, board] of pages) {
  const profile = mkdtempSync(join(tmpdir(), 'draw-'));
  const height = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * ROW + HEAD;
  const url = `http://127.0.0.1:${server.address().port}${path}`;
  const size = `--window-size=${WIDTH + 2 * MARGIN},${height}`;
  await chromium(profile, [size, `--screenshot=${join(out, `${board.uid}.png`)}`, url]);
  const dom = await chromium(profile, [size, '--dump-dom', url]);
  const title = /<title>([^<]*)<\/title>/.exec(dom)?.[1] ?? 'nothing was drawn';
  failed ||= !title.startsWith('drawn') || dom.includes('<pre style="color: red');
  console.log(`${board.uid}: ${title}`);
  for (const [, error] of dom.matchAll(/<pre style="color: red[^>]*>([^<]*)/g)) console.log(error.slice(0, 300));
  rmSync(profile, { recursive: true, force: true });
}
server.close();
process.exitCode = failed ? 1 : 0;
