//! `POST /api/v1/orders/{order_id}/refunds` → `RefundRequested`: staff give back a payment, whole or in part.
//!
//! 202, or the same again for a repeated `Idempotency-Key`; 400 for invalid input, 403 for customers, and for staff where
//! the order's refunds come to more than they may give back, 404, 409 when nothing
//! is paid or everything goes back anyway, 422 with the figures when the amount cannot be given back.

use adapters::{
    app_config, aws,
    dynamodb::DynamoEventStore,
    http::{self, ApiRequest, FieldErrors, Problem},
    lambda,
    limits::Limiter,
};
use application::{
    event_store::{EventStore, Unavailable, fingerprint},
    event_stream::{CommandError, Committed, OrderStream},
};
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    ids::{OrderId, RefundId},
    money::{Currency, Money},
    order::{
        RequestedRefund, StaffNote,
        request_refund::{RefundRejection, request_refund, request_refund_up_to},
    },
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use serde_json::json;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings_without_secrets(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "request-refund").await?;
    let store = DynamoEventStore::new(client, lambda::variable("EVENTS_TABLE")?)
        .with_snapshots(lambda::variable("SNAPSHOTS_TABLE")?);
    http::run(&limiter, async |request| {
        // Not what is known without asking: it says who may do what.
        let settings = settings
            .current()
            .await
            .map_err(|error| Problem::unavailable(&Unavailable { what: "the settings", source: error.into() }))?;
        handle(&store, settings.limits.staff_refund, request).await
    })
    .await
}

async fn handle(store: &impl EventStore, staff_refund: u64, request: ApiRequest) -> Result<Response<Body>, Problem> {
    let caller = request.staff()?;
    let RequestRefundBody { amount: AmountBody { amount, currency }, reason, note } = request.json()?;
    let amount = Money::new(amount, currency)
        .map_err(|_| Problem::invalid_field("/amount/amount", format!("must be at most {}", Money::MAX_AMOUNT)))?;
    let id = request.order_id()?;
    // A request without a note has the fingerprint that it had when there were none.
    let fingerprint = match &note {
        Some(note) => fingerprint(&(amount, &reason, note)),
        None => fingerprint(&(amount, &reason)),
    };
    let fingerprint = fingerprint.map_err(|error| Problem::internal(&error))?;
    let metadata = request.metadata(&caller, request.command_id(id, "request-refund", &caller)?, fingerprint);
    let refund = RequestedRefund { refund_id: RefundId(metadata.command_id), amount, reason, note };
    let mut stream = OrderStream::open(store, id).await.map_err(|error| Problem::not_loaded(&error))?;
    let outcome = stream
        .commit(&metadata, |order| {
            if caller.is_supervisor() {
                request_refund(order, &refund)
            } else {
                request_refund_up_to(staff_refund, order, &refund)
            }
        })
        .await;
    respond(id, refund.refund_id, outcome)
}

fn respond(
    id: OrderId,
    refund_id: RefundId,
    outcome: Result<Committed, CommandError<RefundRejection>>,
) -> Result<Response<Body>, Problem> {
    let committed = outcome.map_err(|error| Problem::not_done(error, not_requested))?;
    let version = committed.version;
    let body = json!({"order_id": id, "refund_id": refund_id, "status": "requested", "version": version});
    http::accepted(committed, &body)
}

fn not_requested(rejection: &RefundRejection) -> Problem {
    let detail = rejection.to_string();
    let unprocessable = |detail: String| Problem::new(422, "invalid-refund", "The amount cannot be given back", detail);
    match rejection {
        RefundRejection::UnknownOrder => Problem::not_found("order"),
        RefundRejection::NotPaid | RefundRejection::Undone | RefundRejection::TooMany => {
            Problem::new(409, "not-refundable", "The order cannot be refunded", detail)
        }
        RefundRejection::Nothing => unprocessable(detail),
        RefundRejection::AboveBound { .. } => Problem::forbidden(detail),
        RefundRejection::OtherCurrency { charged, refundable } | RefundRejection::TooMuch { charged, refundable } => {
            unprocessable(detail).with("charged", json!(charged)).with("refundable", json!(refundable))
        }
    }
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct RequestRefundBody {
    amount: AmountBody,
    /// The customer reads it.
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    reason: Text<500>,
    /// For staff only.
    #[deserr(default, try_from(Option<String>) = Text::parse_optional -> Invalid)]
    note: Option<StaffNote>,
}

/// Whether the currency is the payment's, the decision says. That one may be withdrawn by now, and still the money goes back.
#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct AmountBody {
    amount: u64,
    #[deserr(try_from(&String) = Currency::parse_any -> Invalid)]
    currency: Currency,
}

#[cfg(test)]
mod tests {
    use adapters::samples::placed_order;
    use application::memory::MemoryEventStore;
    use domain::order::{OrderEvent, cancel::CancelRejection};
    use serde_json::Value;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/request-refund.json");

    /// More is for supervisors.
    const STAFF_REFUND: u64 = 3_500;

    /// A store with the order that the sample event of `project-orders` creates.
    async fn placed() -> MemoryEventStore {
        let store = MemoryEventStore::default();
        store.append(&placed_order()).await.unwrap();
        store
    }

    /// The same, with its 39.98 paid.
    async fn paid() -> MemoryEventStore {
        paid_in("CNY").await
    }

    async fn paid_in(currency: &str) -> MemoryEventStore {
        let store = placed().await;
        let amount = json!({"amount": 3998, "currency": currency});
        let events: Vec<OrderEvent> = serde_json::from_value(json!([
            {"type": "InventoryReserved", "data": {"reservation_id": "r"}},
            {"type": "PaymentCompleted", "data": {
                "transaction_id": "t", "amount": amount, "processed_at": "2026-01-01T00:00:00Z"
            }}
        ]))
        .unwrap();
        let request = ApiRequest::from_event(SAMPLE, chrono::Utc::now()).unwrap();
        let id = request.order_id().unwrap();
        let metadata = request.metadata(&request.staff().unwrap(), id.work_id("paid"), String::new());
        let mut stream = OrderStream::open(&store, id).await.unwrap();
        stream.commit(&metadata, |_| Ok::<_, CancelRejection>(events.clone())).await.unwrap();
        store
    }

    async fn send(store: &MemoryEventStore, event: &str) -> Result<Response<Body>, Problem> {
        handle(store, STAFF_REFUND, ApiRequest::from_event(event, chrono::Utc::now()).unwrap()).await
    }

    fn of(amount: &str, key: &str) -> String {
        SAMPLE.replace("\\\"amount\\\": 1000", &format!("\\\"amount\\\": {amount}")).replace("sample-key", key)
    }

    #[tokio::test]
    async fn a_refund_is_requested_once_for_a_key_however_often_it_comes() {
        let store = paid().await;
        let mut answers = Vec::new();
        for _ in 0..2 {
            let answer = send(&store, SAMPLE).await.unwrap();
            assert_eq!(answer.status(), 202);
            answers.push(serde_json::from_slice::<Value>(answer.body()).unwrap());
        }
        assert_eq!(answers[0], answers[1]);
        assert_eq!(store.all().len(), 3);
        assert_eq!(send(&store, &of("999", "sample-key")).await.unwrap_err().status, 422);
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let store = paid().await;
        send(&store, SAMPLE).await.unwrap();
        let metadata = store.all().pop().unwrap().metadata;
        let known = (
            "33f04539-f8da-5c6e-b147-0b482ba1d49c",
            "3d8e320305411fc960761db6dcbcd0327ccb303a0833c75e065a6fb60ac6fba8",
        );
        assert_eq!((metadata.command_id.to_string().as_str(), metadata.fingerprint.as_str()), known);
    }

    #[tokio::test]
    async fn what_cannot_be_given_back_is_refused_with_the_figures() {
        let store = paid().await;
        send(&store, SAMPLE).await.unwrap();
        let too_much = send(&store, &of("2999", "second")).await.unwrap_err();
        let body = too_much.body("/", "c");
        assert_eq!((too_much.status, too_much.kind), (422, "invalid-refund"));
        assert_eq!(body["charged"], json!({"amount": 3998, "currency": "CNY"}));
        assert_eq!(body["refundable"], json!({"amount": 2998, "currency": "CNY"}));
        assert_eq!(send(&store, &of("0", "third")).await.unwrap_err().status, 422);
        assert_eq!(send(&store, &of("1", "fourth").replace("CNY", "USD")).await.unwrap_err().status, 422);
        assert_eq!(send(&store, &of("-1", "fifth")).await.unwrap_err().status, 400);
        assert_eq!(store.all().len(), 3);
    }

    #[tokio::test]
    async fn more_than_the_bound_is_for_supervisors() {
        let (store, much) = (paid().await, of("3501", "sample-key"));
        let refused = send(&store, &much).await.unwrap_err();
        assert_eq!((refused.status, refused.kind, store.all().len()), (403, "forbidden", 2));
        assert!(refused.body("/", "c")["detail"].as_str().unwrap().contains("more than 3500 minor units of one order"));
        assert_eq!(send(&store, &of("3500", "second")).await.unwrap().status(), 202);
        assert_eq!(send(&store, &of("1", "third")).await.unwrap_err().status, 403);
        for groups in ["[supervisor]", "[staff supervisor]"] {
            let store = paid().await;
            assert_eq!(send(&store, &much.replace("[staff]", groups)).await.unwrap().status(), 202);
        }
    }

    #[tokio::test]
    async fn what_was_paid_in_a_currency_that_is_withdrawn_since_goes_back_in_it() {
        let store = paid_in("HRK").await;
        let refused = send(&store, SAMPLE).await.unwrap_err();
        assert_eq!(refused.body("/", "c")["refundable"], json!({"amount": 3998, "currency": "HRK"}));
        assert_eq!(send(&store, &SAMPLE.replace("CNY", "HRK")).await.unwrap().status(), 202);
    }

    #[tokio::test]
    async fn what_is_not_paid_is_not_refunded_and_customers_have_no_say() {
        let store = placed().await;
        assert_eq!(send(&store, SAMPLE).await.unwrap_err().status, 409);
        assert_eq!(send(&store, &SAMPLE.replace("[staff]", "[carrier]")).await.unwrap_err().status, 403);
        assert_eq!(send(&MemoryEventStore::default(), SAMPLE).await.unwrap_err().status, 404);
        assert_eq!(store.all().len(), 1);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let store = paid().await;
        http::hostile::is_answered(SAMPLE, |request| handle(&store, STAFF_REFUND, request), || store.count()).await;
    }
}
