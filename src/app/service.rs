//! What the service manager is told: the `sd_notify` protocol, of which a node speaks the part below. Without a manager
//! that asks (`$NOTIFY_SOCKET`) nothing is sent.
//!
//! ```text
//! start ── READY=1 ── RELOADING=1, MONOTONIC_USEC=… ── READY=1 ── … ── STOPPING=1
//!             └ WATCHDOG=1, while all workers answer, twice in each `$WATCHDOG_USEC`
//! ```

use crate::clock::Clock;
use crate::net::Notices;
use crate::task::Spawner;
use std::time::Duration;
use tokio::sync::oneshot;

/// Bytes of a status line at most; managers show one line.
const STATUS_BYTES_MAX: usize = 256;

/// The manager that has started this process, if there is one.
pub(super) struct ServiceManager {
    notices: Option<Notices>,
    clock: Clock,
    /// Within which it wants to hear that the node is alive.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that the environment names. One that cannot be reached is warned of, and then there is none.
    pub(super) fn of_process(clock: Clock) -> Self {
        let notices = std::env::var_os("NOTIFY_SOCKET").and_then(|to| match Notices::to(&to) {
            Ok(notices) => Some(notices),
            Err(error) => {
                tracing::warn!(?to, %error, "the service manager cannot be told: NOTIFY_SOCKET");
                None
            }
        });
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        // A process that the manager's process started inherits the variables, and is not meant.
        let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog =
            number("WATCHDOG_USEC").filter(|usec| is_meant && *usec > 0).map(Duration::from_micros);
        Self { notices, clock, watchdog }
    }

    /// The node serves, as `status` says: for the first time, or after a reload that went well or not.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// A reload begins; [`ready`](Self::ready) ends it.
    pub(super) fn reloading(&self) {
        let at = self.clock.since_boot().as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={at}\nSTATUS=reloading the configuration"));
    }

    /// The node ends.
    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=draining: open requests are finished");
    }

    /// Tells, until cancelled, that the node is alive, as often as the manager asks, and only while this runtime and
    /// each of `workers` take up new tasks: a worker that hangs is a reason to start the node again.
    pub(super) async fn prove_alive(&self, workers: Vec<Spawner>) {
        let Some(within) = self.watchdog.filter(|_| self.notices.is_some()) else { return };
        let interval = within / 2;
        loop {
            tokio::time::sleep(interval).await;
            match tokio::time::timeout(interval, all_answer(&workers)).await {
                Ok(true) => self.tell("WATCHDOG=1"),
                Ok(false) | Err(_) => {
                    tracing::error!(
                        "a worker does not answer; the service manager is not told that the node is alive"
                    );
                }
            }
        }
    }

    fn tell(&self, message: &str) {
        if let Some(Err(error)) = self.notices.as_ref().map(|notices| notices.send(message.as_bytes())) {
            tracing::warn!(%error, "the service manager was not told");
        }
    }
}

/// Whether each worker takes up a task and ends it.
async fn all_answer(workers: &[Spawner]) -> bool {
    for worker in workers {
        let (answer, answered) = oneshot::channel();
        worker.spawn(async move {
            // Who asked may have given up.
            let _ = answer.send(());
        });
        if answered.await.is_err() {
            return false;
        }
    }
    true
}

/// The first line of `text`, cut where it would be too long.
fn line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    &line[..line.floor_char_boundary(STATUS_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;
    use tokio::runtime::Builder;

    /// What a manager whose watchdog wants a sign of life every 10 s hears within 40 s.
    async fn heard(workers: Vec<Spawner>) -> usize {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        let notices = Some(Notices::to(path.as_os_str()).unwrap());
        let watchdog = Some(Duration::from_secs(10));
        let manager = ServiceManager { notices, clock: Clock::system(), watchdog };
        let _ = tokio::time::timeout(Duration::from_secs(41), manager.prove_alive(workers)).await;
        let mut message = [0; 64];
        let mut count = 0;
        while let Ok(length) = socket.recv(&mut message) {
            assert_eq!(&message[..length], b"WATCHDOG=1");
            count += 1;
        }
        count
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_hangs_is_not_called_alive() {
        assert_eq!(heard(vec![Spawner::current(), Spawner::current()]).await, 8);
        // Nobody runs what is spawned there.
        let hangs = Builder::new_current_thread().build().unwrap();
        let workers = vec![Spawner::current(), Spawner::new(hangs.handle().clone())];
        assert_eq!(heard(workers).await, 0);
        hangs.shutdown_background();
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(line("why\nand where"), "why");
        assert_eq!(line(""), "");
        assert_eq!(line(&"ä".repeat(200)).chars().count(), 128);
    }
}
