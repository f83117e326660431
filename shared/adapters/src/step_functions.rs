//! Starts the fulfilment as an execution of the state machine, named by the order.

use application::{
    event_store::Unavailable,
    ports::{ExecutionState, Fulfilment, FulfilmentInput},
};
use aws_sdk_sfn::{
    Client,
    operation::{describe_execution::DescribeExecutionError, start_execution::StartExecutionError},
    types::ExecutionStatus,
};

/// The state machine of `infra/fulfilment.asl.json`.
pub struct StateMachine {
    client: Client,
    arn: String,
}

impl StateMachine {
    pub fn new(client: Client, arn: String) -> Self {
        Self { client, arn }
    }
}

impl Fulfilment for StateMachine {
    async fn start(&self, input: &FulfilmentInput) -> Result<bool, Unavailable> {
        let unavailable = |source| Unavailable { what: "the state machine", source };
        let text = serde_json::to_string(input).map_err(|error| unavailable(error.into()))?;
        let started = self
            .client
            .start_execution()
            .state_machine_arn(&self.arn)
            .name(input.execution_name())
            .input(text)
            .send()
            .await;
        match started.map_err(aws_sdk_sfn::error::SdkError::into_service_error) {
            Ok(_) => Ok(true),
            Err(StartExecutionError::ExecutionAlreadyExists(_)) => Ok(false),
            Err(error) => Err(unavailable(error.into())),
        }
    }

    async fn state(&self, input: &FulfilmentInput) -> Result<ExecutionState, Unavailable> {
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
