//! Pictures without an image library: SVG drawings, and PNG files (RFC 2083) with stored deflate
//! blocks (RFC 1951 §3.2.4).

use crate::workload::random::Random;
use std::fmt::Write as _;

/// Bytes in one stored deflate block, at most.
const STORED_MAX: usize = 65_535;

/// The modulus of Adler-32 (RFC 1950 §9).
const ADLER: u32 = 65_521;

/// A drawing of a few circles, decided by `seed`.
pub(super) fn svg(seed: u64) -> String {
    let mut random = Random::new(seed);
    let mut out = String::from("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 320 200\">\n");
    let hue = random.below(360);
    out.push_str(&format!("<rect width=\"320\" height=\"200\" fill=\"hsl({hue} 40% 85%)\"/>\n"));
    for _ in 0..24 {
        let (x, y, r, turn) = (random.below(320), random.below(200), 4 + random.below(40), random.below(60));
        let circle =
            format!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{r}\" fill=\"hsl({} 60% 55% / 0.5)\"/>", hue + turn);
        writeln!(out, "{circle}").expect("a string takes all");
    }
    out.push_str("</svg>\n");
    out
}

/// A gradient with grain of `width` × `height` pixels, decided by `seed`.
pub(super) fn png(seed: u64, width: u32, height: u32) -> Vec<u8> {
    let mut random = Random::new(seed);
    let tint = [random.below(128), random.below(128), random.below(128)];
    let mut rows = Vec::with_capacity(((width * 3 + 1) * height) as usize);
    for y in 0..height {
        rows.push(0); // The row is not filtered.
        for x in 0..width {
            let light = (x * 60 / width.max(1) + y * 60 / height.max(1)) as usize;
            let grain = random.below(8);
            rows.extend(tint.map(|channel| (channel + light + grain) as u8));
        }
    }
    let mut header = Vec::from(width.to_be_bytes());
    header.extend(height.to_be_bytes());
    header.extend([8, 2, 0, 0, 0]); // Eight bits a channel, RGB, no interlace.
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    chunk(&mut out, *b"IHDR", &header);
    chunk(&mut out, *b"IDAT", &zlib(&rows));
    chunk(&mut out, *b"IEND", &[]);
    out
}

fn chunk(out: &mut Vec<u8>, name: [u8; 4], data: &[u8]) {
    out.extend((data.len() as u32).to_be_bytes());
    let start = out.len();
    out.extend(name);
    out.extend(data);
    let sum = crc32(&out[start..]);
    out.extend(sum.to_be_bytes());
}

fn zlib(data: &[u8]) -> Vec<u8> {
    let mut out = vec![0x78, 0x01];
    let mut blocks = data.chunks(STORED_MAX).peekable();
    while let Some(block) = blocks.next() {
        let len = block.len() as u16;
        out.push(u8::from(blocks.peek().is_none()));
        out.extend(len.to_le_bytes());
        out.extend((!len).to_le_bytes());
        out.extend(block);
    }
    let (low, high) = data.iter().fold((1, 0), |(low, high), byte| {
        let low = (low + u32::from(*byte)) % ADLER;
        (low, (high + low) % ADLER)
    });
    out.extend((high << 16 | low).to_be_bytes());
    out
}

/// The checksum of PNG chunks (RFC 2083 §3.4).
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc_table();
    !bytes.iter().fold(u32::MAX, |sum, byte| (sum >> 8) ^ TABLE[((sum ^ u32::from(*byte)) & 0xff) as usize])
}

/// The remainder of each byte.
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < table.len() {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg());
            bit += 1;
        }
        table[byte] = sum;
        byte += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_have_known_answers() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(zlib(b"Wikipedia")[16..], 0x11e6_0398_u32.to_be_bytes());
    }

    #[test]
    fn long_data_is_split_into_stored_blocks() {
        let packed = zlib(&vec![7; STORED_MAX + 1]);
        assert_eq!(packed[2..7], [0, 0xff, 0xff, 0, 0]);
        assert_eq!(packed[7 + STORED_MAX..][..6], [1, 1, 0, 0xfe, 0xff, 7]);
    }

    #[test]
    fn pictures_are_decided_by_their_seed() {
        assert_eq!(png(1, 20, 10), png(1, 20, 10));
        assert_ne!(png(1, 20, 10), png(2, 20, 10));
        assert_ne!(svg(1), svg(2));
    }
}
