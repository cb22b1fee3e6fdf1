//! What an earlier life of the node, or anybody with the disk, left there. The sums are put right where a case damaged them, so
//! that what lies behind them is reached.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use shoal::proto::key::{CacheKey, KeyParts, Scheme, VariantId, VersionId};
use shoal::proto::object::{Head, HeadDraft, PurgePosition, SelectingValue};
use shoal::proto::purge::{Issuer, Log, Mode, RECORD_LENGTH, Record, Selector};
use shoal::proto::segment::{
    Draft, Fill, HEADER_BLOCK, HeaderError, RECORD_HEADER, RecordHeader, RecordId, RecordKind,
    SEGMENT_HEADER, Scan, ScanEnd, SegmentHeader, SegmentKey, StoreId, TRAILER, Trailer, Unknown,
};
use shoal::proto::semantics::StoreReason;
use shoal::proto::time::Wall;
use std::convert::Infallible;

const STORE: StoreId = StoreId([5; 16]);
const NUMBER: u32 = 3;
const GENERATION: u32 = 8;

fn key() -> SegmentKey {
    SegmentKey::new(STORE, NUMBER)
}

/// What the sums in the segment begin with, as the drawing of the format says.
fn begun() -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&STORE.0), &NUMBER.to_le_bytes())
}

fn padded<const N: usize>(bytes: &[u8], magic: &[u8]) -> [u8; N] {
    let mut padded = [0; N];
    let length = bytes.len().min(N);
    padded[..length].copy_from_slice(&bytes[..length]);
    padded[..magic.len()].copy_from_slice(magic);
    padded
}

fn sum_into(bytes: &mut [u8], sum: u32) {
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&sum.to_le_bytes());
}

/// One header of each kind.
pub(crate) fn segment_seeds() -> Vec<Vec<u8>> {
    let header = SegmentHeader { number: NUMBER, store: STORE, generation: GENERATION, size: 1 << 20 };
    let trailer = Trailer { generation: GENERATION, end: 8192, summary: 4096, records: 2, first: 1, last: 2 };
    let bytes = segment(3, true);
    let record = bytes[HEADER_BLOCK as usize..][..RECORD_HEADER].to_vec();
    vec![header.encode().to_vec(), trailer.encode(key()).to_vec(), record]
}

/// Bytes as a segment header, a record header and a trailer.
pub(crate) fn segments(bytes: &[u8]) {
    let mut header: [u8; SEGMENT_HEADER] = padded(bytes, b"SHOALSEG");
    let sum = crc32c::crc32c(&header[..60]);
    sum_into(&mut header, sum);
    match SegmentHeader::decode(&header) {
        Ok(read) => {
            let written = read.encode();
            // Of a later minor version there may be more than is known.
            assert_eq!((&written[..10], &written[12..40]), (&header[..10], &header[12..40]));
            assert_eq!(SegmentHeader::decode(&written), Ok(read));
        }
        Err(HeaderError::Version(major, _)) => assert_ne!(major, 1),
        Err(HeaderError::Features(bits)) => assert_ne!(bits, 0),
        Err(HeaderError::Invalid) => panic!("the sum is right"),
    }
    for offset in [HEADER_BLOCK, u32::MAX] {
        let mut record: [u8; RECORD_HEADER] = padded(bytes, b"SREC");
        let sum = crc32c::crc32c_append(crc32c::crc32c_append(begun(), &offset.to_le_bytes()), &record[..92]);
        sum_into(&mut record, sum);
        let Some(read) = RecordHeader::decode(&record, key(), offset) else {
            let position = u64::from_le_bytes(*record[24..].first_chunk().unwrap());
            assert!(position > PurgePosition::MAX.0, "the sum is right");
            continue;
        };
        assert_eq!(read.encode(key(), offset), record, "all that it says is kept, also what is not known");
        assert!(RecordHeader::decode(&record, key(), offset ^ 64).is_none(), "elsewhere it is none");
        assert!(RecordHeader::decode(&record, SegmentKey::new(STORE, NUMBER + 1), offset).is_none());
    }
    let mut trailer: [u8; TRAILER] = padded(bytes, b"SHOALEND");
    let sum = crc32c::crc32c_append(begun(), &trailer[..60]);
    sum_into(&mut trailer, sum);
    let read = Trailer::decode(&trailer, key()).expect("the sum is right");
    assert_eq!(read.encode(key())[..40], trailer[..40]);
    assert_eq!(Trailer::decode(&read.encode(key()), key()), Some(read));
    // As they came, without that.
    let _ = SegmentHeader::decode(&padded(bytes, b""));
    let _ = Trailer::decode(&padded(bytes, b""), key());
    let _ = RecordHeader::decode(&padded(bytes, b""), key(), HEADER_BLOCK);
}

/// A segment with `count` small records.
fn segment(count: usize, sealed: bool) -> Vec<u8> {
    segment_of(&(10..10 + count as u64).collect::<Vec<_>>(), sealed)
}

/// A segment with a small record for each of these sequences.
fn segment_of(sequences: &[u64], sealed: bool) -> Vec<u8> {
    const SIZE: u32 = 64 << 10;
    let mut bytes = vec![0; HEADER_BLOCK as usize];
    let mut fill = Fill::new(NUMBER, key(), GENERATION, SIZE);
    for (index, sequence) in sequences.iter().enumerate() {
        let kind = [RecordKind::Head, RecordKind::Slice, RecordKind::Seal, RecordKind::Drop][index % 4];
        let payload = vec![index as u8; index * 7 % 90];
        let draft = Draft {
            kind,
            rewritten: false,
            shared: index % 2 == 0,
            id: RecordId { index: index as u32, ..RecordId::default() },
            position: PurgePosition(1),
            expiry: 2,
            sum: crc32c::crc32c(&payload),
            payload: &payload,
            unknown: Unknown::default(),
        };
        assert!(fill.fits(kind, payload.len()));
        fill.push(&mut bytes, draft, *sequence);
    }
    if sealed {
        let trailer = fill.seal(&mut bytes);
        bytes.extend_from_slice(&trailer);
    }
    bytes
}

/// Segments without the block before their first record, since nothing is read of it.
pub(crate) fn scan_seeds() -> Vec<Vec<u8>> {
    // The last ones say again, or less, what no writer does.
    let all = [segment(1, true), segment(12, true), segment(12, false), segment(40, true)];
    let odd = [segment_of(&[10, 11, 11, 12], true), segment_of(&[10, 12, 11], false)];
    all.into_iter().chain(odd).map(|mut segment| segment.split_off(HEADER_BLOCK as usize)).collect()
}

/// A segment from its first record on. Its last bytes are the trailer.
pub(crate) fn scans(bytes: &[u8]) {
    let whole = [&[0; HEADER_BLOCK as usize][..], bytes].concat();
    let limit = whole.len() as u32;
    let trailer = whole.last_chunk().and_then(|trailer| Trailer::decode(trailer, key()));
    for trailer in [trailer, None] {
        let mut scan = Scan::new(NUMBER, key(), GENERATION, limit, trailer);
        let (mut entries, mut taken) = (Vec::new(), 0);
        let mut read = |offset: u32, buffer: &mut [u8]| {
            taken += buffer.len();
            let from = offset as usize;
            buffer.copy_from_slice(&whole[from..from + buffer.len()]);
            Ok::<_, Infallible>(())
        };
        while let Ok(Some(entry)) = scan.next(&mut read) {
            entries.push(entry);
        }
        assert!(matches!(scan.next(&mut read), Ok(None)), "an end is an end");
        assert!(entries.is_sorted_by(|one, other| one.header.sequence < other.header.sequence));
        for entry in &entries {
            let (from, length) = (entry.place.offset as usize, entry.place.length as usize);
            assert!(from >= HEADER_BLOCK as usize && from + length <= whole.len());
            assert_eq!((entry.place.segment, entry.header.generation), (NUMBER, GENERATION));
            assert_eq!(length, RECORD_HEADER + entry.header.length as usize);
            assert!(entry.kind != Some(RecordKind::Seal) || entry.header.matches(&entry.payload));
        }
        // Each byte is looked at a few times, whatever summaries say of one another.
        assert!(taken <= 4 * whole.len() && entries.len() <= whole.len() / RECORD_HEADER);
        assert!(scan.position() <= limit.next_multiple_of(64));
        assert!(trailer.is_some() || scan.end() == ScanEnd::Unsealed);
    }
}

/// Heads with and without selecting fields, of a whole body and of a part.
pub(crate) fn head_seeds() -> Vec<Vec<u8>> {
    let key =
        CacheKey::new(KeyParts { site: "shop", scheme: Scheme::Https, host: "shop.example", path: "/a?b" });
    let mut fields = HeaderMap::new();
    for (name, value) in
        [("content-type", "text/css"), ("x-two", "1"), ("x-two", "2"), ("cache-control", "max-age=5")]
    {
        fields.append(name, HeaderValue::from_static(value));
    }
    let plain = HeadDraft {
        key,
        variant: VariantId([1; 16]),
        version: VersionId([2; 16]),
        selecting: Vec::new(),
        status: StatusCode::OK,
        fields,
        length: Some(4),
        received: Wall::from_secs(1_000_000_000),
        initial_age: 3,
        position: PurgePosition(9),
        reason: StoreReason::MaxAge,
        personal: false,
    };
    let accept = SelectingValue { name: http::header::ACCEPT, value: Some(Bytes::from_static(b"text/html")) };
    let absent = SelectingValue { name: http::header::COOKIE, value: None };
    let varying =
        HeadDraft { selecting: vec![accept, absent], length: None, personal: true, ..plain.clone() };
    vec![plain.encode(b"body", true, &[3; 32]).to_vec(), varying.encode(b"begin", false, &[0; 32]).to_vec()]
}

/// A stored head with the first bytes of the body behind it.
pub(crate) fn stored_heads(bytes: &[u8]) {
    let Ok(head) = Head::decode(Bytes::copy_from_slice(bytes)) else { return };
    let (fields, selecting, body) = (head.fields(), head.selecting(), head.body());
    assert!(head.weight() <= size_of::<Head>() + bytes.len());
    let values: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    assert!(values + body.len() + head.key().len() <= bytes.len(), "nothing is made up");
    let Ok(draft) = head.to_draft() else { return };
    let written = draft.encode(&body, head.whole, &head.digest());
    assert!(written.len() <= bytes.len());
    let again = Head::decode(written.clone()).unwrap();
    assert_eq!((again.fields(), again.selecting(), again.body()), (fields, selecting, body));
    assert_eq!((again.key(), again.digest(), again.status), (head.key(), head.digest(), head.status));
    assert_eq!(
        (again.facts, again.reason, again.whole, again.personal),
        (head.facts, head.reason, head.whole, head.personal)
    );
    assert_eq!(
        (again.received, again.initial_age, again.length),
        (head.received, head.initial_age, head.length)
    );
    assert_eq!(
        (again.variant, again.version, again.position.get()),
        (head.variant, head.version, head.position.get())
    );
    assert_eq!(again.to_draft().unwrap().encode(&again.body(), again.whole, &again.digest()), written);
}

/// The records of a log with a purge of each kind.
pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    let mut log = Log::new(Issuer(7));
    let (site, host, path) = ("shop".to_owned(), "shop.example".to_owned(), "/a".to_owned());
    for selector in [
        Selector::Url { site: site.clone(), host: host.clone(), path: path.clone() },
        Selector::Prefix { site: site.clone(), host: host.clone(), path },
        Selector::Tag { site: Some(site.clone()), tag: "t".to_owned() },
        Selector::Host { site: site.clone(), host },
        Selector::Site { site },
        Selector::All,
    ] {
        let batch = log.issue([selector.target(Mode::Hard)]);
        let applied = log.prepare(&batch, Wall::from_secs(5)).unwrap();
        log.apply(&applied);
    }
    let mut records = log.snapshot();
    records.push(Record::Snapshot);
    vec![records.iter().flat_map(Record::encode).collect()]
}

/// Records of a log one behind the other, read up to the first bad one as the journal does.
pub(crate) fn journals(bytes: &[u8]) {
    let mut records = Vec::new();
    for chunk in bytes.as_chunks::<RECORD_LENGTH>().0 {
        if let Some(record) = Record::decode(chunk) {
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        let mut summed = *chunk;
        let sum = crc32c::crc32c(&summed[4..]);
        summed[..4].copy_from_slice(&sum.to_le_bytes());
        let Some(record) = Record::decode(&summed) else { break };
        assert_eq!(Record::decode(&record.encode()), Some(record));
        records.push(record);
    }
    let Some(log) = Log::restore(records.iter().copied()) else { return };
    assert!(log.len() <= records.len());
    let again = Log::restore(log.snapshot()).unwrap();
    assert_eq!((again.issuer(), again.position(), again.len()), (log.issuer(), log.position(), log.len()));
    assert_eq!((again.coverage(), again.digest()), (log.coverage(), log.digest()));
    // It goes on from where it was.
    let mut more = again;
    let batch = more.issue([Selector::All.target(Mode::Soft)]);
    if let Ok(applied) = more.prepare(&batch, Wall::from_secs(9)) {
        more.apply(&applied);
        assert!(more.position() > log.position());
        assert!(more.coverage().covers(log.coverage()));
    }
}
