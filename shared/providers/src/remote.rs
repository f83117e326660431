//! Any of the ports, by calls of the contract over any transport.

mod inventory;
mod notifications;
mod payments;
mod shipping;

use std::{
    error::Error,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use application::{event_store::Unavailable, ports::ProviderError};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use settings::{Address, Secrets};
use telemetry::{
    Hop, Kind,
    figures::{self, Metric},
};
use tokio::time::{Instant, timeout};
use tracing::{Instrument, error, info};

use crate::{
    breaker::{self, Breaker, Change, Open, State, WallClock},
    checks::{at_most, word},
    contract::{
        Call, InventoryCapabilities, NotificationsCapabilities, PaymentsCapabilities, ShippingCapabilities, wire,
    },
    discovery::Instances,
    grpc::Grpc,
    port::Port,
    rest::Rest,
    token::{Token, Unauthenticated},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The most capabilities that a provider may name.
const CAPABILITIES_MAX: usize = 100;

/// Is told of each call where it went, what was asked, and what was answered or why there was no answer. Never told of headers,
/// where credentials may be.
pub type Witness = Box<dyn Fn(&'static str, Value, Result<Value, String>) + Send + Sync>;

/// The way to one instance, made when it is first needed: a function that does not come to its call pays nothing. Made
/// anew after a call that was not answered, because the connection may be what is broken.
struct Instance {
    address: Address,
    transport: Mutex<Option<Arc<Transport>>>,
}

enum Transport {
    Grpc(Grpc),
    Rest(Rest),
}

impl Transport {
    async fn call<C: Call>(
        &self,
        request: C,
        headers: HeaderMap,
        deadline: Duration,
    ) -> Result<C::Answer, ProviderError> {
        match self {
            Self::Grpc(grpc) => grpc.call(request, headers, deadline).await,
            Self::Rest(rest) => rest.call(request, headers, deadline).await,
        }
    }
}

impl Instance {
    fn transport(&self, ca_bundle: Option<&str>, connect_within: Duration) -> Result<Arc<Transport>, ProviderError> {
        let mut known = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = &*known {
            return Ok(Arc::clone(transport));
        }
        let Address { transport, url, secure } = &self.address;
        let made = match transport {
            settings::Transport::Grpc => Transport::Grpc(Grpc::new(url, *secure, ca_bundle, connect_within)?),
            settings::Transport::Rest => Transport::Rest(Rest::new(url, *secure, ca_bundle, connect_within)?),
        };
        let made = Arc::new(made);
        *known = Some(Arc::clone(&made));
        Ok(made)
    }

    fn forget(&self, transport: &Arc<Transport>) {
        let mut known = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        known.take_if(|known| Arc::ptr_eq(known, transport));
    }
}

/// A provider of one's own.
pub struct Remote {
    port: Port,
    instances: Instances,
    /// Gives each address a place in a circle, which is another one in each process.
    circle: RandomState,
    /// From which place on the next instance is taken.
    from: AtomicU64,
    /// The instance that was taken last.
    current: Mutex<Option<Arc<Instance>>>,
    deadline: Duration,
    /// Of a service that asks for one.
    token: Option<Token>,
    /// Roots of its own, as PEM.
    ca_bundle: Option<String>,
    breaker: Breaker<WallClock>,
    witness: Option<Witness>,
}

impl Remote {
    /// Of these instances one is called, whichever that is; another one, when it did not answer. None is a failure of each call.
    pub fn new(port: Port, instances: impl Into<Instances>, deadline: Duration, breaker: breaker::Settings) -> Self {
        let breaker = Breaker::with_clock(breaker, WallClock).on_change(move |change| tell(port, change));
        let (circle, from, current) = (RandomState::new(), AtomicU64::default(), Mutex::default());
        let (instances, token, ca_bundle, witness) = (instances.into(), None, None, None);
        Self { port, instances, circle, from, current, deadline, token, ca_bundle, breaker, witness }
    }

    /// Shows the service the bearer token that is the secret of this name.
    #[must_use]
    pub fn with_token(self, secret: String, secrets: Arc<dyn Secrets>) -> Self {
        Self { token: Some(Token::new(secret, secrets)), ..self }
    }

    /// Believes a certificate that leads to one of these, which are PEM, as well as one that leads to a root of the system.
    #[must_use]
    pub fn with_ca_bundle(self, pem: String) -> Self {
        Self { ca_bundle: Some(pem), ..self }
    }

    /// For tests of providers. Without one, nothing is written down.
    #[must_use]
    pub fn witnessed_by(self, witness: Witness) -> Self {
        Self { witness: Some(witness), ..self }
    }

    /// What the provider behind this port can do beyond what every one must. Names that nobody knows are among them.
    pub async fn capabilities(&self, port: Port) -> Result<Vec<String>, Unavailable> {
        let read = |answer: wire::GetCapabilitiesResponse| {
            let names = at_most("capabilities", answer.capabilities, CAPABILITIES_MAX)?;
            names.into_iter().map(|name| word("capabilities", name)).collect()
        };
        match port {
            Port::Inventory => self.call(InventoryCapabilities {}, read).await,
            Port::Payments => self.call(PaymentsCapabilities {}, read).await,
            Port::Shipping => self.call(ShippingCapabilities {}, read).await,
            Port::Notifications => self.call(NotificationsCapabilities {}, read).await,
        }
    }

    /// Whether it is called there, given so much time, shown this secret and believed by these roots.
    pub(crate) fn is_called(
        &self,
        instances: &Instances,
        deadline: Duration,
        secret: Option<&String>,
        ca_bundle: Option<&String>,
    ) -> bool {
        self.deadline == deadline
            && self.instances == *instances
            && self.token.as_ref().map(|token| &token.name) == secret
            && self.ca_bundle.as_ref() == ca_bundle
    }

    pub(crate) fn keep_token_for(&self, seconds: u32) {
        if let Some(token) = &self.token {
            token.keep_for(seconds);
        }
    }

    pub(crate) fn set_breaker(&self, settings: breaker::Settings) {
        self.breaker.set(settings);
    }

    /// One call, and what is `read` of its answer.
    async fn call<C: Call, T>(
        &self,
        request: C,
        read: impl FnOnce(C::Answer) -> Result<T, ProviderError>,
    ) -> Result<T, Unavailable> {
        let began = Instant::now();
        let answer = self.try_call(request, read, began).await;
        let outcome = answer.as_ref().err().map_or("answered", ProviderError::name);
        let call = Metric::time("ProviderCallTime", began.elapsed());
        figures::write([call.of("Port", self.port.name()).of("Outcome", outcome)]);
        answer.map_err(|error| Unavailable { what: self.port.what(), source: error.into() })
    }

    /// Any message is a success to the breaker, also one that is not believed: whoever orders something odd must not stop everybody else's
    /// orders. What is no message is a failure like no answer at all.
    async fn try_call<C: Call, T>(
        &self,
        request: C,
        read: impl FnOnce(C::Answer) -> Result<T, ProviderError>,
        began: Instant,
    ) -> Result<T, ProviderError> {
        let instance = self.instance().await?;
        let shut_off = |open: Open| ProviderError::ShutOff { for_another: open.for_another };
        let permit = self.breaker.permit().map_err(shut_off)?;
        let deadline = self.deadline.saturating_sub(began.elapsed());
        let sent = async {
            let answer = match &self.witness {
                None => self.send(&instance, request, deadline).await,
                Some(witness) => self.send_before(witness, &instance, request, deadline).await,
            };
            if matches!(answer, Ok(_) | Err(ProviderError::Rejected(_))) {
                permit.succeeded();
            } else {
                permit.failed();
                self.pass_by(&instance);
            }
            answer.and_then(read).inspect_err(|error| telemetry::failed(error.name()))
        };
        sent.instrument(hop::<C>(&instance.address).span()).await
    }

    /// The one whose turn it is: always the same, until it fails or is there no more.
    async fn instance(&self) -> Result<Arc<Instance>, ProviderError> {
        // Something of the time is left for the call itself.
        let addresses = self.instances.now(self.deadline.checked_div(2).unwrap_or_default()).await;
        let from = self.from.load(Ordering::Relaxed);
        let Some(address) = addresses.into_iter().min_by_key(|address| self.place(address).wrapping_sub(from)) else {
            self.instances.doubt();
            return Err(ProviderError::NoInstance { service: self.instances.name().to_owned() });
        };
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(instance) if instance.address == address => Ok(Arc::clone(instance)),
            _ => {
                let instance = Arc::new(Instance { address, transport: Mutex::default() });
                *current = Some(Arc::clone(&instance));
                Ok(instance)
            }
        }
    }

    fn place(&self, address: &Address) -> u64 {
        self.circle.hash_one(address)
    }

    /// The next call goes to the instance behind this one, which becomes the last of all.
    fn pass_by(&self, instance: &Instance) {
        self.from.store(self.place(&instance.address).wrapping_add(1), Ordering::Relaxed);
        self.instances.doubt();
    }

    async fn send_before<C: Call>(
        &self,
        witness: &Witness,
        instance: &Instance,
        request: C,
        deadline: Duration,
    ) -> Result<C::Answer, ProviderError> {
        let asked = serde_json::to_value(&request).unwrap_or_default();
        let answer = self.send(instance, request, deadline).await;
        let told = answer.as_ref().map(|answer| serde_json::to_value(answer).unwrap_or_default());
        let told = told.map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        witness(C::REST_PATH, asked, told);
        answer
    }

    async fn send<C: Call>(
        &self,
        instance: &Instance,
        request: C,
        deadline: Duration,
    ) -> Result<C::Answer, ProviderError> {
        let transport = instance.transport(self.ca_bundle.as_deref(), self.deadline)?;
        let answer = timeout(deadline, self.send_over(&transport, request, deadline)).await;
        let answer = answer.unwrap_or(Err(ProviderError::TimedOut(self.deadline)));
        if matches!(answer, Err(ProviderError::Failed(_) | ProviderError::TimedOut(_))) {
            instance.forget(&transport);
        }
        answer
    }

    /// With the service's token, if it asks for one. Where that is refused it may just have been changed, so it is read again, and
    /// another one is tried, once.
    async fn send_over<C: Call>(
        &self,
        transport: &Transport,
        request: C,
        deadline: Duration,
    ) -> Result<C::Answer, ProviderError> {
        let mut headers = headers(&request);
        let Some(token) = &self.token else {
            return transport.call(request, headers, deadline).await;
        };
        let started = Instant::now();
        let left = || deadline.saturating_sub(started.elapsed());
        let first = token.current().await?;
        headers.insert(AUTHORIZATION, first.clone());
        let answer = transport.call(request.clone(), headers.clone(), left()).await;
        if Unauthenticated::is_why(&answer)
            && let Some(other) = token.instead_of(&first).await
        {
            headers.insert(AUTHORIZATION, other);
            return transport.call(request, headers, left()).await;
        }
        answer
    }
}

#[cfg(feature = "testing")]
application::only_providers!(Remote);

/// An open breaker wakes somebody (`ProviderLeftAlone`), so its line is one that no level leaves out.
fn tell(port: Port, change: Change) {
    let (provider, open) = (port.what(), Metric::plain("BreakerOpen", u64::from(change.to != State::Closed)));
    if change.to == State::Open {
        error!(provider, from = ?change.from, to = ?change.to, "circuit breaker changed");
    } else {
        info!(provider, from = ?change.from, to = ?change.to, "circuit breaker changed");
    }
    figures::write([open.of("Port", port.name())]);
}

/// The call as a part of a trace, by the names of OpenTelemetry's semantic conventions for RPC.
fn hop<C: Call>(address: &Address) -> Hop {
    let method = C::GRPC_PATH.trim_start_matches('/');
    Hop::within(method, Kind::Client)
        .with("rpc.system.name", address.transport.name())
        .with("rpc.method", method)
        .with("server.address", address.url.split_once("://").map_or("", |(_, host)| host).to_owned())
}

fn headers(request: &impl Call) -> HeaderMap {
    let values = [
        (IDEMPOTENCY_KEY, request.idempotency_key().map(str::to_owned)),
        (CORRELATION_ID, telemetry::correlation_id()),
        (TRACEPARENT, telemetry::traceparent()),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value?).ok()?))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use application::ports::Payments;
    use domain::ids::OrderId;
    use settings::{Discovery, Look};
    use uuid::Uuid;

    use super::*;
    use crate::discovery::Registry;

    struct Nothing;

    impl Discovery for Nothing {
        fn instances<'a>(&'a self, _: &'a str) -> Look<'a> {
            Box::pin(async { Ok(Vec::new()) })
        }
    }

    fn remote(instances: impl Into<Instances>) -> Remote {
        Remote::new(Port::Payments, instances, Duration::from_secs(5), breaker::Settings::default())
    }

    #[tokio::test]
    async fn an_instance_is_kept_until_it_fails_and_then_all_others_come_first() {
        let addresses = ["1", "2", "3"].map(|port| Address::parse(&format!("grpc://127.0.0.1:{port}")).unwrap());
        let mut firsts = BTreeSet::new();
        for _ in 0..100 {
            let remote = remote(addresses.to_vec());
            let mut turn = Vec::new();
            for _ in 0..4 {
                let instance = remote.instance().await.unwrap();
                assert!(Arc::ptr_eq(&instance, &remote.instance().await.unwrap()), "its connection is used again");
                remote.pass_by(&instance);
                turn.push(instance.address.clone());
            }
            assert_eq!((turn[..3].iter().collect::<BTreeSet<_>>().len(), &turn[3]), (3, &turn[0]));
            firsts.insert(turn[0].clone());
        }
        assert_eq!(firsts.len(), 3, "which is the first is chance");
    }

    #[tokio::test]
    async fn without_an_instance_each_call_says_whose_and_no_breaker_opens() {
        let service = Registry::new(Nothing).service("own", 30);
        let remote = remote(Instances::registered(service, settings::Transport::Grpc, Vec::new()));
        for _ in 0..10 {
            let call = remote.ledger(OrderId::new(Uuid::new_v4()));
            let (answer, told) = figures::written(call).await;
            assert_eq!(answer.unwrap_err().source.to_string(), "no instance of the service own is known");
            let [call] = told.as_slice() else { panic!("{told:?}") };
            let expected = Metric::time("ProviderCallTime", Duration::from_millis(call.value));
            assert_eq!(*call, expected.of("Port", "payments").of("Outcome", "no_instance"));
        }
    }

    #[tokio::test]
    async fn a_breaker_that_opens_is_told_once_and_calls_that_it_shuts_off_are_counted() {
        let nobody = vec![Address::parse("grpc://127.0.0.1:1").unwrap()];
        let remote = remote(nobody);
        let calls = async {
            for _ in 0..6 {
                remote.ledger(OrderId::new(Uuid::new_v4())).await.unwrap_err();
            }
        };
        let (((), lines), told) = Box::pin(figures::written(telemetry::logs::logged(calls))).await;
        let opened: Vec<&String> = lines.iter().filter(|line| line.contains("circuit breaker changed")).collect();
        assert!(opened.len() == 1 && opened[0].contains(r#""level":"ERROR""#), "{lines:?}");
        let open: Vec<_> = told.iter().filter(|metric| metric.name == "BreakerOpen").collect();
        assert_eq!(open, [&Metric::plain("BreakerOpen", 1).of("Port", "payments")]);
        let outcome = |outcome: &'static str| {
            let expected = |ms| Metric::time("ProviderCallTime", Duration::from_millis(ms)).of("Port", "payments");
            told.iter().filter(|metric| **metric == expected(metric.value).of("Outcome", outcome)).count()
        };
        assert_eq!((outcome("failed"), outcome("shut_off")), (5, 1));
    }
}
