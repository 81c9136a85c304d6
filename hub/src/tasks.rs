//! The one place that starts tasks: each has a name, and one that panics ends the process with its cause.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio::task::JoinSet;

/// The process's running tasks. Clones share them.
#[derive(Debug, Clone)]
pub struct Tasks {
    running: Arc<Mutex<JoinSet<()>>>,
    failed: watch::Sender<Option<&'static str>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            running: Arc::default(),
            failed: watch::Sender::new(None),
        }
    }
}

impl Tasks {
    /// Runs `future` as a task called `name`.
    pub fn spawn(&self, name: &'static str, future: impl Future<Output = ()> + Send + 'static) {
        let guard = Panicked {
            name,
            failed: self.failed.clone(),
        };
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        // Tasks that ended are taken out here, so that the set holds only what runs.
        while running.try_join_next().is_some() {}
        running.spawn(async move {
            let _guard = guard;
            future.await;
        });
    }

    /// Returns with the name of the first task that panicked; never, if none does.
    pub async fn failed(&self) -> &'static str {
        let mut failed = self.failed.subscribe();
        match failed.wait_for(Option::is_some).await {
            Ok(name) => name.unwrap_or("task"),
            Err(_) => std::future::pending().await,
        }
    }

    /// Ends every task, where it stands.
    pub fn abort_all(&self) {
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .abort_all();
    }
}

struct Panicked {
    name: &'static str,
    failed: watch::Sender<Option<&'static str>>,
}

impl Drop for Panicked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.failed.send_replace(Some(self.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_by_name() {
        let tasks = Tasks::default();
        tasks.spawn("fine", async {});
        tasks.spawn("broken", async { panic!("on purpose") });
        assert_eq!(tasks.failed().await, "broken");
    }
}
