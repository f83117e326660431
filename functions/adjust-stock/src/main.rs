//! `POST /api/v1/products/{product_id}/stock-adjustments`: staff change what can still be ordered of a product, by a
//! difference or to a count.
//!
//! 201, or the same again for a repeated `Idempotency-Key`; 400 for invalid input, 403 for customers, 404, 409 with the stock
//! that there is when it cannot become that, 422 for a reused key.

use adapters::{
    app_config, aws, cloud_map,
    dynamodb::DynamoInventory,
    http::{self, ApiRequest, FieldErrors, Problem},
    lambda,
    limits::Limiter,
};
use application::ports::{AdjustError, Adjusted, Catalogue, StockAdjustment};
use aws_sdk_dynamodb::Client;
use deserr::Deserr;
use domain::{
    ids::{AdjustmentId, ProductId},
    product::StockChange,
    text::{Invalid, Text},
};
use lambda_http::{Body, Response};
use providers::{Choice, Port, Registry};
use serde_json::json;
use uuid::Uuid;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let config = aws::config();
    let client = Client::new(&config);
    let settings = app_config::settings(&config)?;
    let limiter = Limiter::of_process(&client, settings.clone(), "adjust-stock").await?;
    let inventory = Choice::new(
        Port::Inventory,
        DynamoInventory::new(client, lambda::variable("INVENTORY_TABLE")?),
        settings,
        Registry::new(cloud_map::of_process(&config)?),
    );
    http::run(&limiter, |request| async {
        let inventory = inventory.now().await?;
        handle(inventory.of_new_orders()?, request).await
    })
    .await
}

async fn handle(catalogue: &impl Catalogue, request: ApiRequest) -> Result<Response<Body>, Problem> {
    let caller = request.staff()?;
    let AdjustStockBody { by, counted, reason } = request.json()?;
    let change = change(by, counted).map_err(|invalid| Problem::invalid_field("/by", invalid.to_string()))?;
    let product_id =
        ProductId::parse(&request.path_parameter("product_id")).map_err(|_| Problem::not_found("product"))?;
    let id = match request.idempotency_key()? {
        Some(key) => AdjustmentId::derive(&product_id, &caller.id, key),
        None => AdjustmentId(Uuid::now_v7()),
    };
    let adjustment = StockAdjustment { id, product_id, change, reason, actor: caller.actor(), at: request.now };
    respond(&adjustment, catalogue.adjust_stock(&adjustment).await)
}

fn respond(adjustment: &StockAdjustment, outcome: Result<Adjusted, AdjustError>) -> Result<Response<Body>, Problem> {
    let Adjusted { by, stock, replayed } = outcome.map_err(|error| match error {
        AdjustError::UnknownProduct => Problem::not_found("product"),
        AdjustError::OutOfRange { stock } => {
            Problem::new(409, "stock-out-of-range", "The stock cannot become that", error.to_string())
                .with("stock", json!(stock))
        }
        AdjustError::KeyReused => Problem::key_reused(),
        AdjustError::Unavailable(error) => Problem::unavailable(&error),
    })?;
    let StockAdjustment { id, product_id, .. } = adjustment;
    let answer = http::json(201, &json!({"product_id": product_id, "adjustment_id": id, "by": by, "stock": stock}))?;
    Ok(if replayed { http::with_header(answer, "idempotent-replayed", "true") } else { answer })
}

/// A larger difference than a stock can be makes no sense, whatever the stock.
fn change(by: Option<i64>, counted: Option<u32>) -> Result<StockChange, Invalid> {
    match (by, counted) {
        (Some(by), None) if by != 0 && u32::try_from(by.unsigned_abs()).is_ok() => Ok(StockChange::By(by)),
        (Some(_), None) => Err(Invalid::new(format!("must be from -{0} to {0}, and not 0", u32::MAX))),
        (None, Some(counted)) => Ok(StockChange::Counted(counted)),
        (None, None) | (Some(_), Some(_)) => Err(Invalid::new("is required, or else counted, and never both")),
    }
}

#[derive(Deserr)]
#[deserr(error = FieldErrors, deny_unknown_fields)]
struct AdjustStockBody {
    #[deserr(default)]
    by: Option<i64>,
    #[deserr(default)]
    counted: Option<u32>,
    #[deserr(try_from(&String) = Text::parse -> Invalid)]
    reason: Text<500>,
}

#[cfg(test)]
mod tests {
    use application::memory::{Fault, MemoryInventory};
    use domain::{
        money::{Currency, Money},
        product::Product,
    };
    use serde_json::Value;

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/adjust-stock.json");

    /// A catalogue with this much tea.
    async fn with_tea(stock: u32) -> MemoryInventory {
        let catalogue = MemoryInventory::default();
        let price = Money::new(1999, Currency::parse("CNY").unwrap()).unwrap();
        let tea = Product { id: ProductId::parse("tea").unwrap(), name: Text::parse("Tea").unwrap(), price, stock };
        catalogue.put_product(&tea).await.unwrap();
        catalogue
    }

    async fn stock(catalogue: &MemoryInventory) -> u32 {
        catalogue.products(&[ProductId::parse("tea").unwrap()]).await.unwrap().remove(0).stock
    }

    async fn send(catalogue: &MemoryInventory, event: &str) -> Result<Response<Body>, Problem> {
        handle(catalogue, ApiRequest::from_event(event, chrono::Utc::now()).unwrap()).await
    }

    /// The sample with another body, and under another key.
    fn with(body: &Value, key: &str) -> String {
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        event["body"] = json!(body.to_string());
        event["headers"]["idempotency-key"] = json!(key);
        event.to_string()
    }

    fn body(answer: &Response<Body>) -> Value {
        serde_json::from_slice(answer.body()).unwrap()
    }

    #[tokio::test]
    async fn a_retry_is_found_again_whatever_the_version() {
        let catalogue = with_tea(10).await;
        let first = send(&catalogue, SAMPLE).await.unwrap();
        let id = "2f9ed346-7b21-58fb-a929-841c984f601c";
        let expected = json!({"product_id": "tea", "adjustment_id": id, "by": -3, "stock": 7});
        assert_eq!((first.status().as_u16(), body(&first)), (201, expected));
        let again = send(&catalogue, SAMPLE).await.unwrap();
        assert_eq!((again.status().as_u16(), body(&again)), (201, body(&first)));
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(stock(&catalogue).await, 7);
        let reused = send(&catalogue, &SAMPLE.replace("-3", "-2")).await.unwrap_err();
        assert_eq!((reused.status, reused.kind), (422, "idempotency-key-reused"));
    }

    #[tokio::test]
    async fn without_a_key_each_request_is_another_adjustment() {
        let catalogue = with_tea(10).await;
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        event["headers"].as_object_mut().unwrap().remove("idempotency-key");
        for left in [7, 4] {
            assert_eq!(body(&send(&catalogue, &event.to_string()).await.unwrap())["stock"], left);
        }
    }

    #[tokio::test]
    async fn a_count_is_what_there_is() {
        let catalogue = with_tea(10).await;
        let counted = send(&catalogue, &with(&json!({"counted": 40, "reason": "stocktaking"}), "k")).await.unwrap();
        assert_eq!((&body(&counted)["by"], &body(&counted)["stock"]), (&json!(30), &json!(40)));
        assert_eq!(stock(&catalogue).await, 40);
    }

    #[tokio::test]
    async fn what_the_stock_cannot_become_is_a_409_with_what_there_is() {
        let catalogue = with_tea(2).await;
        let refused = send(&catalogue, SAMPLE).await.unwrap_err();
        assert_eq!((refused.status, refused.kind), (409, "stock-out-of-range"));
        assert_eq!(refused.body("/", "c")["stock"], 2);
        assert_eq!(stock(&catalogue).await, 2);
        assert_eq!(send(&MemoryInventory::default(), SAMPLE).await.unwrap_err().status, 404);
    }

    #[tokio::test]
    async fn an_adjustment_is_a_difference_or_a_count_with_a_reason_by_staff() {
        let catalogue = with_tea(10).await;
        for bad in [
            json!({"by": -3}),
            json!({"reason": "damp"}),
            json!({"by": -3, "counted": 7, "reason": "damp"}),
            json!({"by": 0, "reason": "damp"}),
            json!({"by": 4_294_967_296_u64, "reason": "damp"}),
            json!({"by": i64::MIN, "reason": "damp"}),
            json!({"by": 1.5, "reason": "damp"}),
            json!({"counted": -1, "reason": "damp"}),
            json!({"counted": 4_294_967_296_u64, "reason": "damp"}),
            json!({"by": -3, "reason": " "}),
            json!({"by": -3, "reason": "damp", "colour": "red"}),
        ] {
            assert_eq!(send(&catalogue, &with(&bad, "k")).await.unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(send(&catalogue, &SAMPLE.replace("[staff]", "[carrier]")).await.unwrap_err().status, 403);
        assert_eq!(stock(&catalogue).await, 10);
    }

    #[tokio::test]
    async fn an_adjustment_whose_answer_was_lost_may_be_sent_again() {
        let catalogue = with_tea(10).await;
        catalogue.faults.push(Fault::AfterEffect);
        assert_eq!(send(&catalogue, SAMPLE).await.unwrap_err().status, 503);
        assert_eq!(body(&send(&catalogue, SAMPLE).await.unwrap())["stock"], 7);
        assert_eq!(stock(&catalogue).await, 7);
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let catalogue = with_tea(100).await;
        http::hostile::is_answered(SAMPLE, |request| handle(&catalogue, request), || catalogue.all()).await;
    }
}
