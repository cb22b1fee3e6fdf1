//! How a body comes from one source after the other, and never with a wrong byte to its end.

use super::*;

const CHUNK: usize = CHUNK_SIZE as usize;

/// What an origin gives of a range.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Gives {
    Range,
    /// The first bytes of it.
    Less,
    /// All of the body, as it knows no ranges.
    All,
}

/// An origin that answers every request for a range of `body`, under the tag `"1"`.
async fn origin(body: Bytes, gives: Gives) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap().to_string();
    Spawner::current().spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            let request = String::from_utf8(request).unwrap().to_lowercase();
            let (_, range) = request.split_once("range: bytes=").expect("a range is asked for");
            assert!(request.contains("if-range: \"1\""));
            let (start, end) = range.split_once("\r\n").unwrap().0.split_once('-').unwrap();
            let start: usize = start.parse().unwrap();
            let end = end.parse().map_or(body.len(), |end: usize| end + 1);
            let end = if gives == Gives::Less { start + 9 } else { end };
            let (status, sent) =
                if gives == Gives::All { (200, &body[..]) } else { (206, &body[start..end]) };
            let place = format!("content-range: bytes {start}-{}/{}\r\n", end - 1, body.len());
            let place = if gives == Gives::All { "" } else { &place };
            let length = sent.len();
            let head = format!(
                "HTTP/1.1 {status} Status\r\netag: \"1\"\r\n{place}content-length: {length}\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await.unwrap();
            let _ = stream.write_all(sent).await;
        }
    });
    at
}

/// What one says whose source breaks off after `bytes` body bytes.
fn cut(mut says: Vec<Say>, bytes: usize, by: Say) -> Vec<Say> {
    let mut left = bytes;
    let mut kept = Vec::new();
    for say in says.drain(..) {
        if left == 0 {
            break;
        }
        if let Say::Frame(Frame::Data(data)) = &say {
            let part = data.slice(..data.len().min(left));
            left -= part.len();
            kept.push(Say::Frame(Frame::Data(part)));
        } else {
            kept.push(say);
        }
    }
    kept.push(by);
    kept
}

#[tokio::test(start_paused = true)]
async fn a_body_that_arrives_at_a_peer_is_handed_on_as_it_comes_and_stored() {
    for (length, known) in [(3 * CHUNK + 5, true), (2 * CHUNK, false), (100, false), (0, true)] {
        let rig = Rig::new().await;
        let mut version = rig.version(body(length));
        version.head.length = known.then_some(length as u64);
        rig.fake.answers([follow(1)]);
        let own = version.clone();
        rig.fake.peer(1, move |read| Ok(own.says(read)));
        rig.fill().await.is_whole(&version.body);
        assert!(rig.stored().is_some(), "{length}");
        let (_, read) = &rig.fake.reads()[0];
        assert_eq!((read.to, read.follow), (0, Some(TOKEN)));
        assert!(rig.fake.blamed().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn readers_get_bytes_before_the_chunk_is_checked_but_not_its_end() {
    let rig = Rig::new().await;
    let version = rig.version(body(CHUNK));
    rig.fake.answers([follow(1)]);
    let own = version.clone();
    rig.fake.peer(1, move |read| {
        let mut says = own.says(read);
        let hash = says.iter().position(|say| matches!(say, Say::Frame(Frame::Chunk(_)))).unwrap();
        says.insert(hash, Say::Wait(Duration::from_millis(300)));
        Ok(says)
    });
    let reader = rig.lead(rig.asking(&[], Reach::Swarm));
    assert!(matches!(reader.outcome().await, Outcome::Streaming(_)));
    let mut read = 0;
    while read < CHUNK {
        let Piece::Bytes(bytes) = poll_fn(|cx| reader.poll_piece(cx)).await else { panic!("no bytes") };
        read += bytes.len();
    }
    let before =
        tokio::time::timeout(Duration::from_millis(200), poll_fn(|cx| reader.poll_checked(CHUNK as u64, cx)));
    assert!(before.await.is_err(), "checked before the hash came");
    assert_eq!(poll_fn(|cx| reader.poll_checked(CHUNK as u64, cx)).await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_flipped_bit_in_a_live_body_breaks_the_fill_before_its_end_and_is_blamed() {
    let rig = Rig::new().await;
    let version = rig.version(body(2 * CHUNK));
    let mut bad = version.body.to_vec();
    bad[CHUNK + 1] ^= 1;
    rig.fake.answers([follow(1)]);
    rig.fake.peer(1, move |read| Ok(version.says_of(&bad, read)));
    let filled = rig.fill().await;
    filled.is_broken();
    assert_eq!(rig.fake.blamed(), [(place(1).node, Blame::BadChunk)]);
    assert!(rig.stored().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_lost_source_is_replaced_in_the_middle_of_a_chunk_by_one_that_follows_or_holds() {
    let length = 2 * CHUNK + 9;
    for at in [1000, CHUNK - 1, CHUNK, CHUNK + 70_000, length] {
        for (next, by) in [
            (follow(2), Say::Error(AskError::Upstream)),
            (holders([2]), Say::Hang),
            (holders([2]), Say::Error(AskError::Unreachable)),
        ] {
            let rig = Rig::new().await;
            let version = rig.version(body(length));
            let is_stall = matches!(by, Say::Hang);
            rig.fake.answers([follow(1), next]);
            let (own, stored) = (version.clone(), version.clone().listed());
            rig.fake.peer(1, move |read| Ok(cut(own.says(read), at, by.clone())));
            rig.fake.peer(2, move |read| Ok(stored.says(read)));
            rig.fill().await.is_whole(&version.body);
            assert!(rig.stored().is_some());
            let (_, read) = rig.fake.reads().pop().unwrap();
            assert_eq!(read.version, version.head.version);
            assert!(read.from + 1 >= at as u64 && read.from <= at as u64, "{} of {at}", read.from);
            let blamed: &[_] = if is_stall { &[(place(1).node, Blame::Stalled)] } else { &[] };
            assert_eq!(rig.fake.blamed(), blamed, "at {at}");
            assert_eq!(rig.fake.0.queries.lock()[1].avoid, [place(1).node]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_chunk_of_two_sources_that_is_wrong_breaks_the_fill_and_nobody_is_blamed() {
    let rig = Rig::new().await;
    let version = rig.version(body(CHUNK));
    let mut bad = version.body.to_vec();
    bad[5] ^= 1;
    rig.fake.answers([follow(1), follow(2)]);
    let own = version.clone();
    rig.fake.peer(1, move |read| Ok(cut(own.says_of(&bad, read), 1000, Say::Error(AskError::Upstream))));
    rig.fake.peer(2, move |read| Ok(version.says(read)));
    rig.fill().await.is_broken();
    assert!(rig.fake.blamed().is_empty());
    assert!(rig.stored().is_none());
}

#[tokio::test]
async fn the_origin_gives_the_rest_and_proves_what_the_lost_peer_had_sent() {
    let ends = [1000, CHUNK, CHUNK + 70_000];
    let cases = ends.into_iter().flat_map(|at| [Gives::Range, Gives::All].map(|gives| (at, gives)));
    for (at, gives, is_known) in cases.flat_map(|(at, gives)| [(at, gives, true), (at, gives, false)]) {
        let whole = body(2 * CHUNK + 9);
        let rig = Rig::before(&origin(whole.clone(), gives).await).await;
        let mut version = rig.version(whole.clone());
        version.head.length = version.head.length.filter(|_| is_known);
        rig.fake.answers([follow(1), Answer::Alone(Duration::ZERO)]);
        let own = version.clone();
        rig.fake.peer(1, move |read| Ok(cut(own.says(read), at, Say::Error(AskError::Upstream))));
        rig.fill().await.is_whole(&version.body);
        assert!(rig.stored().is_some());
        assert_eq!(rig.grounds("alone"), 1.0);
        assert_eq!(rig.metric(r#"shoal_origin_fetches_total{site="shop",reason="resume"}"#), 1.0);
        let left = whole.len() - if gives == Gives::Range { (at - 1) / CHUNK * CHUNK } else { 0 };
        assert_eq!(rig.metric(r#"shoal_origin_bytes_total{site="shop"}"#), left as f64);
    }
}

#[tokio::test]
async fn less_than_the_rest_is_not_taken_for_the_rest() {
    for is_known in [true, false] {
        let whole = body(2 * CHUNK + 9);
        let rig = Rig::before(&origin(whole.clone(), Gives::Less).await).await;
        let mut version = rig.version(whole);
        version.head.length = version.head.length.filter(|_| is_known);
        rig.fake.answers([follow(1), Answer::Alone(Duration::ZERO)]);
        rig.fake.peer(1, move |read| Ok(cut(version.says(read), 1000, Say::Error(AskError::Upstream))));
        assert_eq!(rig.fill().await.is_broken().1, "no source has the rest of the body", "{is_known}");
        assert!(rig.stored().is_none());
    }
}

#[tokio::test]
async fn bytes_that_the_origin_does_not_confirm_never_come_to_an_end() {
    for gives in [Gives::Range, Gives::All] {
        let whole = body(2 * CHUNK);
        let rig = Rig::before(&origin(whole.clone(), gives).await).await;
        let version = rig.version(whole);
        let mut bad = version.body.to_vec();
        bad[5] ^= 1;
        rig.fake.answers([follow(1), Answer::Alone(Duration::ZERO)]);
        let says = move |read: &_| Ok(cut(version.says_of(&bad, read), 1000, Say::Error(AskError::Upstream)));
        rig.fake.peer(1, says);
        rig.fill().await.is_broken();
        assert!(rig.stored().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_without_a_strong_tag_whose_sources_are_lost_is_broken() {
    let rig = Rig::new().await;
    let mut version = rig.version(body(2 * CHUNK));
    version.head.fields.retain(|field| field.name != "etag");
    rig.fake.answers([follow(1), Answer::Alone(Duration::ZERO)]);
    rig.fake.peer(1, move |read| Ok(cut(version.says(read), 1000, Say::Error(AskError::Upstream))));
    assert_eq!(rig.fill().await.is_broken().1, "no source has the rest of the body");
}

#[tokio::test(start_paused = true)]
async fn the_chunks_of_a_stored_version_come_from_several_holders() {
    let rig = Rig::new().await;
    let version = rig.version(body(12 * CHUNK + 77)).listed();
    rig.fake.answers([holders([1, 2, 3])]);
    for number in 1..=3 {
        let own = version.clone();
        rig.fake.peer(number, move |read| Ok(own.says(read)));
    }
    rig.fill().await.is_whole(&version.body);
    assert!(rig.stored().is_some());
    let mut askers: Vec<_> = rig.fake.reads().into_iter().map(|(number, _)| number).collect();
    assert_eq!(askers.len(), 13, "each chunk is asked for once");
    askers.sort_unstable();
    askers.dedup();
    assert!(askers.len() > 1, "only {askers:?} were asked");
    assert_eq!(rig.metric("shoal_multi_holder_fills_total"), 1.0);
    assert_eq!(rig.metric("shoal_peer_duplicate_bytes_total"), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_holder_of_bad_chunks_is_blamed_and_no_byte_of_them_is_used() {
    let rig = Rig::new().await;
    let version = rig.version(body(6 * CHUNK)).listed();
    let bad: Bytes = version.body.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into();
    rig.fake.answers([holders([1, 2])]);
    let (one, two) = (version.clone(), version.clone());
    rig.fake.peer(1, move |read| Ok(one.says(read)));
    rig.fake.peer(2, move |read| Ok(two.says_of(&bad, read)));
    rig.fill().await.is_whole(&version.body);
    assert!(rig.fake.blamed().contains(&(place(2).node, Blame::BadChunk)));
    assert!(!rig.fake.blamed().contains(&(place(1).node, Blame::BadChunk)));
}

#[tokio::test(start_paused = true)]
async fn a_holder_whose_chunks_match_its_own_hashes_and_not_the_list_is_left_without_blame() {
    let rig = Rig::new().await;
    let version = rig.version(body(6 * CHUNK)).listed();
    let mut other = version.clone();
    other.body = other.body.iter().map(|byte| byte ^ 1).collect::<Vec<_>>().into();
    rig.fake.answers([holders([1, 2])]);
    let one = version.clone();
    rig.fake.peer(1, move |read| Ok(one.says(read)));
    rig.fake.peer(2, move |read| Ok(other.says(read)));
    rig.fill().await.is_whole(&version.body);
    assert!(rig.fake.blamed().is_empty());
    assert!(rig.failures("disputed") >= 1.0);
}

#[tokio::test(start_paused = true)]
async fn when_all_holders_of_a_stored_version_are_lost_others_are_sought_for_the_rest() {
    let rig = Rig::new().await;
    let version = rig.version(body(6 * CHUNK)).listed();
    rig.fake.answers([holders([1]), holders([2])]);
    let (one, two) = (version.clone(), version.clone());
    rig.fake.peer(1, move |read| {
        if read.from < 2 * CHUNK_SIZE { Ok(one.says(read)) } else { Err(AskError::Unreachable) }
    });
    rig.fake.peer(2, move |read| Ok(two.says(read)));
    rig.fill().await.is_whole(&version.body);
}

#[tokio::test(start_paused = true)]
async fn who_gives_an_arriving_body_up_to_the_end_of_a_chunk_is_not_blamed() {
    let rig = Rig::new().await;
    let version = rig.version(body(2 * CHUNK + 9));
    rig.fake.answers([holders([1]), holders([2])]);
    let (own, stored) = (version.clone(), version.clone().listed());
    // As nodes did that took the range that is asked of holders for that of an arriving version.
    rig.fake.peer(1, move |read| Ok(own.says(&wire::Read { to: CHUNK_SIZE, ..read.clone() })));
    rig.fake.peer(2, move |read| Ok(stored.says(read)));
    rig.fill().await.is_whole(&version.body);
    assert!(rig.fake.blamed().is_empty());
    let (number, read) = rig.fake.reads().pop().unwrap();
    assert_eq!((number, read.from), (2, CHUNK_SIZE));
}

type Lie = fn(Vec<Say>) -> Vec<Say>;

/// Ways not to keep to the protocol, each a change of what an honest peer says.
const LIES: [(&str, Lie); 9] = [
    ("bytes beyond the length", |says| {
        let more = Say::Frame(Frame::Data(Bytes::from_static(&[7; 50_000])));
        let end = says.len() - 1;
        [&says[..end], &vec![more; 100], &says[end..]].concat()
    }),
    ("hashes left out", |says| says.into_iter().filter(|say| !is_hash(say)).collect()),
    ("hashes doubled", |says| {
        says.into_iter()
            .flat_map(|say| if is_hash(&say) { vec![say.clone(), say] } else { vec![say] })
            .collect()
    }),
    ("the end without a hash", |says| {
        let Say::Frame(Frame::Data(bytes)) = &says[1] else { panic!("no bytes") };
        [&says[..2], &[Say::Frame(Frame::End(bytes.len() as u64))]].concat()
    }),
    ("the end of another length", |says| {
        [&says[..says.len() - 1], &[Say::Frame(Frame::End(u64::MAX))]].concat()
    }),
    ("the head for ever", |says| vec![says[0].clone(); 1000]),
    ("messages that are none", |_| vec![Say::Frame(Frame::Message(Bytes::from_static(&[0xff; 100])))]),
    ("the finish after the first bytes", |says| says[..2].to_vec()),
    ("a hash first", |says| [&says[..1], &[Say::Frame(Frame::Chunk([0; 32]))], &says[1..]].concat()),
];

fn is_hash(say: &Say) -> bool {
    matches!(say, Say::Frame(Frame::Chunk(_)))
}

#[tokio::test(start_paused = true)]
async fn no_lie_about_its_form_makes_a_body_whole_that_is_not() {
    for (lie, says) in LIES {
        for length in [100, CHUNK, 2 * CHUNK + 9] {
            for (answer, listed) in [(holders([1]), true), (follow(1), false), (follow(1), true)] {
                let rig = Rig::new().await;
                let mut version = rig.version(body(length));
                if listed {
                    version = version.listed();
                } else {
                    version.head.length = None;
                }
                let whole = version.body.clone();
                rig.fake.answers([answer]);
                rig.fake.peer(1, move |read| Ok(says(version.says(read))));
                if let Filled::Read { bytes, whole: Ok(()), .. } = rig.fill().await {
                    assert!(bytes == whole, "{lie}: {} of {length} bytes", bytes.len());
                }
                let kept = rig.stored().map(|hit| hit.head.length);
                assert!(kept.is_none_or(|kept| kept == Some(length as u64)), "{lie}");
                assert_eq!(rig.worker.node.fills.open(), 0, "{lie}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn when_the_only_holder_falls_silent_the_rest_is_sought_as_one_and_not_by_chunks_at_the_origin() {
    let rig = Rig::new().await;
    let version = rig.version(body(6 * CHUNK)).listed();
    rig.fake.answers([holders([1]), holders([2])]);
    let (one, two) = (version.clone(), version.clone());
    rig.fake.peer(1, move |read| {
        if read.from < CHUNK_SIZE {
            return Ok(one.says(read));
        }
        // So little that it is not silent to a listener, but of no use.
        let drop = || Say::Frame(Frame::Data(Bytes::from_static(&[0; 10])));
        let drops = std::iter::repeat_with(|| [drop(), Say::Wait(Duration::from_millis(300))]);
        Ok(std::iter::once(one.reply()).chain(drops.take(20).flatten()).collect())
    });
    rig.fake.peer(2, move |read| Ok(two.says(read)));
    rig.fill().await.is_whole(&version.body);
    assert_eq!(rig.metric(r#"shoal_origin_fetches_total{site="shop",reason="resume"}"#), 0.0);
    assert!(rig.fake.0.queries.lock()[1].avoid.contains(&place(1).node));
}
