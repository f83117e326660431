//! What every [`Processes`] must do.

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::{at_once, moment};
use crate::ports::{Process, Processes, REPORT_KEPT};

/// One test per law; `make` is a future of the processes.
#[macro_export]
macro_rules! processes_conformance {
    ($make:expr) => {
        $crate::conformance_tests! { processes, $make,
            what_a_process_reports_is_told_to_the_last_digit
            a_report_takes_the_place_of_the_one_before
            each_process_reports_for_itself
            of_reports_that_come_at_once_none_is_lost
            what_was_reported_a_day_ago_is_not_told
            who_reports_again_is_told_for_another_day
        }
    };
}

/// One of a function of its own.
fn process() -> Process {
    Process {
        function: format!("function-{}", Uuid::new_v4().simple()),
        instance: Uuid::new_v4(),
        started_at: 1_767_225_599,
        memory_limit_bytes: 256 << 20,
        memory_bytes: 40 << 20,
        cpu_ms: 1_250,
        tmp_used_bytes: 0,
        tmp_free_bytes: 512 << 20,
    }
}

/// Those of this function, in the order of their instances.
async fn of(processes: &impl Processes, function: &str, now: DateTime<Utc>) -> Vec<Process> {
    let mut found = processes.read(now).await.unwrap();
    found.retain(|process| process.function == function);
    found.sort_by_key(|process| process.instance);
    found
}

pub async fn what_a_process_reports_is_told_to_the_last_digit(processes: &impl Processes) {
    // One more than what a floating-point number tells apart.
    let process = Process { tmp_free_bytes: (1 << 53) + 1, ..process() };
    assert!(of(processes, &process.function, moment()).await.is_empty());
    processes.report(&process, moment()).await.unwrap();
    assert_eq!(of(processes, &process.function, moment()).await, [process]);
}

pub async fn a_report_takes_the_place_of_the_one_before(processes: &impl Processes) {
    let first = process();
    let second = Process { memory_bytes: 50 << 20, cpu_ms: 900, tmp_used_bytes: 3, ..first.clone() };
    for process in [first, second] {
        processes.report(&process, moment()).await.unwrap();
        assert_eq!(of(processes, &process.function, moment()).await, [process]);
    }
}

pub async fn each_process_reports_for_itself(processes: &impl Processes) {
    let (one, stranger) = (process(), process());
    let other = Process { instance: Uuid::new_v4(), memory_bytes: 1, ..one.clone() };
    for process in [&one, &other, &stranger] {
        processes.report(process, moment()).await.unwrap();
    }
    let mut both = [one, other];
    both.sort_by_key(|process| process.instance);
    assert_eq!(of(processes, &both[0].function, moment()).await, both);
    assert_eq!(of(processes, &stranger.function, moment()).await, [stranger]);
}

pub async fn of_reports_that_come_at_once_none_is_lost(processes: &impl Processes) {
    let one = process();
    let all: Vec<Process> = (0..10).map(|_| Process { instance: Uuid::new_v4(), ..one.clone() }).collect();
    for reported in at_once(all.iter().map(|process| processes.report(process, moment()))).await {
        reported.unwrap();
    }
    assert_eq!(of(processes, &one.function, moment()).await.len(), all.len());
}

pub async fn what_was_reported_a_day_ago_is_not_told(processes: &impl Processes) {
    let process = process();
    processes.report(&process, moment()).await.unwrap();
    let second = TimeDelta::seconds(1);
    for (after, told) in [(REPORT_KEPT - second, 1), (REPORT_KEPT + second, 0), (REPORT_KEPT * 30, 0)] {
        assert_eq!(of(processes, &process.function, moment() + after).await.len(), told, "{after}");
    }
}

pub async fn who_reports_again_is_told_for_another_day(processes: &impl Processes) {
    let process = process();
    let later = moment() + REPORT_KEPT / 2;
    for now in [moment(), later] {
        processes.report(&process, now).await.unwrap();
    }
    assert_eq!(of(processes, &process.function, moment() + REPORT_KEPT).await, std::slice::from_ref(&process));
    assert!(of(processes, &process.function, later + REPORT_KEPT * 2).await.is_empty());
}
