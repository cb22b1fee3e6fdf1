//! Slow and simple readings of the specifications, to compare the fast ones with.

/// The directives of some lines in order: lower-case name, and the argument if there is one (RFC 9111 §5.2). Character by
/// character, with the quoted strings of RFC 9110 §5.6.4.
pub(crate) fn directives<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Vec<(String, Option<Vec<u8>>)> {
    let mut all = Vec::new();
    for line in lines {
        for member in split(line, b',', true) {
            let member = trim(&member).to_vec();
            let Some(equals) = member.iter().position(|byte| *byte == b'=') else {
                if !member.is_empty() {
                    all.push((String::from_utf8_lossy(&member).to_ascii_lowercase(), None));
                }
                continue;
            };
            let (name, argument) = (&member[..equals], &member[equals + 1..]);
            // Space around the equals sign is against the grammar: such an argument is no number and no list.
            let is_spaced = trim(name) != name || trim(argument) != argument;
            let name = String::from_utf8_lossy(trim(name)).to_ascii_lowercase();
            if !name.is_empty() {
                all.push((name, Some(if is_spaced { Vec::new() } else { argument.to_vec() })));
            }
        }
    }
    all
}

/// Cuts at each `separator` that is in no quoted string.
pub(crate) fn split(line: &[u8], separator: u8, escapes: bool) -> Vec<Vec<u8>> {
    let mut parts = vec![Vec::new()];
    let mut quoted = false;
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte == separator && !quoted {
            parts.push(Vec::new());
            continue;
        }
        let part = parts.last_mut().unwrap();
        part.push(byte);
        if byte == b'"' {
            quoted = !quoted;
        } else if byte == b'\\' && quoted && escapes {
            part.extend(bytes.next());
        }
    }
    parts
}

/// Without space at both ends.
pub(crate) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = bytes {
        bytes = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

/// Delta-seconds, quoted or not, ending at 2^31 (RFC 9111 §1.2.2).
pub(crate) fn seconds(argument: &Option<Vec<u8>>) -> Option<u32> {
    let text = argument.as_deref()?;
    let digits = match text {
        [b'"', inner @ .., b'"'] => inner,
        plain => plain,
    };
    digits_of(digits).map(|value| value.min(1 << 31) as u32)
}

/// A number of digits alone, ending at the largest.
pub(crate) fn digits_of(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(digits).unwrap().trim_start_matches('0');
    if text.is_empty() {
        return Some(0);
    }
    Some(text.parse().unwrap_or(u64::MAX))
}
