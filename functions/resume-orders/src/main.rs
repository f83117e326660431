//! `POST /api/v1/fulfilment/resume` → `FulfilmentResumed` for each order that is stuck at one step: staff let them go on
//! together, once the cause is mended.
//!
//! 202 with how many go on, or 200 with how many would for a dry run; 400 for invalid input, 403 for customers.

use adapters::{
    app_config, aws,
    dynamodb::{DynamoEventStore, DynamoReadModel},
    http::{self, ApiRequest, FieldErrors, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::{EventStore, Unavailable, fingerprint},
    page::PAGE_BYTES_MAX,
    ports::OrderViews,
    resume_orders::{Outcome, ResumeOrders, resume_orders},
};
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    ids::OrderId,
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use serde::Serialize;
use serde_json::json;

/// How many ids the answer has at most.
const IDS_MAX: usize = 100;

/// Each in quotes, with a comma.
const _: () = assert!(IDS_MAX * 39 < PAGE_BYTES_MAX, "the answer has room for the ids");

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let limiter = Limiter::of_process(&client, app_config::settings_without_secrets(&config)?, "resume-orders").await?;
    let store = DynamoEventStore::new(client.clone(), lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    let model = DynamoReadModel::new(client, lambda::variable("ORDERS_TABLE")?, lambda::variable("INDEX_TABLE")?);
    http::run(&limiter, async |request| {
        let live = model.live().await.map_err(|error| Problem::unavailable(&error))?;
        handle(&store, &live.views, request).await
    })
    .await
}

async fn handle(
    store: &impl EventStore,
    views: &impl OrderViews,
    request: ApiRequest,
) -> Result<Response<Body>, Problem> {
    let caller = request.staff()?;
    let body: ResumeOrdersBody = request.json()?;
    let fingerprint = fingerprint(&body).map_err(|error| Problem::internal(&error))?;
    // Under one key, each order goes on once, however often the call comes.
    let command = match request.idempotency_key()? {
        Some(key) => format!("resume-orders {} {key}", caller.id.before_a_space()),
        None => format!("resume-orders {}", request.request_id),
    };
    let metadata = |id: OrderId| request.metadata(&caller, id.work_id(&command), fingerprint.clone());
    let ResumeOrdersBody { step, error, reason, dry_run } = body;
    let command = ResumeOrders { step, error, reason, dry_run: dry_run.unwrap_or_default() };
    respond(&command, resume_orders(store, views, &command, metadata, request.now).await)
}

fn respond(command: &ResumeOrders, outcome: Result<Outcome, Unavailable>) -> Result<Response<Body>, Problem> {
    let Outcome { matching, resumed, failed, more } = outcome.map_err(|error| Problem::unavailable(&error))?;
    let body = json!({
        "dry_run": command.dry_run,
        "matching": matching.len(),
        "resumed": resumed,
        "failed": failed,
        "more": more,
        "order_ids": matching.get(..IDS_MAX).unwrap_or(&matching),
    });
    http::json(if command.dry_run { 200 } else { 202 }, &body)
}

#[derive(Deserr, Serialize)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct ResumeOrdersBody {
    #[deserr(try_from(String) = name -> Invalid)]
    step: String,
    #[deserr(default, try_from(Option<String>) = optional_name -> Invalid)]
    error: Option<String>,
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    reason: Text<500>,
    #[deserr(default)]
    dry_run: Option<bool>,
}

/// The names of steps and errors, as an order's attention has them.
fn name(text: String) -> Result<String, Invalid> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    if (1..=100).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text)
    } else {
        Err(Invalid::new("must be 1 to 100 characters long, of letters, digits and . -"))
    }
}

fn optional_name(text: Option<String>) -> Result<Option<String>, Invalid> {
    text.map(name).transpose()
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::{
        event_store::Commit,
        fulfilment::attention::flag_order,
        memory::{MemoryEventStore, MemoryIndex, MemoryOrderViews},
        ports::{FulfilmentInput, ReadModel},
        project_orders::catch_up,
    };
    use domain::order::Attention;
    use serde_json::Value;
    use uuid::Uuid;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/resume-orders.json");

    #[derive(Default)]
    struct Shop {
        store: MemoryEventStore,
        model: ReadModel<MemoryOrderViews, MemoryIndex>,
    }

    impl Shop {
        /// An order that is stuck there.
        async fn stuck(&self, step: &str, reason: &str) -> OrderId {
            let id = OrderId::new(Uuid::new_v4());
            let stream = application::event_store::StreamId::order(id);
            self.store.append(&Commit { stream, ..placed_order() }).await.unwrap();
            let input: FulfilmentInput = serde_json::from_str(include_str!("../../../events/flag-order.json")).unwrap();
            let failed = Attention { step: step.to_owned(), reason: reason.to_owned() };
            let input = FulfilmentInput { order_id: id, ..input };
            flag_order(&self.store, &input, &failed, chrono::Utc::now()).await.unwrap();
            self.project(id).await;
            id
        }

        async fn project(&self, id: OrderId) {
            catch_up(&self.store, &self.model, id).await.unwrap();
        }

        async fn send(&self, event: &str) -> Result<(u16, Value), Problem> {
            let request = ApiRequest::from_event(event, chrono::Utc::now()).unwrap();
            let answer = handle(&self.store, &self.model.views, request).await?;
            Ok((answer.status().as_u16(), serde_json::from_slice(answer.body()).unwrap()))
        }
    }

    #[tokio::test]
    async fn the_orders_that_are_stuck_like_that_go_on_and_no_others() {
        let shop = Shop::default();
        let mut matching = Vec::new();
        for _ in 0..250 {
            matching.push(shop.stuck("process-payment", "Unavailable").await);
        }
        let others =
            [shop.stuck("process-payment", "RequestRefused").await, shop.stuck("create-shipment", "Unavailable").await];
        let commits = shop.store.count();
        let dry = SAMPLE.replace(r#"\"reason\""#, r#"\"dry_run\": true, \"reason\""#);
        let (status, answer) = shop.send(&dry).await.unwrap();
        assert_eq!(
            (status, &answer["matching"], &answer["resumed"], &answer["more"]),
            (200, &json!(250), &json!(0), &json!(false))
        );
        assert_eq!((shop.store.count(), answer["order_ids"].as_array().unwrap().len()), (commits, IDS_MAX));

        for _ in 0..2 {
            let (status, answer) = shop.send(SAMPLE).await.unwrap();
            assert_eq!((status, &answer["resumed"], &answer["failed"]), (202, &json!(250), &json!(0)), "{answer}");
        }
        assert_eq!(shop.store.count(), commits + 250, "under one key, each goes on once");
        for id in matching {
            shop.project(id).await;
        }
        for id in others {
            assert!(shop.model.views.load(id).await.unwrap().unwrap().attention.is_some());
        }
        assert_eq!(shop.send(SAMPLE).await.unwrap().1["matching"], 0);
    }

    #[tokio::test]
    async fn a_call_lets_500_go_on_and_the_next_one_the_others() {
        let shop = Shop::default();
        let mut stuck = Vec::new();
        for number in 0..660 {
            // 55 are stuck elsewhere, so that no page ends where there are 500 of the others.
            let step = if number % 12 == 0 { "create-shipment" } else { "process-payment" };
            stuck.push(shop.stuck(step, "Unavailable").await);
        }
        let commits = shop.store.count();
        for (resumed, more) in [(500, true), (105, false)] {
            let (_, answer) = shop.send(SAMPLE).await.unwrap();
            let told = (&answer["resumed"], &answer["failed"], &answer["more"]);
            assert_eq!(told, (&json!(resumed), &json!(0), &json!(more)));
            for id in &stuck {
                shop.project(*id).await;
            }
        }
        assert_eq!(shop.store.count(), commits + 605);
    }

    #[tokio::test]
    async fn a_retry_under_its_key_counts_anew_and_another_body_fails() {
        let shop = Shop::default();
        let id = shop.stuck("process-payment", "Unavailable").await;
        let commits = shop.store.count();
        let other = SAMPLE.replace(r#"\"reason\": \""#, r#"\"reason\": \"now "#);
        for (event, resumed, failed) in [(SAMPLE, 1, 0), (SAMPLE, 1, 0), (other.as_str(), 0, 1)] {
            let (_, answer) = shop.send(event).await.unwrap();
            assert_eq!((&answer["resumed"], &answer["failed"]), (&json!(resumed), &json!(failed)), "{answer}");
        }
        assert_eq!(shop.store.count(), commits + 1);
        // Once its view shows that it has gone on, it is not even looked at.
        shop.project(id).await;
        let (_, answer) = shop.send(SAMPLE).await.unwrap();
        assert_eq!((&answer["matching"], &answer["resumed"]), (&json!(0), &json!(0)));
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let shop = Shop::default();
        let id = shop.stuck("process-payment", "Unavailable").await;
        shop.send(SAMPLE).await.unwrap();
        let metadata = shop.store.all().pop().unwrap().metadata;
        assert_eq!(metadata.command_id, id.work_id("resume-orders staff-1 sample-key"));
        assert_eq!(metadata.fingerprint, "76b9a7c7e48cc83fd888ae52a2c198223f8d3750510165240ff98bee1f58d0ea");
    }

    #[tokio::test]
    async fn wrong_input_is_named_and_a_customer_is_refused() {
        let shop = Shop::default();
        let wrong = shop.send(&SAMPLE.replace("process-payment", "process payment")).await.unwrap_err();
        assert_eq!(wrong.status, 400);
        assert_eq!(shop.send(&SAMPLE.replace("[staff]", "[]")).await.unwrap_err().status, 403);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let shop = Shop::default();
        shop.stuck("process-payment", "Unavailable").await;
        http::hostile::is_answered(
            SAMPLE,
            |request| handle(&shop.store, &shop.model.views, request),
            || shop.store.count(),
        )
        .await;
    }
}
