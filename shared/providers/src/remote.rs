//! Any of the ports, by calls of the contract over any transport.

mod inventory;
mod notifications;
mod payments;
mod shipping;

use std::{
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use application::{event_store::Unavailable, ports::ProviderError};
use reqwest::header::HeaderName;
use serde_json::Value;
use settings::Address;
use tokio::time::timeout;
use tracing::warn;
use uuid::Uuid;

use crate::{
    breaker::{self, Breaker, Clock},
    checks::{at_most, word},
    chosen::Port,
    context,
    contract::{
        Call, InventoryCapabilities, NotificationsCapabilities, PaymentsCapabilities, ShippingCapabilities, wire,
    },
    grpc::Grpc,
    rest::Rest,
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

impl Instance {
    fn transport(&self, connect_within: Duration) -> Result<Arc<Transport>, ProviderError> {
        let mut known = self.transport.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(transport) = &*known {
            return Ok(Arc::clone(transport));
        }
        let Address { transport, url, secure } = &self.address;
        let made = match transport {
            settings::Transport::Grpc => Transport::Grpc(Grpc::new(url, *secure, connect_within)?),
            settings::Transport::Rest => Transport::Rest(Rest::new(url, *secure, connect_within)?),
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
    /// In words, for errors.
    what: &'static str,
    instances: Vec<Instance>,
    /// The number of the instance that is called.
    current: AtomicUsize,
    deadline: Duration,
    breaker: Breaker<WallClock>,
    witness: Option<Witness>,
}

/// The one that goes on while a function is frozen.
struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Duration {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
    }
}

impl Remote {
    /// Of these instances one is called, whichever that is; another one, when it did not answer. None is a failure of each call.
    pub fn new(what: &'static str, addresses: Vec<Address>, deadline: Duration, breaker: breaker::Settings) -> Self {
        let breaker = Breaker::with_clock(breaker, WallClock).on_change(move |change| {
            warn!(provider = what, from = ?change.from, to = ?change.to, "circuit breaker changed");
        });
        let instances = addresses.into_iter().map(|address| Instance { address, transport: Mutex::new(None) });
        let (first, _) = Uuid::new_v4().as_u64_pair();
        let current = AtomicUsize::new(usize::try_from(first >> 32).unwrap_or_default());
        Self { what, instances: instances.collect(), current, deadline, breaker, witness: None }
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

    /// Whether it is called at these addresses, and given so much time.
    pub(crate) fn is_called(&self, addresses: &[Address], deadline: Duration) -> bool {
        self.deadline == deadline && self.instances.iter().map(|instance| &instance.address).eq(addresses)
    }

    pub(crate) fn set_breaker(&self, settings: breaker::Settings) {
        self.breaker.set(settings);
    }

    /// One call, and what is `read` of its answer. A business answer is a success to the breaker; an answer that cannot be read
    /// is a failure like none at all.
    async fn call<C: Call, T>(
        &self,
        request: C,
        read: impl FnOnce(C::Answer) -> Result<T, ProviderError>,
    ) -> Result<T, Unavailable> {
        let unavailable = |error: ProviderError| Unavailable { what: self.what, source: error.into() };
        let permit = match self.breaker.permit() {
            Ok(permit) => permit,
            Err(open) => return Err(unavailable(ProviderError::ShutOff { for_another: open.for_another })),
        };
        let answer = match &self.witness {
            None => self.send(request).await,
            Some(witness) => self.send_before(witness, request).await,
        };
        let answer = answer.and_then(read);
        if matches!(answer, Ok(_) | Err(ProviderError::Rejected(_))) {
            permit.succeeded();
        } else {
            permit.failed();
            self.current.fetch_add(1, Ordering::Relaxed);
        }
        answer.map_err(unavailable)
    }

    async fn send_before<C: Call>(&self, witness: &Witness, request: C) -> Result<C::Answer, ProviderError> {
        let asked = serde_json::to_value(&request).unwrap_or_default();
        let answer = self.send(request).await;
        let told = answer.as_ref().map(|answer| serde_json::to_value(answer).unwrap_or_default());
        let told = told.map_err(|error| match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        });
        witness(C::REST_PATH, asked, told);
        answer
    }

    async fn send<C: Call>(&self, request: C) -> Result<C::Answer, ProviderError> {
        let number = self.current.load(Ordering::Relaxed).checked_rem(self.instances.len()).unwrap_or_default();
        let instance = self.instances.get(number).ok_or_else(|| ProviderError::Failed("it has no instance".into()))?;
        let headers = headers(&request);
        let transport = instance.transport(self.deadline)?;
        let call = async {
            match &*transport {
                Transport::Grpc(grpc) => grpc.call(request, headers, self.deadline).await,
                Transport::Rest(rest) => rest.call(request, headers, self.deadline).await,
            }
        };
        let answer = timeout(self.deadline, call).await.unwrap_or(Err(ProviderError::TimedOut(self.deadline)));
        if matches!(answer, Err(ProviderError::Failed(_) | ProviderError::TimedOut(_))) {
            instance.forget(&transport);
        }
        answer
    }
}

fn headers(request: &impl Call) -> Vec<(HeaderName, String)> {
    let context = context::current();
    let values = [
        (IDEMPOTENCY_KEY, request.idempotency_key().map(str::to_owned)),
        (CORRELATION_ID, context.correlation_id),
        (TRACEPARENT, context.traceparent),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}
