//! Join tokens: whoever shows one gets a certificate with its roles. Made and checked with the authority's key
//! alone, so superpeers need no list of them; a token that leaked is good until it expires.
//!
//! `shoal1.` and, in base64url without padding:
//!
//! ```text
//!  0  u32  roles as bits, little-endian
//!  4  u64  expiry in seconds since the Unix epoch, little-endian; 0 is never
//! 12  [16] random, so that no two are alike
//! 28  [32] BLAKE3 of the above, keyed with a key derived from the authority's
//! ```
//! Another layout gets another prefix.

use super::error::TokenError;
use crate::proto::swarm::Roles;
use crate::proto::time::Wall;
use data_encoding::BASE64URL_NOPAD;

/// What tokens of this layout begin with.
const PREFIX: &str = "shoal1.";
/// Bytes that the sum is made of.
const CLAIM: usize = 28;
/// Bytes of a token behind the prefix, decoded.
const PAYLOAD: usize = CLAIM + blake3::OUT_LEN;
/// What tells this use of the authority's key from others.
const CONTEXT: &str = "shoal cluster 2025-01-01 join tokens v1";

/// The key that makes and checks the tokens of one authority.
pub(super) struct TokenKey([u8; blake3::KEY_LEN]);

impl TokenKey {
    /// Derives it from the authority's private key, as it stands in its file.
    pub(super) fn derive(authority_key: &[u8]) -> Self {
        Self(blake3::derive_key(CONTEXT, authority_key))
    }

    /// Makes a token for these roles. `expires` is rounded down to seconds; `None` is never.
    pub(super) fn mint(&self, roles: Roles, expires: Option<Wall>, random: [u8; 16]) -> String {
        let expiry = expires.map_or(0, |at| at.as_secs().max(1).cast_unsigned());
        let mut payload = Vec::with_capacity(PAYLOAD);
        payload.extend_from_slice(&roles.bits().to_le_bytes());
        payload.extend_from_slice(&expiry.to_le_bytes());
        payload.extend_from_slice(&random);
        let sum = blake3::keyed_hash(&self.0, &payload);
        payload.extend_from_slice(sum.as_bytes());
        format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&payload))
    }

    /// The roles that a token gives now.
    pub(super) fn verify(&self, text: &str, now: Wall) -> Result<Roles, TokenError> {
        let payload = decode(text).ok_or(TokenError::Malformed)?;
        let (claim, sum) = payload.split_first_chunk::<CLAIM>().ok_or(TokenError::Malformed)?;
        let sum = blake3::Hash::from_slice(sum).ok().ok_or(TokenError::Malformed)?;
        // Comparison of hashes takes the same time wherever they differ.
        if blake3::keyed_hash(&self.0, claim) != sum {
            return Err(TokenError::OtherCluster);
        }
        let [a, b, c, d, e0, e1, e2, e3, e4, e5, e6, e7, ..] = *claim;
        let expiry = u64::from_le_bytes([e0, e1, e2, e3, e4, e5, e6, e7]);
        if expiry != 0 && now.as_secs() >= expiry.cast_signed() {
            return Err(TokenError::Expired);
        }
        match Roles::of_bits(u32::from_le_bytes([a, b, c, d])) {
            roles if roles == Roles::default() => Err(TokenError::Malformed),
            roles => Ok(roles),
        }
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    let encoded = text.trim().strip_prefix(PREFIX)?;
    // The length is checked first, so that a peer's text is never decoded at any length.
    if encoded.len() != BASE64URL_NOPAD.encode_len(PAYLOAD) {
        return None;
    }
    BASE64URL_NOPAD.decode(encoded.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Wall = Wall::from_secs(1_000_000);

    fn later(secs: i64) -> Wall {
        Wall::from_secs(1_000_000 + secs)
    }

    #[test]
    fn a_token_gives_its_roles_until_it_expires() {
        let key = TokenKey::derive(b"authority");
        let both = Roles { edge: true, superpeer: true };
        for roles in [Roles::EDGE, Roles { edge: false, superpeer: true }, both] {
            let token = key.mint(roles, Some(later(60)), [7; 16]);
            assert_eq!(key.verify(&token, NOW), Ok(roles));
            assert_eq!(key.verify(&format!("{token}\n"), later(59)), Ok(roles));
            assert_eq!(key.verify(&token, later(60)), Err(TokenError::Expired));
            let eternal = key.mint(roles, None, [7; 16]);
            assert_eq!(key.verify(&eternal, Wall::from_millis(i64::MAX)), Ok(roles));
        }
    }

    #[test]
    fn a_token_of_another_authority_is_told_from_an_expired_one() {
        let token = TokenKey::derive(b"other").mint(Roles::EDGE, Some(later(-1)), [7; 16]);
        assert_eq!(TokenKey::derive(b"authority").verify(&token, NOW), Err(TokenError::OtherCluster));
    }

    #[test]
    fn no_bit_of_a_token_can_be_changed() {
        let key = TokenKey::derive(b"authority");
        let token = key.mint(Roles::EDGE, Some(later(60)), [7; 16]);
        let payload = decode(&token).unwrap();
        assert_eq!(payload.len(), PAYLOAD);
        for bit in 0..payload.len() * 8 {
            let mut forged = payload.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            let forged = format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&forged));
            assert_eq!(key.verify(&forged, NOW), Err(TokenError::OtherCluster), "bit {bit}");
        }
    }

    #[test]
    fn a_token_without_roles_that_are_known_gives_none() {
        let key = TokenKey::derive(b"authority");
        let token = key.mint(Roles::default(), None, [7; 16]);
        assert_eq!(key.verify(&token, NOW), Err(TokenError::Malformed));
    }

    proptest! {
        #[test]
        fn other_text_is_malformed(text in "(shoal1\\.)?.{0,120}") {
            prop_assert_eq!(TokenKey::derive(b"authority").verify(&text, NOW).is_ok(), false);
        }
    }
}
