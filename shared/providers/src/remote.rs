//! Any of the ports, by calls of the contract over any transport.

mod inventory;
mod notifications;
mod payments;
mod shipping;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use application::{event_store::Unavailable, ports::ProviderError};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use settings::{Address, Secrets};
use tokio::time::{Instant, timeout};
use tracing::warn;
use uuid::Uuid;

use crate::{
    breaker::{self, Breaker, Clock},
    context,
    contract::Call,
    grpc::Grpc,
    rest::Rest,
    token::{Token, Unauthenticated},
};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

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
    /// In words, for errors.
    what: &'static str,
    instances: Vec<Instance>,
    /// The number of the instance that is called.
    current: AtomicUsize,
    deadline: Duration,
    /// Of a service that asks for one.
    token: Option<Token>,
    /// Roots of its own, as PEM.
    ca_bundle: Option<String>,
    breaker: Breaker<WallClock>,
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
        Self { what, instances: instances.collect(), current, deadline, token: None, ca_bundle: None, breaker }
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

    /// Whether it is called at these addresses, given so much time, shown this secret and believed by these roots.
    pub(crate) fn is_called(
        &self,
        addresses: &[Address],
        deadline: Duration,
        secret: Option<&String>,
        ca_bundle: Option<&String>,
    ) -> bool {
        self.deadline == deadline
            && self.instances.iter().map(|instance| &instance.address).eq(addresses)
            && self.token.as_ref().map(|token| &token.name) == secret
            && self.ca_bundle.as_ref() == ca_bundle
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
        let answer = self.send(request).await.and_then(read);
        if matches!(answer, Ok(_) | Err(ProviderError::Rejected(_))) {
            permit.succeeded();
        } else {
            permit.failed();
            self.current.fetch_add(1, Ordering::Relaxed);
        }
        answer.map_err(unavailable)
    }

    async fn send<C: Call>(&self, request: C) -> Result<C::Answer, ProviderError> {
        let number = self.current.load(Ordering::Relaxed).checked_rem(self.instances.len()).unwrap_or_default();
        let instance = self.instances.get(number).ok_or_else(|| ProviderError::Failed("it has no instance".into()))?;
        let transport = instance.transport(self.ca_bundle.as_deref(), self.deadline)?;
        let answer = timeout(self.deadline, self.send_over(&transport, request)).await;
        let answer = answer.unwrap_or(Err(ProviderError::TimedOut(self.deadline)));
        if matches!(answer, Err(ProviderError::Failed(_) | ProviderError::TimedOut(_))) {
            instance.forget(&transport);
        }
        answer
    }

    /// With the service's token, if it asks for one. Where that is refused it may just have been changed, so it is read again, and
    /// another one is tried, once.
    async fn send_over<C: Call>(&self, transport: &Transport, request: C) -> Result<C::Answer, ProviderError> {
        let mut headers = headers(&request);
        let Some(token) = &self.token else {
            return transport.call(request, headers, self.deadline).await;
        };
        let started = Instant::now();
        let left = || self.deadline.saturating_sub(started.elapsed());
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

fn headers(request: &impl Call) -> HeaderMap {
    let context = context::current();
    let values = [
        (IDEMPOTENCY_KEY, request.idempotency_key().map(str::to_owned)),
        (CORRELATION_ID, context.correlation_id),
        (TRACEPARENT, context.traceparent),
    ];
    values.into_iter().filter_map(|(name, value)| Some((name, HeaderValue::from_str(&value?).ok()?))).collect()
}
