//! Whether a law holds: it panics when it does not.

use std::{
    cell::RefCell,
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::time::timeout;

use crate::exchanges::cut;

thread_local! {
    /// What the last panic said, and where.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

fn remember(panic: &PanicHookInfo<'_>) {
    let message = cut(panic.payload_as_str().unwrap_or("a panic without a message"));
    let place = panic.location().map(|place| format!("{}:{}", place.file(), place.line())).unwrap_or_default();
    SAID.set(format!("         {}\n         at {place}", message.replace('\n', "\n         ")));
}

/// What breaks the law, if it is broken. Its panic is remembered in place of printed, because it is a result; any other one is
/// printed, before a law and after it. All laws run on one thread.
pub(crate) async fn verdict(law: impl Future<Output = ()>, at_most: Duration) -> Result<(), String> {
    let print = panic::take_hook();
    panic::set_hook(Box::new(remember));
    // Nobody looks again at what the law has left unfinished.
    let held = timeout(at_most, AssertUnwindSafe(law).catch_unwind()).await;
    panic::set_hook(print);
    match held {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(SAID.take()),
        Err(_) => Err(format!("         it takes longer than {} s", at_most.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static PRINTED: AtomicUsize = AtomicUsize::new(0);

    fn fails() {
        panic!("money is lost");
    }

    /// The only test of this process that panics: a hook is there for all threads.
    #[tokio::test]
    async fn a_law_s_panic_is_its_verdict_and_any_other_one_is_printed() {
        let before = panic::take_hook();
        panic::set_hook(Box::new(|_| {
            PRINTED.fetch_add(1, Ordering::SeqCst);
        }));
        let broken = verdict(async { fails() }, Duration::from_secs(30)).await;
        let held = verdict(async {}, Duration::from_secs(30)).await;
        let by_laws = PRINTED.load(Ordering::SeqCst);
        let other = panic::catch_unwind(fails);
        panic::set_hook(before);

        assert!(broken.is_err_and(|why| why.contains("money is lost") && why.contains("verdict.rs:")));
        assert_eq!(held, Ok(()));
        assert!(other.is_err());
        assert_eq!((by_laws, PRINTED.load(Ordering::SeqCst)), (0, 1));
    }
}
