//! The bearer token that a service asks for.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, SystemTime},
};

use application::{event_store::BoxError, ports::ProviderError};
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use settings::{Cache, Secrets};
use tokio::{sync::Mutex, time::timeout};
use tracing::warn;

/// How long a token is relied on at most that could not be read again.
const KEPT_FOR_AFTER_A_FAILURE: Duration = Duration::from_secs(30);

/// How long a read may take. It is on the way of a call.
const WAIT: Duration = Duration::from_millis(1_500);

const BYTES_MAX: usize = 4_096;

/// Why there is no token. None of it shows what was read.
#[derive(Debug, thiserror::Error)]
enum NoToken {
    #[error("the token cannot be read")]
    NotRead(#[source] BoxError),
    #[error("the secret is no bearer token, which has 1 to 4096 letters, digits and - . _ ~ + / =")]
    NotOne,
}

impl From<NoToken> for ProviderError {
    fn from(error: NoToken) -> Self {
        Self::Failed(error.into())
    }
}

/// Somebody is there and does not know who calls: another token may help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unauthenticated(pub(crate) &'static str);

impl Unauthenticated {
    pub(crate) fn is_why<T>(answer: &Result<T, ProviderError>) -> bool {
        matches!(answer, Err(ProviderError::Failed(error)) if error.is::<Self>())
    }
}

/// A token, read when it is first needed and kept for a while, as the header that shows it. One caller reads at a time.
pub(crate) struct Token {
    pub(crate) name: String,
    secrets: Arc<dyn Secrets>,
    kept: Mutex<Option<Kept>>,
    /// How long one is relied on before it is read again.
    kept_seconds: AtomicU32,
}

struct Kept {
    header: HeaderValue,
    /// By the clock on the wall: the other one stands still while a function is frozen.
    read_at: SystemTime,
    good_for: Duration,
}

impl Token {
    pub(crate) fn new(name: String, secrets: Arc<dyn Secrets>) -> Self {
        Self { name, secrets, kept: Mutex::new(None), kept_seconds: Cache::default().token_seconds.into() }
    }

    /// Counts from the next reading.
    pub(crate) fn keep_for(&self, seconds: u32) {
        self.kept_seconds.store(seconds, Ordering::Relaxed);
    }

    fn kept_for(&self) -> Duration {
        Duration::from_secs(self.kept_seconds.load(Ordering::Relaxed).into())
    }

    /// The one that is kept, or, when that is old, the one that is there by now. Where none can be read the last one stays:
    /// it is good more often than not.
    pub(crate) async fn current(&self) -> Result<HeaderValue, ProviderError> {
        let mut kept = self.kept.lock().await;
        if let Some(Kept { header, read_at, good_for }) = &*kept
            && read_at.elapsed().is_ok_and(|age| age < *good_for)
        {
            return Ok(header.clone());
        }
        let (header, good_for) = match (self.read().await, &*kept) {
            (Ok(header), _) => (header, self.kept_for()),
            (Err(error), None) => return Err(error.into()),
            (Err(error), Some(last)) => {
                self.not_renewed(&error);
                (last.header.clone(), self.kept_for().min(KEPT_FOR_AFTER_A_FAILURE))
            }
        };
        *kept = Some(Kept { header: header.clone(), read_at: SystemTime::now(), good_for });
        Ok(header)
    }

    /// What there is by now in the place of one that was refused, if it is another one.
    pub(crate) async fn instead_of(&self, refused: &HeaderValue) -> Option<HeaderValue> {
        let mut kept = self.kept.lock().await;
        if let Some(Kept { header, .. }) = &*kept
            && header != refused
        {
            return Some(header.clone());
        }
        let header = self.read().await.inspect_err(|error| self.not_renewed(error)).ok()?;
        *kept = Some(Kept { header: header.clone(), read_at: SystemTime::now(), good_for: self.kept_for() });
        (header != refused).then_some(header)
    }

    async fn read(&self) -> Result<HeaderValue, NoToken> {
        let read = timeout(WAIT, self.secrets.read(&self.name)).await;
        header(&read.map_err(|elapsed| NoToken::NotRead(elapsed.into()))?.map_err(NoToken::NotRead)?)
    }

    fn not_renewed(&self, error: &NoToken) {
        let cause = error.source().map(ToString::to_string);
        warn!(secret = self.name, %error, cause, "token not read again: the last one stays");
    }
}

/// As RFC 6750 has it. A line's end is no part of the token: many an editor adds one.
fn header(token: &SecretString) -> Result<HeaderValue, NoToken> {
    let token = token.expose_secret().trim_ascii();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if !(1..=BYTES_MAX).contains(&token.len()) || !token.chars().all(allowed) {
        return Err(NoToken::NotOne);
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| NoToken::NotOne)?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use futures_util::future::BoxFuture;

    use super::*;

    /// Answers what was put into it last, if anything.
    #[derive(Clone, Default)]
    struct Place(Arc<StdMutex<Option<&'static str>>>);

    impl Place {
        fn has(&self, token: Option<&'static str>) {
            *self.0.lock().unwrap() = token;
        }
    }

    impl Secrets for Place {
        fn read<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<SecretString, Box<dyn Error + Send + Sync>>> {
            let token = *self.0.lock().unwrap();
            Box::pin(async move { token.map(SecretString::from).ok_or_else(|| "nobody is there".into()) })
        }
    }

    fn token() -> (Token, Place) {
        let place = Place::default();
        (Token::new("stack/pay".to_owned(), Arc::new(place.clone())), place)
    }

    /// As if so long had passed.
    async fn passes(token: &Token, time: Duration) {
        for kept in token.kept.lock().await.iter_mut() {
            kept.read_at = kept.read_at.checked_sub(time).unwrap();
        }
    }

    #[tokio::test]
    async fn a_token_is_kept_for_five_minutes() {
        let (token, place) = token();
        place.has(Some("first"));
        assert_eq!(token.current().await.unwrap(), "Bearer first");
        place.has(Some("second"));
        passes(&token, Duration::from_secs(299)).await;
        assert_eq!(token.current().await.unwrap(), "Bearer first");
        passes(&token, Duration::from_secs(1)).await;
        assert_eq!(token.current().await.unwrap(), "Bearer second");
    }

    #[tokio::test]
    async fn the_last_token_stays_while_none_can_be_read() {
        let (token, place) = token();
        assert!(token.current().await.is_err());
        place.has(Some("first"));
        let first = token.current().await.unwrap();
        for unreadable in [None, Some("no token {}")] {
            place.has(unreadable);
            passes(&token, Duration::from_mins(5)).await;
            assert_eq!(token.current().await.unwrap(), "Bearer first");
            assert_eq!(token.instead_of(&first).await, None);
        }
        place.has(Some("second"));
        passes(&token, Duration::from_secs(29)).await;
        assert_eq!(token.current().await.unwrap(), "Bearer first", "it is not asked for at every call");
        passes(&token, Duration::from_secs(1)).await;
        assert_eq!(token.current().await.unwrap(), "Bearer second");
    }

    #[tokio::test]
    async fn whoever_was_refused_too_late_gets_the_token_that_another_has_read() {
        let (token, place) = token();
        place.has(Some("first"));
        let first = token.current().await.unwrap();
        assert_eq!(token.instead_of(&first).await, None);
        place.has(Some("second"));
        assert_eq!(token.instead_of(&first).await.unwrap(), "Bearer second");
        place.has(None);
        assert_eq!(token.instead_of(&first).await.unwrap(), "Bearer second");
    }

    #[test]
    fn a_header_shows_its_token_to_nobody_but_the_provider() {
        let header = header(&SecretString::from("canary")).unwrap();
        assert_eq!((format!("{header:?}").as_str(), header.as_bytes()), ("Sensitive", &b"Bearer canary"[..]));
    }
}
