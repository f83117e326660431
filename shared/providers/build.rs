//! Makes the contract's messages out of its proto files, without `protoc`.

use std::{error::Error, path::Path};

const CONTRACT: &str = "../../api/providers/v1";
const SERVICES: [&str; 4] = ["inventory", "payments", "shipping", "notifications"];

/// Whatever of an answer is one of several things: in JSON it is a field of the message itself, as in proto's own mapping.
const ONE_OF: [&str; 11] = [
    "AdjustStockRequest.change",
    "AdjustStockResponse.outcome",
    "ReserveResponse.outcome",
    "ChargeResponse.outcome",
    "CancelChargeResponse.outcome",
    "RefundResponse.outcome",
    "LedgerEntry.entry",
    "CreateShipmentResponse.outcome",
    "GetShipmentResponse.state",
    "CancelShipmentResponse.outcome",
    "ConfirmDeliveryResponse.outcome",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={CONTRACT}");
    let files = SERVICES.map(|service| Path::new(CONTRACT).join(format!("{service}.proto")));
    let contract = protox::compile(files, [CONTRACT])?;
    let mut build = tonic_prost_build::configure()
        .build_transport(false)
        .type_attribute(".", "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(".", "#[serde(default)]")
        .enum_attribute(".", "#[serde(rename_all = \"snake_case\")]");
    let flat = r#"#[serde(flatten, deserialize_with = "crate::one_of::one_of")]"#;
    for one_of in ONE_OF {
        build = build.field_attribute(format!("orders.providers.v1.{one_of}"), flat);
    }
    build.compile_fds(contract)?;
    Ok(())
}
