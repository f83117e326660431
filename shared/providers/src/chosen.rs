//! Which provider is used, and where it is: one that is built in, or one of one's own that the settings name.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use application::{
    event_store::Unavailable,
    ports::{
        AdjustError, Adjusted, CancelChargeError, Catalogue, ChargeCancellation, ChargeError, ChargeRequest,
        DeliveryError, Inventory, LedgerEntry, ListProductsError, Notification, Notifications, Payments, ProductPage,
        Providers, RefundError, RefundRequest, ReserveError, ShipmentError, ShipmentRequest, Shipping, StockAdjustment,
        StockLine, TakeBackError,
    },
};
use chrono::{DateTime, Utc};
use domain::{
    books::ShipmentBook,
    ids::{NotificationId, OrderId, ProductId},
    money::Money,
    order::{Payment, Refund, Reservation, Shipment},
    product::Product,
    provider::{OrderProviders, Provider},
    text::Text,
};
use settings::{Live, Secrets, Settings, Source, Transport};
use uuid::Uuid;

use crate::{
    breaker,
    discovery::{Instances, Registry},
    port::Port,
    remote::Remote,
};

/// The providers of new orders.
pub fn of_new_orders(settings: &Settings) -> OrderProviders {
    OrderProviders {
        inventory: Port::Inventory.of_new_orders(settings),
        payments: Port::Payments.of_new_orders(settings),
        shipping: Port::Shipping.of_new_orders(settings),
        notifications: Port::Notifications.of_new_orders(settings),
    }
}

/// The providers behind one port, as the settings have them now.
pub struct Choice<S, Src> {
    port: Port,
    built_in: BTreeMap<Provider, S>,
    settings: Arc<Live<Src>>,
    registry: Arc<Registry>,
    chosen: Mutex<Option<Arc<Chosen<S>>>>,
}

impl<S: Clone, Src: Source> Choice<S, Src> {
    /// What the settings do not list is looked for in the registry.
    pub fn new(port: Port, sandbox: S, settings: Arc<Live<Src>>, registry: Arc<Registry>) -> Self {
        let built_in = BTreeMap::from([(Provider::Sandbox, sandbox)]);
        Self { port, built_in, settings, registry, chosen: Mutex::new(None) }
    }

    /// With another one that is built in.
    #[must_use]
    pub fn with(mut self, provider: Provider, built_in: S) -> Self {
        self.built_in.insert(provider, built_in);
        self
    }

    /// For one request or step: whatever changes meanwhile counts for the next.
    pub async fn now(&self) -> Result<Arc<Chosen<S>>, Unavailable> {
        let last = self.chosen.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if last.is_some_and(|last| last.missed.swap(false, Ordering::Relaxed)) {
            self.settings.look_again().await;
        }
        let settings = self.settings.current().await;
        let settings = settings.map_err(|error| Unavailable { what: "the configuration", source: error.into() })?;
        let mut chosen = self.chosen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(chosen) = &*chosen
            && Arc::ptr_eq(&chosen.settings, &settings)
        {
            return Ok(Arc::clone(chosen));
        }
        let before = chosen.as_deref();
        let (built_in, secrets) = (self.built_in.clone(), self.settings.secrets());
        let new = Arc::new(Chosen::new(self.port, built_in, settings, secrets, &self.registry, before));
        *chosen = Some(Arc::clone(&new));
        Ok(new)
    }
}

/// The three for one request or step: of money, stock and parcels.
pub type ChosenBookkeepers<P, I, S> = (Arc<Chosen<P>>, Arc<Chosen<I>>, Arc<Chosen<S>>);

/// The providers of money, stock and parcels, whose books an order is compared with.
pub struct Bookkeepers<P, I, S, Src> {
    payments: Choice<P, Src>,
    inventory: Choice<I, Src>,
    shipping: Choice<S, Src>,
}

impl<P: Clone, I: Clone, S: Clone, Src: Source> Bookkeepers<P, I, S, Src> {
    /// As [`Choice::new`], which has the sandbox of one.
    pub fn new(
        (payments, inventory, shipping): (P, I, S),
        settings: &Arc<Live<Src>>,
        registry: &Arc<Registry>,
    ) -> Self {
        let (settings, registry) = (|| Arc::clone(settings), || Arc::clone(registry));
        Self {
            payments: Choice::new(Port::Payments, payments, settings(), registry()),
            inventory: Choice::new(Port::Inventory, inventory, settings(), registry()),
            shipping: Choice::new(Port::Shipping, shipping, settings(), registry()),
        }
    }

    /// As [`Choice::now`].
    pub async fn now(&self) -> Result<ChosenBookkeepers<P, I, S>, Unavailable> {
        Ok((self.payments.now().await?, self.inventory.now().await?, self.shipping.now().await?))
    }
}

/// The providers behind one port by one version of the settings.
pub struct Chosen<S> {
    what: &'static str,
    settings: Arc<Settings>,
    new_orders: Provider,
    providers: BTreeMap<Provider, AnyProvider<S>>,
    /// An order's provider is not there: most likely other functions know of it already.
    missed: AtomicBool,
}

impl<S> Chosen<S> {
    /// Every service of the settings may have orders that were placed with it. Those that are called as before keep their
    /// connections, and what their breaker knows.
    fn new(
        port: Port,
        built_in: BTreeMap<Provider, S>,
        settings: Arc<Settings>,
        secrets: &Arc<dyn Secrets>,
        registry: &Registry,
        before: Option<&Self>,
    ) -> Self {
        let settings::Provider { deadline_ms, breaker, .. } = *port.settings(&settings);
        let deadline = Duration::from_millis(deadline_ms.into());
        let breaker = breaker::Settings {
            failures: breaker.failures,
            successes: breaker.successes,
            open_for: Duration::from_secs(breaker.open_seconds.into()),
        };
        let built_in = built_in.into_iter().map(|(provider, built_in)| (provider, AnyProvider::BuiltIn(built_in)));
        let mut providers: BTreeMap<Provider, AnyProvider<S>> = built_in.collect();
        for service in settings.services.keys() {
            let (secret, ca_bundle) = (settings.secrets.get(service), settings.ca_bundles.get(service));
            for transport in Transport::ALL {
                let addresses = settings.addresses(service, transport);
                let instances = match settings.registered_as(service) {
                    Some(name) => Instances::registered(
                        registry.service(name, settings.cache.instances_seconds),
                        transport,
                        addresses,
                    ),
                    None => addresses.into(),
                };
                let service = service.clone();
                let provider = match transport {
                    _ if instances.are_none() => continue,
                    Transport::Grpc => Provider::Grpc { service },
                    Transport::Rest => Provider::Rest { service },
                };
                let same = before.and_then(|before| match before.providers.get(&provider) {
                    Some(AnyProvider::Remote(remote)) if remote.is_called(&instances, deadline, secret, ca_bundle) => {
                        Some(remote)
                    }
                    _ => None,
                });
                let remote = if let Some(remote) = same {
                    remote.set_breaker(breaker);
                    Arc::clone(remote)
                } else {
                    let mut remote = Remote::new(port, instances, deadline, breaker);
                    if let Some(secret) = secret {
                        remote = remote.with_token(secret.clone(), Arc::clone(secrets));
                    }
                    if let Some(ca_bundle) = ca_bundle {
                        remote = remote.with_ca_bundle(ca_bundle.clone());
                    }
                    Arc::new(remote)
                };
                remote.keep_token_for(settings.cache.token_seconds);
                providers.insert(provider, AnyProvider::Remote(remote));
            }
        }
        let new_orders = port.of_new_orders(&settings);
        Self { what: port.what(), new_orders, settings, providers, missed: AtomicBool::new(false) }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl<S: Send + Sync> Chosen<S> {
    /// The provider of new orders.
    pub fn of_new_orders(&self) -> Result<&AnyProvider<S>, Unavailable> {
        self.of(&self.new_orders)
    }
}

impl<S: Send + Sync> Providers for Chosen<S> {
    type Provider = AnyProvider<S>;

    fn of<'p>(&'p self, provider: &Provider) -> Result<&'p AnyProvider<S>, Unavailable> {
        self.providers.get(provider).ok_or_else(|| {
            self.missed.store(true, Ordering::Relaxed);
            Unavailable { what: self.what, source: format!("no settings for {provider:?}").into() }
        })
    }
}

/// One that is built in, or one of one's own.
pub enum AnyProvider<S> {
    BuiltIn(S),
    Remote(Arc<Remote>),
}

/// Hands each call on to whichever it is.
macro_rules! either {
    ($($port:ident { $(fn $call:ident($($name:ident: $kind:ty),*) -> $answer:ty;)+ })+) => {$(
        impl<S: $port> $port for AnyProvider<S> {
            $(async fn $call(&self, $($name: $kind),*) -> $answer {
                match self {
                    Self::BuiltIn(built_in) => built_in.$call($($name),*).await,
                    Self::Remote(remote) => $port::$call(&**remote, $($name),*).await,
                }
            })+
        }
    )+};
}

either! {
    Catalogue {
        fn products(ids: &[ProductId]) -> Result<Vec<Product>, Unavailable>;
        fn list_products(after: Option<&ProductId>, limit: usize) -> Result<ProductPage, ListProductsError>;
        fn put_product(product: &Product) -> Result<bool, Unavailable>;
        fn describe_product(id: &ProductId, name: &Text<200>, price: Money) -> Result<(Product, bool), Unavailable>;
        fn adjust_stock(adjustment: &StockAdjustment) -> Result<Adjusted, AdjustError>;
    }
    Inventory {
        fn reserve(order_id: OrderId, lines: &[StockLine]) -> Result<Reservation, ReserveError>;
        fn reserved(order_id: OrderId) -> Result<Vec<StockLine>, Unavailable>;
        fn release(order_id: OrderId) -> Result<(), Unavailable>;
    }
    Payments {
        fn charge(request: &ChargeRequest) -> Result<Payment, ChargeError>;
        fn cancel_charge(cancellation: &ChargeCancellation) -> Result<Option<(Payment, Refund)>, CancelChargeError>;
        fn refund(request: &RefundRequest) -> Result<Refund, RefundError>;
        fn refunded(order_id: OrderId, refund_key: Uuid) -> Result<Option<Refund>, Unavailable>;
        fn ledger(order_id: OrderId) -> Result<Vec<LedgerEntry>, Unavailable>;
    }
    Shipping {
        fn shipment(shipment_key: Uuid) -> Result<ShipmentBook, Unavailable>;
        fn cancel_shipment(order_id: OrderId, shipment_key: Uuid) -> Result<(), TakeBackError>;
        fn confirm_delivery(shipment_key: Uuid) -> Result<DateTime<Utc>, DeliveryError>;
        fn create_shipment(request: &ShipmentRequest) -> Result<Shipment, ShipmentError>;
    }
    Notifications {
        fn send(notification: &Notification) -> Result<NotificationId, Unavailable>;
    }
}

#[cfg(test)]
mod tests {
    use std::{error::Error, time::Instant};

    use application::ports::ProviderError;
    use serde_json::{Value, json};
    use settings::{Discovery, Layers, Look};
    use tokio::net::TcpListener;

    use super::*;

    /// Has the document that was put into it, once.
    #[derive(Clone, Default)]
    struct Documents(Arc<Mutex<Option<String>>>);

    impl Source for Documents {
        async fn newer(&self) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
            Ok(self.0.lock().unwrap().take())
        }
    }

    struct Nowhere;

    impl Discovery for Nowhere {
        fn instances<'a>(&'a self, _: &'a str) -> Look<'a> {
            Box::pin(async { Err("there is no registry".into()) })
        }
    }

    struct Operator {
        choice: Choice<(), Documents>,
        settings: Arc<Live<Documents>>,
        documents: Documents,
    }

    impl Operator {
        async fn with(document: &Value) -> Self {
            let documents = Documents::default();
            let settings = Arc::new(Live::new(Layers::new("local".to_owned(), []), Some(documents.clone())));
            let choice = Choice::new(Port::Payments, (), Arc::clone(&settings), Registry::new(Nowhere));
            let operator = Self { choice, settings, documents };
            operator.deploys(document).await;
            operator
        }

        /// And the function looks for it.
        async fn deploys(&self, document: &Value) {
            self.leaves(document);
            self.settings.look_again().await;
        }

        fn leaves(&self, document: &Value) {
            *self.documents.0.lock().unwrap() = Some(document.to_string());
        }

        async fn chosen(&self) -> Arc<Chosen<()>> {
            self.choice.now().await.unwrap()
        }
    }

    fn own() -> Provider {
        Provider::Grpc { service: "own".to_owned() }
    }

    /// New orders are charged at `own`, there.
    fn at(url: &str, provider: &Value) -> Value {
        let mut payments = json!({"kind": "grpc", "service": "own"});
        payments.as_object_mut().unwrap().extend(provider.as_object().unwrap().clone());
        json!({"services": {"own": [url]}, "providers": {"payments": payments}})
    }

    fn remote(provider: &AnyProvider<()>) -> Option<Arc<Remote>> {
        match provider {
            AnyProvider::BuiltIn(()) => None,
            AnyProvider::Remote(remote) => Some(Arc::clone(remote)),
        }
    }

    async fn failure(remote: &Remote) -> ProviderError {
        let unavailable = remote.capabilities(Port::Payments).await.unwrap_err();
        *unavailable.source.downcast().unwrap()
    }

    const NOBODY: &str = "grpc://127.0.0.1:1";

    #[tokio::test]
    async fn an_order_keeps_its_provider_whoever_is_chosen_for_new_ones() {
        let operator = Operator::with(&at(NOBODY, &json!({}))).await;
        let chosen = operator.chosen().await;
        assert_eq!(of_new_orders(chosen.settings()).payments, own());
        assert!(remote(chosen.of_new_orders().unwrap()).is_some());
        // Orders from before there was a choice.
        assert!(remote(chosen.of(&Provider::Sandbox).unwrap()).is_none());

        operator.deploys(&json!({"services": {"own": [NOBODY]}})).await;
        let chosen = operator.chosen().await;
        assert_eq!(of_new_orders(chosen.settings()).payments, Provider::Sandbox);
        assert!(remote(chosen.of_new_orders().unwrap()).is_none());
        assert!(remote(chosen.of(&own()).unwrap()).is_some());
        assert!(chosen.of(&Provider::Rest { service: "own".to_owned() }).is_err(), "nobody there speaks REST");
    }

    #[tokio::test]
    async fn who_is_called_as_before_keeps_connections_and_breaker_by_the_new_numbers() {
        let operator = Operator::with(&at(NOBODY, &json!({}))).await;
        let remote_now = async || remote(operator.chosen().await.of(&own()).unwrap()).unwrap();
        let first = remote_now().await;
        for _ in 0..2 {
            assert!(matches!(failure(&first).await, ProviderError::Failed(_)));
        }
        operator.deploys(&at(NOBODY, &json!({"breaker": {"failures": 3}}))).await;
        let same = remote_now().await;
        assert!(Arc::ptr_eq(&first, &same));
        assert!(matches!(failure(&same).await, ProviderError::Failed(_)));
        assert!(matches!(failure(&same).await, ProviderError::ShutOff { .. }), "three failures are enough now");
        for elsewhere in [at("grpc://127.0.0.1:2", &json!({})), at(NOBODY, &json!({"deadline_ms": 200}))] {
            operator.deploys(&elsewhere).await;
            assert!(!Arc::ptr_eq(&first, &remote_now().await));
        }
    }

    #[tokio::test]
    async fn a_deadline_counts_from_the_next_call() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("grpc://{}", silent.local_addr().unwrap());
        let operator = Operator::with(&at(&url, &json!({}))).await;
        for deadline in [100, 400] {
            operator.deploys(&at(&url, &json!({"deadline_ms": deadline}))).await;
            let remote = remote(operator.chosen().await.of_new_orders().unwrap()).unwrap();
            let began = Instant::now();
            assert!(matches!(failure(&remote).await, ProviderError::TimedOut(_) | ProviderError::Failed(_)));
            let waited = began.elapsed();
            assert!(waited >= Duration::from_millis(deadline) && waited < Duration::from_secs(4), "{waited:?}");
        }
    }

    #[tokio::test]
    async fn an_order_whose_service_is_not_known_has_the_next_try_look_for_settings() {
        let operator = Operator::with(&json!({})).await;
        assert!(operator.chosen().await.of(&own()).is_err());
        operator.leaves(&at(NOBODY, &json!({})));
        assert!(operator.chosen().await.of(&own()).is_ok(), "another function knows it already");
    }

    #[tokio::test]
    async fn a_request_goes_by_what_it_began_with() {
        let operator = Operator::with(&at(NOBODY, &json!({}))).await;
        let chosen = operator.chosen().await;
        operator.deploys(&json!({})).await;
        assert!(operator.chosen().await.of(&own()).is_err());
        assert!(remote(chosen.of_new_orders().unwrap()).is_some());
    }
}
