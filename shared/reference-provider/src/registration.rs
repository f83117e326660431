//! How the order service finds this provider: by instances of a service in AWS Cloud Map, one for each transport.
//!
//! They are registered when the address that callers are told has said that it is healthy, and deregistered before it stops
//! answering. Nobody is called by mistake who is not there yet; who has looked a while ago still calls, so the process answers on
//! for [`UNTIL_ALL_KNOW`].

use std::{
    env,
    error::Error,
    fmt,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use aws_sdk_servicediscovery::{
    Client, Config,
    config::{BehaviorVersion, Credentials, Region, retry::RetryConfig, timeout::TimeoutConfig},
    operation::deregister_instance::DeregisterInstanceError,
};
use tokio::time::{sleep, timeout};
use tonic::transport::Endpoint;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// How long callers may go by what they have found, as the contract has it.
pub const UNTIL_ALL_KNOW: Duration = Duration::from_mins(1);

/// How long one call may take, connecting included.
const CALL: Duration = Duration::from_secs(2);

/// How often an instance is tried to be registered: for 12 s, when nobody answers.
const TRIES_TO_COME: u32 = 4;

/// How often one is tried to be deregistered: for 5 s. Who stops may be killed soon.
const TRIES_TO_GO: u32 = 2;

/// The pause after the first try; each one after it is twice as long.
const PAUSE: Duration = Duration::from_millis(500);

/// Why nobody would find it.
#[derive(Debug, thiserror::Error)]
pub enum NotRegistered {
    #[error("{0} stands for every address of this machine, and callers need one: listen there to register it")]
    EveryAddress(SocketAddr),
    #[error("the instance {0} could not be registered in {TRIES_TO_COME} tries")]
    GivenUp(String),
}

/// The ways to this provider, in a service of Cloud Map.
pub struct Registration {
    client: Client,
    service_id: String,
    instances: [Instance; 2],
}

impl Registration {
    /// In the service with this id, with what the environment says of AWS.
    pub fn new(service_id: String, grpc: SocketAddr, rest: SocketAddr) -> Result<Self, NotRegistered> {
        if let Some(address) = [grpc, rest].into_iter().find(|address| address.ip().is_unspecified()) {
            return Err(NotRegistered::EveryAddress(address));
        }
        let instances = [(Transport::Grpc, grpc), (Transport::Rest, rest)];
        let instances = instances.map(|(transport, address)| Instance { transport, address });
        Ok(Self { client: client(), service_id, instances })
    }

    /// Registers all instances, each when it answers. Some of them may be registered when that fails, or is not waited for.
    pub async fn register(&self) -> Result<(), NotRegistered> {
        let [grpc, rest] = &self.instances;
        // The SDK's futures are large.
        tokio::try_join!(Box::pin(self.insist(Deed::Register, grpc)), Box::pin(self.insist(Deed::Register, rest)))?;
        Ok(())
    }

    /// Deregisters whatever is registered. What cannot be is told and left: the order service stops calling what does not answer.
    pub async fn deregister(&self) {
        let [grpc, rest] = &self.instances;
        let _ =
            tokio::join!(Box::pin(self.insist(Deed::Deregister, grpc)), Box::pin(self.insist(Deed::Deregister, rest)));
    }

    async fn insist(&self, deed: Deed, instance: &Instance) -> Result<(), NotRegistered> {
        let tries = match deed {
            Deed::Register => TRIES_TO_COME,
            Deed::Deregister => TRIES_TO_GO,
        };
        let mut pause = PAUSE;
        for attempt in 1..=tries {
            let done = match deed {
                Deed::Register => self.register_one(instance).await,
                Deed::Deregister => self.deregister_one(instance).await,
            };
            let Err(error) = done else { return Ok(()) };
            let why = chain(error.as_ref());
            let _ = writeln!(io::stderr(), "warning: {deed} {instance} failed, try {attempt} of {tries}: {why}");
            if attempt < tries {
                sleep(pause).await;
                pause = pause.saturating_mul(2);
            }
        }
        Err(NotRegistered::GivenUp(instance.to_string()))
    }

    async fn register_one(&self, instance: &Instance) -> Result<(), Unsuccessful> {
        timeout(CALL, instance.answer_health()).await??;
        // Whatever was registered by this id, by a process that was killed, is replaced.
        let new = self.client.register_instance().service_id(&self.service_id).instance_id(instance.to_string());
        let new = instance.attributes().into_iter().fold(new, |new, (name, value)| new.attributes(name, value));
        new.send().await?;
        Ok(())
    }

    async fn deregister_one(&self, instance: &Instance) -> Result<(), Unsuccessful> {
        let gone = self.client.deregister_instance().service_id(&self.service_id).instance_id(instance.to_string());
        let Err(error) = gone.send().await else { return Ok(()) };
        let unknown = |error: &DeregisterInstanceError| error.is_instance_not_found() || error.is_service_not_found();
        if error.as_service_error().is_some_and(unknown) { Ok(()) } else { Err(error.into()) }
    }
}

type Unsuccessful = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy)]
enum Deed {
    Register,
    Deregister,
}

impl fmt::Display for Deed {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        text.write_str(match self {
            Self::Register => "registering",
            Self::Deregister => "deregistering",
        })
    }
}

#[derive(Clone, Copy)]
enum Transport {
    Grpc,
    Rest,
}

impl Transport {
    /// What it is called in the contract.
    fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Rest => "rest",
        }
    }
}

struct Instance {
    transport: Transport,
    address: SocketAddr,
}

/// The id of an instance. Of all that the service has, no other is here.
impl fmt::Display for Instance {
    fn fmt(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(text, "{}-{}-{}", self.transport.name(), self.address.ip(), self.address.port())
    }
}

impl Instance {
    /// What the contract has the order service read (api/providers/v1, "Be found"). There is no TLS here. A service whose health is
    /// reported to Cloud Map takes a new instance to be healthy, as it is.
    fn attributes(&self) -> [(&'static str, String); 4] {
        let ip = match self.address.ip() {
            IpAddr::V4(_) => "AWS_INSTANCE_IPV4",
            IpAddr::V6(_) => "AWS_INSTANCE_IPV6",
        };
        [
            (ip, self.address.ip().to_string()),
            ("AWS_INSTANCE_PORT", self.address.port().to_string()),
            ("transport", self.transport.name().to_owned()),
            ("secure", "false".to_owned()),
        ]
    }

    /// Asks for its health as a caller would.
    async fn answer_health(&self) -> Result<(), Unsuccessful> {
        let url = format!("http://{}", self.address);
        match self.transport {
            Transport::Grpc => {
                let mut health = HealthClient::new(Endpoint::from_shared(url)?.connect().await?);
                let status = health.check(HealthCheckRequest::default()).await?.into_inner().status();
                if status == ServingStatus::Serving { Ok(()) } else { Err("it says that it does not serve".into()) }
            }
            Transport::Rest => {
                let client = reqwest::Client::builder().no_proxy().build()?;
                client.get(format!("{url}/health")).send().await?.error_for_status()?;
                Ok(())
            }
        }
    }
}

/// Region, credentials and endpoint come from the environment, as on Lambda. Where a role has the credentials, the crate
/// `aws-config` finds them, and renews them.
fn client() -> Client {
    let variable = |name| env::var(name).ok().filter(|value| !value.is_empty());
    let timeouts = TimeoutConfig::builder().connect_timeout(CALL).operation_timeout(CALL).build();
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        // Tries are counted, and told, in one place only.
        .retry_config(RetryConfig::disabled())
        .region(variable("AWS_REGION").map(Region::new));
    config.set_endpoint_url(variable("AWS_ENDPOINT_URL"));
    if let (Some(id), Some(secret)) = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY")) {
        let credentials = Credentials::new(id, secret, variable("AWS_SESSION_TOKEN"), None, "environment");
        config = config.credentials_provider(credentials);
    }
    Client::from_conf(config.build())
}

/// An error with all that led to it.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        said = format!("{said}: {error}");
        cause = error.source();
    }
    said
}
