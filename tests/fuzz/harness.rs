//! Running a target: its corpus, then cases at random until there were enough.

use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestError, TestRunner};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::PathBuf;
use std::sync::Arc;

/// Cases of each target unless `SHOAL_FUZZ_CASES` says otherwise.
const CASES: u32 = 64;
/// Bytes of a case at random.
const RANDOM_BYTES_MAX: usize = 200;
/// Changes that are made to a seed.
const EDITS_MAX: usize = 8;
/// Bytes that one change may copy or cut.
const SPAN_MAX: usize = 64;

/// A parser and what is expected of it.
pub(crate) struct Target {
    /// Name of the test and of its folder in the corpus.
    pub(crate) name: &'static str,
    /// Words that mean something to the parser, put into seeds.
    pub(crate) words: &'static [&'static str],
    /// Seeds that a writer makes, beside those of the corpus.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Panics if the parser breaks a rule.
    pub(crate) check: fn(&[u8]),
}

/// No seeds but those of the corpus.
pub(crate) fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// Bytes of a case, printed so that they can be put into a file.
#[derive(Clone, PartialEq)]
struct Case(Vec<u8>);

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

/// A change to a seed. Places are shares of what there is, so that any change fits any seed.
#[derive(Clone, Debug)]
enum Edit {
    Put(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Word(Index, Index),
    Cut(Index, usize),
    Copy(Index, usize, Index),
    Fill(Index, usize, u8),
    Join(Index, Index, Index),
    End(Index),
}

impl Target {
    /// Runs the corpus, then [`cases`].
    pub(crate) fn run(&self) {
        let mut seeds = (self.seeds)();
        for (name, bytes) in files(self.name) {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (self.check)(&bytes))) {
                eprintln!("tests/corpus/{}/{name} breaks a rule", self.name);
                resume_unwind(panic);
            }
            seeds.push(bytes);
        }
        assert!(
            !seeds.is_empty(),
            "tests/corpus/{} is empty: each target begins with what it should read",
            self.name
        );
        seeds.iter().for_each(|seed| (self.check)(seed));
        let check = self.check;
        run(self.name, cases(), &case(seeds, self.words), |Case(bytes)| check(&bytes));
    }
}

/// Runs `check` with `count` values and prints the seed with the least value that fails.
pub(crate) fn run<T: fmt::Debug>(
    name: &str,
    count: u32,
    values: &impl Strategy<Value = T>,
    check: impl Fn(T),
) {
    let seed =
        std::env::var("SHOAL_FUZZ_SEED").ok().map(|seed| seed.parse().expect("SHOAL_FUZZ_SEED is a number"));
    let seed = seed.unwrap_or_else(rand::random::<u64>);
    let config = Config {
        cases: count,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let result = TestRunner::new(config).run(values, |value| {
        check(value);
        Ok(())
    });
    match result {
        Ok(()) => println!("{name}: {count} cases"),
        Err(TestError::Fail(why, value)) => {
            panic!(
                "{name} fails with SHOAL_FUZZ_SEED={seed} SHOAL_FUZZ_CASES={count}: {why}\nleast case: {value:?}"
            )
        }
        Err(TestError::Abort(why)) => panic!("{name} was given up: {why}"),
    }
}

/// How many cases of each target.
pub(crate) fn cases() -> u32 {
    std::env::var("SHOAL_FUZZ_CASES")
        .map_or(CASES, |count| count.parse().expect("SHOAL_FUZZ_CASES is a number"))
}

/// The folder of all targets.
pub(crate) fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The files of a target's folder, by name.
fn files(target: &str) -> Vec<(String, Vec<u8>)> {
    let Ok(folder) = std::fs::read_dir(corpus().join(target)) else { return Vec::new() };
    let mut files: Vec<_> = folder
        .map(|entry| {
            let path = entry.unwrap().path();
            (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn case(seeds: Vec<Vec<u8>>, words: &'static [&'static str]) -> impl Strategy<Value = Case> {
    let seeds = Arc::new(seeds);
    let edited = (any::<Index>(), vec(edit(), 0..=EDITS_MAX)).prop_map(move |(first, edits)| {
        let mut bytes = first.get(&seeds).clone();
        edits.iter().for_each(|edit| edit.apply(&mut bytes, &seeds, words));
        Case(bytes)
    });
    let random = vec(any::<u8>(), 0..RANDOM_BYTES_MAX).prop_map(Case);
    let text = "[ -~\t\n]{0,80}".prop_map(|text| Case(text.into_bytes()));
    prop_oneof![6 => edited, 1 => random, 1 => text]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<Index>;
    let span = 1..=SPAN_MAX;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(to, byte)| Edit::Put(to, byte)),
        (at(), 0..8_u8).prop_map(|(to, bit)| Edit::Flip(to, bit)),
        (at(), any::<u8>()).prop_map(|(to, byte)| Edit::Insert(to, byte)),
        (at(), at()).prop_map(|(to, word)| Edit::Word(to, word)),
        (at(), span.clone()).prop_map(|(from, length)| Edit::Cut(from, length)),
        (at(), span, at()).prop_map(|(from, length, to)| Edit::Copy(from, length, to)),
        // The least and the largest of a number of usual width.
        (at(), select(vec![1, 2, 4, 8]), select(vec![0, 0xff]))
            .prop_map(|(at, width, byte)| Edit::Fill(at, width, byte)),
        (at(), at(), at()).prop_map(|(to, other, from)| Edit::Join(to, other, from)),
        at().prop_map(Edit::End),
    ]
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>], words: &[&str]) {
        // A place before a byte, or behind the last one.
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        let span = |from: usize, length: usize, bytes: &[u8]| from..bytes.len().min(from + length);
        match self {
            Self::Put(at, byte) if !bytes.is_empty() => *at.get_mut(bytes) = *byte,
            Self::Flip(at, bit) if !bytes.is_empty() => *at.get_mut(bytes) ^= 1 << bit,
            Self::Put(..) | Self::Flip(..) => {}
            Self::Insert(at, byte) => bytes.insert(place(at, bytes), *byte),
            Self::Word(at, word) if !words.is_empty() => {
                let at = place(at, bytes);
                bytes.splice(at..at, word.get(words).bytes());
            }
            Self::Word(..) => {}
            Self::Cut(from, length) => drop(bytes.drain(span(place(from, bytes), *length, bytes))),
            Self::Copy(from, length, to) => {
                let copied = bytes[span(place(from, bytes), *length, bytes)].to_vec();
                let to = place(to, bytes);
                bytes.splice(to..to, copied);
            }
            Self::Fill(at, width, byte) => {
                let span = span(place(at, bytes), *width, bytes);
                bytes[span].fill(*byte);
            }
            Self::Join(to, other, from) => {
                let other = other.get(seeds);
                bytes.truncate(place(to, bytes));
                bytes.extend_from_slice(&other[place(from, other)..]);
            }
            Self::End(at) => bytes.truncate(place(at, bytes)),
        }
    }
}

/// The lines of a case.
pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line))
}

/// The lines of a case as lines of one field, without those that no field can have.
pub(crate) fn field(name: &'static str, bytes: &[u8]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for value in lines(bytes).filter_map(|line| HeaderValue::from_bytes(line).ok()) {
        fields.append(name, value);
    }
    fields
}

/// `name: value` lines as fields, without those that are none.
pub(crate) fn fields<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for line in lines {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        let name = HeaderName::from_bytes(&line[..colon]);
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            fields.append(name, value);
        }
    }
    fields
}

/// What is before the first empty line, and what is behind it.
pub(crate) fn halves(bytes: &[u8]) -> (Vec<&[u8]>, Vec<&[u8]>) {
    let all: Vec<_> = lines(bytes).collect();
    let middle = all.iter().position(|line| line.is_empty()).unwrap_or(all.len());
    (all[..middle].to_vec(), all.get(middle + 1..).unwrap_or_default().to_vec())
}
