//! Services that are registered with AWS Cloud Map, as [`settings::Discovery`].

use std::{collections::HashMap, sync::OnceLock};

use aws_sdk_servicediscovery::{
    Client,
    config::{Builder, ConfigBag, Intercept, RuntimeComponents, interceptors::BeforeTransmitInterceptorContextMut},
    error::BoxError,
    types::HealthStatusFilter,
};
use aws_types::SdkConfig;
use settings::{Address, BadAddress, Discovery, INSTANCES_MAX, Look, Transport};
use tracing::warn;

use crate::lambda::{self, MissingVariable, chain};

/// A namespace of Cloud Map.
pub struct CloudMap {
    config: SdkConfig,
    namespace: String,
    /// Made when somebody asks for a service: who calls none that is registered pays nothing.
    client: OnceLock<Client>,
}

/// The one that `DISCOVERY_NAMESPACE` names.
pub fn of_process(config: &SdkConfig) -> Result<CloudMap, MissingVariable> {
    Ok(CloudMap::new(config.clone(), lambda::variable("DISCOVERY_NAMESPACE")?))
}

impl CloudMap {
    pub fn new(config: SdkConfig, namespace: String) -> Self {
        Self { config, namespace, client: OnceLock::new() }
    }

    fn client(&self) -> &Client {
        self.client.get_or_init(|| {
            let config = Builder::from(&self.config);
            let elsewhere = self.config.endpoint_url().is_some_and(is_here);
            Client::from_conf(if elsewhere { config.interceptor(NoHostPrefix) } else { config }.build())
        })
    }
}

impl Discovery for CloudMap {
    fn instances<'a>(&'a self, service: &'a str) -> Look<'a> {
        Box::pin(async move {
            let question = self.client().discover_instances().namespace_name(&self.namespace).service_name(service);
            let question = question.health_status(HealthStatusFilter::Healthy);
            let answer = question.set_max_results(i32::try_from(INSTANCES_MAX).ok()).send().await;
            let answer = answer.map_err(|error| chain(&error))?;
            let addresses = answer.instances().iter().filter_map(|instance| {
                let address = instance.attributes().ok_or(BadInstance::Host).and_then(address);
                let id = instance.instance_id().unwrap_or_default();
                address.inspect_err(|error| warn!(service, instance = id, %error, "instance left out")).ok()
            });
            Ok(addresses.collect())
        })
    }
}

/// Why a registered instance cannot be called.
#[derive(Debug, thiserror::Error)]
enum BadInstance {
    #[error("it needs AWS_INSTANCE_CNAME, AWS_INSTANCE_IPV4 or AWS_INSTANCE_IPV6")]
    Host,
    #[error("AWS_INSTANCE_PORT must be a port number")]
    Port,
    #[error("transport must be grpc or rest")]
    Transport,
    #[error("secure must be true or false")]
    Secure,
    #[error(transparent)]
    Address(#[from] BadAddress),
}

/// What the attributes of an instance come to. The custom ones are `transport`, `secure`, and for REST `path`.
fn address(attributes: &HashMap<String, String>) -> Result<Address, BadInstance> {
    let attribute = |name| attributes.get(name).map(String::as_str).filter(|value| !value.is_empty());
    let v6 = attribute("AWS_INSTANCE_IPV6").map(|address| format!("[{address}]"));
    // A certificate is more likely to have the name.
    let host = attribute("AWS_INSTANCE_CNAME").or_else(|| attribute("AWS_INSTANCE_IPV4")).or(v6.as_deref());
    let port: u16 = attribute("AWS_INSTANCE_PORT").and_then(|port| port.parse().ok()).ok_or(BadInstance::Port)?;
    let secure = match attribute("secure") {
        Some("true") => true,
        None | Some("false") => false,
        Some(_) => return Err(BadInstance::Secure),
    };
    let named = attribute("transport").and_then(|name| Transport::ALL.into_iter().find(|one| one.name() == name));
    let scheme = named.ok_or(BadInstance::Transport)?.scheme(secure);
    let path = attribute("path").unwrap_or_default().trim_start_matches('/');
    let host = host.filter(|host| !host.contains(['/', '?', '#', '@'])).ok_or(BadInstance::Host)?;
    Ok(Address::parse(&format!("{scheme}://{host}:{port}/{path}"))?)
}

/// Whether an endpoint is on this machine.
fn is_here(endpoint: &str) -> bool {
    ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|here| endpoint.starts_with(here))
}

/// What Cloud Map calls its endpoint for lookups, before the name of the one for everything else.
const HOST_PREFIX: &str = "://data-";

/// Takes the prefix off again, which no name of this machine resolves with; the SDK has no setting for it.
#[derive(Debug)]
struct NoHostPrefix;

impl Intercept for NoHostPrefix {
    fn name(&self) -> &'static str {
        "NoHostPrefix"
    }

    fn modify_before_signing(
        &self,
        context: &mut BeforeTransmitInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let uri = context.request().uri().replacen(HOST_PREFIX, "://", 1);
        Ok(context.request_mut().set_uri(uri)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use aws_sdk_servicediscovery::config::{
        Credentials, Region, SharedCredentialsProvider,
        http::{HttpRequest, HttpResponse},
    };
    use aws_smithy_runtime_api::client::http::{
        HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
    };
    use serde_json::{Value, json};

    use super::*;

    fn parsed(attributes: &[(&str, &str)]) -> Result<String, BadInstance> {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        address(&attributes.collect()).map(|address| format!("{:?} {}", address.transport, address.url))
    }

    const HERE: [(&str, &str); 3] =
        [("AWS_INSTANCE_IPV4", "127.0.0.1"), ("AWS_INSTANCE_PORT", "50051"), ("transport", "grpc")];

    /// With these attributes over those of an instance on this machine.
    fn here(more: &[(&str, &str)]) -> Result<String, BadInstance> {
        parsed(&[&HERE, more].concat())
    }

    #[test]
    fn attributes_become_an_address() {
        assert_eq!(here(&[]).unwrap(), "Grpc http://127.0.0.1:50051/");
        assert_eq!(here(&[("secure", "false"), ("path", "")]).unwrap(), "Grpc http://127.0.0.1:50051/");
        let rest = [("transport", "rest"), ("path", "/payments"), ("secure", "true")];
        assert_eq!(here(&rest).unwrap(), "Rest https://127.0.0.1:50051/payments");
        let far = [("AWS_INSTANCE_IPV4", "10.0.0.7"), ("AWS_INSTANCE_CNAME", "pay.example"), ("secure", "true")];
        assert_eq!(here(&far).unwrap(), "Grpc https://pay.example:50051/");
        let v6 = [("AWS_INSTANCE_IPV6", "::1"), ("AWS_INSTANCE_PORT", "1"), ("transport", "rest")];
        assert_eq!(parsed(&v6).unwrap(), "Rest http://[::1]:1/");
    }

    #[test]
    fn what_cannot_be_called_or_only_in_the_clear_is_no_address() {
        assert!(matches!(here(&[("AWS_INSTANCE_PORT", "0x50")]), Err(BadInstance::Port)));
        assert!(matches!(here(&[("AWS_INSTANCE_IPV4", "")]), Err(BadInstance::Host)));
        assert!(matches!(here(&[("AWS_INSTANCE_CNAME", "elsewhere.example/x?")]), Err(BadInstance::Host)));
        assert!(matches!(here(&[("transport", "soap")]), Err(BadInstance::Transport)));
        assert!(matches!(here(&[("secure", "yes")]), Err(BadInstance::Secure)));
        assert!(matches!(here(&[("AWS_INSTANCE_IPV4", "10.0.0.7")]), Err(BadInstance::Address(BadAddress::Insecure))));
        assert!(matches!(here(&[("path", "x")]), Err(BadInstance::Address(BadAddress::Shape))), "a path for gRPC");
        assert!(matches!(parsed(&[]), Err(BadInstance::Port)));
    }

    /// Answers with this, and keeps the questions.
    #[derive(Debug, Clone)]
    struct Recorder {
        answer: String,
        asked: Arc<Mutex<Vec<(String, Value)>>>,
    }

    impl HttpConnector for Recorder {
        fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
            let body = serde_json::from_slice(request.body().bytes().unwrap()).unwrap();
            assert_eq!(request.headers().get("x-amz-target"), Some("Route53AutoNaming_v20170314.DiscoverInstances"));
            self.asked.lock().unwrap().push((request.uri().to_owned(), body));
            HttpConnectorFuture::ready(Ok(HttpResponse::new(200.try_into().unwrap(), self.answer.as_str().into())))
        }
    }

    /// A namespace that answers so, at this endpoint, or at AWS's own.
    fn cloud_map(answer: &Value, endpoint: Option<&str>) -> (CloudMap, Recorder) {
        let recorder = Recorder { answer: answer.to_string(), asked: Arc::default() };
        let connector = SharedHttpConnector::new(recorder.clone());
        let mut config = SdkConfig::builder()
            .behavior_version(aws_sdk_servicediscovery::config::BehaviorVersion::v2026_01_12())
            .region(Region::new("us-east-1"))
            .credentials_provider(SharedCredentialsProvider::new(Credentials::new("id", "secret", None, None, "test")))
            .http_client(http_client_fn(move |_, _| connector.clone()));
        config.set_endpoint_url(endpoint.map(str::to_owned));
        (CloudMap::new(config.build(), "orders".to_owned()), recorder)
    }

    #[tokio::test]
    async fn healthy_instances_are_asked_for_and_those_left_out_that_cannot_be_called() {
        let attributes = |more: &[(&str, &str)]| -> Value { [&HERE, more].concat().into_iter().collect() };
        let answer = json!({"Instances": [
            {"InstanceId": "one", "Attributes": attributes(&[])},
            {"InstanceId": "far", "Attributes": attributes(&[("AWS_INSTANCE_IPV4", "10.0.0.7")])},
            {"InstanceId": "nothing"},
            {"InstanceId": "two", "Attributes": attributes(&[("AWS_INSTANCE_PORT", "50052")])},
        ]});
        let (map, recorder) = cloud_map(&answer, None);
        let found = map.instances("own").await.unwrap();
        let found: Vec<&str> = found.iter().map(|address| address.url.as_str()).collect();
        assert_eq!(found, ["http://127.0.0.1:50051/", "http://127.0.0.1:50052/"]);
        let asked = recorder.asked.lock().unwrap().remove(0);
        let question =
            json!({"NamespaceName": "orders", "ServiceName": "own", "HealthStatus": "HEALTHY", "MaxResults": 20});
        assert_eq!(asked, ("https://data-servicediscovery.us-east-1.amazonaws.com/".to_owned(), question));
    }

    /// `data-127.0.0.1` is nobody's name.
    #[tokio::test]
    async fn on_this_machine_the_host_has_no_prefix() {
        for (endpoint, asked_at) in [
            ("http://127.0.0.1:4566", "http://127.0.0.1:4566/"),
            ("http://localhost:4566", "http://localhost:4566/"),
            ("https://map.example", "https://data-map.example/"),
        ] {
            let (map, recorder) = cloud_map(&json!({"Instances": []}), Some(endpoint));
            assert_eq!(map.instances("own").await.unwrap(), []);
            assert_eq!(recorder.asked.lock().unwrap()[0].0, asked_at);
        }
    }
}
