//! Turns: few questions run at the same time, and the others wait.

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

/// Why there is no outcome.
#[derive(Debug)]
pub(super) enum Late {
    /// No turn came within the time for waiting.
    Waiting,
    /// The work took longer than it may.
    Working,
    /// The work panicked.
    Died(JoinError),
}

/// Work for which turns are taken, and for how long it may wait and run.
pub(super) struct Turns {
    pub(super) free: Semaphore,
    pub(super) wait: Duration,
    pub(super) time: Duration,
}

impl Turns {
    /// Runs `work` in its turn. Its time begins with that. Dropping the future stops it.
    pub(super) async fn take<T: Send + 'static>(
        &'static self,
        threads: &Handle,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Late> {
        let (begins, begun) = oneshot::channel();
        let mut tasks = JoinSet::new();
        let run = async move {
            // Never closed. Held here and not by who waits for the outcome: one who goes away while the work holds its
            // thread leaves it to that.
            let _turn = self.free.acquire().await;
            // Who does not wait any more drops this task, too.
            let _ = begins.send(());
            work.await
        };
        tasks.spawn_on(run, threads);
        timeout(self.wait, begun).await.map_err(|_| Late::Waiting)?.ok();
        match timeout(self.time, tasks.join_next()).await {
            Ok(Some(outcome)) => outcome.map_err(Late::Died),
            // The set has one task until it is joined.
            Ok(None) | Err(_) => Err(Late::Working),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Duration = Duration::from_millis(300);

    async fn work(time: Duration) -> Duration {
        tokio::time::sleep(time).await;
        time
    }

    #[tokio::test]
    async fn waiting_is_no_part_of_the_time() {
        static TURNS: Turns = Turns {
            free: Semaphore::const_new(1),
            wait: Duration::from_secs(60),
            time: SHORT,
        };
        let here = Handle::current();
        // The last waits longer than it may run.
        let three = [1, 2, 3].map(|_| TURNS.take(&here, work(SHORT / 2)));
        let outcomes = futures::future::join_all(three).await;
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert!(matches!(
            TURNS.take(&here, work(SHORT * 3)).await,
            Err(Late::Working)
        ));
        // Its turn is free again.
        assert!(TURNS.take(&here, work(Duration::ZERO)).await.is_ok());
    }

    #[tokio::test]
    async fn who_waits_too_long_is_told() {
        static TURNS: Turns = Turns {
            free: Semaphore::const_new(1),
            wait: SHORT,
            time: Duration::from_secs(60),
        };
        let here = Handle::current();
        let long = TURNS.take(&here, work(Duration::from_secs(60)));
        let next = async {
            tokio::task::yield_now().await;
            TURNS.take(&here, work(Duration::ZERO)).await
        };
        tokio::select! {
            outcome = long => panic!("{outcome:?}"),
            outcome = next => assert!(matches!(outcome, Err(Late::Waiting)), "{outcome:?}"),
        }
    }
}
