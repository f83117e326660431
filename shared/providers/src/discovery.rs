//! Where the instances of a service are.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use settings::{Address, Cache, Discovery, INSTANCES_MAX, Transport};
use tokio::time::timeout;
use tracing::{Instrument, error, info, warn};

use crate::breaker::{self, Breaker, Clock, State, WallClock};

/// How long one look may take. It is on the way of a call that knows no instance.
const WAIT: Duration = Duration::from_millis(1_500);

/// What a registry has said of services, kept for all that a function calls.
pub struct Registry {
    discovery: Arc<dyn Discovery>,
    services: Mutex<BTreeMap<String, Arc<Registered>>>,
}

impl Registry {
    pub fn new(discovery: impl Discovery + 'static) -> Arc<Self> {
        Arc::new(Self { discovery: Arc::new(discovery), services: Mutex::default() })
    }

    /// Nothing is looked for before somebody asks where it is.
    pub(crate) fn service(&self, name: &str, kept_seconds: u32) -> Arc<Registered> {
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let service = services.entry(name.to_owned());
        let new = || Arc::new(Registered::new(name, Arc::clone(&self.discovery), WallClock));
        let service = service.or_insert_with(new);
        service.kept_seconds.store(kept_seconds, Ordering::Relaxed);
        Arc::clone(service)
    }
}

/// The instances of a service as the registry has named them.
///
/// Whoever asks goes by the last answer, and if that is old, has it refreshed beside. Only who comes before the first
/// answer waits. While there is no new answer the last one stands, however old it is.
pub(crate) struct Registered<C: Clock = WallClock> {
    name: String,
    discovery: Arc<dyn Discovery>,
    breaker: Breaker<C>,
    clock: C,
    known: Mutex<Option<Known>>,
    /// How long what the registry has said is gone by without looking again.
    kept_seconds: AtomicU32,
    /// Held by whoever is looking: one at a time.
    looking: Arc<tokio::sync::Mutex<()>>,
}

struct Known {
    instances: Vec<Address>,
    /// When they were asked for; never, if one of them has failed since.
    at: Option<Duration>,
}

impl<C: Clock + Clone + Send + Sync + 'static> Registered<C> {
    fn new(name: &str, discovery: Arc<dyn Discovery>, clock: C) -> Self {
        let service = name.to_owned();
        let breaker = Breaker::with_clock(breaker::Settings::default(), clock.clone()).on_change(move |change| {
            if change.to == State::Open {
                error!(service, from = ?change.from, to = ?change.to, "circuit breaker of the discovery changed");
            } else {
                info!(service, from = ?change.from, to = ?change.to, "circuit breaker of the discovery changed");
            }
        });
        let kept_seconds = AtomicU32::new(Cache::default().instances_seconds);
        let (known, looking) = (Mutex::new(None), Arc::default());
        Self { name: name.to_owned(), discovery, breaker, clock, known, kept_seconds, looking }
    }

    /// None, if the registry has named none or has never answered.
    async fn instances(self: &Arc<Self>) -> Vec<Address> {
        let (known, fresh) = self.known();
        if fresh {
            return known.unwrap_or_default();
        }
        if known.is_some() {
            if let Ok(turn) = Arc::clone(&self.looking).try_lock_owned() {
                drop(self.look_beside(turn));
            }
            return known.unwrap_or_default();
        }
        let turn = Arc::clone(&self.looking).lock_owned().await;
        // Somebody else may have looked meanwhile.
        if let (Some(known), _) = self.known() {
            return known;
        }
        // Beside this one, too: whoever has less time than the look takes is gone when its answer comes, and the next one has it.
        drop(self.look_beside(turn).await);
        self.known().0.unwrap_or_default()
    }

    /// The last answer, and whether it is young enough.
    fn known(&self) -> (Option<Vec<Address>>, bool) {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = &*known else { return (None, false) };
        // A clock that went back says nothing of an age.
        let age = known.at.and_then(|at| self.clock.now().checked_sub(at));
        let kept = Duration::from_secs(self.kept_seconds.load(Ordering::Relaxed).into());
        (Some(known.instances.clone()), age.is_some_and(|age| age < kept))
    }

    /// A function that is frozen meanwhile goes on with it when it is called again, and is done with it in time.
    fn look_beside(self: &Arc<Self>, turn: tokio::sync::OwnedMutexGuard<()>) -> tokio::task::JoinHandle<()> {
        let this = Arc::clone(self);
        let look = async move {
            this.look().await;
            drop(turn);
        };
        tokio::spawn(look.in_current_span())
    }

    async fn look(&self) {
        let Ok(permit) = self.breaker.permit() else { return };
        let answer = match timeout(WAIT, self.discovery.instances(&self.name)).await {
            Ok(answer) => answer,
            Err(elapsed) => Err(elapsed.into()),
        };
        match answer {
            Ok(mut instances) => {
                permit.succeeded();
                instances.truncate(INSTANCES_MAX);
                let known = Known { instances, at: Some(self.clock.now()) };
                *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some(known);
            }
            Err(error) => {
                permit.failed();
                warn!(service = self.name, %error, "instances not found: the last known ones stay");
            }
        }
    }

    /// Has whoever asks next look again, however young the answer is.
    fn doubt(&self) {
        if let Some(known) = &mut *self.known.lock().unwrap_or_else(PoisonError::into_inner) {
            known.at = None;
        }
    }
}

/// The instances of a service that are spoken to in one way.
pub struct Instances {
    /// Where they are found, if that is not in the settings.
    registered: Option<(Arc<Registered>, Transport)>,
    /// Those of the settings: all there are, or what is left while none is found.
    listed: Vec<Address>,
}

impl From<Vec<Address>> for Instances {
    fn from(listed: Vec<Address>) -> Self {
        Self { registered: None, listed }
    }
}

impl Instances {
    pub(crate) fn registered(service: Arc<Registered>, transport: Transport, fallback: Vec<Address>) -> Self {
        Self { registered: Some((service, transport)), listed: fallback }
    }

    /// Nobody will ever be found here.
    pub(crate) fn are_none(&self) -> bool {
        self.registered.is_none() && self.listed.is_empty()
    }

    pub(crate) async fn now(&self, within: Duration) -> Vec<Address> {
        let Some((service, transport)) = &self.registered else { return self.listed.clone() };
        let mut found = timeout(within, service.instances()).await.unwrap_or_default();
        found.retain(|address| address.transport == *transport);
        if found.is_empty() { self.listed.clone() } else { found }
    }

    /// One of them has failed, or there was none: it may be that others have taken their place.
    pub(crate) fn doubt(&self) {
        if let Some((service, _)) = &self.registered {
            service.doubt();
        }
    }

    /// What the service is called where it is looked for.
    pub(crate) fn name(&self) -> &str {
        self.registered.as_ref().map_or("", |(service, _)| &service.name)
    }
}

impl PartialEq for Instances {
    fn eq(&self, other: &Self) -> bool {
        let service = |of: &Self| of.registered.as_ref().map(|(service, transport)| (Arc::as_ptr(service), *transport));
        service(self) == service(other) && self.listed == other.listed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    use settings::Look;

    use super::*;

    /// A clock that the test sets, in seconds.
    #[derive(Default, Clone)]
    struct Hand(Arc<AtomicU64>);

    impl Hand {
        fn forward(&self, seconds: u64) {
            self.0.fetch_add(seconds, Ordering::SeqCst);
        }
    }

    impl Clock for Hand {
        fn now(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
    }

    /// Answers what is put into it, after so long; fails without.
    #[derive(Default)]
    struct Map {
        instances: Mutex<Option<Vec<Address>>>,
        takes: Duration,
        looks: AtomicUsize,
    }

    impl Map {
        fn has(&self, urls: &[&str]) {
            let parsed = urls.iter().map(|url| Address::parse(url).unwrap());
            *self.instances.lock().unwrap() = Some(parsed.collect());
        }

        fn is_down(&self) {
            *self.instances.lock().unwrap() = None;
        }

        fn looks(&self) -> usize {
            self.looks.load(Ordering::SeqCst)
        }
    }

    struct Shared(Arc<Map>);

    impl Discovery for Shared {
        fn instances<'a>(&'a self, service: &'a str) -> Look<'a> {
            Box::pin(async move {
                assert_eq!(service, "own");
                self.0.looks.fetch_add(1, Ordering::SeqCst);
                tokio::time::sleep(self.0.takes).await;
                self.0.instances.lock().unwrap().clone().ok_or_else(|| "nobody is there".into())
            })
        }
    }

    const A: &str = "grpc://127.0.0.1:1";
    const B: &str = "grpc://127.0.0.1:2";

    fn service(takes: Duration) -> (Arc<Registered<Hand>>, Arc<Map>, Hand) {
        let (map, hand) = (Arc::new(Map { takes, ..Map::default() }), Hand::default());
        let service = Registered::new("own", Arc::new(Shared(Arc::clone(&map))), hand.clone());
        (Arc::new(service), map, hand)
    }

    async fn found(service: &Arc<Registered<Hand>>) -> Vec<String> {
        service.instances().await.into_iter().map(|address| address.url.replace("http", "grpc")).collect()
    }

    /// Whatever runs beside comes to its end.
    async fn meanwhile() {
        tokio::time::sleep(Duration::from_secs(3)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_one_waits_and_the_others_of_thirty_seconds_go_by_the_same_answer() {
        let (service, map, hand) = service(Duration::from_millis(100));
        map.has(&[A]);
        assert_eq!(found(&service).await, [A]);
        map.has(&[B]);
        hand.forward(29);
        assert_eq!(found(&service).await, [A]);
        meanwhile().await;
        assert_eq!((found(&service).await, map.looks()), (vec![A.to_owned()], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_answer_is_gone_by_at_once_and_refreshed_beside() {
        let (service, map, hand) = service(Duration::from_millis(100));
        map.has(&[A]);
        found(&service).await;
        map.has(&[B]);
        hand.forward(30);
        let began = tokio::time::Instant::now();
        for _ in 0..10 {
            assert_eq!(found(&service).await, [A]);
        }
        assert_eq!(began.elapsed(), Duration::ZERO, "nobody waits");
        meanwhile().await;
        assert_eq!((found(&service).await, map.looks()), (vec![B.to_owned()], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_instance_has_the_next_one_look_again() {
        let (service, map, _) = service(Duration::ZERO);
        map.has(&[A]);
        found(&service).await;
        map.has(&[B]);
        service.doubt();
        assert_eq!(found(&service).await, [A]);
        meanwhile().await;
        assert_eq!((found(&service).await, map.looks()), (vec![B.to_owned()], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn all_who_come_before_the_first_answer_wait_for_one_look() {
        let (service, map, _) = service(Duration::from_millis(100));
        map.has(&[A]);
        let (one, other) = tokio::join!(found(&service), found(&service));
        assert_eq!((one, other, map.looks()), (vec![A.to_owned()], vec![A.to_owned()], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_less_time_than_a_look_takes_leaves_its_answer_to_the_next() {
        let (service, map, _) = service(Duration::from_secs(1));
        map.has(&[A]);
        timeout(Duration::from_millis(100), found(&service)).await.unwrap_err();
        meanwhile().await;
        assert_eq!((found(&service).await, map.looks()), (vec![A.to_owned()], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_registry_is_down_the_last_answer_stands_and_it_is_soon_left_alone() {
        let (service, map, hand) = service(Duration::ZERO);
        map.has(&[A]);
        found(&service).await;
        map.is_down();
        hand.forward(3_600);
        for _ in 0..20 {
            assert_eq!(found(&service).await, [A]);
            meanwhile().await;
        }
        assert_eq!(map.looks(), 1 + 5, "five failures open the breaker");
        map.has(&[B]);
        hand.forward(30);
        found(&service).await;
        meanwhile().await;
        assert_eq!(found(&service).await, [B]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_does_not_answer_keeps_nobody_longer_than_one_look() {
        let (service, map, _) = service(Duration::from_hours(1));
        map.has(&[A]);
        let began = tokio::time::Instant::now();
        assert_eq!(found(&service).await, [""; 0]);
        assert_eq!(began.elapsed(), WAIT);
        for _ in 0..10 {
            found(&service).await;
        }
        assert_eq!((began.elapsed(), map.looks()), (WAIT.saturating_mul(5), 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_goes_back_makes_an_answer_old() {
        let (service, map, hand) = service(Duration::ZERO);
        hand.forward(1_000);
        map.has(&[A]);
        found(&service).await;
        hand.0.store(10, Ordering::SeqCst);
        found(&service).await;
        meanwhile().await;
        assert_eq!(map.looks(), 2);
    }

    #[tokio::test]
    async fn the_settings_urls_are_what_is_left_while_none_is_found() {
        let map = Arc::new(Map::default());
        let registry = Registry::new(Shared(Arc::clone(&map)));
        let address = |url| Address::parse(url).unwrap();
        let of = |transport, url| Instances::registered(registry.service("own", 30), transport, vec![address(url)]);
        let (grpc, rest) = (of(Transport::Grpc, B), of(Transport::Rest, "http://127.0.0.1:3"));
        assert_eq!(map.looks(), 0, "nothing is looked for before somebody asks");
        assert_eq!(grpc.now(WAIT).await, [address(B)]);
        map.has(&[A]);
        assert_eq!(
            (grpc.now(WAIT).await, rest.now(WAIT).await),
            (vec![address(A)], vec![address("http://127.0.0.1:3")])
        );
        assert_eq!(map.looks(), 2, "they share what was found");
    }
}
