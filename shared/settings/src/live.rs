//! Settings that follow AppConfig while a function runs.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{sync::Mutex, time::timeout};
use tracing::{error, info};

use crate::{BadSettings, Layers, Secrets, Settings, secrets::Nowhere};

/// How long anybody waits for a newer document. It is on the way of a request.
const WAIT: Duration = Duration::from_millis(1_500);

/// Where documents come from.
pub trait Source: Send + Sync {
    /// A newer document than the one that was answered last; `None` if that is still the newest.
    fn newer(&self) -> impl Future<Output = Result<Option<String>, Box<dyn Error + Send + Sync>>> + Send;
}

/// There is nothing to go by yet.
#[derive(Debug, thiserror::Error)]
pub enum NoSettings {
    #[error("no document of AppConfig has been read yet")]
    NotReached,
    #[error(transparent)]
    Bad(#[from] BadSettings),
}

/// The settings of a running function. It looks for newer ones when somebody asks, at most once in so many seconds; what is
/// newer and wrong, or cannot be had, leaves it with the last that were good.
pub struct Live<S> {
    source: Option<S>,
    secrets: Arc<dyn Secrets>,
    state: Mutex<State>,
}

struct State {
    layers: Layers,
    /// By the newest good document.
    settings: Option<Arc<Settings>>,
    /// Without one; nothing while nobody has asked for them.
    packaged: Option<Arc<Settings>>,
    /// By the clock on the wall: the other one stands still while a function is frozen.
    looked_at: Option<SystemTime>,
}

impl<S: Source> Live<S> {
    /// Without a source, the layers are all there is.
    pub fn new(layers: Layers, source: Option<S>) -> Self {
        let state = State { layers, settings: None, packaged: None, looked_at: None };
        Self { source, secrets: Arc::new(Nowhere), state: Mutex::new(state) }
    }

    /// With the place where the secrets are kept that settings name.
    #[must_use]
    pub fn with_secrets(self, secrets: impl Secrets + 'static) -> Self {
        Self { secrets: Arc::new(secrets), ..self }
    }

    pub fn secrets(&self) -> &Arc<dyn Secrets> {
        &self.secrets
    }

    /// Has whoever asks next look for a newer document, however young this one is.
    pub async fn look_again(&self) {
        self.state.lock().await.looked_at = None;
    }

    /// Before the first document has been read, there are none: whoever went by the defaults would place orders with providers
    /// that nobody has chosen.
    pub async fn current(&self) -> Result<Arc<Settings>, NoSettings> {
        let mut state = self.state.lock().await;
        if state.settings.is_none() || self.is_due(&state) {
            self.look(&mut state).await?;
        }
        state.settings.as_ref().map(Arc::clone).ok_or(NoSettings::NotReached)
    }

    /// What is known without asking anybody: the newest settings that were read, or those of the other layers. For whoever may
    /// go by either and must not wait.
    pub async fn known(&self) -> Result<Arc<Settings>, BadSettings> {
        let mut state = self.state.lock().await;
        if let Some(known) = state.settings.as_ref().or(state.packaged.as_ref()) {
            return Ok(Arc::clone(known));
        }
        let packaged = Arc::new(state.layers.settings()?);
        state.packaged = Some(Arc::clone(&packaged));
        Ok(packaged)
    }

    /// Looks for a newer document if that is due, for whoever goes by what is [known](Self::known) and has this done beside their
    /// work. Not the first time: a process that has just begun has enough to do.
    pub async fn keep_up(&self) {
        let mut state = self.state.lock().await;
        if state.looked_at.is_none() {
            state.looked_at = Some(SystemTime::UNIX_EPOCH);
        } else if self.is_due(&state) {
            // What is wrong has been said in the log.
            let _ = self.look(&mut state).await;
        }
    }

    fn is_due(&self, state: &State) -> bool {
        let known = state.settings.as_ref().or(state.packaged.as_ref());
        let poll = known.map_or(0, |settings| settings.poll_seconds);
        let is_young = |at: SystemTime| at.elapsed().is_ok_and(|since| since < Duration::from_secs(poll.into()));
        self.source.is_some() && !state.looked_at.is_some_and(is_young)
    }

    async fn look(&self, state: &mut State) -> Result<(), BadSettings> {
        state.looked_at = Some(SystemTime::now());
        let newer = match &self.source {
            None => Ok(Some(None)),
            Some(source) => match timeout(WAIT, source.newer()).await {
                Ok(Ok(newer)) => Ok(newer.map(Some)),
                Ok(Err(error)) => Err(error),
                Err(elapsed) => Err(elapsed.into()),
            },
        };
        match newer {
            Ok(None) => {}
            Ok(Some(document)) => {
                let layers = state.layers.with_document(document);
                match layers.settings() {
                    Ok(settings) => {
                        if state.settings.is_some() {
                            info!("settings changed");
                        }
                        state.layers = layers;
                        state.settings = Some(Arc::new(settings));
                    }
                    Err(bad) => {
                        // A metric filter counts these lines, and a deployment of settings is taken back for them: the wording is
                        // the filter's (template.yaml).
                        error!(error = %bad, "settings not taken");
                        if state.settings.is_none() {
                            return Err(bad);
                        }
                    }
                }
            }
            Err(error) => error!(error = %error, "no newer settings: the last good ones stay"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex as StdMutex, PoisonError};

    use super::*;
    use crate::Kind;

    /// Answers what is put into it, once each; then that nothing is newer.
    #[derive(Default)]
    struct Script(StdMutex<Vec<Result<String, String>>>);

    impl Source for Arc<Script> {
        async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
            let next = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
            next.transpose().map_err(Into::into)
        }
    }

    fn live() -> (Live<Arc<Script>>, Arc<Script>) {
        let script = Arc::new(Script::default());
        (Live::new(Layers::new("local".to_owned(), []), Some(Arc::clone(&script))), script)
    }

    fn comes(script: &Script, answer: Result<&str, &str>) {
        script.0.lock().unwrap().push(answer.map(str::to_owned).map_err(str::to_owned));
    }

    /// As if so long had passed.
    async fn passes(live: &Live<Arc<Script>>, seconds: u64) {
        let mut state = live.state.lock().await;
        state.looked_at = state.looked_at.and_then(|at| at.checked_sub(Duration::from_secs(seconds)));
    }

    #[tokio::test]
    async fn a_new_document_counts_once_the_old_one_is_old_enough() {
        let (live, script) = live();
        comes(&script, Ok(r#"{"poll_seconds": 100}"#));
        assert_eq!(live.current().await.unwrap().poll_seconds, 100);
        comes(&script, Ok(r#"{"poll_seconds": 200}"#));
        passes(&live, 99).await;
        assert_eq!(live.current().await.unwrap().poll_seconds, 100);
        passes(&live, 1).await;
        assert_eq!(live.current().await.unwrap().poll_seconds, 200);
        passes(&live, 200).await;
        assert_eq!(live.current().await.unwrap().poll_seconds, 200, "nothing is newer");
    }

    #[tokio::test]
    async fn whoever_misses_something_has_a_new_document_looked_for_at_once() {
        let (live, script) = live();
        comes(&script, Ok("{}"));
        live.current().await.unwrap();
        comes(&script, Ok(r#"{"poll_seconds": 20}"#));
        assert_eq!(live.current().await.unwrap().poll_seconds, 30);
        live.look_again().await;
        assert_eq!(live.current().await.unwrap().poll_seconds, 20);
    }

    #[tokio::test]
    async fn what_is_wrong_or_cannot_be_had_leaves_the_last_good_ones() {
        let (live, script) = live();
        comes(&script, Ok(r#"{"poll_seconds": 20}"#));
        live.current().await.unwrap();
        for answer in [Ok(r#"{"poll_seconds": 0}"#), Ok("{"), Err("nobody is there")] {
            comes(&script, answer);
            passes(&live, 20).await;
            assert_eq!(live.current().await.unwrap().poll_seconds, 20, "{answer:?}");
        }
    }

    /// Answers nobody.
    struct Silent;

    impl Source for Silent {
        async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
            std::future::pending().await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_answer_is_waited_for_once_and_not_for_long() {
        let live = Live::new(Layers::new("local".to_owned(), []), Some(Silent));
        live.state.lock().await.settings = Some(Arc::new(Settings::default()));
        let began = tokio::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(*live.current().await.unwrap(), Settings::default());
        }
        assert_eq!(began.elapsed(), WAIT);
    }

    #[tokio::test]
    async fn before_the_first_document_there_are_no_settings() {
        let (live, script) = live();
        comes(&script, Err("nobody is there"));
        assert!(matches!(live.current().await, Err(NoSettings::NotReached)));
        comes(&script, Ok("{"));
        assert!(matches!(live.current().await, Err(NoSettings::Bad(_))));
        comes(&script, Ok("{}"));
        let providers = live.current().await.unwrap().providers.clone();
        assert!(providers.each().iter().all(|(_, provider)| provider.kind == Kind::Sandbox));
    }

    #[tokio::test]
    async fn without_a_source_the_layers_are_all_there_is() {
        let live: Live<Arc<Script>> = Live::new(Layers::new("prod".to_owned(), []), None);
        for _ in 0..2 {
            assert_eq!(*live.current().await.unwrap(), Settings::default());
            assert_eq!(*live.known().await.unwrap(), Settings::default());
            live.keep_up().await;
        }
    }

    #[tokio::test]
    async fn who_must_not_wait_goes_by_what_is_known_and_looks_beside_their_work_but_at_the_first_time() {
        let (live, script) = live();
        comes(&script, Ok(r#"{"poll_seconds": 100}"#));
        for known in [30, 30, 100, 100] {
            assert_eq!(live.known().await.unwrap().poll_seconds, known);
            if known == 100 {
                comes(&script, Ok(r#"{"poll_seconds": 200}"#));
            }
            live.keep_up().await;
        }
        passes(&live, 100).await;
        live.keep_up().await;
        assert_eq!(live.known().await.unwrap().poll_seconds, 200);
        assert_eq!(live.current().await.unwrap().poll_seconds, 200);
    }

    #[tokio::test]
    async fn what_is_wrong_or_cannot_be_had_leaves_what_is_known_to_who_must_not_wait() {
        let (live, script) = live();
        live.keep_up().await;
        for answer in [Ok(r#"{"poll_seconds": 0}"#), Err("nobody is there")] {
            comes(&script, answer);
            live.keep_up().await;
            assert_eq!(live.known().await.unwrap().poll_seconds, 30, "{answer:?}");
            passes(&live, 30).await;
        }
        // Whoever places orders by them still has none.
        assert!(matches!(live.current().await, Err(NoSettings::NotReached)));
    }
}
