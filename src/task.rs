//! The only place that spawns: every task belongs to a [`Spawner`], which ends or awaits it.

use std::future::Future;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Spawns tasks on one runtime and owns them until they end. Clones share the same owner; a
/// [`child`](Self::child) has its own cancellation below its parent's.
#[derive(Clone, Debug)]
pub struct Spawner {
    handle: Handle,
    tracker: TaskTracker,
    cancel: CancellationToken,
}

impl Spawner {
    /// A new owner of tasks on the runtime behind `handle`.
    pub fn new(handle: Handle) -> Self {
        Self { handle, tracker: TaskTracker::new(), cancel: CancellationToken::new() }
    }

    /// A new owner of tasks on the runtime of the caller.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn current() -> Self {
        Self::new(Handle::current())
    }

    /// An owner on the same runtime, cancelled with this one or alone, awaited alone.
    pub fn child(&self) -> Self {
        Self { handle: self.handle.clone(), tracker: TaskTracker::new(), cancel: self.cancel.child_token() }
    }

    /// Spawns a task that is dropped at its next await when this owner is cancelled.
    pub fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) {
        let cancelled = self.cancel.clone().cancelled_owned();
        let task = async move {
            tokio::select! {
                biased;
                () = cancelled => {}
                () = future => {}
            }
        };
        drop(self.tracker.spawn_on(task, &self.handle));
    }

    /// Spawns a task that sees cancellation only through [`cancelled`](Self::cancelled) and is
    /// awaited by [`stop`](Self::stop), so that it can finish what it has begun.
    pub fn spawn_graceful(&self, future: impl Future<Output = ()> + Send + 'static) {
        drop(self.tracker.spawn_on(future, &self.handle));
    }

    /// Runs blocking work on the runtime's bounded blocking pool and awaits it; the work is not
    /// interrupted when the returned future is dropped. `None` if it panicked.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        self.tracker.spawn_blocking_on(work, &self.handle).await.ok()
    }

    /// Resolves when this owner is cancelled.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    /// Whether this owner was cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Tasks that have not ended.
    pub fn running(&self) -> usize {
        self.tracker.len()
    }

    /// Cancels all tasks and waits for their end, at most `limit`. Returns whether all ended.
    pub async fn stop(&self, limit: Duration) -> bool {
        self.cancel.cancel();
        self.drained(limit).await
    }

    /// Waits, at most `limit`, for all tasks to end by themselves. Returns whether they did.
    pub async fn drained(&self, limit: Duration) -> bool {
        self.tracker.close();
        tokio::time::timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
