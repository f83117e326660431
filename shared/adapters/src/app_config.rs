//! Documents of AWS AppConfig, as [`settings::Source`].

use std::{
    error::Error,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use aws_sdk_appconfigdata::{Client, primitives::Blob};
use aws_types::SdkConfig;
use settings::{Layers, Live, Source};
use tokio::sync::Mutex;

use crate::{
    lambda::{self, chain},
    secrets::AwsSecrets,
};

/// How soon a session may be asked again, in seconds: the least that AppConfig takes, which refuses whoever comes sooner. How often it
/// is asked, the settings say.
const ASKED_AGAIN_AFTER: u8 = 15;

/// A configuration profile as it is deployed to an environment.
pub struct AppConfig {
    config: SdkConfig,
    /// Made when a document is looked for, which a function that calls no provider does long after its start.
    client: OnceLock<Client>,
    application: String,
    environment: String,
    profile: String,
    /// What the next call has to bring along, and when it was given; nothing before the first. By the clock on the wall: the other one
    /// stands still while a function is frozen.
    token: Mutex<Option<(String, SystemTime)>>,
}

/// The settings of this process, which follow AppConfig where `CONFIGURATION` names a profile, and the secrets that they name.
pub fn settings(config: &SdkConfig) -> Result<Arc<Live<AppConfig>>, lambda_runtime::Error> {
    let source = AppConfig::of_process(config)?;
    // The first invocation looks for a document, and Lambda gives a start more of a processor.
    if let Some(source) = &source {
        source.client();
    }
    Ok(Arc::new(live(source).with_secrets(AwsSecrets::new(config))))
}

/// The same for a function that calls nobody who asks for a secret: it has no client that could read one.
pub fn settings_without_secrets(config: &SdkConfig) -> Result<Arc<Live<AppConfig>>, lambda_runtime::Error> {
    Ok(Arc::new(live(AppConfig::of_process(config)?)))
}

fn live(source: Option<AppConfig>) -> Live<AppConfig> {
    Live::new(Layers::of_process(), source)
}

impl AppConfig {
    /// The one that `CONFIGURATION` names, as `application/environment/profile`, by their ids; none where it is empty.
    fn of_process(config: &SdkConfig) -> Result<Option<Self>, lambda_runtime::Error> {
        let ids = lambda::variable("CONFIGURATION")?;
        if ids.is_empty() {
            return Ok(None);
        }
        let mut ids = ids.split('/').map(str::to_owned);
        let (Some(application), Some(environment), Some(profile)) = (ids.next(), ids.next(), ids.next()) else {
            return Err("CONFIGURATION must be application/environment/profile".into());
        };
        let (config, client, token) = (config.clone(), OnceLock::new(), Mutex::new(None));
        Ok(Some(Self { config, client, application, environment, profile, token }))
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| Client::new(&self.config))
    }
}

impl Source for AppConfig {
    async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
        // Taken out: a token is good for one call, and after one that failed there has to be a new session. So there has for whoever
        // misses something and looks again at once.
        let mut token = self.token.lock().await;
        let may_be_shown =
            |at: SystemTime| at.elapsed().is_ok_and(|since| since >= Duration::from_secs(ASKED_AGAIN_AFTER.into()));
        let mut known = token.take().filter(|(_, at)| may_be_shown(*at)).map(|(token, _)| token);
        if known.is_none() {
            let session = self.client().start_configuration_session();
            let session = session
                .application_identifier(&self.application)
                .environment_identifier(&self.environment)
                .configuration_profile_identifier(&self.profile)
                .required_minimum_poll_interval_in_seconds(ASKED_AGAIN_AFTER.into());
            known = session.send().await.map_err(|error| chain(&error))?.initial_configuration_token;
        }
        let answer = self.client().get_latest_configuration().set_configuration_token(known).send().await;
        let answer = answer.map_err(|error| chain(&error))?;
        *token = answer.next_poll_configuration_token.map(|token| (token, SystemTime::now()));
        let document = answer.configuration.map(Blob::into_inner).filter(|document| !document.is_empty());
        Ok(document.map(String::from_utf8).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex as StdMutex, PoisonError};

    use aws_sdk_appconfigdata::config::{
        BehaviorVersion, Credentials, Region, SharedCredentialsProvider,
        http::{HttpRequest, HttpResponse},
    };
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };

    use super::*;

    /// Begins a session, or answers its document, and keeps which of the two it was asked for.
    #[derive(Debug, Clone, Default)]
    struct Recorder(Arc<StdMutex<Vec<&'static str>>>);

    impl HttpConnector for Recorder {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let begins = request.uri().contains("/configurationsessions");
            let asked = if begins { "session" } else { "document" };
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
            let body = if begins { r#"{"InitialConfigurationToken": "first"}"# } else { "{}" };
            let mut answer = HttpResponse::new(200.try_into().unwrap(), body.into());
            answer.headers_mut().insert("next-poll-configuration-token", "next");
            HttpConnectorFuture::ready(Ok(answer))
        }
    }

    /// AppConfig refuses a session that is asked again too soon; the emulator does not.
    #[tokio::test]
    async fn whoever_looks_again_at_once_begins_a_new_session() {
        let recorder = Recorder::default();
        let connector = SharedHttpConnector::new(recorder.clone());
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        let [application, environment, profile] = ["a", "e", "p"].map(str::to_owned);
        let (client, token) = (OnceLock::new(), Mutex::new(None));
        let app_config = AppConfig { config, client, application, environment, profile, token };
        for _ in 0..2 {
            assert_eq!(app_config.newer().await.unwrap().as_deref(), Some("{}"));
        }
        for (_, at) in app_config.token.lock().await.iter_mut() {
            *at = at.checked_sub(Duration::from_secs(ASKED_AGAIN_AFTER.into())).unwrap();
        }
        app_config.newer().await.unwrap();
        let asked = recorder.0.lock().unwrap().clone();
        assert_eq!(asked, ["session", "document", "session", "document", "document"]);
    }
}
