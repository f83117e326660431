//! Who asks after the reference provider's health is told the truth, also while it stops; and what is under way then is answered.

#![allow(clippy::unwrap_used, reason = "a test that panics has failed, as it should")]

use std::{sync::Arc, time::Duration};

use application::ports::{ChargeRequest, Payments};
use domain::{
    ids::{CustomerId, OrderId, PaymentMethod},
    money::{Currency, Money},
};
use providers::{Port, Remote, breaker};
use reference_provider::{Reference, serve};
use settings::Address;
use tokio::{net::TcpListener, sync::oneshot, time::timeout};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use uuid::Uuid;

async fn over_grpc(client: &mut HealthClient<Channel>) -> [ServingStatus; 2] {
    let mut said = Vec::new();
    for service in ["", "orders.providers.v1.Payments"] {
        let asked = HealthCheckRequest { service: service.to_owned() };
        said.push(client.check(asked).await.unwrap().into_inner().status());
    }
    said.try_into().unwrap()
}

async fn over_rest(url: &str) -> (u16, String) {
    let answer = reqwest::get(format!("{url}/health")).await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test]
async fn a_provider_that_is_stopped_says_so_and_answers_what_is_under_way() {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (grpc, rest) = (bind().await, bind().await);
    let urls = [&grpc, &rest].map(|listener| listener.local_addr().unwrap());
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(serve(Arc::new(Reference::default()), grpc, rest, async { drop(stopped.await) }));
    let [grpc, rest] = [format!("grpc://{}", urls[0]), format!("http://{}", urls[1])];
    let channel = Channel::from_shared(format!("http://{}", urls[0])).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());

    assert_eq!(over_grpc(&mut health).await, [ServingStatus::Serving; 2]);
    assert_eq!(over_rest(&rest).await, (200, r#"{"status":"serving"}"#.to_owned()));

    // Each takes two seconds, and nobody new is let in after one.
    let slow = [grpc, rest.clone()].map(|url| {
        tokio::spawn(async move {
            let address = Address::parse(&url).unwrap();
            let deadline = Duration::from_secs(30);
            let remote = Remote::new(Port::Payments, vec![address], deadline, breaker::Settings::default());
            remote.charge(&slow_charge()).await
        })
    });
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(over_grpc(&mut health).await, [ServingStatus::NotServing; 2]);
    assert_eq!(over_rest(&rest).await, (503, r#"{"status":"not_serving"}"#.to_owned()));

    // Who watches for ever does not keep it.
    let watched = health.watch(HealthCheckRequest::default()).await.unwrap();
    for slow in slow {
        slow.await.unwrap().unwrap();
    }
    timeout(Duration::from_secs(30), server).await.unwrap().unwrap().unwrap();
    drop(watched);
    assert!(reqwest::get(format!("{rest}/health")).await.is_err());
}

#[tokio::test]
async fn health_is_told_to_those_who_show_no_token() {
    let bind = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (grpc, rest) = (bind().await, bind().await);
    let urls = [&grpc, &rest].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
    let reference = Reference::default().with_token("a-token".to_owned());
    tokio::spawn(serve(Arc::new(reference), grpc, rest, std::future::pending()));
    let channel = Channel::from_shared(urls[0].clone()).unwrap();
    assert_eq!(over_grpc(&mut HealthClient::new(channel.connect().await.unwrap())).await, [ServingStatus::Serving; 2]);
    assert_eq!(over_rest(&urls[1]).await.0, 200);
}

fn slow_charge() -> ChargeRequest {
    ChargeRequest {
        idempotency_key: Uuid::new_v4(),
        order_id: OrderId::new(Uuid::new_v4()),
        customer_id: CustomerId::parse("anna").unwrap(),
        payment_method: PaymentMethod::parse("pm_slow").unwrap(),
        amount: Money::new(1999, Currency::parse("CNY").unwrap()).unwrap(),
    }
}

#[test]
fn a_law_that_nobody_knows_is_refused_with_those_that_can_be_broken() {
    let refused = Reference::breaking("two_keys_make_three_charges").err().unwrap().to_string();
    for of in reference_provider::known_breaks() {
        assert!(refused.contains(of.law), "{refused}");
        assert!(Reference::breaking(of.law).is_ok());
    }
}
