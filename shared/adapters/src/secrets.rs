//! Secrets Manager and SSM's Parameter Store, as [`settings::Secrets`].

use std::error::Error;

use aws_sdk_secretsmanager as secretsmanager;
use aws_sdk_ssm as ssm;
use aws_types::SdkConfig;
use futures_util::future::BoxFuture;
use secrecy::SecretString;
use settings::Secrets;

use crate::lambda::chain;

/// A name that begins with `ssm:` is that of a parameter, any other that of a secret in Secrets Manager.
pub struct AwsSecrets {
    /// Of which a client is made for each read: there is one in minutes, and none where no provider asks for a token.
    config: SdkConfig,
}

impl AwsSecrets {
    pub fn new(config: &SdkConfig) -> Self {
        Self { config: config.clone() }
    }

    async fn secret(&self, name: &str) -> Result<Option<String>, String> {
        let read = secretsmanager::Client::new(&self.config).get_secret_value().secret_id(name).send();
        Ok(read.await.map_err(|error| chain(&error))?.secret_string)
    }

    async fn parameter(&self, name: &str) -> Result<Option<String>, String> {
        let read = ssm::Client::new(&self.config).get_parameter().name(name).with_decryption(true).send();
        Ok(read.await.map_err(|error| chain(&error))?.parameter.and_then(|parameter| parameter.value))
    }
}

impl Secrets for AwsSecrets {
    fn read<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<SecretString, Box<dyn Error + Send + Sync>>> {
        Box::pin(async move {
            let value = match name.strip_prefix("ssm:") {
                Some(parameter) => self.parameter(parameter).await,
                None => self.secret(name).await,
            };
            value?.map(SecretString::from).ok_or_else(|| "it has no text".into())
        })
    }
}
