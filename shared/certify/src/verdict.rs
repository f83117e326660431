//! Whether a law holds: it panics when it does not.

use std::{cell::RefCell, panic, panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::time::timeout;

use crate::exchanges::cut;

thread_local! {
    /// What the last panic said, and where.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Has panics remembered in place of printed: a broken law is a result. All laws run on one thread.
pub(crate) fn keep_what_panics() {
    panic::set_hook(Box::new(|panic| {
        let message = cut(panic.payload_as_str().unwrap_or("a panic without a message"));
        let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
        SAID.set(format!("         {}\n         at {place}", message.replace('\n', "\n         ")));
    }));
}

/// What breaks the law, if it is broken.
pub(crate) async fn verdict(law: impl Future<Output = ()>, at_most: Duration) -> Result<(), String> {
    // Nobody looks again at what the law has left unfinished.
    match timeout(at_most, AssertUnwindSafe(law).catch_unwind()).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(SAID.take()),
        Err(_) => Err(format!("         it takes longer than {} s", at_most.as_secs())),
    }
}
