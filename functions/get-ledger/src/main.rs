//! `GET /api/v1/orders/{order_id}/ledger`: staff see an order's books beside the providers', asked now.
//!
//! 200, 403 for customers, 404.

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::{DynamoEventStore, bookkeepers},
    http::{self, ApiRequest, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::EventStore,
    ledger::{Ledger, LedgerError, ledger},
    ports::{Inventory, Payments, Providers, Shipping},
};
use aws_sdk_dynamodb::Client;
use domain::{books::Books, ids::OrderId};
use lambda_http::{Body, Response};
use providers::{Bookkeepers, Registry};
use serde_json::{Value, json};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let settings = app_config::settings(&config)?;
    let registry = Registry::new(cloud_map::of_process(&config)?);
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, settings.clone(), "get-ledger").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?);
    let books = Bookkeepers::new(bookkeepers(&client)?, &settings, &registry);
    http::run(&limiter, |request| async {
        let (payments, inventories, carriers) = books.now().await?;
        handle(&store, &*payments, &*inventories, &*carriers, request).await
    })
    .await
}

async fn handle(
    store: &impl EventStore,
    payments: &impl Providers<Provider: Payments>,
    inventories: &impl Providers<Provider: Inventory>,
    carriers: &impl Providers<Provider: Shipping>,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    request.staff()?;
    let id = request.order_id()?;
    respond(id, ledger(store, payments, inventories, carriers, id).await)
}

fn respond(id: OrderId, outcome: Result<Ledger, LedgerError>) -> Result<Response<Body>, Problem> {
    match outcome {
        Ok(Ledger { order, providers }) => {
            let body = json!({
                "order_id": id,
                "currency": order.charged.currency().code(),
                "order": books(&order),
                "providers": books(&providers),
                "agrees": order.agrees_with(&providers),
            });
            http::json(200, &body)
        }
        Err(LedgerError::UnknownOrder) => Err(Problem::not_found("order")),
        Err(LedgerError::Load(error)) => Err(Problem::not_loaded(&error)),
        Err(error @ LedgerError::Amounts(_)) => Err(Problem::internal(&error)),
    }
}

/// Amounts in minor units of the one currency that stands above them.
fn books(books: &Books) -> Value {
    json!({
        "charged": books.charged.amount(),
        "refunded": books.refunded.amount(),
        "reserved": books.reserved,
        "shipment": books.shipment,
    })
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::memory::{MemoryEventStore, MemoryInventory, MemoryPayments, MemoryShipping};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/get-ledger.json");

    async fn send(store: &MemoryEventStore, event: &str) -> Result<Response<Body>, Problem> {
        let request = ApiRequest::from_event(event, chrono::Utc::now()).unwrap();
        let (payments, inventory, shipping) =
            (MemoryPayments::default(), MemoryInventory::default(), MemoryShipping::default());
        handle(store, &payments, &inventory, &shipping, request).await
    }

    #[tokio::test]
    async fn the_books_of_a_fresh_order_agree_that_there_is_nothing_yet() {
        let store = MemoryEventStore::default();
        assert_eq!(send(&store, SAMPLE).await.unwrap_err().status, 404);
        store.append(&placed_order()).await.unwrap();
        let answer = send(&store, SAMPLE).await.unwrap();
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        let nothing = json!({"charged": 0, "refunded": 0, "reserved": [], "shipment": "none"});
        assert_eq!((&body["order"], &body["providers"], &body["agrees"]), (&nothing, &nothing, &json!(true)));
        assert_eq!(body["currency"], "CNY");
        assert_eq!(send(&store, &SAMPLE.replace("[staff]", "[]")).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let store = MemoryEventStore::default();
        store.append(&placed_order()).await.unwrap();
        let (payments, inventory, shipping) =
            (MemoryPayments::default(), MemoryInventory::default(), MemoryShipping::default());
        http::hostile::is_answered(
            SAMPLE,
            |request| handle(&store, &payments, &inventory, &shipping, request),
            || store.count(),
        )
        .await;
    }
}
