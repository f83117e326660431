//! The calls over gRPC.

use std::sync::Arc;

use providers::contract::{
    Call,
    wire::{
        self, GetCapabilitiesRequest, GetCapabilitiesResponse, inventory_server, notifications_server, payments_server,
        shipping_server,
    },
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    metadata::MetadataValue,
    service::InterceptorLayer,
    transport::{Error, Server, server::TcpIncoming},
};

use crate::{
    CAPABILITIES, Reference,
    answers::{Answers, Failure},
};

pub(crate) async fn serve(
    reference: Arc<Reference>,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let door = Arc::clone(&reference);
    let admit = move |request: Request<()>| {
        let shown = request.metadata().get("authorization").map(MetadataValue::as_bytes);
        if door.admits(shown) { Ok(request) } else { Err(Status::unauthenticated("another token is needed")) }
    };
    Server::builder()
        .layer(InterceptorLayer::new(admit))
        .add_service(inventory_server::InventoryServer::from_arc(Arc::clone(&reference)))
        .add_service(payments_server::PaymentsServer::from_arc(Arc::clone(&reference)))
        .add_service(shipping_server::ShippingServer::from_arc(Arc::clone(&reference)))
        .add_service(notifications_server::NotificationsServer::from_arc(reference))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener), stop)
        .await
}

async fn answer<C: Call>(reference: &Reference, request: Request<C>) -> Result<Response<C::Answer>, Status>
where
    Reference: Answers<C>,
{
    let answer = reference.answer(request.into_inner()).await;
    answer.map(Response::new).map_err(|failure| match failure {
        Failure::Invalid(_) => Status::invalid_argument(failure.to_string()),
        Failure::Unavailable(_) => Status::unavailable(failure.to_string()),
    })
}

macro_rules! service {
    ($server:path: $($method:ident($request:ident) -> $answer:ident)+) => {
        #[tonic::async_trait]
        impl $server for Reference {
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
