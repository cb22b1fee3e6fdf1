// Draws one dashboard with Grafana's own components over what a live Prometheus answers. `window.DRAW` is set by draw.mjs.
import React from 'react';
import { createRoot } from 'react-dom/client';
import {
  FieldType, ThemeContext, createTheme, dateTime, getDisplayProcessor, getFieldDisplayName, getMinMaxAndDelta, reduceField, toDataFrame,
} from '@grafana/data';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, Table, TimeSeries } from '@grafana/ui';
import 'uplot/dist/uPlot.min.css';

const { board, prometheus, from, to, step, width, rateInterval } = window.DRAW;
const theme = createTheme({ colors: { mode: 'dark' } });
const range = { from: dateTime(from * 1000), to: dateTime(to * 1000), raw: { from: dateTime(from * 1000), to: dateTime(to * 1000) } };
const COLUMN = width / 24, ROW = 38, GAP = 8;

/** The expression with all variables at "All", as Grafana sends it. */
function resolved(expression) {
  return expression
    .replaceAll('$__rate_interval', rateInterval).replaceAll('$__interval', `${step}s`).replaceAll('$__range', `${to - from}s`)
    .replace(/\$(cluster|node|site)\b/g, '.*');
}

async function ask(expression, instant) {
  const query = new URLSearchParams({ query: resolved(expression) });
  const times = instant ? { time: to } : { start: from, end: to, step };
  Object.entries(times).forEach(([name, value]) => query.set(name, value));
  const answer = await (await fetch(`${prometheus}/api/v1/${instant ? 'query' : 'query_range'}?${query}`)).json();
  if (answer.status !== 'success') throw new Error(`${expression}: ${answer.error}`);
  return answer.data.result;
}

/** Grafana's server sends numbers that are none as null. */
const number = (text) => (Number.isFinite(Number(text)) ? Number(text) : null);

const legend = (format, labels) =>
  format ? format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, name) => labels[name] ?? '') : Object.entries(labels).map(([k, v]) => `${k}="${v}"`).join(', ');

function matches(matcher, field, frame) {
  const name = getFieldDisplayName(field, frame);
  if (matcher.id === 'byName') return name === matcher.options;
  if (matcher.id === 'byRegexp') return new RegExp(matcher.options.replace(/^\/|\/$/g, '')).test(name);
  if (matcher.id === 'byFrameRefID') return frame.refId === matcher.options;
  throw new Error(`no such matcher here: ${matcher.id}`);
}

/** What Grafana does with `fieldConfig`: defaults, then overrides in order, then how values are shown. */
function configured(frame, { defaults = {}, overrides = [] } = {}, index = 0) {
  for (const field of frame.fields) {
    if (field.type === FieldType.time) continue;
    const config = structuredClone({ ...defaults, custom: defaults.custom ?? {} });
    field.config = { ...config, displayNameFromDS: field.config.displayNameFromDS, displayName: field.config.displayName };
    for (const { matcher, properties } of overrides) {
      if (!matches(matcher, field, frame)) continue;
      for (const { id, value } of properties) {
        const [target, key] = id.startsWith('custom.') ? [field.config.custom, id.slice(7)] : [field.config, id];
        target[key] = value;
      }
    }
    field.state = { ...field.state, seriesIndex: index++ };
    if (field.type === FieldType.number) field.state.range = getMinMaxAndDelta(field);
    field.display = getDisplayProcessor({ field, theme });
  }
  return frame;
}

function seriesFrames(panel, results) {
  return results.flatMap(({ target, rows }) => rows.map((row) => toDataFrame({
    refId: target.refId,
    fields: [
      { name: 'Time', type: FieldType.time, values: row.values.map(([at]) => at * 1000) },
      { name: 'Value', type: FieldType.number, labels: row.metric, values: row.values.map(([, value]) => number(value)),
        config: { displayNameFromDS: legend(target.legendFormat, row.metric) } },
    ],
  }))).map((frame, index) => configured(filled(frame), panel.fieldConfig, index));
}

/** Steps at which Prometheus had nothing are gaps, as in Grafana. */
function filled(frame) {
  const [time, value] = frame.fields;
  const known = new Map(time.values.map((at, index) => [at, value.values[index]]));
  const times = [];
  for (let at = from; at <= to; at += step) times.push(at * 1000);
  time.values = times;
  value.values = times.map((at) => known.get(at) ?? null);
  return { ...frame, length: times.length };
}

function Series({ panel, frames, width, height, notes }) {
  const options = panel.options ?? {};
  const marks = (builder) => {
    builder.addHook('draw', (plot) => {
      const { ctx, bbox } = plot;
      for (const { at, color } of notes) {
        const x = plot.valToPos(at * 1000, 'x', true);
        if (x < bbox.left || x > bbox.left + bbox.width) continue;
        ctx.save();
        Object.assign(ctx, { strokeStyle: theme.visualization.getColorByName(color), lineWidth: 1 });
        ctx.setLineDash([4, 4]);
        ctx.beginPath();
        ctx.moveTo(x, bbox.top);
        ctx.lineTo(x, bbox.top + bbox.height);
        ctx.stroke();
        ctx.restore();
      }
    });
    return null;
  };
  return (
    <TimeSeries frames={frames} timeRange={range} timeZone="browser" width={width} height={height} options={options}
      legend={{ calcs: [], showLegend: true, displayMode: 'list', placement: 'bottom', ...options.legend }} structureRev={1}>
      {marks}
    </TimeSeries>
  );
}

/** The last value of each series, with the series behind it. */
function singles(panel, frames) {
  const calc = panel.options?.reduceOptions?.calcs?.[0] ?? 'lastNotNull';
  return frames.map((frame) => {
    const [, field] = frame.fields;
    const value = reduceField({ field, reducers: [calc] })[calc];
    const title = getFieldDisplayName(field, frame);
    return { field, value: { ...field.display(value), title: frames.length > 1 || panel.type === 'bargauge' ? title : '' },
      sparkline: { x: frame.fields[0], y: field, timeRange: range } };
  });
}

function Stat({ panel, frames, width, height }) {
  const all = singles(panel, frames);
  const { graphMode = 'area', colorMode = 'value', textMode = 'auto', orientation = 'auto' } = panel.options ?? {};
  const wide = orientation === 'vertical' || (orientation === 'auto' && width > height);
  const size = wide ? [width / all.length, height] : [width, height / all.length];
  return (
    <div style={{ display: 'flex', flexDirection: wide ? 'row' : 'column' }}>
      {all.map(({ value, sparkline, field }, index) => (
        <BigValue key={index} width={size[0]} height={size[1]} value={value} colorMode={colorMode} graphMode={graphMode} textMode={textMode}
          sparkline={graphMode === 'none' || field.values.length < 2 ? undefined : sparkline} theme={theme} />
      ))}
    </div>
  );
}

function Bars({ panel, frames, width, height }) {
  const all = singles(panel, frames);
  const longest = (key) => all.map(({ value }) => value[key] ?? '').reduce((a, b) => (b.length > a.length ? b : a), '');
  const aligned = { title: longest('title'), text: longest('text'), suffix: longest('suffix') };
  const each = Math.min(Math.floor((height - 4) / Math.max(all.length, 1)), 48);
  const { displayMode = 'gradient', orientation = 'horizontal', valueMode } = panel.options ?? {};
  return all.map(({ field, value }, index) => (
    <BarGauge key={index} width={width} height={each - 4} value={value} theme={theme} field={field.config} display={field.display}
      alignmentFactors={aligned} displayMode={displayMode} orientation={orientation} valueDisplayMode={valueMode} text={{ titleSize: 14, valueSize: 16 }} />
  ));
}

/** All rows of all frames that have the same value in the field `by` as one. */
function joined(frames, by) {
  const field = (frame, name) => frame.fields.find((candidate) => candidate.name === name);
  const keys = [...new Set(frames.flatMap((frame) => field(frame, by)?.values ?? []))];
  const others = frames.flatMap((frame) => frame.fields.filter(({ name }) => name !== by).map((other) => {
    const rows = field(frame, by)?.values ?? [];
    return { ...other, values: keys.map((key) => other.values[rows.indexOf(key)] ?? null) };
  }));
  return toDataFrame({ fields: [{ name: by, type: FieldType.string, values: keys }, ...others] });
}

/** Emulates the two transformations that the tables use: `joinByField` and `organize`. Prometheus tables name the value `Value #A`. */
function tableFrame(panel, results) {
  const frames = results.map(({ target, rows }) => {
    const labels = [...new Set(rows.flatMap((row) => Object.keys(row.metric)))];
    return toDataFrame({ refId: target.refId, fields: [
      ...labels.map((label) => ({ name: label, type: FieldType.string, values: rows.map((row) => row.metric[label] ?? '') })),
      { name: results.length > 1 ? `Value #${target.refId}` : 'Value', type: FieldType.number, values: rows.map((row) => number(row.value[1])) },
    ] });
  });
  let frame = frames[0];
  for (const { id, options } of panel.transformations ?? []) {
    if (id === 'joinByField') {
      frame = joined(frames, options.byField);
    } else if (id === 'organize') {
      const place = (field) => options.indexByName?.[field.name] ?? 99;
      const fields = frame.fields.filter((field) => !options.excludeByName?.[field.name]).sort((a, b) => place(a) - place(b));
      frame = { ...frame, fields: fields.map((field) => ({ ...field, name: options.renameByName?.[field.name] ?? field.name, state: {}, config: {} })) };
    } else throw new Error(`no such transformation here: ${id}`);
  }
  frame = configured(frame, panel.fieldConfig);
  const [sort] = panel.options?.sortBy ?? [];
  if (sort) {
    const key = frame.fields.find((field) => getFieldDisplayName(field, frame) === sort.displayName);
    if (!key) throw new Error(`${panel.title} is sorted by ${sort.displayName}, which is no column`);
    const order = [...key.values.keys()].sort((a, b) => (key.values[a] < key.values[b] ? -1 : 1) * (sort.desc ? -1 : 1));
    frame = { ...frame, fields: frame.fields.map((field) => ({ ...field, values: order.map((index) => field.values[index]) })) };
  }
  return frame;
}

function Content({ panel, results, width, height, notes }) {
  if (panel.type === 'text') return <div style={{ padding: 8 }}>{panel.options.content}</div>;
  if (results.every(({ rows }) => rows.length === 0)) {
    return <div style={{ display: 'grid', placeItems: 'center', height, opacity: 0.7 }}>{panel.fieldConfig?.defaults?.noValue ?? 'No data'}</div>;
  }
  if (panel.type === 'table') return <Table data={tableFrame(panel, results)} width={width} height={height} />;
  const frames = seriesFrames(panel, results);
  const known = { timeseries: Series, stat: Stat, bargauge: Bars };
  const Kind = known[panel.type];
  if (!Kind) throw new Error(`no adapter for panels of type ${panel.type}`);
  return <Kind panel={panel} frames={frames} width={width} height={height} notes={notes} />;
}

function Panel({ panel, results, notes }) {
  const { x, y, w, h } = panel.gridPos;
  const box = { position: 'absolute', left: x * COLUMN, top: y * ROW, width: w * COLUMN - GAP, height: h * ROW - GAP };
  if (panel.type === 'row') return <div style={{ ...box, fontSize: 16, fontWeight: 500, paddingTop: 4 }}>⌄ {panel.title}</div>;
  return (
    <div style={box}>
      <PanelChrome title={panel.title} description={panel.description} width={box.width} height={box.height}>
        {(width, height) => <Content panel={panel} results={results} width={width} height={height} notes={notes} />}
      </PanelChrome>
    </div>
  );
}

class Fence extends React.Component {
  state = {};
  static getDerivedStateFromError(error) {
    return { error };
  }
  render() {
    return this.state.error ? <pre style={{ color: 'red' }}>{String(this.state.error.stack)}</pre> : this.props.children;
  }
}

async function draw() {
  const notes = [];
  for (const note of board.annotations.list) {
    for (const row of await ask(note.expr, false).catch(() => [])) {
      let last = -Infinity;
      for (const [at] of row.values) {
        if (at - last > step) notes.push({ at, color: note.iconColor, name: note.name });
        last = at;
      }
    }
  }
  const drawn = [];
  for (const panel of board.panels.flatMap((panel) => [panel, ...(panel.panels ?? [])])) {
    const instant = panel.type === 'table';
    const results = [];
    for (const target of panel.targets ?? []) results.push({ target, rows: await ask(target.expr, instant) });
    drawn.push({ panel, results });
  }
  const height = Math.max(...board.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * ROW;
  const names = [...new Set(notes.map(({ name }) => name))].map((name) => `${name}: ${notes.filter((note) => note.name === name).length}`);
  createRoot(document.getElementById('root')).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ fontSize: 18, padding: '0 0 10px' }}>{board.title} <small style={{ opacity: 0.6 }}>{names.join(', ')}</small></div>
      <div style={{ position: 'relative', width, height }}>
        {drawn.map(({ panel, results }) => <Fence key={panel.id}><Panel panel={panel} results={results} notes={notes} /></Fence>)}
      </div>
    </ThemeContext.Provider>,
  );
  const empty = drawn.filter(({ panel, results }) => results.length && results.every(({ rows }) => !rows.length)).map(({ panel }) => panel.title);
  document.title = `drawn ${height} ${JSON.stringify(empty)}`;
}

draw().catch((error) => {
  document.body.innerText = error.stack;
  document.title = `failed ${error.message}`;
});
