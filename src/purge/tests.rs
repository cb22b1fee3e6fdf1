//! The log on disk, over a real folder and a device that fails.

use super::*;
use crate::proto::key::{CacheKey, KeyParts, Scheme, VariantId, VersionId};
use crate::proto::object::HeadDraft;
use crate::proto::plan::FetchReason;
use crate::proto::semantics::StoreReason;
use crate::proto::time::Wall;
use crate::store::FileDevice;
use crate::store::disk::Storage;
use crate::store::disk::hooked::{Hook, Hooked};
use crate::telemetry::Vocabulary;
use http::{HeaderMap, HeaderValue, StatusCode};
use std::fs;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

const NAMES: Vocabulary =
    Vocabulary { not_stored: &[], origin_fetch: &FetchReason::NAMES, origin_failure: &[], refusal: &[] };

struct Rig {
    folder: tempfile::TempDir,
    metrics: Arc<Metrics>,
    clock: Clock,
}

impl Rig {
    fn new() -> Self {
        let clock = Clock::simulated(Wall::from_secs(1_700_000_000));
        let metrics = Metrics::new("node", None, NAMES, clock);
        Self { folder: tempfile::tempdir().unwrap(), metrics, clock }
    }

    /// Opens the log, in a life of its own.
    async fn open(&self, device: Arc<dyn Device>, newest: Option<u64>) -> (Purges, Spawner) {
        self.open_as(device, newest, false).await
    }

    /// Opens the log of a node that has compared with nobody yet.
    async fn open_in_fleet(&self) -> (Purges, Spawner) {
        self.open_as(Arc::new(FileDevice), None, true).await
    }

    async fn open_as(
        &self,
        device: Arc<dyn Device>,
        newest: Option<u64>,
        in_fleet: bool,
    ) -> (Purges, Spawner) {
        let spawner = Spawner::current().child();
        let around = Surroundings { clock: self.clock, metrics: &self.metrics, spawner: &spawner };
        let newest = newest.map(PurgePosition);
        let opened = Purges::open((device, self.folder.path()), newest, in_fleet, around).await;
        (opened.unwrap(), spawner)
    }

    async fn life(&self, newest: Option<u64>) -> Life {
        let (purges, spawner) = self.open(Arc::new(FileDevice), newest).await;
        Life { purges, spawner }
    }

    fn files(&self) -> Vec<std::path::PathBuf> {
        let names = fs::read_dir(self.folder.path().join(FOLDER)).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("purges-")).collect()
    }
}

struct Life {
    purges: Purges,
    spawner: Spawner,
}

impl Life {
    /// Ends as if killed: what was not said to be durable may be lost.
    async fn end(self) {
        drop(self.purges);
        assert!(self.spawner.stop(Duration::from_secs(5)).await);
    }
}

fn tag(tag: &str) -> Selector {
    Selector::Tag { site: None, tag: tag.to_owned() }
}

/// A stored response with a tag, fetched at that position.
fn head(tag: &str, position: u64) -> Head {
    let key =
        CacheKey::new(KeyParts { site: "shop", scheme: Scheme::Https, host: "shop.example", path: "/" });
    let mut fields = HeaderMap::new();
    fields.insert("xkey", HeaderValue::from_str(tag).unwrap());
    let draft = HeadDraft {
        key,
        variant: VariantId::default(),
        version: VersionId::default(),
        selecting: Vec::new(),
        status: StatusCode::OK,
        fields,
        length: Some(0),
        received: Wall::from_secs(0),
        initial_age: 0,
        position: PurgePosition(position),
        reason: StoreReason::ALL[0],
        personal: false,
    };
    Head::decode(draft.encode(&[], true, &[0; 32])).unwrap()
}

#[tokio::test]
async fn what_was_purged_stays_purged_after_a_restart() {
    let rig = Rig::new();
    let life = rig.life(None).await;
    let batch = life.purges.issue(Mode::Hard, &[tag("red")]).await.unwrap();
    life.purges.issue(Mode::Soft, &[tag("blue")]).await.unwrap();
    let (issuer, digest) = (life.purges.issuer(), life.purges.digest());
    life.end().await;

    let life = rig.life(Some(1)).await;
    assert_eq!((life.purges.issuer(), life.purges.digest()), (issuer, digest));
    assert_eq!(life.purges.position(), PurgePosition(2));
    assert_eq!(life.purges.judge(&head("red", 0)), Judgement::Hard);
    assert_eq!(life.purges.judge(&head("red", 1)), Judgement::Clear);
    assert!(matches!(life.purges.judge(&head("blue", 1)), Judgement::Soft(_)));
    // Numbers go on, so that no two purges have one name.
    let next = life.purges.issue(Mode::Hard, &[tag("green")]).await.unwrap();
    assert_eq!((batch.entries[0].id.number, next.entries[0].id.number), (1, 3));
    life.end().await;
}

#[tokio::test]
async fn what_was_vetted_is_not_judged_again_until_the_next_purge() {
    let rig = Rig::new();
    let life = rig.life(None).await;
    let head = head("red", 0);
    life.purges.issue(Mode::Hard, &[tag("blue")]).await.unwrap();
    assert_eq!(life.purges.judge(&head), Judgement::Clear);
    assert_eq!(head.position.get(), PurgePosition(1));
    life.purges.issue(Mode::Hard, &[tag("red")]).await.unwrap();
    assert_eq!(life.purges.judge(&head), Judgement::Hard);
    assert_eq!(life.purges.judge(&head), Judgement::Hard);
    life.end().await;
}

#[tokio::test]
async fn a_full_file_makes_room_for_the_next_and_nothing_is_lost() {
    let rig = Rig::new();
    let life = rig.life(None).await;
    for number in 0..700 {
        life.purges.issue(Mode::Hard, &[tag(&(number % 10).to_string())]).await.unwrap();
    }
    assert_eq!(rig.files().len(), 1);
    assert!(fs::metadata(&rig.files()[0]).unwrap().len() < 200 << 10);
    let digest = life.purges.digest();
    life.end().await;
    let life = rig.life(None).await;
    assert_eq!((life.purges.digest(), life.purges.position()), (digest, PurgePosition(700)));
    assert_eq!(life.purges.judge(&head("7", 690)), Judgement::Hard);
    assert_eq!(life.purges.judge(&head("7", 698)), Judgement::Clear);
    life.end().await;
}

#[tokio::test]
async fn a_log_that_is_missing_or_does_not_reach_so_far_keeps_nothing() {
    let rig = Rig::new();
    let life = rig.life(Some(7)).await;
    assert_eq!(life.purges.judge(&head("red", 7)), Judgement::Hard);
    assert_eq!(life.purges.judge(&head("red", life.purges.position().0)), Judgement::Clear);
    life.end().await;
    let life = rig.life(Some(20)).await;
    assert_eq!(life.purges.judge(&head("red", 20)), Judgement::Hard);
    life.end().await;
}

#[tokio::test]
async fn damage_in_the_middle_is_not_taken_for_the_end() {
    let rig = Rig::new();
    let life = rig.life(None).await;
    for number in 0..20 {
        life.purges.issue(Mode::Hard, &[tag(&number.to_string())]).await.unwrap();
    }
    let issuer = life.purges.issuer();
    life.end().await;
    let path = rig.files().remove(0);
    let mut bytes = fs::read(&path).unwrap();
    let records = bytes.chunks(64).take_while(|record| record.iter().any(|byte| *byte != 0)).count();
    bytes[64 * (records - 10) + 20] ^= 1;
    fs::write(&path, bytes).unwrap();
    // Everything stored is older than what is left of the log, and yet nothing is used.
    let life = rig.life(Some(0)).await;
    assert_eq!(life.purges.judge(&head("never purged", 0)), Judgement::Hard);
    // It is not known which numbers were given: none is given twice.
    assert_ne!(life.purges.issuer(), issuer);
    life.end().await;
}

/// Writes fail, by halves, while it is told to.
#[derive(Clone)]
struct Failing(Arc<AtomicBool>);

impl Hook for Failing {
    fn write(&self, file: &dyn Storage, bytes: &[u8], offset: u64) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) {
            file.write(&bytes[..bytes.len() / 128 * 64], offset)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.write(bytes, offset)
    }
}

#[tokio::test]
async fn a_purge_that_cannot_be_written_is_none_and_spoils_no_later_one() {
    let rig = Rig::new();
    let fails = Arc::new(AtomicBool::new(false));
    let (purges, spawner) = rig.open(Hooked::new(Failing(Arc::clone(&fails))), None).await;
    let life = Life { purges, spawner };
    life.purges.issue(Mode::Hard, &[tag("red")]).await.unwrap();
    fails.store(true, Ordering::Relaxed);
    let many: Vec<_> = (0..10).map(|number| tag(&number.to_string())).collect();
    for _ in 0..2 {
        assert!(matches!(life.purges.issue(Mode::Hard, &many).await, Err(PurgeError::Journal(_))));
        assert_eq!(life.purges.judge(&head("3", 0)), Judgement::Clear);
    }
    fails.store(false, Ordering::Relaxed);
    life.purges.issue(Mode::Hard, &[tag("blue")]).await.unwrap();
    let (coverage, position) = (life.purges.coverage(), life.purges.position());
    assert_eq!(coverage.number(life.purges.issuer()), 2);
    life.end().await;

    let life = rig.life(None).await;
    assert_eq!((life.purges.coverage(), life.purges.position()), (coverage, position));
    assert_eq!(life.purges.judge(&head("red", 0)), Judgement::Hard);
    assert_eq!(life.purges.judge(&head("blue", 1)), Judgement::Hard);
    life.end().await;
}

/// At whatever byte a write was cut off by a crash: what was applied before is there, and what was not is applied anew.
#[tokio::test]
async fn a_crash_in_a_write_loses_nothing_that_was_answered() {
    let rig = Rig::new();
    let life = rig.life(None).await;
    life.purges.issue(Mode::Hard, &[tag("red")]).await.unwrap();
    let before = fs::read(&rig.files()[0]).unwrap();
    let batch = life.purges.issue(Mode::Hard, &[tag("a"), tag("b"), tag("c")]).await.unwrap();
    let after = fs::read(&rig.files()[0]).unwrap();
    life.end().await;
    let from = before.iter().rposition(|byte| *byte != 0).unwrap() / 64 * 64 + 64;
    let to = after.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    for cut in from..to {
        for file in rig.files() {
            fs::remove_file(file).unwrap();
        }
        let mut bytes = before.clone();
        bytes[from..cut].copy_from_slice(&after[from..cut]);
        fs::write(rig.folder.path().join(FOLDER).join("purges-1"), bytes).unwrap();
        let life = rig.life(Some(0)).await;
        assert_eq!(life.purges.judge(&head("red", 0)), Judgement::Hard, "{cut}");
        assert_eq!(life.purges.judge(&head("other", 0)), Judgement::Clear, "{cut}");
        life.purges.apply(batch.clone()).await.unwrap();
        assert_eq!(life.purges.judge(&head("c", 1)), Judgement::Hard, "{cut}");
        assert_eq!(life.purges.coverage().number(batch.entries[0].id.issuer), 4, "{cut}");
        life.end().await;
    }
}

#[tokio::test]
async fn a_node_of_a_fleet_is_in_sync_only_for_as_long_as_it_is_told() {
    let rig = Rig::new();
    let spawner = Spawner::current().child();
    let around = Surroundings { clock: rig.clock, metrics: &rig.metrics, spawner: &spawner };
    let (alone, member) = (Purges::unwritten(false, around), Purges::unwritten(true, around));
    let now = rig.clock.mono();
    assert!(alone.in_sync(now + Duration::from_secs(1 << 30)) && !member.in_sync(now));
    member.synced(now + SYNC_HORIZON);
    assert!(member.in_sync(now + SYNC_HORIZON - Duration::from_millis(2)));
    assert!(!member.in_sync(now + SYNC_HORIZON));
}

#[tokio::test]
async fn an_old_log_that_was_put_back_uses_no_number_again_before_it_has_compared() {
    let rig = Rig::new();
    let saved = tempfile::tempdir().unwrap();
    rig.life(None).await.end().await;
    let copied = |from: &Path, to: &Path| {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    let folder = rig.folder.path().join(FOLDER);
    copied(&folder, saved.path());
    let life = rig.life(None).await;
    let first = life.purges.issue(Mode::Hard, &[tag("red")]).await.unwrap();
    let rest_of_the_fleet = life.purges.coverage();
    life.end().await;
    rig.files().iter().for_each(|file| fs::remove_file(file).unwrap());
    copied(saved.path(), &folder);

    let (purges, spawner) = rig.open_in_fleet().await;
    let second = purges.issue(Mode::Hard, &[tag("green")]).await.unwrap();
    assert!(!second.coverage.iter().any(|id| rest_of_the_fleet.has(id)), "taken for {first:?}");
    let third = purges.issue(Mode::Hard, &[tag("blue")]).await.unwrap();
    assert_eq!(third.entries[0].id.issuer, second.entries[0].id.issuer, "one name for each life");
    Life { purges, spawner }.end().await;
}
