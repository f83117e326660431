//! The only shared crate that names AWS: each port's adapter, and the edges where Lambda calls in.

pub mod app_config;
pub mod aws;
pub mod cloud_map;
pub mod cognito;
pub mod dynamodb;
pub mod event_bridge;
pub mod http;
pub mod lambda;
pub mod limits;
mod processes;
#[cfg(any(test, feature = "testing"))]
pub mod samples;
pub mod secrets;
pub mod ses;
pub mod sqs;
pub mod step_functions;
pub mod tally;
