//! Starts the fulfilment as an execution of a state machine, named by the order.

use std::time::Duration;

use application::{
    event_store::Unavailable,
    ports::{DurableFulfilment, ExecutionState, Fulfilment, FulfilmentInput},
};
use aws_sdk_sfn::{
    Client,
    operation::{describe_execution::DescribeExecutionError, start_execution::StartExecutionError},
    types::ExecutionStatus,
};
use tokio::{
    sync::Mutex,
    time::{Interval, MissedTickBehavior},
};

/// The pause between two questions after an execution: an account may ask 10 to 15 times a second, everybody together
/// (`DescribeExecution` under "API throttling" in the service's quotas).
const PACE: Duration = Duration::from_millis(125);

/// The Express one of the two that are made of `infra/fulfilment.asl.json`.
pub struct ExpressStateMachine {
    client: Client,
    arn: String,
}

impl ExpressStateMachine {
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }
}

impl Fulfilment for ExpressStateMachine {
    async fn start(&self, input: &FulfilmentInput) -> Result<(), Unavailable> {
        start_execution(&self.client, &self.arn, input).await.map(drop)
    }
}

/// Answers whether it started now: not when the state machine refuses a name that was used before.
async fn start_execution(client: &Client, arn: &str, input: &FulfilmentInput) -> Result<bool, Unavailable> {
    let unavailable = |source| Unavailable { what: "the state machine", source };
    let text = serde_json::to_string(input).map_err(|error| unavailable(error.into()))?;
    let start = client.start_execution().state_machine_arn(arn).name(input.execution_name()).input(text);
    match start.send().await.map_err(aws_sdk_sfn::error::SdkError::into_service_error) {
        Ok(_) => Ok(true),
        Err(StartExecutionError::ExecutionAlreadyExists(_)) => Ok(false),
        Err(error) => Err(unavailable(error.into())),
    }
}

/// The Standard one.
pub struct StandardStateMachine {
    client: Client,
    arn: String,
    pace: Mutex<Interval>,
}

impl StandardStateMachine {
    pub fn new(client: Client, arn: String) -> Self {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { client, arn, pace: Mutex::new(pace) }
    }
}

impl DurableFulfilment for StandardStateMachine {
    async fn start(&self, input: &FulfilmentInput) -> Result<bool, Unavailable> {
        start_execution(&self.client, &self.arn, input).await
    }

    async fn state(&self, input: &FulfilmentInput) -> Result<ExecutionState, Unavailable> {
        self.pace.lock().await.tick().await;
        let machine = self.arn.replacen(":stateMachine:", ":execution:", 1);
        let arn = format!("{machine}:{}", input.execution_name());
        let described = self.client.describe_execution().execution_arn(arn).send().await;
        match described.map_err(aws_sdk_sfn::error::SdkError::into_service_error) {
            Ok(execution) => Ok(match execution.status {
                ExecutionStatus::Running | ExecutionStatus::PendingRedrive => ExecutionState::Running,
                _ => ExecutionState::Ended,
            }),
            Err(DescribeExecutionError::ExecutionDoesNotExist(_)) => Ok(ExecutionState::NeverStarted),
            Err(error) => Err(Unavailable { what: "the state machine", source: error.into() }),
        }
    }
}
