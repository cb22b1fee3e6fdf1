// node check.mjs FILE...: each dashboard against the types that Grafana publishes, made into JSON schemas.
// Grafana fills in what is missing, so nothing is required; what is not known, or is of another type, is a mistake.
import { readFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Ajv } from 'ajv';
import { createGenerator } from 'ts-json-schema-generator';

// By path: by the name of the package the generator finds nothing, and its schema accepts everything.
const types = join(dirname(fileURLToPath(import.meta.url)), 'node_modules/@grafana/schema/dist/types/raw');
const ajv = new Ajv({ strict: false, allErrors: true });
const made = new Map();

function withoutRequired(schema) {
  if (Array.isArray(schema)) return schema.map(withoutRequired);
  if (schema === null || typeof schema !== 'object') return schema;
  const kept = Object.entries(schema).filter(([key, value]) => !(key === 'required' && Array.isArray(value)));
  return Object.fromEntries(kept.map(([key, value]) => [key, withoutRequired(value)]));
}

/** The check for the type `name` of a file below `types`. */
function validator(file, name) {
  const key = `${file} ${name}`;
  if (!made.has(key)) {
    const schema = createGenerator({ path: join(types, file), type: name, skipTypeCheck: true }).createSchema(name);
    if (!Object.keys(schema.definitions?.[name]?.properties ?? schema.definitions?.[name] ?? {}).length) throw new Error(`no schema: ${key}`);
    made.set(key, ajv.compile(withoutRequired(schema)));
  }
  return made.get(key);
}

/** Panels have their options and their field configuration from their plugin. */
const plugin = (type) => `composable/${type}/panelcfg/x/types.gen.d.ts`;
/** Plugins whose panels have no field configuration of their own. */
const PLAIN = ['stat', 'bargauge', 'text'];

let findings = 0;
function check(place, file, name, value) {
  const valid = validator(file, name);
  if (value === undefined || valid(value)) return;
  const errors = valid.errors.filter(({ keyword }) => keyword !== 'anyOf');
  for (const { instancePath, message, params } of errors) {
    findings += 1;
    console.error(`${place}${instancePath}: ${message}${params.additionalProperty ? ` (${params.additionalProperty})` : ''}`);
  }
}

/** What the data source adds to annotations; the dashboard's types leave it to the source. */
const NOTES = ['expr', 'titleFormat', 'textFormat'];
function plainNotes(board) {
  const list = board.annotations.list.map((note) => Object.fromEntries(Object.entries(note).filter(([key]) => !NOTES.includes(key))));
  return { ...board, annotations: { ...board.annotations, list } };
}

let panels = 0;
for (const path of process.argv.slice(2)) {
  const board = JSON.parse(readFileSync(path));
  check(basename(path), 'dashboard/x/types.gen.d.ts', 'Dashboard', plainNotes(board));
  for (const panel of board.panels.filter(({ type }) => type !== 'row')) {
    const place = `${basename(path)}: ${panel.title}`;
    panels += 1;
    check(`${place}: options`, plugin(panel.type), 'Options', panel.options);
    const custom = panel.fieldConfig?.defaults?.custom;
    if (!PLAIN.includes(panel.type)) check(`${place}: custom`, plugin(panel.type), 'FieldConfig', custom);
    else if (custom) check(`${place}: custom`, plugin('timeseries'), 'FieldConfig', custom);
  }
}
console.log(`${process.argv.length - 2} dashboards with ${panels} panels, ${findings} findings`);
process.exitCode = findings ? 1 : 0;
