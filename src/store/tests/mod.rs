//! The store as `serve` sees it.

mod gate;
mod memory;
mod model;
mod on_disk;
mod told;

use super::*;
use crate::proto::key::{self, CacheKey, KeyParts, Pin, Scheme};
use crate::proto::object::{PurgePosition, SelectingValue, layout};
use crate::proto::semantics::StoreReason;
use crate::proto::time::Wall;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tempfile::TempDir;

const MIB: u64 = 1 << 20;
/// Bodies at the edges of records and chunks.
const LENGTHS: [u64; 10] = [0, 1, 65_535, 65_536, 65_537, 262_144, 262_145, MIB, MIB + 1, 3 * MIB + 7];

fn memory_only(bytes: u64) -> StoreConfig {
    StoreConfig { memory: bytes, disk: None }
}

fn with_disk(memory: u64, folder: &TempDir, size: u64) -> StoreConfig {
    StoreConfig { memory, disk: Some(DiskConfig { path: folder.path().to_owned(), size }) }
}

async fn open(config: StoreConfig) -> Store {
    open_on(config, Arc::new(FileDevice)).await
}

async fn open_on(config: StoreConfig, device: Arc<dyn Device>) -> Store {
    Store::open(config, device, Clock::system(), &Spawner::current()).await.expect("the store opens")
}

fn cache_key(path: &str) -> CacheKey {
    CacheKey::new(KeyParts { site: "shop", scheme: Scheme::Https, host: "example.com", path })
}

fn object(path: &str) -> ObjectId {
    cache_key(path).object()
}

/// A body that tells which one it is at every offset.
fn body(seed: u64, length: u64) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// The head of a version that does not vary, pinned by `seed`.
fn draft(path: &str, seed: u64) -> HeadDraft {
    varying(path, seed, &[])
}

/// The head of the version that the selecting values choose.
fn varying(path: &str, seed: u64, values: &[(&'static str, &'static str)]) -> HeadDraft {
    let key = cache_key(path);
    let variant = variant_of(key.object(), values);
    let mut fields = HeaderMap::new();
    fields.insert("cache-control", HeaderValue::from_static("max-age=60"));
    let selecting = values.iter().map(|&(name, value)| SelectingValue {
        name: HeaderName::from_static(name),
        value: Some(value.into()),
    });
    HeadDraft {
        variant,
        version: key::version(key.object(), variant, Pin::StrongEtag(&seed.to_le_bytes())),
        selecting: selecting.collect(),
        key,
        status: StatusCode::OK,
        fields,
        length: None,
        received: Wall::from_secs(1_800_000_000 + seed as i64),
        initial_age: 0,
        position: PurgePosition(seed),
        reason: StoreReason::MaxAge,
        personal: false,
    }
}

fn variant_of(object: ObjectId, values: &[(&'static str, &'static str)]) -> VariantId {
    key::variant(object, values.iter().map(|&(name, value)| (name, Some(value.as_bytes()))))
}

async fn fill(store: &Store, draft: HeadDraft, body: &[u8]) -> Result<Hit, SealError> {
    let mut filling = store.begin(draft);
    for piece in body.chunks(100_003) {
        filling.append(piece).await;
    }
    filling.seal().await
}

async fn put(store: &Store, path: &str, seed: u64, length: u64) -> Hit {
    fill(store, draft(path, seed), &body(seed, length)).await.expect("the body is kept")
}

async fn find_variant(
    store: &Store,
    path: &str,
    values: &[(&'static str, &'static str)],
) -> Result<Hit, MissReason> {
    let object = object(path);
    let variant = |list: &VaryList| {
        let named: Vec<_> =
            values.iter().copied().filter(|(name, _)| list.names().iter().any(|n| n == name)).collect();
        variant_of(object, &named)
    };
    match store.lookup(object, cache_key(path).as_bytes(), variant) {
        Lookup::Memory(hit) => Ok(hit),
        Lookup::OnDisk(on_disk) => store.load(on_disk).await.or(Err(MissReason::Uri)),
        Lookup::Miss(reason) => Err(reason),
    }
}

async fn find(store: &Store, path: &str) -> Option<Hit> {
    find_variant(store, path, &[]).await.ok()
}

async fn read(hit: &Hit) -> Result<Vec<u8>, LoadError> {
    let mut bytes = hit.head.body().to_vec();
    let length = hit.head.length.expect("a sealed version has a length");
    for index in 1..layout::record_count(length) {
        match hit.record_now(index) {
            Some(record) => bytes.extend_from_slice(&record),
            None => bytes.extend_from_slice(&hit.record(index).await?),
        }
    }
    Ok(bytes)
}

/// Whether the object is found with the body that `seed` made.
async fn has(store: &Store, path: &str, seed: u64) -> bool {
    let Some(hit) = find(store, path).await else { return false };
    let length = hit.head.length.expect("a sealed version has a length");
    read(&hit).await.expect("what is found can be read") == body(seed, length)
}

#[tokio::test]
async fn what_was_appended_is_what_is_read() {
    let store = open(memory_only(64 * MIB)).await;
    for known in [true, false] {
        for length in LENGTHS {
            let bytes = body(length, length);
            let draft = HeadDraft { length: known.then_some(length), ..draft("/a", length) };
            let hit = fill(&store, draft, &bytes).await.unwrap();
            assert_eq!(read(&hit).await.unwrap(), bytes);
            let found = find(&store, "/a").await.unwrap();
            assert_eq!((found.tier, found.head.length), (Tier::Memory, Some(length)));
            assert_eq!(read(&found).await.unwrap(), bytes);
            let first = &bytes[..bytes.len().min(if length <= 65_536 { 65_536 } else { MIB as usize })];
            assert_eq!(found.head.digest(), *blake3::hash(first).as_bytes());
            assert_eq!(found.head.whole, length <= 65_536);
        }
    }
}

#[tokio::test]
async fn nothing_is_visible_before_the_seal() {
    let store = open(memory_only(16 * MIB)).await;
    put(&store, "/a", 1, 10).await;
    let mut filling = store.begin(draft("/a", 2));
    filling.append(&body(2, MIB)).await;
    assert!(has(&store, "/a", 1).await);
    filling.seal().await.unwrap();
    assert!(has(&store, "/a", 2).await);
}

#[tokio::test]
async fn a_body_of_another_length_than_announced_is_not_kept() {
    let store = open(memory_only(16 * MIB)).await;
    for found in [0, 9, 11, MIB] {
        let draft = HeadDraft { length: Some(10), ..draft("/a", 1) };
        let error = fill(&store, draft, &body(1, found)).await.err();
        assert_eq!(error, Some(SealError::Length { expected: 10, found }));
    }
    assert!(find(&store, "/a").await.is_none());
}

#[tokio::test]
async fn an_invalidation_beats_a_fill_begun_before_it() {
    let store = open(memory_only(16 * MIB)).await;
    let mut before = store.begin(draft("/a", 1));
    before.append(b"old").await;
    assert!(!store.invalidate(object("/a")).await);
    let mut after = store.begin(draft("/a", 2));
    after.append(b"new").await;
    assert!(before.is_lost());
    assert_eq!(before.seal().await.err(), Some(SealError::Superseded));
    assert!(find(&store, "/a").await.is_none());
    after.seal().await.unwrap();
    assert!(find(&store, "/a").await.is_some());
    assert!(store.invalidate(object("/a")).await);
    assert!(find(&store, "/a").await.is_none());
}

#[tokio::test]
async fn a_dropped_fill_leaves_nothing() {
    let store = open(memory_only(16 * MIB)).await;
    let mut filling = store.begin(draft("/a", 1));
    filling.append(&body(1, 3 * MIB)).await;
    let partial = filling.partial();
    assert_eq!(partial.record(0).await.unwrap(), body(1, 65_536));
    assert!(partial.starts_stored() && partial.record(2).await.is_some());
    drop(filling);
    assert!(!partial.starts_stored() && partial.record(2).await.is_none());
    let usage = store.usage();
    assert_eq!((usage.memory, usage.index.objects, usage.index.fills), (0, 0, 0));
    assert_eq!(find_variant(&store, "/a", &[]).await.err(), Some(MissReason::Uri));
}

#[tokio::test]
async fn a_partial_reads_what_is_finished_during_and_after_the_fill() {
    let store = open(memory_only(16 * MIB)).await;
    let bytes = body(1, MIB);
    let mut filling = store.begin(HeadDraft { length: Some(MIB), ..draft("/a", 1) });
    let partial = filling.partial();
    filling.append(&bytes[..300_000]).await;
    assert_eq!(partial.record(1).await.unwrap(), &bytes[65_536..262_144]);
    assert!(partial.record(2).await.is_none());
    filling.append(&bytes[300_000..]).await;
    filling.seal().await.unwrap();
    assert_eq!(partial.record(2).await.unwrap(), &bytes[262_144..524_288]);
}

#[tokio::test]
async fn two_keys_of_one_object_id_do_not_mix() {
    let store = open(memory_only(16 * MIB)).await;
    put(&store, "/a", 1, 10).await;
    let other = cache_key("/b");
    let found = store.lookup(object("/a"), other.as_bytes(), |_| VariantId::default());
    assert!(matches!(found, Lookup::Miss(MissReason::Uri)));
    assert!(has(&store, "/a", 1).await);
}

#[tokio::test]
async fn variants_are_told_apart_and_the_seventeenth_evicts_the_oldest() {
    const LANGUAGES: [&str; 17] =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q"];
    let store = open(memory_only(16 * MIB)).await;
    for (seed, language) in LANGUAGES.into_iter().enumerate() {
        let draft = varying("/a", seed as u64, &[("accept-language", language)]);
        fill(&store, draft, &body(seed as u64, 100)).await.unwrap();
    }
    for (seed, language) in LANGUAGES.into_iter().enumerate() {
        let found = find_variant(&store, "/a", &[("accept-language", language)]).await;
        match found {
            Err(reason) => assert_eq!((seed, reason), (0, MissReason::Vary)),
            Ok(hit) => assert_eq!(read(&hit).await.unwrap(), body(seed as u64, 100)),
        }
    }
    assert_eq!(store.vary(object("/a")).unwrap().names(), [http::header::ACCEPT_LANGUAGE]);
    assert_eq!(store.usage().index.departed(Departure::Variants), 1);
    assert_eq!(store.inspect(object("/a")).len(), 16);
}

#[tokio::test]
async fn another_vary_list_ends_the_variants_of_the_old() {
    let store = open(memory_only(16 * MIB)).await;
    let brotli = [("accept-encoding", "br")];
    fill(&store, varying("/a", 1, &brotli), b"one").await.unwrap();
    fill(&store, varying("/a", 2, &[("accept", "text/html")]), b"two").await.unwrap();
    assert_eq!(find_variant(&store, "/a", &brotli).await.err(), Some(MissReason::Vary));
    fill(&store, draft("/a", 3), b"three").await.unwrap();
    let hit = find_variant(&store, "/a", &brotli).await.unwrap();
    assert_eq!(read(&hit).await.unwrap(), b"three");
    assert_eq!(store.inspect(object("/a")).len(), 1);
}

#[tokio::test]
async fn a_refresh_changes_the_head_and_keeps_the_body() {
    let store = open(memory_only(16 * MIB)).await;
    for length in [10, MIB] {
        let hit = put(&store, "/a", 1, length).await;
        let mut draft = hit.head.to_draft().unwrap();
        draft.fields.insert("x-new", HeaderValue::from_static("1"));
        draft.received = Wall::from_secs(1_900_000_000);
        let fresh = store.refresh(&hit, draft).await;
        assert_eq!(fresh.head.version, hit.head.version);
        let found = find(&store, "/a").await.unwrap();
        assert!(Arc::ptr_eq(&found.head, &fresh.head));
        assert_eq!(found.head.fields()["x-new"], "1");
        assert_eq!(found.head.received, Wall::from_secs(1_900_000_000));
        assert_eq!(read(&found).await.unwrap(), body(1, length));
    }
}

#[tokio::test]
async fn a_refresh_brings_nothing_back() {
    let store = open(memory_only(16 * MIB)).await;
    let old = put(&store, "/a", 1, 10).await;
    put(&store, "/a", 2, 10).await;
    let fresh = store.refresh(&old, old.head.to_draft().unwrap()).await;
    assert_eq!(read(&fresh).await.unwrap(), body(1, 10));
    assert!(has(&store, "/a", 2).await);
    let current = find(&store, "/a").await.unwrap();
    store.invalidate(object("/a")).await;
    store.refresh(&current, current.head.to_draft().unwrap()).await;
    assert!(find(&store, "/a").await.is_none());
}

#[tokio::test]
async fn a_replaced_version_stays_readable_for_those_who_have_begun() {
    let store = open(memory_only(16 * MIB)).await;
    let old = put(&store, "/a", 1, MIB).await;
    put(&store, "/a", 2, MIB).await;
    store.invalidate(object("/a")).await;
    assert_eq!(read(&old).await.unwrap(), body(1, MIB));
}
