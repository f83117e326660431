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

/// What AppConfig wants between two calls of a session, which is the least that it takes. How often it is asked, the settings say.
const SECONDS_BETWEEN_CALLS: u16 = 15;

/// A configuration profile as it is deployed to an environment.
pub struct AppConfig {
    config: SdkConfig,
    /// Made when a document is looked for, which a function that calls no provider does long after its start.
    client: OnceLock<Client>,
    application: String,
    environment: String,
    profile: String,
    /// What the next call of the session has to bring along, and when it was given out; nothing before the first.
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
        // Taken out: a token is good for one call, and after one that failed there has to be a new session. So there has to be for
        // whoever looks again too soon after the last time, which AppConfig refuses within a session (`PollIntervalNotSatisfied`).
        let mut token = self.token.lock().await;
        let pause = Duration::from_secs(SECONDS_BETWEEN_CALLS.into());
        let due = token.take().filter(|(_, at)| at.elapsed().is_ok_and(|since| since >= pause));
        let mut known = due.map(|(known, _)| known);
        if known.is_none() {
            let session = self.client().start_configuration_session();
            let session = session
                .application_identifier(&self.application)
                .environment_identifier(&self.environment)
                .configuration_profile_identifier(&self.profile)
                .required_minimum_poll_interval_in_seconds(SECONDS_BETWEEN_CALLS.into());
            known = session.send().await.map_err(|error| chain(&error))?.initial_configuration_token;
        }
        let answer = self.client().get_latest_configuration().set_configuration_token(known).send().await;
        let answer = answer.map_err(|error| chain(&error))?;
        *token = answer.next_poll_configuration_token.map(|next| (next, SystemTime::now()));
        let document = answer.configuration.map(Blob::into_inner).filter(|document| !document.is_empty());
        Ok(document.map(String::from_utf8).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex as StdMutex;

    use aws_sdk_appconfigdata::config::{
        BehaviorVersion, Credentials, Region, SharedCredentialsProvider,
        http::{HttpRequest, HttpResponse},
    };
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };

    use super::*;

    /// Gives out a document and tokens, and keeps what was asked for.
    #[derive(Debug, Clone, Default)]
    struct Recorder(Arc<StdMutex<Vec<String>>>);

    impl HttpConnector for Recorder {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let asked = request.uri().trim_start_matches("https://appconfigdata.us-east-1.amazonaws.com").to_owned();
            let (status, body) = match asked.as_str() {
                "/configurationsessions" => (201_u16, r#"{"InitialConfigurationToken": "first"}"#),
                _ => (200, r#"{"poll_seconds": 20}"#),
            };
            self.0.lock().unwrap().push(asked);
            let mut response = HttpResponse::new(status.try_into().unwrap(), body.into());
            response.headers_mut().insert("Next-Poll-Configuration-Token", "next");
            HttpConnectorFuture::ready(Ok(response))
        }
    }

    #[tokio::test]
    async fn a_session_is_not_asked_again_before_its_time_but_begun_anew() {
        let recorder = Recorder::default();
        let connector = SharedHttpConnector::new(recorder.clone());
        let config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        let [application, environment, profile] = ["application", "environment", "profile"].map(str::to_owned);
        let (client, token) = (OnceLock::new(), Mutex::new(None));
        let source = AppConfig { config, client, application, environment, profile, token };
        let anew = ["/configurationsessions", "/configuration?configuration_token=first"].as_slice();
        let next = ["/configuration?configuration_token=next"].as_slice();
        for (passed, asked) in [(0, anew), (14, anew), (15, next)] {
            // As if so long had passed.
            if let Some((_, at)) = source.token.lock().await.as_mut() {
                *at = at.checked_sub(Duration::from_secs(passed)).unwrap();
            }
            assert_eq!(source.newer().await.unwrap().as_deref(), Some(r#"{"poll_seconds": 20}"#));
            assert_eq!(std::mem::take(&mut *recorder.0.lock().unwrap()), asked, "after {passed} s");
        }
    }
}
