//! Documents of AWS AppConfig, as [`settings::Source`].

use std::{
    error::Error,
    sync::{Arc, OnceLock},
};

use aws_sdk_appconfigdata::{Client, primitives::Blob};
use aws_types::SdkConfig;
use settings::{Layers, Live, Source};
use tokio::sync::Mutex;

use crate::{
    lambda::{self, chain},
    secrets::AwsSecrets,
};

/// A configuration profile as it is deployed to an environment.
pub struct AppConfig {
    config: SdkConfig,
    /// Made when a document is looked for, which a function that calls no provider does long after its start.
    client: OnceLock<Client>,
    application: String,
    environment: String,
    profile: String,
    /// What the next call has to bring along; nothing before the first.
    token: Mutex<Option<String>>,
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
        // Taken out: a token is good for one call, and after one that failed there has to be a new session.
        let mut token = self.token.lock().await;
        let mut known = token.take();
        if known.is_none() {
            let session = self.client().start_configuration_session();
            let session = session
                .application_identifier(&self.application)
                .environment_identifier(&self.environment)
                .configuration_profile_identifier(&self.profile)
                // The least that AppConfig takes; how often it is asked, the settings say.
                .required_minimum_poll_interval_in_seconds(15);
            known = session.send().await.map_err(|error| chain(&error))?.initial_configuration_token;
        }
        let answer = self.client().get_latest_configuration().set_configuration_token(known).send().await;
        let answer = answer.map_err(|error| chain(&error))?;
        *token = answer.next_poll_configuration_token;
        let document = answer.configuration.map(Blob::into_inner).filter(|document| !document.is_empty());
        Ok(document.map(String::from_utf8).transpose()?)
    }
}
