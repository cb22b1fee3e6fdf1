//! The bytes of version 1.1, written down. If one of these fails, the format has changed: folders that running nodes
//! have would be lost or, worse, misread. The rules for a change are in the module above.

use super::*;
use crate::proto::key::{ObjectId, VariantId, VersionId};
use crate::proto::object::PurgePosition;

const SIZE: u32 = 16 << 10;
const HEADER: &str = "\
    53484f414c53454701000100020100007369787465656e20627974657320696407000000004000000000000000000000\
    0000000000000000000000001328f64b";
const RECORDS: &str = "\
    535245430102000004000000e8977cea3200000000000000050000000000000001010101010101010101010101010101\
    0202020202020202020202020202020203030303030303030303030303030303000000000700000000d2496bd8d62be3\
    686561640000000000000000000000000000000000000000000000000000000053524543020100000500000005bc0204\
    330000000000000005000000000000000101010101010101010101010101010102020202020202020202020202020202\
    03030303030303030303030303030303010000000700000000d2496b4732e9a5736c6963650000000000000000000000\
    00000000000000000000000000000000535245430300000004000000c594a71d34000000000000000500000000000000\
    010101010101010101010101010101010202020202020202020202020202020203030303030303030303030303030303\
    000000000700000000d2496baf5231f07365616c00000000000000000000000000000000000000000000000000000000\
    535245430400000000000000000000003500000000000000050000000000000009090909090909090909090909090909\
    0000000000000000000000000000000000000000000000000000000000000000000000000700000000d2496be9194510\
    000000000000000000000000000000000000000000000000000000000000000053524543ff00000098010000bbd2b945\
    350000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000\
    000000000000000000000000000000000000000007000000000000008a13754500000000001000005352454301020000\
    04000000e8977cea32000000000000000500000000000000010101010101010101010101010101010202020202020202\
    020202020202020203030303030303030303030303030303000000000700000000d2496bd8d62be38010000053524543\
    020100000500000005bc0204330000000000000005000000000000000101010101010101010101010101010102020202\
    02020202020202020202020203030303030303030303030303030303010000000700000000d2496b4732e9a500110000\
    535245430300000004000000c594a71d3400000000000000050000000000000001010101010101010101010101010101\
    0202020202020202020202020202020203030303030303030303030303030303000000000700000000d2496baf5231f0\
    7365616c8011000053524543040000000000000000000000350000000000000005000000000000000909090909090909\
    090909090909090900000000000000000000000000000000000000000000000000000000000000000000000007000000\
    00d2496be91945100000000000000000";
const TRAILER_BYTES: &str = "\
    53484f414c454e4407000000001400000012000004000000320000000000000035000000000000000000000000000000\
    0000000000000000000000004d06d57c";

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn header() -> SegmentHeader {
    SegmentHeader { number: 0x0102, store: StoreId(*b"sixteen bytes id"), generation: 7, size: SIZE }
}

fn id(index: u32) -> RecordId {
    RecordId { object: ObjectId([1; 16]), variant: VariantId([2; 16]), version: VersionId([3; 16]), index }
}

/// One record of each kind, sealed.
fn segment() -> (Vec<u8>, [u8; TRAILER]) {
    let mut fill = Fill::new(header().number, header().key(), header().generation, SIZE);
    let mut out = Vec::new();
    let records = [
        (RecordKind::Head, id(0), &b"head"[..], (false, true)),
        (RecordKind::Slice, id(1), b"slice", (true, false)),
        (RecordKind::Seal, id(0), b"seal", (false, false)),
        (
            RecordKind::Drop,
            RecordId { object: ObjectId([9; 16]), ..RecordId::default() },
            b"",
            (false, false),
        ),
    ];
    for (sequence, (kind, id, payload, (rewritten, shared))) in (50..).zip(records) {
        let draft = Draft {
            kind,
            rewritten,
            shared,
            id,
            position: PurgePosition(5),
            expiry: 1_800_000_000,
            sum: crc32c::crc32c(payload),
            payload,
            unknown: Unknown::default(),
        };
        fill.push(&mut out, draft, sequence);
    }
    let trailer = fill.seal(&mut out);
    (out, trailer)
}

#[test]
fn a_segment_is_written_as_version_1_1_writes_it() {
    let (records, trailer) = segment();
    assert_eq!(hex(&header().encode()), HEADER);
    assert_eq!(hex(&records), RECORDS);
    assert_eq!(hex(&trailer), TRAILER_BYTES);
}

#[test]
fn a_segment_of_version_1_1_is_read() {
    let bytes = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).expect("hexadecimal");
    assert_eq!(SegmentHeader::decode(bytes(HEADER).first_chunk().expect("64 bytes")), Ok(header()));
    let trailer = Trailer::decode(bytes(TRAILER_BYTES).first_chunk().expect("64 bytes"), header().key());
    let mut file = vec![0; HEADER_BLOCK as usize];
    file.extend(bytes(RECORDS));
    let mut scan = Scan::new(header().number, header().key(), header().generation, SIZE, trailer);
    let mut kinds = Vec::new();
    let read = |offset: u32, buffer: &mut [u8]| -> Result<(), ()> {
        buffer.copy_from_slice(&file[offset as usize..][..buffer.len()]);
        Ok(())
    };
    while let Some(entry) = scan.next(read).expect("it reads") {
        let payload =
            entry.place.offset as usize + RECORD_HEADER..(entry.place.offset + entry.place.length) as usize;
        assert!(entry.header.matches(&file[payload]));
        kinds.push((entry.kind.expect("a known kind"), entry.header.rewritten, entry.header.shared));
    }
    let expected = [
        (RecordKind::Head, false, true),
        (RecordKind::Slice, true, false),
        (RecordKind::Seal, false, false),
        (RecordKind::Drop, false, false),
    ];
    assert_eq!((kinds, scan.end()), (expected.to_vec(), ScanEnd::Whole));
}
