use super::*;
use proptest::prelude::*;

const CHUNK: usize = CHUNK_SIZE as usize;

fn body(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn hash(bytes: &[u8]) -> ChunkHash {
    *blake3::hash(bytes).as_bytes()
}

/// Feeds `bytes` as a peer sends them, in parts of `part` bytes, with the hashes of `truth`.
fn relay(checker: &mut Checker, bytes: &[u8], truth: &[u8], part: usize) -> Result<Vec<Checked>, RelayFault> {
    let mut good = Vec::new();
    for (sent, meant) in bytes.chunks(CHUNK).zip(truth.chunks(CHUNK)) {
        for part in sent.chunks(part) {
            checker.handle_data(part)?;
        }
        good.push(checker.handle_chunk(hash(meant))?);
    }
    checker.handle_end(bytes.len() as u64)?;
    Ok(good)
}

#[test]
fn a_body_that_matches_its_hashes_is_good_to_its_end() {
    for length in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5] {
        for known in [None, Some(length as u64)] {
            let body = body(length);
            let mut checker = Checker::new(known);
            let good = relay(&mut checker, &body, &body, 70_000).unwrap();
            assert_eq!(good.len(), length.div_ceil(CHUNK));
            assert_eq!(good.last().map_or(0, |last| last.end), length as u64);
            assert!(checker.is_whole());
        }
    }
}

#[test]
fn a_flipped_bit_is_found_at_the_end_of_its_chunk_and_blamed_on_its_sender() {
    let truth = body(2 * CHUNK);
    let mut bytes = truth.clone();
    bytes[CHUNK + 7] ^= 1;
    let mut checker = Checker::new(None);
    let fault = relay(&mut checker, &bytes, &truth, 65_536).unwrap_err();
    assert_eq!(fault, RelayFault::Mismatch { exact: true });
    assert_eq!(checker.checked(), CHUNK_SIZE);
}

#[test]
fn a_chunk_of_two_sources_is_checked_whole_and_blamed_on_neither() {
    let truth = body(CHUNK);
    let (first, second) = truth.split_at(1000);
    let mut checker = Checker::new(None);
    checker.handle_data(first).unwrap();
    checker.change_source();
    checker.handle_data(second).unwrap();
    assert_eq!(checker.handle_chunk(hash(&truth)).unwrap().end, CHUNK_SIZE);

    let mut checker = Checker::new(None);
    checker.handle_data(&[9; 1000]).unwrap();
    checker.change_source();
    checker.handle_data(second).unwrap();
    assert_eq!(checker.handle_chunk(hash(&truth)), Err(RelayFault::Mismatch { exact: false }));
}

#[test]
fn a_source_that_begins_at_a_chunk_is_to_blame_for_it() {
    let truth = body(CHUNK + 10);
    let mut checker = Checker::new(None);
    checker.handle_data(&truth[..CHUNK]).unwrap();
    checker.handle_chunk(hash(&truth[..CHUNK])).unwrap();
    checker.change_source();
    checker.handle_data(&[0; 10]).unwrap();
    assert_eq!(checker.handle_chunk(hash(&truth[CHUNK..])), Err(RelayFault::Mismatch { exact: true }));
}

#[test]
fn bytes_behind_a_chunk_whose_hash_is_missing_are_refused() {
    let mut checker = Checker::new(None);
    checker.handle_data(&body(CHUNK)).unwrap();
    assert_eq!(checker.handle_data(&[1]), Err(RelayFault::TooLong));
    assert_eq!(Checker::new(Some(3)).handle_data(&[1; 4]), Err(RelayFault::TooLong));
}

#[test]
fn an_end_before_the_last_hash_or_byte_is_refused() {
    let mut checker = Checker::new(None);
    checker.handle_data(&[1; 5]).unwrap();
    assert_eq!(checker.handle_end(5), Err(RelayFault::Early));
    checker.handle_chunk(hash(&[1; 5])).unwrap();
    assert_eq!(checker.handle_end(6), Err(RelayFault::Early));
    assert_eq!(checker.handle_end(5), Ok(()));
    // A short chunk was the last.
    assert_eq!(checker.handle_data(&[1]), Err(RelayFault::TooLong));
}

#[test]
fn a_hash_where_no_chunk_ends_is_refused() {
    assert_eq!(Checker::new(None).handle_chunk(hash(b"")), Err(RelayFault::Misplaced));
    assert!(Checker::new(Some(0)).handle_chunk(hash(b"")).is_ok());
    let mut checker = Checker::new(Some(10));
    checker.handle_data(&[1; 5]).unwrap();
    assert_eq!(checker.handle_chunk(hash(&[1; 5])), Err(RelayFault::Misplaced));
}

#[test]
fn the_origin_proves_what_a_lost_peer_had_sent() {
    let truth = body(1000);
    let mut checker = Checker::new(None);
    checker.handle_data(&truth[..600]).unwrap();
    let mut proof = checker.proof();
    assert_eq!(proof.handle(&truth[..500]), Ok(0));
    assert_eq!(proof.handle(&truth[500..700]), Ok(100));
    assert_eq!(proof.handle(&truth[700..]), Ok(300));

    let mut proof = checker.proof();
    assert_eq!(proof.handle(&[0; 700]), Err(RelayFault::Mismatch { exact: false }));
}

#[test]
fn the_origin_closes_a_chunk_whose_hash_a_lost_peer_did_not_send() {
    let truth = body(CHUNK + 3);
    let mut checker = Checker::new(None);
    checker.handle_data(&truth[..CHUNK]).unwrap();
    let mut good = Vec::new();
    checker.handle_trusted(&truth[CHUNK..], |checked| good.push(checked)).unwrap();
    good.extend(checker.handle_trusted_end().unwrap());
    assert_eq!(good.len(), 2);
    assert_eq!(good[0], Checked { end: CHUNK_SIZE, hash: hash(&truth[..CHUNK]) });
    assert_eq!(Checker::new(Some(3)).handle_trusted(&[0; 4], |_| ()), Err(RelayFault::TooLong));
}

#[test]
fn a_chunk_is_judged_by_its_own_hash_first() {
    let (bytes, other) = (&b"abc"[..], hash(b"other"));
    assert_eq!(judge([bytes], &hash(bytes), &hash(bytes)), Judgement::Good);
    assert_eq!(judge([bytes], &other, &other), Judgement::Bad);
    assert_eq!(judge([bytes], &hash(bytes), &other), Judgement::Disputed);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn the_origins_bytes_are_cut_into_the_same_chunks_however_they_come(length in 0usize..3_000_000, part in 1usize..300_000) {
        let body = body(length);
        let mut checker = Checker::new(None);
        let mut good = Vec::new();
        for bytes in body.chunks(part) {
            checker.handle_trusted(bytes, |checked| good.push(checked)).unwrap();
        }
        good.extend(checker.handle_trusted_end().unwrap());
        let expected: Vec<_> = body.chunks(CHUNK).map(hash).collect();
        prop_assert_eq!(good.iter().map(|checked| checked.hash).collect::<Vec<_>>(), expected);
        prop_assert!(checker.is_whole());
    }

    #[test]
    fn no_frames_make_the_checker_panic(frames in proptest::collection::vec((0u8..5, 0usize..1_200_000), 0..12), length in proptest::option::of(0u64..3_000_000)) {
        let mut checker = Checker::new(length);
        for (kind, size) in frames {
            match kind {
                0 | 1 => drop(checker.handle_data(&vec![0; size])),
                2 => drop(checker.handle_chunk([0; 32])),
                3 => drop(checker.handle_end(size as u64)),
                _ => checker.change_source(),
            }
            prop_assert!(checker.checked() <= checker.offset());
            prop_assert!(length.is_none_or(|length| checker.offset() <= length));
        }
    }
}
