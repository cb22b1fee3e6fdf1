//! What other nodes are told: chunk hashes, changes, holdings.

use super::on_disk::written;
use super::*;
use crate::store::disk::NewRecord;
use crate::store::index::lean_id;
use std::collections::BTreeSet;

const DISK: u64 = 64 * MIB;
/// Wall time at which these tests begin.
const NOW: i64 = 1_800_000_000;

async fn open_at(config: StoreConfig, wall: i64) -> Store {
    let clock = Clock::simulated(Wall::from_secs(wall));
    Store::open(config, Arc::new(FileDevice), clock, &Spawner::current()).await.expect("the store opens")
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for the test")
}

fn hashes_of(body: &[u8]) -> Vec<[u8; 32]> {
    body.chunks(MIB as usize).map(|chunk| *blake3::hash(chunk).as_bytes()).collect()
}

fn variant(path: &str) -> VariantId {
    variant_of(object(path), &[])
}

fn personal(path: &str, seed: u64) -> HeadDraft {
    HeadDraft { personal: true, ..draft(path, seed) }
}

/// The changes as paths: there, and gone.
fn changes(store: &Store, paths: &[&str]) -> (Vec<String>, Vec<String>) {
    let changes = store.changes(1000);
    assert!(!changes.more && !changes.overflowed);
    (names(&changes.added, paths), names(&changes.removed, paths))
}

fn names(holdings: &[Holding], paths: &[&str]) -> Vec<String> {
    let name = |holding: &Holding| {
        let path = paths.iter().find(|path| object(path) == holding.object).expect("a known object");
        assert_eq!(holding.variant, variant(path));
        (*path).to_owned()
    };
    let mut names: Vec<_> = holdings.iter().map(name).collect();
    names.sort();
    names
}

fn held(store: &Store) -> Vec<Holding> {
    let (mut all, mut cursor) = (Vec::new(), Some(0));
    while let Some(at) = cursor {
        let (holdings, next) = store.holdings(at, 20);
        all.extend(holdings);
        cursor = next;
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hashes_of_a_version_are_those_of_its_chunks_also_after_a_restart() {
    let lengths: Vec<_> = LENGTHS.into_iter().chain([2 * MIB, 3 * MIB]).collect();
    let folder = folder();
    let store = open(with_disk(64 * MIB, &folder, DISK)).await;
    for &length in &lengths {
        let bytes = body(length, length);
        let mut filling = store.begin(draft(&format!("/{length}"), length));
        for (number, piece) in bytes.chunks(100_003).enumerate() {
            filling.append(piece).await;
            let complete = (number * 100_003 + piece.len()) / MIB as usize;
            assert_eq!(filling.hashes(), &hashes_of(&bytes)[..complete]);
        }
        assert_eq!(filling.finish_hashes(), hashes_of(&bytes));
        let hit = filling.seal().await.unwrap();
        assert_eq!(*store.chunk_hashes(&hit).unwrap(), hashes_of(&bytes)[..], "{length}");
    }
    store.close().await;
    drop(store);
    let store = open(with_disk(0, &folder, DISK)).await;
    for &length in &lengths {
        let hit = find(&store, &format!("/{length}")).await.unwrap();
        assert_eq!(hit.tier, Tier::Disk);
        assert_eq!(*store.chunk_hashes(&hit).unwrap(), hashes_of(&body(length, length))[..], "{length}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_refreshed_version_keeps_its_hashes() {
    let store = open(memory_only(16 * MIB)).await;
    for length in [10, 2 * MIB] {
        let hit = put(&store, "/a", 1, length).await;
        let fresh = store.refresh(&hit, hit.head.to_draft().unwrap()).await;
        assert_eq!(*store.chunk_hashes(&fresh).unwrap(), hashes_of(&body(1, length))[..]);
    }
}

#[tokio::test]
async fn a_fill_that_is_lost_goes_on_hashing() {
    let length = 2 * MIB + 5;
    let bytes = body(1, length);
    // Too large as announced, too large as it turns out, superseded at several places.
    for (known, memory, supersede_at) in [
        (true, 4 * MIB, None),
        (false, 4 * MIB, None),
        (false, 64 * MIB, Some(0)),
        (false, 64 * MIB, Some(MIB / 2 + 7)),
        (false, 64 * MIB, Some(length)),
    ] {
        let store = open(memory_only(memory)).await;
        let draft = HeadDraft { length: known.then_some(length), ..draft("/a", 1) };
        let mut filling = store.begin(draft);
        let (before, after) = bytes.split_at(supersede_at.unwrap_or(0) as usize);
        for piece in before.chunks(60_001) {
            filling.append(piece).await;
        }
        if supersede_at.is_some() {
            store.invalidate(object("/a")).await;
        }
        for piece in after.chunks(60_001) {
            filling.append(piece).await;
        }
        assert!(filling.is_lost());
        assert_eq!(filling.hashes(), &hashes_of(&bytes)[..2]);
        assert_eq!(filling.finish_hashes(), hashes_of(&bytes));
        assert_eq!(filling.finish_hashes(), hashes_of(&bytes));
        assert!(filling.seal().await.is_err());
    }
}

#[tokio::test]
async fn the_index_counts_the_hashes_that_it_keeps() {
    let store = open(memory_only(64 * MIB)).await;
    let bytes = async |length| {
        put(&store, "/a", length, length).await;
        store.usage().index.bytes
    };
    let (one, three) = (bytes(MIB).await, bytes(3 * MIB).await);
    assert_eq!(three - one, 8 * 16 + 3 * 32, "for eight slices more and three hashes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_finds_by_identity_alone() {
    let folder = folder();
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    put(&store, "/a", 1, 10).await;
    let values = [("accept", "html")];
    fill(&store, varying("/varies", 2, &values), b"html").await.unwrap();
    let wanted = variant_of(object("/varies"), &values);
    let in_memory =
        |store: &Store, path: &str| matches!(store.find(object(path), |_| wanted), Lookup::Memory(_));
    assert!(in_memory(&store, "/a") && in_memory(&store, "/varies"));
    let unknown = store.find(object("/varies"), |_| VariantId::default());
    assert!(matches!(unknown, Lookup::Miss(MissReason::Vary)));
    store.close().await;
    drop(store);
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    for path in ["/a", "/varies"] {
        let Lookup::OnDisk(on_disk) = store.find(object(path), |_| wanted) else { panic!("on disk") };
        let hit = store.load(on_disk).await.unwrap();
        assert_eq!(hit.head.key(), cache_key(path).as_bytes());
    }
    store.close().await;
}

#[tokio::test]
async fn what_comes_and_goes_is_noted_once_somebody_watches() {
    let paths = ["/a", "/b"];
    let store = open_at(memory_only(16 * MIB), NOW).await;
    put(&store, "/a", 1, 10).await;
    assert_eq!(changes(&store, &paths), (vec![], vec![]));
    store.watch();
    put(&store, "/b", 2, 10).await;
    let noted = store.changes(9);
    assert_eq!(noted.added, [Holding { object: object("/b"), variant: variant("/b"), fresh_secs: 62 }]);
    // Another version of a variant is no removal.
    put(&store, "/b", 3, MIB).await;
    assert_eq!(changes(&store, &paths), (vec!["/b".into()], vec![]));
    let hit = find(&store, "/a").await.unwrap();
    let newer = HeadDraft { received: Wall::from_secs(NOW + 100), ..hit.head.to_draft().unwrap() };
    store.refresh(&hit, newer).await;
    let noted = store.changes(9);
    assert_eq!(noted.added, [Holding { object: object("/a"), variant: variant("/a"), fresh_secs: 160 }]);
    store.invalidate(object("/a")).await;
    assert_eq!(changes(&store, &paths), (vec![], vec!["/a".into()]));
    store.invalidate(object("/a")).await;
    assert_eq!(changes(&store, &paths), (vec![], vec![]));
    // A fill that is not kept was never there.
    drop(store.begin(draft("/a", 4)));
    assert_eq!(changes(&store, &paths), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_stale_version_is_held_with_no_time_left() {
    let store = open_at(memory_only(16 * MIB), NOW).await;
    store.watch();
    put(&store, "/a", 0, 10).await;
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(held(&store)[0].fresh_secs, 10);
    assert_eq!(store.changes(9).added[0].fresh_secs, 10);
    tokio::time::advance(Duration::from_secs(50)).await;
    assert_eq!(held(&store)[0].fresh_secs, 0);
}

#[tokio::test]
async fn each_variant_is_told_of_and_those_that_make_room_are_gone() {
    let store = open(memory_only(16 * MIB)).await;
    store.watch();
    let values: Vec<_> = (0..17).map(|number: u8| &*Box::leak(number.to_string().into_boxed_str())).collect();
    for (seed, value) in values.iter().enumerate() {
        fill(&store, varying("/a", seed as u64, &[("accept", value)]), b"x").await.unwrap();
    }
    let of = |value: &'static str| variant_of(object("/a"), &[("accept", value)]);
    let held_now: BTreeSet<_> = held(&store).iter().map(|holding| holding.variant).collect();
    assert_eq!(held_now, values[1..].iter().map(|value| of(value)).collect());
    let noted = store.changes(100);
    assert_eq!(noted.added.len(), 16);
    assert_eq!(noted.removed.iter().map(|gone| gone.variant).collect::<Vec<_>>(), [of(values[0])]);
    // Under another list, all of the old are gone.
    put(&store, "/a", 20, 10).await;
    let noted = store.changes(100);
    assert_eq!(noted.added.iter().map(|there| there.variant).collect::<Vec<_>>(), [variant("/a")]);
    assert_eq!(noted.removed.len(), 16);
}

#[tokio::test]
async fn what_memory_gives_up_is_noted() {
    let store = open(memory_only(3 * MIB)).await;
    store.watch();
    let paths: Vec<_> = (0..200).map(|seed| format!("/{seed}")).collect();
    for (seed, path) in paths.iter().enumerate() {
        put(&store, path, seed as u64, 60_000).await;
    }
    store.0.maintain();
    let noted = store.changes(1000);
    let held: BTreeSet<_> = held(&store).iter().map(|holding| holding.object.0).collect();
    let index = store.usage().index;
    assert!(index.departed(Departure::Memory) > 100);
    assert_eq!(noted.removed.len() as u64, index.departed(Departure::Memory));
    assert_eq!(noted.added.iter().map(|there| there.object.0).collect::<BTreeSet<_>>(), held);
    assert_eq!(held.len() as u64, index.objects);
}

#[tokio::test]
async fn a_version_that_loses_a_slice_is_noted() {
    use crate::store::memory::Spot;
    let store = open(memory_only(16 * MIB)).await;
    store.watch();
    let hit = put(&store, "/a", 1, MIB).await;
    let body = hit.body.clone().unwrap();
    let stay = body.stay(2).unwrap();
    assert_eq!(changes(&store, &["/a"]), (vec!["/a".into()], vec![]));
    store.0.evict(stay, Spot::Slice(Arc::downgrade(&body), 2));
    assert_eq!(changes(&store, &["/a"]), (vec![], vec!["/a".into()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_personal_is_never_named() {
    let folder = folder();
    let paths = ["/personal", "/large", "/shared", "/both"];
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    store.watch();
    fill(&store, personal("/personal", 1), b"mine").await.unwrap();
    fill(&store, personal("/large", 2), &body(2, 2 * MIB)).await.unwrap();
    put(&store, "/shared", 3, 10).await;
    assert_eq!(changes(&store, &paths), (vec!["/shared".into()], vec![]));
    // A shared version that a personal one replaces is gone for others, and the other way round.
    put(&store, "/both", 4, 10).await;
    fill(&store, personal("/both", 5), b"mine").await.unwrap();
    assert_eq!(changes(&store, &paths), (vec![], vec!["/both".into()]));
    let hit = find(&store, "/both").await.unwrap();
    store.refresh(&hit, hit.head.to_draft().unwrap()).await;
    assert_eq!(changes(&store, &paths), (vec![], vec![]));
    put(&store, "/both", 6, 10).await;
    assert_eq!(changes(&store, &paths), (vec!["/both".into()], vec![]));
    let hit = find(&store, "/both").await.unwrap();
    store.refresh(&hit, HeadDraft { personal: true, ..hit.head.to_draft().unwrap() }).await;
    assert_eq!(changes(&store, &paths), (vec![], vec!["/both".into()]));
    assert_eq!(names(&held(&store), &paths), ["/shared"]);
    drop(hit);
    store.close().await;
    drop(store);

    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    store.watch();
    assert_eq!(names(&held(&store), &paths), ["/shared"]);
    for path in paths {
        assert!(find(&store, path).await.is_some());
        store.invalidate(object(path)).await;
    }
    assert_eq!(changes(&store, &paths), (vec![], vec!["/shared".into()]));
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_what_is_shared_is_held_as_before() {
    let folder = folder();
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    put(&store, "/lean", 1, 10).await;
    put(&store, "/large", 2, 2 * MIB).await;
    fill(&store, varying("/varies", 3, &[("accept", "html")]), b"html").await.unwrap();
    let sorted = |mut held: Vec<Holding>| {
        held.sort_by_key(|holding| holding.object);
        held.into_iter().map(|holding| (holding.object, holding.variant)).collect::<Vec<_>>()
    };
    let before = sorted(held(&store));
    assert_eq!(before.len(), 3);
    store.close().await;
    drop(store);
    let store = open_at(with_disk(16 * MIB, &folder, DISK), NOW).await;
    assert_eq!(sorted(held(&store)), before);
    let lean = held(&store).into_iter().find(|holding| holding.object == object("/lean")).unwrap();
    assert_eq!(lean.fresh_secs, 61);
    // To be read from disk into memory is no change.
    store.watch();
    for path in ["/lean", "/large"] {
        assert!(find(&store, path).await.is_some());
    }
    assert_eq!(changes(&store, &[]), (vec![], vec![]));
    store.close().await;
}

/// A head that an older release wrote does not say whether it is personal, until it is read.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_release_wrote_is_named_when_it_is_known_to_be_shared() {
    let folder = folder();
    let paths = ["/shared", "/personal"];
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    for draft in [draft("/shared", 1), personal("/personal", 1)] {
        let id = lean_id(draft.key.object());
        let digest = *blake3::hash(b"old").as_bytes();
        let payload = HeadDraft { length: Some(3), ..draft }.encode(b"old", true, &digest);
        let position = PurgePosition(1);
        let record = NewRecord { kind: RecordKind::Head, id, position, expiry: 9, shared: false, payload };
        store.0.disk().unwrap().append(record, |_| {}).await.unwrap();
    }
    store.close().await;
    drop(store);
    let store = open(with_disk(16 * MIB, &folder, DISK)).await;
    store.watch();
    assert_eq!(held(&store), []);
    for path in paths {
        assert_eq!(find(&store, path).await.unwrap().tier, Tier::Disk);
    }
    assert_eq!(changes(&store, &paths), (vec!["/shared".into()], vec![]));
    assert_eq!(names(&held(&store), &paths), ["/shared"]);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reclaim_keeps_in_mind_what_is_shared_and_notes_what_it_drops() {
    let folder = folder();
    let store = open(with_disk(0, &folder, 8 * MIB)).await;
    store.watch();
    put(&store, "/hot", 0, 50_000).await;
    let paths: Vec<_> = (1..200).map(|seed| format!("/{seed}")).collect();
    for (seed, path) in paths.iter().enumerate() {
        put(&store, path, seed as u64, 100_000).await;
        // So that the writer never comes to it twice without its being asked for in between.
        written(&store).await;
        assert!(find(&store, "/hot").await.is_some());
    }
    store.close().await;
    assert!(store.usage().disk.unwrap().rewritten_bytes > 0);
    let noted = store.changes(1000);
    let there: BTreeSet<_> = noted.added.iter().map(|there| there.object).collect();
    let held_now: BTreeSet<_> = held(&store).iter().map(|holding| holding.object).collect();
    assert_eq!(there, held_now);
    assert!(noted.removed.len() > 50 && there.contains(&object("/hot")));
    drop(store);
    let store = open(with_disk(0, &folder, 8 * MIB)).await;
    assert!(held(&store).iter().any(|holding| holding.object == object("/hot")));
    store.close().await;
}

#[tokio::test]
async fn too_many_changes_are_said_to_be_too_many() {
    let store = open(memory_only(16 * MIB)).await;
    store.watch();
    let index = &store.0.index;
    for number in 0..=1u64 << 16 {
        let object = ObjectId(*blake3::hash(&number.to_le_bytes()).as_bytes().first_chunk().unwrap());
        index.changelog.note((object, VariantId::default()), None);
    }
    let noted = store.changes(9);
    assert!(noted.overflowed && noted.removed.is_empty());
    put(&store, "/a", 1, 10).await;
    assert_eq!(changes(&store, &["/a"]), (vec!["/a".into()], vec![]));
}
