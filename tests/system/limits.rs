//! Limits of callers, with real functions that share buckets: lowered by `make config` for as long as a test needs them.

use std::time::{Duration, Instant};

use aws_sdk_cognitoidentityprovider::types::{AuthFlowType, MessageActionType};
use futures_util::stream::{self, StreamExt};
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use crate::{
    providers::{UNTIL_ALL_KNOW, config, set},
    service::{Answer, DEADLINE, Service, fresh_key, order, setting},
};

/// Those who keep their limit while one does not.
const OTHERS: usize = 50;

/// Of each kind, alternating.
const ROUNDS: usize = 3;

const ROUND: Duration = Duration::from_secs(10);

/// What a customer may read: one a second, ten at once.
const READS_A_MINUTE: u32 = 60;
const READS_AT_ONCE: usize = 10;

/// A customer whom nobody else is.
#[derive(Clone)]
struct Customer {
    id: String,
    token: String,
}

/// The customers of a test, who go with it.
struct Customers {
    cognito: aws_sdk_cognitoidentityprovider::Client,
    names: Vec<String>,
}

impl Customers {
    async fn new() -> Self {
        let aws = aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).load().await;
        Self { cognito: aws_sdk_cognitoidentityprovider::Client::new(&aws), names: Vec::new() }
    }

    async fn add(&mut self) -> Customer {
        let (name, password, pool) =
            (format!("limits-{}", fresh_key()), format!("Aa1-{}", fresh_key()), setting("USER_POOL_ID"));
        let made = self.cognito.admin_create_user().user_pool_id(&pool).username(&name);
        let made = made.message_action(MessageActionType::Suppress).send().await.unwrap().user.unwrap();
        self.names.push(name.clone());
        let of_pool = self.cognito.admin_set_user_password().user_pool_id(&pool).username(&name);
        of_pool.password(&password).permanent(true).send().await.unwrap();
        let sign_in = self.cognito.initiate_auth().client_id(setting("USER_POOL_CLIENT_ID"));
        let sign_in = sign_in.auth_flow(AuthFlowType::UserPasswordAuth);
        let sign_in = sign_in.auth_parameters("USERNAME", &name).auth_parameters("PASSWORD", password);
        let token = sign_in.send().await.unwrap().authentication_result.unwrap().access_token.unwrap();
        let sub = made.attributes().iter().find(|attribute| attribute.name() == "sub").unwrap();
        Customer { id: sub.value().unwrap().to_owned(), token }
    }

    async fn remove(self) {
        for name in self.names {
            let user = self.cognito.admin_delete_user().user_pool_id(setting("USER_POOL_ID")).username(name);
            user.send().await.unwrap();
        }
    }
}

/// Reads the customer's list, which is there and empty from the beginning; answers the status and how long it took.
async fn read(service: &Service, customer: &Customer) -> (u16, Duration) {
    let request = service.request(Method::GET, "/api/v1/orders/customer/me").bearer_auth(&customer.token);
    let started = Instant::now();
    let answer = service.send(request).await;
    if answer.status == 429 {
        is_a_refusal(&answer, "customer_reads");
    }
    (answer.status, started.elapsed())
}

/// As every client is told it.
fn is_a_refusal(answer: &Answer, limit: &str) {
    assert_eq!((answer.status, answer.text("type").as_str()), (429, "urn:order-service:problem:rate-limited"));
    assert_eq!((answer.header("content-type"), answer.text("limit").as_str()), ("application/problem+json", limit));
    let seconds: u32 = answer.header("retry-after").parse().unwrap();
    assert!(seconds >= 1);
    assert_eq!(answer.header("ratelimit"), format!("\"{limit}\";r=0;t={seconds}"));
    assert!(answer.header("ratelimit-policy").starts_with(&format!("\"{limit}\";q=")), "{:?}", answer.headers);
}

/// A number of the header `RateLimit`, by the name of its parameter.
fn told(answer: &Answer, parameter: &str) -> u64 {
    let parameters = answer.header("ratelimit").split(';').skip(1).map(|part| part.split_once('=').unwrap());
    parameters.into_iter().find(|(name, _)| *name == parameter).unwrap().1.parse().unwrap()
}

async fn put_profile(service: &Service, customer: &Customer, number: u32) -> Answer {
    let request = service.request(Method::PUT, "/api/v1/customers/me").bearer_auth(&customer.token);
    let profile = json!({"first_name": format!("Anna {number}"), "email": "anna@example.com"});
    service.send(request.json(&profile)).await
}

/// Functions that run learn of a change one by one: reads in bursts until two in a row are cut short.
async fn until_reads_are_limited(service: &Service, customers: &mut Customers) {
    let (started, customer, mut cut_short) = (Instant::now(), customers.add().await, 0);
    while cut_short < 2 {
        let answers = a_few_at_a_time((0..60).map(|_| read(service, &customer))).await;
        let let_through = answers.into_iter().filter(|(status, _)| *status == 200).count();
        cut_short = if let_through <= 2 * READS_AT_ONCE { cut_short + 1 } else { 0 };
        assert!(started.elapsed() < 2 * UNTIL_ALL_KNOW, "{let_through} of 60 are let through");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn a_few_at_a_time<T>(work: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    stream::iter(work).buffer_unordered(8).collect().await
}

/// Sends in this rhythm for a round; answers what came of each request.
async fn sends(customer: Customer, every: Duration) -> Vec<(u16, Duration)> {
    let service = Service::connect().await;
    let (mut answers, mut rhythm, started) = (Vec::new(), tokio::time::interval(every), Instant::now());
    while started.elapsed() < ROUND {
        rhythm.tick().await;
        answers.push(read(&service, &customer).await);
    }
    answers
}

/// A round of those who keep their limit; the median of what they wait, in milliseconds.
async fn round(others: &[Customer], abuser: Option<&Customer>) -> u128 {
    let mut at_work = JoinSet::new();
    for customer in others {
        // Half of what they may.
        at_work.spawn(sends(customer.clone(), Duration::from_secs(2)));
    }
    let mut abuse = JoinSet::new();
    for _ in 0..4 {
        // Four that send five a second each are twenty times the limit.
        abuser.map(|customer| abuse.spawn(sends(customer.clone(), Duration::from_millis(200))));
    }
    let kept: Vec<(u16, Duration)> = at_work.join_all().await.into_iter().flatten().collect();
    assert!(kept.iter().all(|(status, _)| *status == 200), "somebody who keeps the limit is refused");
    if abuser.is_some() {
        let abused: Vec<u16> = abuse.join_all().await.into_iter().flatten().map(|(status, _)| status).collect();
        let let_through = abused.iter().filter(|status| **status == 200).count();
        let refused = abused.iter().filter(|status| **status == 429).count();
        assert_eq!(let_through + refused, abused.len(), "{abused:?}");
        println!("{} of {} of the one who does not are let through", let_through, abused.len());
        assert!(refused > 2 * let_through, "{let_through} of {} are let through", abused.len());
    }
    let mut times: Vec<u128> = kept.iter().map(|(_, time)| time.as_millis()).collect();
    times.sort_unstable();
    times[times.len() / 2]
}

async fn one_who_sends_twenty_times_their_limit_costs_the_others_nothing(customers: &mut Customers) {
    let mut others = Vec::new();
    for _ in 0..OTHERS {
        others.push(customers.add().await);
    }
    let abuser = customers.add().await;
    // What is warm is measured.
    round(&others, None).await;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        alone.push(round(&others, None).await);
        beside.push(round(&others, Some(&abuser)).await);
    }
    println!("medians of {OTHERS} customers in ms: {alone:?} by themselves, {beside:?} beside the one");
    assert!(beside.iter().min() <= alone.iter().max(), "{alone:?} by themselves, {beside:?} beside the one");
}

async fn who_obeys_gets_through_and_who_does_not_is_refused(service: &Service, customers: &mut Customers) {
    let (obeys, hurries) = (customers.add().await, customers.add().await);
    let started = Instant::now();
    for number in 0..12 {
        let mut answer = put_profile(service, &obeys, number).await;
        if answer.status == 429 {
            // A function that did not know the limit yet has taken more than there was.
            is_a_refusal(&answer, "profile_changes");
            tokio::time::sleep(Duration::from_secs(answer.header("retry-after").parse().unwrap())).await;
            answer = put_profile(service, &obeys, number).await;
        }
        assert!(answer.status < 300, "who has waited is refused: {answer:?}");
        if told(&answer, "r") == 0 {
            tokio::time::sleep(Duration::from_secs(told(&answer, "t"))).await;
        }
    }
    assert!(started.elapsed() < DEADLINE, "{:?}", started.elapsed());

    let answers = a_few_at_a_time((0..48).map(|number| put_profile(service, &hurries, number))).await;
    let refused: Vec<&Answer> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(refused.len() >= 24, "{} of 48 are refused", refused.len());
    for answer in refused {
        is_a_refusal(answer, "profile_changes");
    }
}

/// Places an order of the customer's that is paid like this.
async fn place(service: &Service, customer: &Customer, product: &str, payment_method: &str) -> Answer {
    let mut body = order("customer-1", product);
    body["customer_id"] = customer.id.as_str().into();
    body["payment_method"] = payment_method.into();
    let request = service.request(Method::POST, "/api/v1/orders").bearer_auth(&customer.token).json(&body);
    service.send(request).await.expect(201)
}

async fn a_declined_order_costs_what_several_commands_do(service: &Service, customers: &mut Customers) {
    let product = service.product(10_000).await;
    let (started, somebody, mut know) = (Instant::now(), customers.add().await, 0);
    while know < 3 {
        let policy = place(service, &somebody, &product, "pm_card_visa").await;
        know = if policy.header("ratelimit-policy").contains(";q=20;") { know + 1 } else { 0 };
        assert!(started.elapsed() < DEADLINE, "nobody knows of the limit: {:?}", policy.headers);
    }
    let started = Instant::now();
    loop {
        let customer = customers.add().await;
        let declined = place(service, &customer, &product, "pm_card_declined").await;
        service.await_status("staff-1", &declined.text("order_id"), &["rejected"]).await;
        let next = place(service, &customer, &product, "pm_card_visa").await;
        // Two orders and a decline; one that takes a minute may have come back.
        if told(&declined, "r") == 19 && [13, 14].contains(&told(&next, "r")) {
            break;
        }
        // A process that has just begun, or has had nothing to do for long, goes by the limit of before once, and takes from that.
        assert!(started.elapsed() < UNTIL_ALL_KNOW, "{:?}, then {:?}", declined.headers, next.headers);
    }
}

/// Who places orders after this test is not to be held to what it has asked for.
async fn until_orders_are_not_limited(service: &Service, customers: &mut Customers) {
    let (product, started, mut calm) = (service.product(10_000).await, Instant::now(), 0);
    while calm < 3 {
        let customer = customers.add().await;
        let places = (0..8).map(|_| place(service, &customer, &product, "pm_card_visa"));
        let placed = a_few_at_a_time(places).await;
        let limited = placed.iter().any(|answer| answer.header("ratelimit-policy").contains(";q=20;"));
        calm = if limited { 0 } else { calm + 1 };
        assert!(started.elapsed() < UNTIL_ALL_KNOW, "orders are still limited");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[tokio::test]
#[ignore = "lowers the limits of all callers: `make test` runs it by itself"]
async fn callers_are_held_to_their_limits_and_to_nobody_elses() {
    let (service, mut customers) = (Service::connect().await, Customers::new().await);
    let rates =
        [("customer_reads", READS_A_MINUTE, READS_AT_ONCE), ("profile_changes", 60, 3), ("customer_commands", 1, 20)];
    let change = |(class, per_minute, burst): (&str, u32, usize)| {
        [format!("limits.{class}.per_minute={per_minute}"), format!("limits.{class}.burst={burst}")]
    };
    set(&rates.into_iter().flat_map(change).collect::<Vec<_>>()).await;
    until_reads_are_limited(&service, &mut customers).await;
    one_who_sends_twenty_times_their_limit_costs_the_others_nothing(&mut customers).await;
    who_obeys_gets_through_and_who_does_not_is_refused(&service, &mut customers).await;
    a_declined_order_costs_what_several_commands_do(&service, &mut customers).await;
    config(&["RESET=1".to_owned()]).await;
    until_orders_are_not_limited(&service, &mut customers).await;
    customers.remove().await;
}
