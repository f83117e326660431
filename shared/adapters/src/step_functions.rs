//! Starts the fulfilment as an execution of a state machine, named by the order, and tells how far one has come.

use std::{num::ParseIntError, time::Duration};

use application::{
    event_store::Unavailable,
    ports::{DurableFulfilment, ExecutionState, Fulfilment, FulfilmentInput, FulfilmentTries, Tries},
};
use aws_sdk_sfn::{
    Client,
    operation::{
        describe_execution::DescribeExecutionError, get_execution_history::GetExecutionHistoryError,
        start_execution::StartExecutionError,
    },
    types::{ExecutionStatus, HistoryEvent, HistoryEventType},
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use tokio::{
    sync::Mutex,
    time::{Interval, MissedTickBehavior},
};

/// The pause between two questions after an execution: an account may ask 10 to 15 times a second, everybody together
/// (`DescribeExecution` under "API throttling" in the service's quotas).
const PACE: Duration = Duration::from_millis(125);

/// How much of a history is read, the newest first: more than all tries of one round, and the pause before them.
const EVENTS_MAX: i32 = 100;

/// How many parts the ARN of a state machine has; the name of an alias is one more.
const PARTS_OF_A_MACHINE: usize = 7;

/// How often a step is tried in a round (`infra/fulfilment.asl.json` as it is deployed for Standard executions).
const TRIES: usize = 5;
/// Validation asks nobody, so it is not tried for as long.
const TRIES_OF_VALIDATION: usize = 3;

/// What says on an order that a step was given up, and is none itself.
const FLAG: &str = "FlagOrder";

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
        let described = self.client.describe_execution().execution_arn(execution_arn(&self.arn, input)).send().await;
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

/// An execution is named by its state machine, whatever alias of it has started it; `machine` may be either's ARN.
fn execution_arn(machine: &str, input: &FulfilmentInput) -> String {
    let parts: Vec<&str> = machine.split(':').take(PARTS_OF_A_MACHINE).collect();
    format!("{}:{}", parts.join(":").replacen(":stateMachine:", ":execution:", 1), input.execution_name())
}

/// The executions of the Standard one, for those who only look.
pub struct StandardExecutions {
    client: Client,
    machine: String,
    pauses: Vec<u32>,
}

impl StandardExecutions {
    /// `pauses` are those between two rounds, in seconds, as the definition has them: `30, 60`.
    pub fn new(client: Client, machine: String, pauses: &str) -> Result<Self, ParseIntError> {
        Ok(Self { client, machine, pauses: seconds(pauses)? })
    }
}

fn seconds(pauses: &str) -> Result<Vec<u32>, ParseIntError> {
    pauses.split(',').map(|pause| pause.trim().parse()).collect()
}

impl FulfilmentTries for StandardExecutions {
    async fn tries(&self, input: &FulfilmentInput) -> Result<Option<Tries>, Unavailable> {
        let history = self.client.get_execution_history().execution_arn(execution_arn(&self.machine, input));
        let newest = history.reverse_order(true).max_results(EVENTS_MAX).send().await;
        match newest.map_err(aws_sdk_sfn::error::SdkError::into_service_error) {
            Ok(history) => Ok(tries_of(&history.events, &self.pauses)),
            Err(GetExecutionHistoryError::ExecutionDoesNotExist(_)) => Ok(None),
            Err(error) => Err(Unavailable { what: "the state machine", source: error.into() }),
        }
    }
}

/// What the execution tries that has this history, the newest first; nothing if it has ended, or has not come to a step.
fn tries_of(newest_first: &[HistoryEvent], pauses: &[u32]) -> Option<Tries> {
    let newest = newest_first.first()?;
    let has_ended = matches!(
        newest.r#type,
        HistoryEventType::ExecutionSucceeded
            | HistoryEventType::ExecutionFailed
            | HistoryEventType::ExecutionAborted
            | HistoryEventType::ExecutionTimedOut
    );
    if has_ended {
        return None;
    }
    let is_entry = |event: &HistoryEvent| event.r#type == HistoryEventType::TaskStateEntered;
    let mut visits = newest_first.split_inclusive(is_entry).filter_map(Visit::of).filter(|visit| visit.state != FLAG);
    let now = visits.next()?;
    // A round that has just come to the step has not got an answer yet; the one before has.
    let outcome = now.outcome().or_else(|| visits.find(|visit| visit.state == now.state)?.outcome());
    let error = outcome.and_then(Result::err);
    let pause = Some(newest).filter(|event| event.r#type == HistoryEventType::WaitStateEntered);
    let attempts = if now.state == "ValidateOrder" { TRIES_OF_VALIDATION } else { TRIES };
    let attempt = now.tries().max(1);
    Some(Tries {
        step: step(now.state),
        attempt,
        // A call that Lambda itself has refused is tried apart from these.
        attempts: attempts.max(attempt),
        round: pauses_before(now.entry).saturating_add(1),
        rounds: pauses.len().saturating_add(1),
        since: at(now.entry)?,
        error: error.map(str::to_owned),
        next_by: pause.and_then(|pause| end(pause, *pauses.get(pauses_before(pause))?)),
    })
}

/// A step as an execution has come to it, with what has happened from then on, the newest first.
struct Visit<'h> {
    state: &'h str,
    entry: &'h HistoryEvent,
    events: &'h [HistoryEvent],
}

impl<'h> Visit<'h> {
    /// Nothing of what is left of a visit whose beginning is too long ago.
    fn of(events: &'h [HistoryEvent]) -> Option<Self> {
        let entry = events.last().filter(|event| event.r#type == HistoryEventType::TaskStateEntered)?;
        Some(Self { state: &entry.state_entered_event_details()?.name, entry, events })
    }

    /// How often the step was tried. AWS tells it of a function's call, the emulator of a task.
    fn tries(&self) -> usize {
        let begins = |event: &&HistoryEvent| {
            matches!(event.r#type, HistoryEventType::LambdaFunctionScheduled | HistoryEventType::TaskScheduled)
        };
        self.events.iter().filter(begins).count()
    }

    /// How the last try that is over has ended.
    fn outcome(&self) -> Option<Result<(), &'h str>> {
        self.events.iter().find_map(outcome)
    }
}

/// How a try has ended, of an event that says so: well, or with an error of this name.
fn outcome(event: &HistoryEvent) -> Option<Result<(), &str>> {
    if matches!(event.r#type, HistoryEventType::LambdaFunctionSucceeded | HistoryEventType::TaskSucceeded) {
        return Some(Ok(()));
    }
    let errors = [
        event.lambda_function_failed_event_details().and_then(|failed| failed.error.as_deref()),
        event.lambda_function_timed_out_event_details().and_then(|failed| failed.error.as_deref()),
        event.lambda_function_schedule_failed_event_details().and_then(|failed| failed.error.as_deref()),
        event.lambda_function_start_failed_event_details().and_then(|failed| failed.error.as_deref()),
        event.task_failed_event_details().and_then(|failed| failed.error.as_deref()),
        event.task_timed_out_event_details().and_then(|failed| failed.error.as_deref()),
    ];
    errors.into_iter().flatten().next().map(Err)
}

/// A step as events and people call it: `process-payment` is `ProcessPayment`.
fn step(state: &str) -> String {
    let mut step = String::new();
    for letter in state.chars() {
        if letter.is_ascii_uppercase() && !step.is_empty() {
            step.push('-');
        }
        step.push(letter.to_ascii_lowercase());
    }
    step
}

/// How often the execution had paused when it came to this state, as the state's input says.
fn pauses_before(entry: &HistoryEvent) -> usize {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Input {
        pauses: usize,
    }
    let input = entry.state_entered_event_details().and_then(|details| details.input.as_deref());
    let input: Option<Input> = input.and_then(|input| serde_json::from_str(input).ok());
    input.unwrap_or_default().pauses
}

/// When a pause of so many seconds is over that may be longer by a half.
fn end(entry: &HistoryEvent, pause: u32) -> Option<DateTime<Utc>> {
    let longest = pause.saturating_add(pause.div_ceil(2));
    at(entry)?.checked_add_signed(TimeDelta::seconds(longest.into()))
}

fn at(event: &HistoryEvent) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(event.timestamp.secs(), event.timestamp.subsec_nanos())
}

#[cfg(test)]
mod tests {
    use aws_sdk_sfn::types::{
        LambdaFunctionFailedEventDetails, LambdaFunctionTimedOutEventDetails, StateEnteredEventDetails,
        TaskFailedEventDetails,
    };

    use super::*;

    const PAUSES: [u32; 8] = [30, 60, 120, 240, 480, 900, 900, 900];

    /// Up to the payment, as AWS tells it. Each line is an event: its type, then the state and its input, or the error.
    const TO_THE_PAYMENT: [&str; 13] = [
        "ExecutionStarted",
        "ChoiceStateEntered FulfilUndoOrRefund {}",
        "ChoiceStateExited",
        "TaskStateEntered ValidateOrder {}",
        "LambdaFunctionScheduled",
        "LambdaFunctionStarted",
        "LambdaFunctionSucceeded",
        "TaskStateExited",
        "TaskStateEntered ReserveInventory {}",
        "LambdaFunctionScheduled",
        "LambdaFunctionStarted",
        "LambdaFunctionSucceeded",
        "TaskStateExited",
    ];
    const FAILED: [&str; 3] =
        ["LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionFailed Unavailable the provider said 503"];
    const PAYMENT: &str = "TaskStateEntered ProcessPayment {}";
    /// After the last try of a round.
    const PAUSED: [&str; 4] = [
        "TaskStateExited",
        r#"ChoiceStateEntered MayItGoOnByItself {"failed":{"step":"process-payment","reason":"Unavailable"}}"#,
        "ChoiceStateExited",
        r#"WaitStateEntered PauseBeforeGoingOn {"failed":{"step":"process-payment","reason":"Unavailable"}}"#,
    ];

    fn event(second: i64, line: &str) -> HistoryEvent {
        let mut words = line.splitn(3, ' ');
        let (kind, name, more) = (words.next().unwrap(), words.next(), words.next().map(str::to_owned));
        let event = HistoryEvent::builder()
            .id(second)
            .timestamp(aws_sdk_sfn::primitives::DateTime::from_secs(second))
            .r#type(HistoryEventType::from(kind));
        let event = match (kind, name) {
            ("LambdaFunctionFailed", Some(error)) => event.lambda_function_failed_event_details(
                LambdaFunctionFailedEventDetails::builder().error(error).set_cause(more).build(),
            ),
            ("LambdaFunctionTimedOut", Some(error)) => event.lambda_function_timed_out_event_details(
                LambdaFunctionTimedOutEventDetails::builder().error(error).set_cause(more).build(),
            ),
            ("TaskFailed", Some(error)) => event.task_failed_event_details(
                TaskFailedEventDetails::builder()
                    .resource_type("lambda")
                    .resource("process-payment")
                    .error(error)
                    .set_cause(more)
                    .build()
                    .unwrap(),
            ),
            (_, Some(state)) => event.state_entered_event_details(
                StateEnteredEventDetails::builder().name(state).set_input(more).build().unwrap(),
            ),
            (_, None) => event,
        };
        event.build().unwrap()
    }

    /// What is told of these events, each a second after the one before, of which no more are read than from AWS.
    fn told(lines: &[&str]) -> Option<Tries> {
        let events = (1..).zip(lines).map(|(second, line)| event(second, line));
        let mut events: Vec<HistoryEvent> = events.collect();
        events.reverse();
        events.truncate(usize::try_from(EVENTS_MAX).unwrap());
        tries_of(&events, &PAUSES)
    }

    fn second(second: usize) -> DateTime<Utc> {
        DateTime::from_timestamp(i64::try_from(second).unwrap(), 0).unwrap()
    }

    fn payment(attempt: usize, round: usize, since: usize, error: Option<&str>) -> Tries {
        Tries {
            step: "process-payment".to_owned(),
            attempt,
            attempts: 5,
            round,
            rounds: 9,
            since: second(since),
            error: error.map(str::to_owned),
            next_by: None,
        }
    }

    #[test]
    fn an_execution_is_asked_for_at_its_state_machine_whatever_alias_has_started_it() {
        let order = "0f8fad5b-d9cb-469f-a165-70867728950e";
        let input = serde_json::json!({"order_id": order, "correlation_id": "c", "causation_id": "e", "undo": true});
        let input: FulfilmentInput = serde_json::from_value(input).unwrap();
        let machine = "arn:aws:states:us-east-1:123456789012:stateMachine:Fulfilment";
        let execution = format!("arn:aws:states:us-east-1:123456789012:execution:Fulfilment:{order}-undo");
        for arn in [machine.to_owned(), format!("{machine}:live")] {
            assert_eq!(execution_arn(&arn, &input), execution);
        }
    }

    #[test]
    fn a_step_that_failed_twice_waits_for_its_third_try_and_then_is_at_it() {
        let twice = [&TO_THE_PAYMENT[..], &[PAYMENT], &FAILED, &FAILED].concat();
        assert_eq!(told(&twice), Some(payment(2, 1, 14, Some("Unavailable"))));
        let third = [&twice[..], &FAILED[..2]].concat();
        assert_eq!(told(&third), Some(payment(3, 1, 14, Some("Unavailable"))));
        assert_eq!(told(&third[..15]), Some(payment(1, 1, 14, None)), "at its first");
    }

    #[test]
    fn after_a_round_the_next_comes_when_the_longest_pause_is_over() {
        let failed = FAILED.repeat(5);
        let paused = [&TO_THE_PAYMENT[..], &[PAYMENT], &failed[..], &PAUSED].concat();
        let next_by = Some(second(paused.len() + 45));
        assert_eq!(told(&paused), Some(Tries { next_by, ..payment(5, 1, 14, Some("Unavailable")) }));

        let third = r#"WaitStateEntered PauseBeforeGoingOn {"pauses":2}"#;
        let third_pause = [&paused[..paused.len() - 1], &[third]].concat();
        assert_eq!(told(&third_pause).unwrap().next_by, Some(second(paused.len() + 180)));
    }

    #[test]
    fn in_a_later_round_the_state_says_how_often_there_was_a_pause_and_the_error_is_that_of_the_round_before() {
        let again = [
            "WaitStateExited",
            r#"ChoiceStateEntered FulfilUndoOrRefund {"pauses":7}"#,
            "ChoiceStateExited",
            r#"TaskStateEntered ReserveInventory {"pauses":7}"#,
            "LambdaFunctionScheduled",
            "LambdaFunctionSucceeded",
            "TaskStateExited",
            r#"TaskStateEntered ProcessPayment {"pauses":7}"#,
            "LambdaFunctionScheduled",
        ];
        let round = [&[PAYMENT][..], &FAILED.repeat(5)[..], &PAUSED, &again].concat();
        // Of many rounds, only the last are read.
        let rounds = round.repeat(8);
        assert_eq!(told(&rounds), Some(payment(1, 8, rounds.len() - 1, Some("Unavailable"))));
        let before = &rounds[..rounds.len() - 2];
        assert_eq!(told(before).map(|tries| (tries.step, tries.error)), Some(("reserve-inventory".to_owned(), None)));
    }

    #[test]
    fn a_step_that_has_succeeded_at_last_is_not_told_to_have_failed() {
        for [begun, succeeded] in
            [["LambdaFunctionScheduled", "LambdaFunctionSucceeded"], ["TaskScheduled", "TaskSucceeded"]]
        {
            let reserved = [&["TaskStateEntered ReserveInventory {}"][..], &FAILED, &[begun, succeeded]].concat();
            assert_eq!(told(&reserved).unwrap().error, None);
            let refused = FAILED.repeat(5);
            let first_round = [&reserved[..], &["TaskStateExited", PAYMENT], &refused[..], &PAUSED].concat();
            assert_eq!(told(&first_round).unwrap().error.as_deref(), Some("Unavailable"));
            let reserving = ["WaitStateExited", r#"TaskStateEntered ReserveInventory {"pauses":1}"#, begun];
            let second_round = [&first_round[..], &reserving].concat();
            let tries = told(&second_round).unwrap();
            assert_eq!((tries.step.as_str(), tries.round, tries.error), ("reserve-inventory", 2, None));
            let paying = [succeeded, "TaskStateExited", r#"TaskStateEntered ProcessPayment {"pauses":1}"#, begun];
            let paying = [&second_round[..], &paying].concat();
            let tries = told(&paying).unwrap();
            assert_eq!((tries.step.as_str(), tries.error.as_deref()), ("process-payment", Some("Unavailable")));
            let paid = [&paying[..], &[succeeded]].concat();
            assert_eq!(told(&paid).unwrap().error, None);
        }
    }

    #[test]
    fn a_history_of_the_emulator_and_one_of_a_step_that_hangs_tell_the_same() {
        let emulated = [PAYMENT, "TaskScheduled", "TaskFailed Unavailable it is down", "TaskScheduled"];
        assert_eq!(told(&emulated), Some(payment(2, 1, 1, Some("Unavailable"))));
        let hung =
            [PAYMENT, "LambdaFunctionScheduled", "LambdaFunctionStarted", "LambdaFunctionTimedOut States.Timeout"];
        assert_eq!(told(&hung), Some(payment(1, 1, 1, Some("States.Timeout"))));
    }

    #[test]
    fn a_step_that_is_given_up_is_told_while_its_flag_is_tried() {
        let flagging = [
            "TaskStateExited",
            "ChoiceStateEntered MayItGoOnByItself {}",
            "ChoiceStateExited",
            r#"TaskStateEntered FlagOrder {"pauses":8}"#,
            "LambdaFunctionScheduled",
            "LambdaFunctionFailed Unavailable",
            "LambdaFunctionScheduled",
        ];
        let last = r#"TaskStateEntered ProcessPayment {"pauses":8}"#;
        let given_up = [&[last][..], &FAILED.repeat(5)[..], &flagging].concat();
        assert_eq!(told(&given_up), Some(payment(5, 9, 1, Some("Unavailable"))));
    }

    #[test]
    fn tries_that_lambda_refused_count_and_a_step_that_is_done_is_told_no_more() {
        let refused = ["LambdaFunctionScheduled", "LambdaFunctionFailed Lambda.TooManyRequestsException"].repeat(7);
        let throttled = told(&[&[PAYMENT][..], &refused[..]].concat()).unwrap();
        assert_eq!((throttled.attempt, throttled.attempts), (7, 7));
        let declined = ["TaskStateExited", "TaskStateEntered CancelShipment {}", "LambdaFunctionScheduled"];
        let undo = told(&[&[PAYMENT][..], &FAILED, &declined].concat()).unwrap();
        assert_eq!((undo.step.as_str(), undo.attempt, undo.error), ("cancel-shipment", 1, None));
        let validated = told(&TO_THE_PAYMENT[..5]).unwrap();
        assert_eq!((validated.step.as_str(), validated.attempts), ("validate-order", 3));
    }

    #[test]
    fn nothing_is_tried_before_the_first_step_and_after_the_end() {
        assert_eq!(told(&[]), None);
        assert_eq!(told(&TO_THE_PAYMENT[..3]), None);
        for end in ["ExecutionSucceeded", "ExecutionFailed", "ExecutionAborted", "ExecutionTimedOut"] {
            assert_eq!(told(&[&TO_THE_PAYMENT[..], &[PAYMENT], &FAILED, &[end]].concat()), None, "{end}");
        }
    }

    #[test]
    fn pauses_are_read_as_the_template_has_them() {
        assert_eq!(seconds("30, 60,900"), Ok(vec![30, 60, 900]));
        assert!(seconds("soon").is_err());
    }
}
