//! Framing of `multipart/byteranges` (RFC 9110 §14.6): what stands around the ranges' bytes, and
//! the exact length of it all, so that the response can be streamed with `Content-Length`.
//!
//! ```text
//! --<boundary> CRLF                  part_head(0)
//! Content-Type: <stored> CRLF
//! Content-Range: bytes 0-4/10 CRLF CRLF
//! <bytes of range 0>
//! CRLF --<boundary> CRLF ...         part_head(1)
//! <bytes of range 1>
//! CRLF --<boundary>-- CRLF           tail()
//! ```

use super::range::content_range;
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use smallvec::SmallVec;
use std::ops::Range;

/// A boundary: 32 hexadecimal digits of a nonce that the caller drew, so that no body contains it
/// by chance or on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boundary([u8; 32]);

impl Boundary {
    /// The boundary of `nonce`.
    pub fn of(nonce: [u8; 16]) -> Self {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (pair, byte) in digits.chunks_exact_mut(2).zip(nonce) {
            pair[0] = HEX[usize::from(byte >> 4)];
            pair[1] = HEX[usize::from(byte & 15)];
        }
        Self(digits)
    }
}

/// A multipart body over some ranges of a stored body.
#[derive(Clone, Debug)]
pub struct Multipart {
    boundary: Boundary,
    content_type: Option<HeaderValue>,
    ranges: SmallVec<[Range<u64>; 4]>,
    length: Option<u64>,
}

impl Multipart {
    /// The body for `ranges` of a representation of `length` bytes, if that is known, with the fields `stored`.
    pub fn new(
        boundary: Boundary,
        stored: &HeaderMap,
        ranges: SmallVec<[Range<u64>; 4]>,
        length: Option<u64>,
    ) -> Self {
        Self { boundary, content_type: stored.get(header::CONTENT_TYPE).cloned(), ranges, length }
    }

    /// The `Content-Type` of the 206, which has no `Content-Range` of its own (§15.3.7.2).
    pub fn content_type(&self) -> HeaderValue {
        let mut value = BytesMut::from(&b"multipart/byteranges; boundary="[..]);
        value.put_slice(&self.boundary.0);
        HeaderValue::from_maybe_shared(value.freeze()).expect("a boundary is hexadecimal digits")
    }

    /// The ranges, in the order of their parts.
    pub fn ranges(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// What stands before the bytes of part `index`.
    pub fn part_head(&self, index: usize) -> Bytes {
        let mut head = BytesMut::with_capacity(160);
        if index > 0 {
            head.put_slice(b"\r\n");
        }
        head.put_slice(b"--");
        head.put_slice(&self.boundary.0);
        head.put_slice(b"\r\n");
        if let Some(content_type) = &self.content_type {
            head.put_slice(b"Content-Type: ");
            head.put_slice(content_type.as_bytes());
            head.put_slice(b"\r\n");
        }
        head.put_slice(b"Content-Range: ");
        head.put_slice(content_range(&self.ranges[index], self.length).as_bytes());
        head.put_slice(b"\r\n\r\n");
        head.freeze()
    }

    /// What stands behind the last part.
    pub fn tail(&self) -> Bytes {
        let mut tail = BytesMut::with_capacity(40);
        tail.put_slice(b"\r\n--");
        tail.put_slice(&self.boundary.0);
        tail.put_slice(b"--\r\n");
        tail.freeze()
    }

    /// Bytes of the whole multipart body.
    pub fn content_length(&self) -> u64 {
        let heads = (0..self.ranges.len()).map(|index| self.part_head(index).len() as u64);
        let bytes = self.ranges.iter().map(|range| range.end - range.start);
        heads.chain(bytes).sum::<u64>() + self.tail().len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::head;
    use super::*;
    use smallvec::smallvec;

    fn assembled(multipart: &Multipart, body: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        for (index, range) in multipart.ranges().iter().enumerate() {
            all.extend_from_slice(&multipart.part_head(index));
            all.extend_from_slice(&body[range.start as usize..range.end as usize]);
        }
        all.extend_from_slice(&multipart.tail());
        all
    }

    #[test]
    fn parts_are_framed_and_the_length_is_exact() {
        let stored = head(&[("content-type", "text/plain")]);
        let multipart = Multipart::new(Boundary::of([0xab; 16]), &stored, smallvec![0..2, 8..10], Some(10));
        let expected = "--abababababababababababababababab\r\nContent-Type: text/plain\r\n\
            Content-Range: bytes 0-1/10\r\n\r\n01\r\n--abababababababababababababababab\r\n\
            Content-Type: text/plain\r\nContent-Range: bytes 8-9/10\r\n\r\n89\r\n\
            --abababababababababababababababab--\r\n";
        let all = assembled(&multipart, b"0123456789");
        assert_eq!(std::str::from_utf8(&all).unwrap(), expected);
        assert_eq!(multipart.content_length(), all.len() as u64);
        assert_eq!(
            multipart.content_type(),
            "multipart/byteranges; boundary=abababababababababababababababab"
        );
    }

    #[test]
    fn parts_of_an_untyped_body_have_no_type() {
        let multipart =
            Multipart::new(Boundary::of([0; 16]), &HeaderMap::new(), smallvec![0..1, 2..3], Some(4));
        let all = assembled(&multipart, b"0123");
        assert!(!String::from_utf8(all.clone()).unwrap().contains("Content-Type"));
        assert_eq!(multipart.content_length(), all.len() as u64);
    }
}
