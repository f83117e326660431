//! The SDK's settings, the same for every client of every function.

use std::time::Duration;

use aws_config::{BehaviorVersion, SdkConfig, retry::RetryConfig, timeout::TimeoutConfig};

/// Makes the settings once, in `main`. Region, credentials and endpoint come from the environment, as everywhere on AWS.
///
/// The SDK retries by itself, so nobody retries around it (but the confirmation, which goes on without
/// its message, tries that twice). One operation, retries included, ends within 4 s: the shortest
/// function timeout in `template.yaml` leaves room for two.
pub async fn config() -> SdkConfig {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_secs(1))
        .operation_attempt_timeout(Duration::from_millis(1_800))
        .operation_timeout(Duration::from_secs(4))
        .build();
    aws_config::defaults(BehaviorVersion::v2026_01_12())
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(3))
        .load()
        .await
}
