//! The calls over gRPC.

use std::sync::Arc;

use providers::contract::{
    Call,
    wire::{
        self, GetCapabilitiesRequest, GetCapabilitiesResponse, inventory_server, notifications_server, payments_server,
        shipping_server,
    },
};
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    metadata::MetadataValue,
    service::interceptor::InterceptedService,
    transport::{Error, Server, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::health_reporter};

use crate::{
    CAPABILITIES, Phase, Phases, REQUEST_BYTES_MAX, Reference,
    answers::{Answers, Failure},
    breaks, until,
};

/// What health is asked about: each service, or all of them by no name.
const SERVICES: [&str; 5] = [
    "",
    inventory_server::SERVICE_NAME,
    payments_server::SERVICE_NAME,
    shipping_server::SERVICE_NAME,
    notifications_server::SERVICE_NAME,
];

/// All four, of one provider.
struct Services(Arc<Reference>);

pub(crate) async fn serve(reference: Arc<Reference>, listener: TcpListener, phases: Phases) -> Result<(), Error> {
    let (reporter, health) = health_reporter();
    let report = async |status: ServingStatus| {
        for service in SERVICES {
            reporter.set_service_status(service, status).await;
        }
    };
    report(ServingStatus::Serving).await;
    let stop = async {
        until(phases.clone(), Phase::Leaving).await;
        report(ServingStatus::NotServing).await;
        until(phases, Phase::Closing).await;
    };
    // An answer is one small packet, which must not wait for a second one to come.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let door = Arc::clone(&reference);
    let admit = move |request: Request<()>| {
        let shown = request.metadata().get("authorization").map(MetadataValue::as_bytes);
        if door.admits(shown) { Ok(request) } else { Err(Status::unauthenticated("another token is needed")) }
    };
    let services = Arc::new(Services(reference));
    let inventory = inventory_server::InventoryServer::from_arc(Arc::clone(&services));
    let payments = payments_server::PaymentsServer::from_arc(Arc::clone(&services));
    let shipping = shipping_server::ShippingServer::from_arc(Arc::clone(&services));
    let notifications = notifications_server::NotificationsServer::from_arc(services);
    Server::builder()
        .add_service(health)
        .add_service(InterceptedService::new(inventory.max_decoding_message_size(REQUEST_BYTES_MAX), admit.clone()))
        .add_service(InterceptedService::new(payments.max_decoding_message_size(REQUEST_BYTES_MAX), admit.clone()))
        .add_service(InterceptedService::new(shipping.max_decoding_message_size(REQUEST_BYTES_MAX), admit.clone()))
        .add_service(InterceptedService::new(notifications.max_decoding_message_size(REQUEST_BYTES_MAX), admit))
        .serve_with_incoming_shutdown(incoming, stop)
        .await
}

async fn answer<C: Call + DeserializeOwned>(
    Services(reference): &Services,
    request: Request<C>,
) -> Result<Response<C::Answer>, Status>
where
    Reference: Answers<C>,
{
    let answer = breaks::answer(reference, request.into_inner()).await;
    answer.map(Response::new).map_err(|failure| match failure {
        Failure::Invalid(_) => Status::invalid_argument(failure.to_string()),
        Failure::Unavailable(_) => Status::unavailable(failure.to_string()),
    })
}

macro_rules! service {
    ($server:path: $($method:ident($request:ident) -> $answer:ident)+) => {
        #[tonic::async_trait]
        impl $server for Services {
            async fn get_capabilities(
                &self,
                _: Request<GetCapabilitiesRequest>,
            ) -> Result<Response<GetCapabilitiesResponse>, Status> {
                let capabilities = CAPABILITIES.map(str::to_owned).to_vec();
                Ok(Response::new(GetCapabilitiesResponse { capabilities }))
            }

            $(async fn $method(
                &self,
                request: Request<wire::$request>,
            ) -> Result<Response<wire::$answer>, Status> {
                answer(self, request).await
            })+
        }
    };
}

service! { inventory_server::Inventory:
    get_products(GetProductsRequest) -> GetProductsResponse
    list_products(ListProductsRequest) -> ListProductsResponse
    put_product(PutProductRequest) -> PutProductResponse
    describe_product(DescribeProductRequest) -> DescribeProductResponse
    adjust_stock(AdjustStockRequest) -> AdjustStockResponse
    reserve(ReserveRequest) -> ReserveResponse
    get_reservation(GetReservationRequest) -> GetReservationResponse
    release(ReleaseRequest) -> ReleaseResponse
}

service! { payments_server::Payments:
    charge(ChargeRequest) -> ChargeResponse
    cancel_charge(CancelChargeRequest) -> CancelChargeResponse
    refund(RefundRequest) -> RefundResponse
    get_refund(GetRefundRequest) -> GetRefundResponse
    get_ledger(GetLedgerRequest) -> GetLedgerResponse
}

service! { shipping_server::Shipping:
    create_shipment(CreateShipmentRequest) -> CreateShipmentResponse
    get_shipment(GetShipmentRequest) -> GetShipmentResponse
    cancel_shipment(CancelShipmentRequest) -> CancelShipmentResponse
    confirm_delivery(ConfirmDeliveryRequest) -> ConfirmDeliveryResponse
}

service! { notifications_server::Notifications:
    send(SendRequest) -> SendResponse
}
