//! Parsers against bytes of anybody's making, and the cache rules against a second opinion.
//!
//! A **target** takes bytes, gives them to one parser and holds the result to rules: what it writes it reads again, what
//! it says agrees with a slow and simple reading of the same specification, what it allocates is bounded by what came.
//! Each is run with every file of its folder in `tests/corpus`, then with bytes at random and with seeds that were
//! cut, joined and changed (`harness`).
//!
//! ```sh
//! cargo test --test fuzz                            # SHOAL_FUZZ_CASES=64 for each target
//! SHOAL_FUZZ_CASES=20000 cargo test --test fuzz     # a long session
//! SHOAL_FUZZ_SEED=7 cargo test --test fuzz dates    # the same cases again: a failure prints the seed
//! ```
//! A failure prints the bytes as small as they could be made. Who mends it puts them into the corpus as a file.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "fuzz/addresses.rs"]
mod addresses;
#[path = "fuzz/configuration.rs"]
mod configuration;
#[path = "fuzz/directives.rs"]
mod directives;
#[path = "fuzz/disk.rs"]
mod disk;
#[path = "fuzz/fields.rs"]
mod fields;
#[path = "fuzz/harness.rs"]
mod harness;
#[path = "fuzz/heads.rs"]
mod heads;
#[path = "fuzz/model.rs"]
mod model;
#[path = "fuzz/opinion.rs"]
mod opinion;
#[path = "fuzz/orders.rs"]
mod orders;
#[path = "fuzz/ranges.rs"]
mod ranges;
#[path = "fuzz/streams.rs"]
mod streams;
#[path = "fuzz/validators.rs"]
mod validators;
#[path = "fuzz/wire.rs"]
mod wire;

use harness::{Target, none};

/// Each row is a test of that name, and `tests/corpus/<name>` its folder. A parser that is new gets a row: the words
/// that mean something to it, seeds beyond the corpus if they are made by a writer, and the check.
macro_rules! targets {
    ($($name:ident: $words:expr, $seeds:expr, $check:expr;)*) => {
        const NAMES: &[&str] = &[$(stringify!($name)),*];
        $(#[test]
        fn $name() {
            Target { name: stringify!($name), words: $words, seeds: $seeds, check: $check }.run();
        })*
    };
}

targets! {
    // What clients and origins send.
    proxy_headers: streams::PROXY_WORDS, none, streams::proxy_headers;
    framing: streams::FRAMING_WORDS, none, streams::framing;
    cache_control: directives::WORDS, none, directives::cache_control;
    targeted: directives::WORDS, none, directives::targeted;
    dates: validators::DATE_WORDS, none, validators::dates;
    ages: &["Age: ", ",", "0", "2147483648", "99999999999999999999"], none, validators::ages;
    entity_tags: validators::TAG_WORDS, none, validators::entity_tags;
    ranges: ranges::WORDS, none, ranges::ranges;
    content_ranges: ranges::WORDS, none, ranges::content_ranges;
    variants: fields::VARY_WORDS, none, fields::variants;
    end_to_end: fields::WORDS, none, fields::end_to_end;
    invalidations: fields::URI_WORDS, none, fields::invalidations;
    cache_status: &["\"", "\\", ";", "a=b", "hit"], none, fields::cache_status;
    authorities: heads::HOST_WORDS, none, heads::authorities;
    heads: heads::WORDS, none, heads::heads;
    key_policy: heads::WORDS, none, heads::key_policy;
    keys: &["\0\0\0\0", "shop", "\u{1}"], heads::encoded_keys, heads::keys;
    client_addresses: addresses::WORDS, none, addresses::client_addresses;
    purge_requests: orders::WORDS, none, orders::purge_requests;
    // What operators write.
    purge_selectors: orders::SELECTOR_WORDS, none, orders::purge_selectors;
    log_filters: orders::FILTER_WORDS, none, orders::log_filters;
    configurations: configuration::WORDS, none, configuration::configurations;
    join_tokens: &["shoal1.", "\n", "_", "-", "="], orders::minted_tokens, orders::join_tokens;
    traces: &["\n", " ", "18446744073709551615"], none, configuration::traces;
    // What peers send.
    wire_messages: &[], wire::messages_seeds, wire::messages;
    wire_frames: &[], wire::frame_seeds, wire::frames;
    wire_purges: &[], wire::purge_seeds, wire::purges;
    // What an earlier life left on disk.
    segments: &["SHOALSEG", "SHOALEND", "SREC"], disk::segment_seeds, disk::segments;
    segment_scans: &["SREC", "\0\0\0\0"], disk::scan_seeds, disk::scans;
    stored_heads: &["\0", "\u{1}", "\u{7f}"], disk::head_seeds, disk::stored_heads;
    purge_journals: &["\0\0\0\0"], disk::journal_seeds, disk::journals;
}

#[test]
fn each_folder_of_the_corpus_has_its_target() {
    for folder in std::fs::read_dir(harness::corpus()).unwrap() {
        let name = folder.unwrap().file_name().into_string().unwrap();
        assert!(NAMES.contains(&name.as_str()), "tests/corpus/{name} is nobody's");
    }
}
