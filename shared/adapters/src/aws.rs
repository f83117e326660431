//! The SDK's settings, the same for every client of every function.

use std::{sync::LazyLock, time::Duration};

use aws_sdk_dynamodb::config::{
    BehaviorVersion, Credentials, HttpClient, SharedCredentialsProvider, retry::RetryConfig, timeout::TimeoutConfig,
};
use aws_smithy_http_client::{
    Builder,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::client::http::http_client_fn;
use aws_types::{
    SdkConfig,
    origin::Origin,
    region::Region,
    sdk_config::SharedHttpClient,
    service_config::{LoadServiceConfig, ServiceConfigKey},
};

/// What the certificates of AWS's own endpoints lead to; a few of the hundred and more that an operating system has.
const AMAZON_ROOTS: &str = include_str!("amazon_roots.pem");

/// The same for the whole process, whose clients so share their connections to AWS itself. Region, credentials and endpoint come from the environment, as everywhere on AWS.
///
/// The SDK retries by itself, so nobody retries around it (but the confirmation, which goes on without
/// its message, tries that twice). One operation, retries included, ends within 4 s: the shortest
/// function timeout in `template.yaml` leaves room for two.
///
/// A function does this before it takes its first request, so it costs next to nothing: nobody looks for settings anywhere
/// but in the environment, where Lambda puts them, and no root is parsed that is not needed.
pub fn config() -> SdkConfig {
    static CONFIG: LazyLock<SdkConfig> = LazyLock::new(make_config);
    CONFIG.clone()
}

fn make_config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_millis(1_800))
        .operation_timeout(Duration::from_secs(4))
        .build();
    let mut config = SdkConfig::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .service_config(Environment);
    // Or some services would put retries of their own in the place of these.
    config.insert_origin("retry_config", Origin::shared_config());
    config.set_region(variable("AWS_REGION").map(Region::new));
    config.set_endpoint_url(variable("AWS_ENDPOINT_URL"));
    config.set_use_fips(switch("AWS_USE_FIPS_ENDPOINT"));
    config.set_use_dual_stack(switch("AWS_USE_DUALSTACK_ENDPOINT"));
    config.set_credentials_provider(credentials());
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    if reaches_amazon_itself(&variable("AWS_REGION").unwrap_or_default(), names) {
        config.set_http_client(Some(amazons_client()));
    }
    config.build()
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn switch(name: &str) -> Option<bool> {
    variable(name).map(|value| value.eq_ignore_ascii_case("true"))
}

/// Those of the function's role. They are the same as long as the process lives: Lambda ends it before they expire.
fn credentials() -> Option<SharedCredentialsProvider> {
    let (id, secret) = (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?);
    let credentials = Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment");
    Some(SharedCredentialsProvider::new(credentials))
}

/// What one service is told otherwise than all of them, such as `AWS_ENDPOINT_URL_DYNAMODB`.
#[derive(Debug)]
struct Environment;

impl LoadServiceConfig for Environment {
    fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
        let service = key.service_id().to_ascii_uppercase().replace(' ', "_");
        variable(&format!("{}_{service}", key.env())).or_else(|| variable(key.env()))
    }
}

/// One for all of a function's clients of the SDK, and with it one pool of connections.
///
/// Whatever client of the SDK is made of [`trusting_amazon`] has it parse the roots to see whether it can, and keeps nothing of that:
/// the first call parses them again. This one has nothing tried beforehand, and a test parses them.
fn amazons_client() -> SharedHttpClient {
    let client = trusting_amazon();
    http_client_fn(move |settings, components| client.http_connector(settings, components))
}

fn trusting_amazon() -> SharedHttpClient {
    let roots = TrustStore::empty().with_pem_certificate(AMAZON_ROOTS);
    let tls = TlsContext::builder().with_trust_store(roots).build().unwrap_or_default();
    Builder::new().tls_provider(Provider::Rustls(CryptoMode::AwsLc)).tls_context(tls).build_https()
}

/// Whether what answers is certain to show a certificate of Amazon's. Elsewhere the SDK makes its own client, which trusts
/// whatever the operating system does: where the environment (variables of these names) says that calls go to another
/// endpoint, through a proxy that may look into them, or are trusted by other roots, and in the partitions of China, of
/// governments and of Europe, whose regions have other names.
fn reaches_amazon_itself(region: &str, names: impl Iterator<Item = String>) -> bool {
    let changes_who_answers = |name: String| {
        let name = name.to_ascii_uppercase();
        name.starts_with("AWS_ENDPOINT_URL")
            || name.starts_with("AWS_USE_")
            || name.ends_with("_PROXY")
            || ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"].contains(&name.as_str())
    };
    region.split('-').count() == 3 && !region.starts_with("cn-") && !names.into_iter().any(changes_who_answers)
}

#[cfg(test)]
mod tests {
    use base64::{Engine, prelude::BASE64_STANDARD};
    use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

    use super::*;

    fn reaches(region: &str, names: &[&str]) -> bool {
        reaches_amazon_itself(region, names.iter().map(|name| (*name).to_owned()))
    }

    #[test]
    fn amazons_roots_serve_where_nothing_else_is_configured() {
        let on_lambda = ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_LAMBDA_RUNTIME_API", "EVENTS_TABLE"];
        for region in ["us-east-1", "ap-southeast-7", "mx-central-1"] {
            assert!(reaches(region, &on_lambda), "{region}");
        }
        for region in ["cn-north-1", "us-gov-west-1", "us-iso-east-1", "eusc-de-east-1", "", "local"] {
            assert!(!reaches(region, &on_lambda), "{region}");
        }
        for name in [
            "AWS_ENDPOINT_URL",
            "AWS_ENDPOINT_URL_DYNAMODB",
            "AWS_USE_FIPS_ENDPOINT",
            "AWS_CA_BUNDLE",
            "SSL_CERT_FILE",
            "HTTPS_PROXY",
            "https_proxy",
        ] {
            assert!(!reaches("us-east-1", &["AWS_REGION", name]), "{name}");
        }
    }

    /// When each of the roots expires, as its certificate says: the second of two times in UTC.
    fn expiries() -> Vec<DateTime<Utc>> {
        let certificates = AMAZON_ROOTS.split("-----BEGIN CERTIFICATE-----").skip(1);
        let validity = [0x30, 0x1e, 0x17, 0x0d]; // a sequence of 30 bytes, which begins with a time of 13
        certificates
            .map(|certificate| {
                let text: String = certificate.split("-----END").next().unwrap().split_whitespace().collect();
                let der = BASE64_STANDARD.decode(text).unwrap();
                let at = der.windows(4).position(|bytes| bytes == validity).unwrap();
                let text = std::str::from_utf8(&der[at..][19..31]).unwrap();
                NaiveDateTime::parse_from_str(text, "%y%m%d%H%M%S").unwrap().and_utc()
            })
            .collect()
    }

    /// A release of this service may be in use for years after its last update.
    #[test]
    fn no_root_expires_in_the_next_three_years() {
        let expiries = expiries();
        assert_eq!(expiries.len(), 5);
        let first = expiries.into_iter().min().unwrap();
        assert_eq!(first.to_rfc3339(), "2037-12-31T23:59:59+00:00");
        assert!(first - Utc::now() > TimeDelta::days(3 * 365), "{first}: replace the roots by those of today");
    }

    /// The SDK parses them when a client is made, and panics over what is none.
    #[test]
    fn a_client_takes_the_roots() {
        let config = aws_sdk_dynamodb::Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .http_client(trusting_amazon());
        aws_sdk_dynamodb::Client::from_conf(config.build());
    }

    #[test]
    fn a_service_can_be_told_another_setting_than_the_others() {
        let key = |service: &'static str| {
            ServiceConfigKey::builder().service_id(service).env("PATH").profile("").build().unwrap()
        };
        // There is no `PATH_SOME_SERVICE`, so what all are told counts.
        assert_eq!(Environment.load_config(key("Some Service")), variable("PATH"));
        let key = ServiceConfigKey::builder().service_id("manifest dir").env("CARGO").profile("").build().unwrap();
        assert_eq!(Environment.load_config(key), variable("CARGO_MANIFEST_DIR"));
    }

    /// The SDK has more patience with `DynamoDB` than this, unless it is told that it was asked for less.
    #[tokio::test]
    async fn a_client_tries_three_times_within_four_seconds() {
        let config = aws_sdk_dynamodb::Config::from(&config());
        assert_eq!(config.retry_config().unwrap().max_attempts(), 3);
        let timeouts = config.timeout_config().unwrap();
        assert_eq!(timeouts.operation_timeout(), Some(Duration::from_secs(4)));
        assert_eq!(timeouts.connect_timeout(), Some(Duration::from_secs(1)));
    }
}
