//! Charge the customer.

use chrono::{DateTime, Utc};
use domain::order::{
    Order,
    record_payment::{record_payment, record_payment_failure},
};

use super::{StepError, metadata, outcome, work_id};
use crate::{
    event_store::EventStore,
    order_stream::OrderStream,
    ports::{ChargeError, ChargeRequest, FulfilmentInput, Payments},
};

const STEP: &str = "process-payment";

pub async fn process_payment(
    store: &impl EventStore,
    payments: &impl Payments,
    input: &FulfilmentInput,
    now: DateTime<Utc>,
) -> Result<(), StepError> {
    let metadata = metadata(input, STEP, now);
    let mut stream = OrderStream::open(store, input.order_id).await?;
    match stream.order() {
        Order::Created(_) => return Err(StepError::TooEarly),
        Order::Reserved(placed, _) => {
            let request = ChargeRequest {
                idempotency_key: work_id(input.order_id, STEP),
                order_id: input.order_id,
                payment_method: placed.payment_method.clone(),
                amount: placed.total_amount,
            };
            match payments.charge(&request).await {
                Ok(payment) => {
                    stream.commit(&metadata, |order| record_payment(order, &payment)).await?;
                }
                Err(ChargeError::Declined(code)) => {
                    stream.commit(&metadata, |order| record_payment_failure(order, &code)).await?;
                }
                Err(ChargeError::KeyReused) => return Err(StepError::RequestRefused),
                Err(ChargeError::Unavailable(error)) => return Err(error.into()),
            }
        }
        _ => {}
    }
    outcome(stream.order())
}
