//! The calls as JSON over HTTP.

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State, rejection::JsonRejection},
    http::{HeaderValue, StatusCode, header::AUTHORIZATION},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::ListenerExt,
};
use providers::contract::{
    Call, InventoryCapabilities, NotificationsCapabilities, PaymentsCapabilities, ShippingCapabilities, wire,
};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::TcpListener;

use crate::{
    CAPABILITIES, Phase, Phases, REQUEST_BYTES_MAX, Reference,
    answers::{Answers, Failure},
    breaks, until,
};

pub(crate) async fn serve(reference: Arc<Reference>, listener: TcpListener, phases: Phases) -> io::Result<()> {
    let routes = route::<wire::GetProductsRequest>(Router::new());
    let routes = route::<wire::ListProductsRequest>(routes);
    let routes = route::<wire::PutProductRequest>(routes);
    let routes = route::<wire::DescribeProductRequest>(routes);
    let routes = route::<wire::AdjustStockRequest>(routes);
    let routes = route::<wire::ReserveRequest>(routes);
    let routes = route::<wire::GetReservationRequest>(routes);
    let routes = route::<wire::ReleaseRequest>(routes);
    let routes = route::<wire::ChargeRequest>(routes);
    let routes = route::<wire::CancelChargeRequest>(routes);
    let routes = route::<wire::RefundRequest>(routes);
    let routes = route::<wire::GetRefundRequest>(routes);
    let routes = route::<wire::GetLedgerRequest>(routes);
    let routes = route::<wire::CreateShipmentRequest>(routes);
    let routes = route::<wire::GetShipmentRequest>(routes);
    let routes = route::<wire::CancelShipmentRequest>(routes);
    let routes = route::<wire::ConfirmDeliveryRequest>(routes);
    let routes = route::<wire::SendRequest>(routes)
        .route(InventoryCapabilities::REST_PATH, post(capabilities))
        .route(PaymentsCapabilities::REST_PATH, post(capabilities))
        .route(ShippingCapabilities::REST_PATH, post(capabilities))
        .route(NotificationsCapabilities::REST_PATH, post(capabilities))
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(from_fn_with_state(Arc::clone(&reference), admit))
        .with_state(reference)
        .merge(Router::new().route("/health", get(health)).with_state(phases.clone()));
    let listener = listener.tap_io(|stream| drop(stream.set_nodelay(true)));
    axum::serve(listener, routes).with_graceful_shutdown(until(phases, Phase::Closing)).await
}

async fn admit(State(reference): State<Arc<Reference>>, request: Request, next: Next) -> Response {
    if reference.admits(request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes)) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

fn route<C: Call + DeserializeOwned>(routes: Router<Arc<Reference>>) -> Router<Arc<Reference>>
where
    Reference: Answers<C>,
{
    routes.route(C::REST_PATH, post(answer::<C>))
}

async fn answer<C: Call + DeserializeOwned>(
    State(reference): State<Arc<Reference>>,
    request: Result<Json<C>, JsonRejection>,
) -> Response
where
    Reference: Answers<C>,
{
    let request = match request {
        Ok(Json(request)) => request,
        // A number that no field of the contract can have, for instance.
        Err(JsonRejection::JsonDataError(_)) => {
            return (StatusCode::BAD_REQUEST, Failure::Invalid("the message").to_string()).into_response();
        }
        Err(rejection) => return rejection.into_response(),
    };
    match breaks::answer(&reference, request).await {
        Ok(answer) => Json(answer).into_response(),
        Err(failure @ Failure::Invalid(_)) => (StatusCode::BAD_REQUEST, failure.to_string()).into_response(),
        Err(failure @ Failure::Unavailable(_)) => {
            (StatusCode::SERVICE_UNAVAILABLE, failure.to_string()).into_response()
        }
    }
}

async fn capabilities() -> Json<wire::GetCapabilitiesResponse> {
    Json(wire::GetCapabilitiesResponse { capabilities: CAPABILITIES.map(str::to_owned).to_vec() })
}

async fn health(State(phases): State<Phases>) -> Response {
    let (status, word) = match *phases.borrow() {
        Phase::Serving => (StatusCode::OK, "serving"),
        Phase::Leaving | Phase::Closing => (StatusCode::SERVICE_UNAVAILABLE, "not_serving"),
    };
    (status, Json(json!({"status": word}))).into_response()
}
