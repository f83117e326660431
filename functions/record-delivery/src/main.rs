//! `POST /api/v1/orders/{order_id}/delivery` → `ShipmentDelivered`: the carrier, or staff, say that the parcel has arrived.
//!
//! 200, also when that is already recorded; 403 for customers, 404, 409 when no parcel of the order is under way.

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, DynamoShipping},
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::{EventStore, fingerprint},
    event_stream::{CommandError, OrderStream},
    ports::{Providers, Shipping},
    record_delivery::deliver,
};
use aws_sdk_dynamodb::Client;
use domain::{
    ids::OrderId,
    order::{OrderStatus, record_delivery::DeliveryRejection},
};
use lambda_http::{Body, Response};
use providers::{Choice, Port, Registry};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "record-delivery").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let carriers = Choice::new(
        Port::Shipping,
        DynamoShipping::new(client, lambda::variable("SHIPMENTS_TABLE")?),
        settings,
        Registry::new(cloud_map::of_process(&config)?),
    );
    http::run(&limiter, |request| async {
        let carriers = carriers.now().await?;
        handle(&store, &*carriers, request).await
    })
    .await
}

async fn handle(
    store: &impl EventStore,
    carriers: &impl Providers<Provider: Shipping>,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.staff_or_carrier()?;
    let id = request.order_id()?;
    // A parcel arrives at most once, so the order alone makes the command's id.
    let fingerprint = fingerprint(&"record-delivery").map_err(|error| Problem::internal(&error))?;
    let metadata = request.metadata(&caller, id.work_id("record-delivery"), fingerprint);
    let mut stream = OrderStream::open(store, id).await.map_err(|error| Problem::not_loaded(&error))?;
    let outcome = deliver(&mut stream, carriers, id, &metadata, request.now).await;
    respond(id, stream.version(), outcome)
}

fn respond(
    id: OrderId,
    version: u64,
    outcome: Result<(), CommandError<DeliveryRejection>>,
) -> Result<Response<Body>, Problem> {
    outcome.map_err(|error| {
        Problem::not_done(error, |rejection| match rejection {
            DeliveryRejection::UnknownOrder => Problem::not_found("order"),
            DeliveryRejection::NotUnderWay => {
                Problem::new(409, "not-under-way", "There is nothing to deliver", rejection.to_string())
            }
        })
    })?;
    let body = json!({
        "order_id": id, "status": OrderStatus::Confirmed, "shipment": {"status": "delivered"}, "version": version,
    });
    http::json(200, &body)
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        fulfilment::{inventory::reserve_inventory, payment::process_payment, shipment::create_shipment},
        memory::{Fault, MemoryEventStore, MemoryInventory, MemoryLimits, MemoryPayments, MemoryShipping},
        ports::{Catalogue, FulfilmentInput},
    };
    use domain::{
        money::{Currency, Money},
        product::Product,
        text::Text,
    };

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/record-delivery.json");

    /// A store with the order that the sample event of `project-orders` creates.
    async fn placed() -> MemoryEventStore {
        let store = MemoryEventStore::default();
        store.append(&placed_order()).await.unwrap();
        store
    }

    async fn shipped() -> (MemoryEventStore, MemoryShipping) {
        let (store, shipping) = (placed().await, MemoryShipping::default());
        let input: FulfilmentInput =
            serde_json::from_str(include_str!("../../../events/create-shipment.json")).unwrap();
        let inventory = MemoryInventory::default();
        let id = domain::ids::ProductId::parse("tea").unwrap();
        let price = Money::new(1999, Currency::parse("CNY").unwrap()).unwrap();
        let tea = Product { id, name: Text::parse("tea").unwrap(), price, stock: 2 };
        inventory.put_product(&tea).await.unwrap();
        let now = chrono::Utc::now();
        reserve_inventory(&store, &inventory, &input, now).await.unwrap();
        process_payment(&store, &MemoryPayments::default(), &MemoryLimits::default(), &input, now).await.unwrap();
        create_shipment(&store, &shipping, &input, now).await.unwrap();
        (store, shipping)
    }

    async fn send(store: &MemoryEventStore, shipping: &MemoryShipping, event: &str) -> Result<Response<Body>, Problem> {
        handle(store, shipping, ApiRequest::from_event(event, chrono::Utc::now()).unwrap()).await
    }

    #[tokio::test]
    async fn a_parcel_arrives_once_however_often_it_is_said() {
        let (store, shipping) = shipped().await;
        let before = store.all().len();
        for _ in 0..3 {
            assert_eq!(send(&store, &shipping, SAMPLE).await.unwrap().status(), 200);
        }
        let commits = store.all();
        assert_eq!(commits.len(), before + 1);
        assert_eq!(commits.last().unwrap().metadata.actor, "carrier:carrier-1");
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let (store, shipping) = shipped().await;
        send(&store, &shipping, SAMPLE).await.unwrap();
        let metadata = store.all().pop().unwrap().metadata;
        let known = (
            "f6427b1c-3c32-5f94-b04f-c53ae91068e7",
            "dce4281dddc05190960fd05dc0a584b59307641dca86a18c83e98c6616e5637d",
        );
        assert_eq!((metadata.command_id.to_string().as_str(), metadata.fingerprint.as_str()), known);
    }

    #[tokio::test]
    async fn a_delivery_whose_answer_was_lost_is_found_by_asking_again() {
        let (store, shipping) = shipped().await;
        for faults in [&shipping.faults, &store.faults] {
            faults.push(Fault::AfterEffect);
            assert_eq!(send(&store, &shipping, SAMPLE).await.unwrap_err().status, 503);
        }
        assert_eq!(send(&store, &shipping, SAMPLE).await.unwrap().status(), 200);
    }

    #[tokio::test]
    async fn what_is_not_shipped_does_not_arrive_and_customers_have_no_say() {
        let (store, shipping) = (placed().await, MemoryShipping::default());
        assert_eq!(send(&store, &shipping, SAMPLE).await.unwrap_err().status, 409);
        assert_eq!(send(&store, &shipping, &SAMPLE.replace("[carrier]", "[]")).await.unwrap_err().status, 403);
        assert_eq!(send(&MemoryEventStore::default(), &shipping, SAMPLE).await.unwrap_err().status, 404);
        assert_eq!(store.all().len(), 1);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let (store, shipping) = shipped().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&store, &shipping, request), || store.count()).await;
    }
}
