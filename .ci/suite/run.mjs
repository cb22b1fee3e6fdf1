// Runs the HTTP cache tests against a proxy and prints, for each required and optimal test, a line
// `pass|fail kind id message`. Arguments: the proxy's base URL, and optionally the ids to run.
import fetch from 'node-fetch'
import { runTests, getResults } from 'http-cache-tests/client/runner.mjs'
import groups from 'http-cache-tests/tests/index.mjs'
import surrogate from 'http-cache-tests/tests/surrogate-control.mjs'

// So many tests run at once. Each has one connection at a time; a node allows 100 for an address.
const CHUNK = 90

const [base, ...only] = process.argv.slice(2)
const all = new Map()
for (const group of [...groups, surrogate]) {
  for (const test of group.tests) all.set(test.id, test)
}

// A test counts only with those that it depends on.
const wanted = new Set()
const want = id => {
  if (wanted.has(id)) return
  wanted.add(id)
  for (const other of all.get(id).depends_on ?? []) want(other)
}
for (const id of only.length > 0 ? only : all.keys()) want(id)
await runTests([{ tests: [...wanted].map(id => all.get(id)) }], fetch, false, base, CHUNK)

const results = getResults()
const failure = id => {
  if (results[id] !== true) return (results[id] ?? ['not run']).join(': ')
  const other = (all.get(id).depends_on ?? []).find(other => failure(other) !== null)
  return other === undefined ? null : `depends on ${other}`
}
for (const id of only.length > 0 ? only : Object.keys(results)) {
  const kind = all.get(id).kind ?? 'required'
  if (kind === 'check') continue
  const why = failure(id)
  console.log(why === null ? `pass ${kind} ${id}` : `fail ${kind} ${id} ${why}`)
}
process.exit(0)
