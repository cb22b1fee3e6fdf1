//! Bearer tokens that are kept in files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a token file at most.
const TOKEN_BYTES_MAX: u64 = 4096;

/// A token, as its file says. Blocks.
///
/// # Errors
/// The file cannot be read, is empty or too long.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut token = Vec::new();
    File::open(path)?.take(TOKEN_BYTES_MAX + 1).read_to_end(&mut token)?;
    let trimmed = token.trim_ascii();
    if trimmed.is_empty() || token.len() as u64 > TOKEN_BYTES_MAX {
        let reason = format!("a token has 1 to {TOKEN_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    Ok(trimmed.to_vec())
}

/// Whether two tokens are the same. Comparing BLAKE3 hashes takes the same time wherever the tokens differ.
pub fn is_same(given: &[u8], token: &[u8]) -> bool {
    blake3::hash(given) == blake3::hash(token)
}

/// The token of an `Authorization` field with the scheme `Bearer` (RFC 6750 §2.1).
pub fn bearer(authorization: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = authorization.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"bearer ").then_some(token.trim_ascii())
}
