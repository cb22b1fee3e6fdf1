//! What operators and their tools write: configuration by file and by environment, and traces.

use super::harness::lines;
use shoal::config::{self, Sources};
use shoal::route::Router;
use shoal::workload::trace::Trace;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

pub(crate) const WORDS: &[&str] = &[
    "toml\n",
    "yaml\n",
    "env\n",
    "[[site]]\n",
    "[cache]\n",
    "[limits]\n",
    "[peer]\n",
    "hosts = [\"a.example\"]\n",
    "origins = [",
    "\"",
    "= ",
    "memory = \"1GiB\"\n",
    "\"1EiB\"",
    "-1",
    "1e400",
    "nan",
    "99999999999999999999",
    "true",
    "SHOAL__CACHE__MEMORY=",
    "SHOAL__SITE__0__HOSTS=",
    "SHOAL__LISTEN__0=",
    "site:\n",
    "  - hosts: [a]\n",
    "&a ",
    "*a",
    "<<: ",
    "!!",
    "{",
    "}",
    "[",
    "]",
    "\"0s\"",
    "\"18446744073709551615s\"",
    "http://127.0.0.1:1",
    "\u{feff}",
    "\0",
];

/// Mistakes that are told at once.
const MISTAKES_MAX: usize = 100;
/// Characters that a mistake takes beside what it quotes.
const MISTAKE_CHARS_MAX: usize = 4000;

/// `toml` or `yaml` on a line and the file behind it, or `env` and variables.
pub(crate) fn configurations(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (kind, text) = (&bytes[..end], bytes.get(end + 1..).unwrap_or_default());
    let folder = tempfile::tempdir().unwrap();
    let mut sources = Sources::default();
    if kind == b"env" {
        for line in lines(text) {
            let (name, value) =
                line.split_at(line.iter().position(|byte| *byte == b'=').unwrap_or(line.len()));
            let value = value.get(1..).unwrap_or_default();
            sources.env.push((OsString::from_vec(name.to_vec()), OsString::from_vec(value.to_vec())));
        }
    } else {
        let file = folder.path().join(if kind == b"yaml" { "shoal.yaml" } else { "shoal.toml" });
        std::fs::write(&file, text).unwrap();
        sources.file = Some(file);
    }
    match config::load(&sources) {
        Ok(loaded) => {
            Router::new(&loaded.config);
            assert!(loaded.config.limits.header_bytes > 0 && loaded.config.limits.uri_bytes > 0);
            // Read again it is the same.
            let again = config::load(&sources).unwrap();
            assert_eq!(format!("{:?}", again.config), format!("{:?}", loaded.config));
        }
        Err(errors) => {
            assert!((1..=MISTAKES_MAX).contains(&errors.mistakes.len()));
            for mistake in &errors.mistakes {
                assert!(!mistake.what.is_empty());
                let told = mistake.to_string().chars().count();
                assert!(
                    told <= MISTAKE_CHARS_MAX + 8 * text.len(),
                    "{told} characters for {} bytes",
                    text.len()
                );
            }
        }
    }
}

/// Requests that are read of a trace.
const REQUESTS_MAX: usize = 1000;

/// A trace of requests, which the replay tool reads.
pub(crate) fn traces(bytes: &[u8]) {
    let whole = Trace::parse(bytes, REQUESTS_MAX);
    let first = Trace::parse(bytes, 1);
    assert!(first.is_ok() || whole.is_err(), "who can read all can read the first");
    // A mistake does not hide behind what is after it.
    let mut more = bytes.to_vec();
    more.extend_from_slice(b"\n1 2 3\n");
    assert!(whole.is_err() || Trace::parse(&more[..], REQUESTS_MAX).is_ok());
}
