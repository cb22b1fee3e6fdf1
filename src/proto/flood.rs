//! What a client may make an HTTP/2 connection do without asking for anything.
//!
//! HTTP/2 has frames that cost their receiver more than their sender: streams opened and reset at once
//! (CVE-2023-44487), heads that never end (VU#421644), and pings, settings, priorities, window updates and
//! empty data that each want to be looked at, or answered (CVE-2019-9511 to -9518). A [`Meter`] follows the
//! heads of frames, no more, and allows so many of each kind in a time. Who stays below may send them for ever;
//! who does not is a [`Flood`], and its connection is closed with `ENHANCE_YOUR_CALM` (RFC 9113 §7).
//!
//! The figures are those of Apache Traffic Server where honest clients stay well below them, and higher where
//! some do not: each says who that is.

use super::allowance::{Bucket, Rate};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// What a client sends first (RFC 9113 §3.4); no frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_LENGTH: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Frames that continue one head. The largest head allowed by default, 32 KiB, needs two; h2 itself stops at five or more by
/// the limit on heads, but only after it has decoded them.
const CONTINUATIONS_MAX: u32 = 32;
/// Bytes sent for which a client may update a window once more than by the clock. One that takes a frame of data
/// updates its stream and the connection, and frames are rarely smaller than twice this.
const BYTES_PER_UPDATE: u64 = 512;
/// Window updates that may be due at most, for what was sent long ago.
const UPDATES_DUE_MAX: u64 = 1 << 16;

/// What there was too much of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flood {
    /// Streams that the client reset.
    Resets,
    /// Frames of one head.
    Continuations,
    /// Pings.
    Pings,
    /// Settings, acknowledgements included.
    Settings,
    /// Data frames without data that end nothing.
    EmptyData,
    /// Window updates, beyond what was sent.
    WindowUpdates,
    /// Priorities and frames of kinds that are not known.
    Ignored,
    /// Streams that broke the protocol, were more than may be open, or were reset before they were looked at: h2 counts
    /// these itself.
    Broken,
}

impl Flood {
    /// All of them, in the order of their discriminants.
    pub const ALL: &'static [Self] = &[
        Self::Resets,
        Self::Continuations,
        Self::Pings,
        Self::Settings,
        Self::EmptyData,
        Self::WindowUpdates,
        Self::Ignored,
        Self::Broken,
    ];

    /// Its name in logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resets => "resets",
            Self::Continuations => "continuations",
            Self::Pings => "pings",
            Self::Settings => "settings",
            Self::EmptyData => "empty_data",
            Self::WindowUpdates => "window_updates",
            Self::Ignored => "ignored",
            Self::Broken => "broken",
        }
    }

    /// Frames of this kind at once, and in each second from then on.
    const fn allowance(self) -> (u32, u32) {
        match self {
            // A browser that leaves a gallery cancels all that it has open, 100 streams by default; twice that, and
            // 300 a minute (Traffic Server: 200). A request that is reset costs a look-up and, on a miss, one fetch.
            Self::Resets => (200, 5),
            // gRPC measures its bandwidth by a ping with each round trip that brought data: on a short way
            // hundreds a second. One is 17 bytes each way.
            Self::Pings => (2000, 1000),
            // A client states its settings once, or some ten times while it learns its window.
            Self::Settings => (100, 2),
            // Some libraries flush with an empty frame; they do not do so often.
            Self::EmptyData => (100, 2),
            // A few when the connection begins, and those for very small frames.
            Self::WindowUpdates => (1000, 500),
            // Old browsers rank each picture of a page again, several times, when they know where it is.
            Self::Ignored => (1000, 200),
            Self::Continuations | Self::Broken => (0, 1),
        }
    }
}

/// Follows one connection.
pub struct Meter {
    inbound: Heads,
    taken: [Bucket; Flood::ALL.len()],
    /// Frames that continue the head that has begun.
    block: Option<u32>,
    /// Bytes sent that no window update was counted against.
    due: u64,
}

impl Default for Meter {
    fn default() -> Self {
        let taken = [Bucket::default(); Flood::ALL.len()];
        let inbound = Heads { skip: PREFACE.len(), ..Heads::default() };
        Self { inbound, taken, block: None, due: 0 }
    }
}

impl Meter {
    /// Looks at the next bytes that the client sent, the connection's first included.
    ///
    /// # Errors
    /// What there was too much of. The meter is of no use any more.
    pub fn received(&mut self, mut bytes: &[u8], now: impl Fn() -> Instant) -> Result<(), Flood> {
        while let Some(head) = self.inbound.next(&mut bytes) {
            self.came(head, &now)?;
        }
        Ok(())
    }

    /// Bytes were sent to the client.
    pub fn sent(&mut self, bytes: usize) {
        self.due = (self.due + bytes as u64).min(UPDATES_DUE_MAX * BYTES_PER_UPDATE);
    }

    /// Whether a head has begun and not ended.
    pub const fn is_in_head(&self) -> bool {
        self.block.is_some()
    }

    fn came(&mut self, head: Head, now: &impl Fn() -> Instant) -> Result<(), Flood> {
        match head.kind {
            DATA if head.length == 0 && head.flags & END_STREAM == 0 => self.take(Flood::EmptyData, now),
            HEADERS => {
                self.block = (head.flags & END_HEADERS == 0).then_some(0);
                Ok(())
            }
            CONTINUATION => self.continued(head.flags),
            RST_STREAM => self.take(Flood::Resets, now),
            SETTINGS => self.take(Flood::Settings, now),
            PING => self.take(Flood::Pings, now),
            WINDOW_UPDATE if self.due >= BYTES_PER_UPDATE => {
                self.due -= BYTES_PER_UPDATE;
                Ok(())
            }
            WINDOW_UPDATE => self.take(Flood::WindowUpdates, now),
            DATA | GOAWAY => Ok(()),
            _ => self.take(Flood::Ignored, now),
        }
    }

    fn continued(&mut self, flags: u8) -> Result<(), Flood> {
        let count = self.block.map_or(1, |count| count + 1);
        self.block = (flags & END_HEADERS == 0).then_some(count);
        if count > CONTINUATIONS_MAX { Err(Flood::Continuations) } else { Ok(()) }
    }

    fn take(&mut self, kind: Flood, now: &impl Fn() -> Instant) -> Result<(), Flood> {
        let (burst, per_second) = kind.allowance();
        let units = NonZeroU32::new(per_second).unwrap_or(NonZeroU32::MIN);
        let rate = Rate { units, per: Duration::from_secs(1) };
        self.taken[kind as usize].take(1, rate, burst, now()).or(Err(kind))
    }
}

/// The head of a frame, as far as it is of interest.
#[derive(Clone, Copy, Debug)]
struct Head {
    length: usize,
    kind: u8,
    flags: u8,
}

/// Finds the heads of frames in a stream of bytes that comes in any pieces.
#[derive(Default)]
struct Heads {
    /// Bytes before the next head.
    skip: usize,
    /// A head that has come in part.
    part: [u8; HEAD_LENGTH],
    have: usize,
}

impl Heads {
    /// The next head in `bytes`, which moves on behind it; `None` if they are used up.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Head> {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        *bytes = &bytes[skipped..];
        let length = (HEAD_LENGTH - self.have).min(bytes.len());
        self.part[self.have..self.have + length].copy_from_slice(&bytes[..length]);
        self.have += length;
        *bytes = &bytes[length..];
        if self.have < HEAD_LENGTH {
            return None;
        }
        let [a, b, c, kind, flags, ..] = self.part;
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        (self.skip, self.have) = (length, 0);
        Some(Head { length, kind, flags })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary start for virtual time")]
    fn begin() -> Instant {
        Instant::now()
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// A meter whose client has sent its preface.
    fn meter(at: Instant) -> Meter {
        let mut meter = Meter::default();
        meter.received(PREFACE, || at).unwrap();
        meter
    }

    /// How many of `frame` pass at once.
    fn passes(meter: &mut Meter, frame: &[u8], at: Instant) -> (usize, Option<Flood>) {
        (0..100_000)
            .find_map(|count| Some((count, Some(meter.received(frame, || at).err()?))))
            .unwrap_or((100_000, None))
    }

    #[test]
    fn so_many_of_each_kind_at_once_and_no_more() {
        let at = begin();
        for (flood, kind, flags, payload, many) in [
            (Flood::Resets, RST_STREAM, 0, &[0, 0, 0, 8][..], 200),
            (Flood::Pings, PING, 0, &[0; 8], 2000),
            (Flood::Settings, SETTINGS, 0, &[], 100),
            (Flood::Settings, SETTINGS, 1, &[], 100),
            (Flood::EmptyData, DATA, 0, &[], 100),
            (Flood::WindowUpdates, WINDOW_UPDATE, 0, &[0, 0, 0, 1], 1000),
            (Flood::Ignored, 2, 0, &[0; 5], 1000),
            (Flood::Ignored, 0x10, 0, &[0; 5], 1000),
            (Flood::Ignored, 0xfa, 0, &[0; 500], 1000),
            (Flood::Continuations, CONTINUATION, 0, &[0; 3], CONTINUATIONS_MAX as usize),
        ] {
            assert_eq!(passes(&mut meter(at), &frame(kind, flags, payload), at), (many, Some(flood)));
        }
    }

    #[test]
    fn what_asks_for_something_is_no_flood() {
        let at = begin();
        for frame in [
            frame(HEADERS, END_HEADERS | END_STREAM, b"head"),
            frame(DATA, 0, b"d"),
            frame(DATA, END_STREAM, b""),
            [frame(HEADERS, 0, b"head"), frame(CONTINUATION, 0, b""), frame(CONTINUATION, END_HEADERS, b"")]
                .concat(),
        ] {
            assert_eq!(passes(&mut meter(at), &frame, at), (100_000, None));
        }
    }

    #[test]
    fn who_waits_may_send_more() {
        let mut at = begin();
        let (mut meter, reset) = (meter(at), frame(RST_STREAM, 0, &[0, 0, 0, 8]));
        for _ in 0..1000 {
            at += Duration::from_millis(200);
            assert_eq!(meter.received(&reset, || at), Ok(()));
        }
    }

    #[test]
    fn window_updates_for_what_was_sent_are_not_counted() {
        let at = begin();
        let (mut meter, update) = (meter(at), frame(WINDOW_UPDATE, 0, &[0, 0, 0, 1]));
        for _ in 0..100_000 {
            meter.sent(1409);
            meter.received(&update, || at).unwrap();
            meter.received(&update, || at).unwrap();
        }
        let (more, _) = passes(&mut meter, &update, at);
        assert!(more <= UPDATES_DUE_MAX as usize + 1000, "{more}");
    }

    #[test]
    fn a_head_is_open_until_it_ends() {
        let (at, mut meter) = (begin(), Meter::default());
        meter.received(&[0; PREFACE.len()], || at).unwrap();
        meter.received(&frame(HEADERS, 0, b"head"), || at).unwrap();
        assert!(meter.is_in_head());
        meter.received(&frame(CONTINUATION, END_HEADERS, b""), || at).unwrap();
        assert!(!meter.is_in_head());
    }

    proptest! {
        /// However the bytes are cut, the same is found in them.
        #[test]
        fn pieces_do_not_matter(
            frames in prop::collection::vec((0_u8..12, any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 1..60),
            cuts in prop::collection::vec(1_usize..30, 1..30),
        ) {
            let bytes = frames.iter().flat_map(|(kind, flags, payload)| frame(*kind, *flags, payload)).collect::<Vec<_>>();
            let all = |pieces: &mut dyn Iterator<Item = usize>| {
                let (mut heads, mut rest, mut found) = (Heads::default(), &bytes[..], Vec::new());
                while !rest.is_empty() {
                    let (mut piece, behind) = rest.split_at(pieces.next().unwrap_or(usize::MAX).min(rest.len()));
                    while let Some(head) = heads.next(&mut piece) {
                        found.push((head.kind, head.flags, head.length));
                    }
                    rest = behind;
                }
                found
            };
            let expected: Vec<_> = frames.iter().map(|(kind, flags, payload)| (*kind, *flags, payload.len())).collect();
            prop_assert_eq!(&all(&mut std::iter::empty()), &expected);
            prop_assert_eq!(&all(&mut cuts.iter().copied().cycle()), &expected);
        }
    }
}
