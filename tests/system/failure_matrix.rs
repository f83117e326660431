//! Every step of the fulfilment under every kind of fault: each order comes to its right end, with the money right.
//!
//! The faults come from outside (`infra/local/fault_proxy.py`), asked for by an order's correlation id, so this runs
//! through `infra/local/stack.py faults`. What the orders came to stands in `docs/failure-matrix.md`; with `UPDATE=1` it is
//! written anew.

use std::{
    collections::BTreeSet,
    env,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use aws_sdk_eventbridge::Client as EventBus;
use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use serde_json::{Value, json};
use tokio::{sync::Semaphore, task::JoinSet};
use uuid::Uuid;

use crate::service::{Answer, DEADLINE, Service, fresh_key, order, reconcile, setting, token};

const FORWARD: [&str; 5] =
    ["validate-order", "reserve-inventory", "process-payment", "create-shipment", "send-confirmation"];
const UNDO: [&str; 4] = ["cancel-shipment", "refund-payment", "release-inventory", "close-order"];
/// Gives back a part of what was paid.
const REFUND: &str = "issue-refund";
/// Not a step of its own: it says of one that it was given up, here of a refund.
const FLAG: &str = "flag-order";
/// How often an Express execution calls a step at most.
const EXPRESS_TRIES: usize = 3;
/// A step that is held ends by then (`infra/local/aws.py` shortens its function's time).
const STEP_ENDS: Duration = Duration::from_secs(8);
/// How many orders are under way at once.
const AT_ONCE: usize = 12;
const STOCK: u64 = 10;
const PIECES: u64 = 2;
/// What staff give back where they give back a part.
const PART: u64 = 1000;

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    /// The step is held at this moment until the customer has cancelled.
    Cancel(&'static str),
    /// The step is held at this moment until its Express execution is aborted.
    Abort(&'static str),
    /// The step's own refusal, as far as it has one.
    Refusal,
    ProviderFailsTwice,
    ProvidersAnswerLost,
    Once(&'static str),
    OnEveryTry(&'static str),
}

const FAULTS: [(&str, Fault); 12] = [
    ("cancelled before its work", Fault::Cancel("hold-before")),
    ("cancelled after its work, before its answer", Fault::Cancel("hold-after")),
    ("refuses", Fault::Refusal),
    ("its provider fails twice", Fault::ProviderFailsTwice),
    ("its provider's answer is lost", Fault::ProvidersAnswerLost),
    ("times out without effect", Fault::Once("timeout-before")),
    ("times out after its work", Fault::Once("timeout-after")),
    ("crashes before its work", Fault::Once("crash-before")),
    ("crashes after its work", Fault::Once("crash-after")),
    ("its execution ends before its work", Fault::Abort("hold-before")),
    ("its execution ends after its work", Fault::Abort("hold-after")),
    ("crashes before its work, on every try", Fault::OnEveryTry("crash-before")),
];
const LAST_FAULT: (&str, Fault) = ("crashes after its work, on every try", Fault::OnEveryTry("crash-after"));

/// One order that meets one fault.
struct Cell {
    service: Arc<Service>,
    step: &'static str,
    fault: Fault,
    /// What the order asks the fault proxy for, and where the proxy leaves its marks.
    directive: String,
    product: String,
    id: String,
}

/// What came of an order.
#[derive(Clone)]
struct End {
    /// The executions that were at work on it, one after the other; none where there is no such cell.
    by: &'static str,
    text: String,
}

/// An order that has met its fault.
enum Met {
    /// Nothing more happens to it until `reconcile` looks at it.
    Aborted(Cell),
    Ended(End),
}

/// What the order asks the built-in providers for, or why there is no such cell.
fn asks(step: &str, fault: Fault) -> Result<(&'static str, &'static str), &'static str> {
    let (plain, address) = ("pm_card_visa", "200001");
    match (step, fault) {
        (FLAG, Fault::Once(_) | Fault::Abort(_)) => Ok(("pm_refund_fails", address)),
        (FLAG, Fault::OnEveryTry(_)) => Err("tried for half an hour"),
        (FLAG, Fault::Cancel(_)) => Err("not tried"),
        // An undo that can be met by a cancel is that of a refused order.
        (_, Fault::Cancel(_)) if UNDO.contains(&step) => Ok((plain, "SANDBOX-REFUSE")),
        (_, Fault::Cancel(_) | Fault::Abort(_) | Fault::Once(_) | Fault::OnEveryTry(_)) => Ok((plain, address)),
        ("reserve-inventory", Fault::Refusal) => Ok((plain, address)),
        ("process-payment", Fault::Refusal) => Ok(("pm_card_declined", address)),
        ("create-shipment", Fault::Refusal) => Ok((plain, "SANDBOX-REFUSE")),
        ("send-confirmation", Fault::Refusal) => Ok((plain, "SANDBOX-MUTE")),
        ("cancel-shipment", Fault::Refusal) => Ok((plain, "SANDBOX-KEEP")),
        ("refund-payment" | REFUND, Fault::Refusal) => Ok(("pm_refund_fails", address)),
        ("validate-order", Fault::Refusal) => Err("a fresh order is valid"),
        (_, Fault::Refusal) => Err("never refuses"),
        ("process-payment", Fault::ProviderFailsTwice) => Ok(("pm_fails_twice", address)),
        ("refund-payment" | REFUND, Fault::ProviderFailsTwice) => Ok(("pm_refund_fails_twice", address)),
        ("process-payment", Fault::ProvidersAnswerLost) => Ok(("pm_charged_then_timeout", address)),
        ("create-shipment", Fault::ProvidersAnswerLost) => Ok((plain, "SANDBOX-TIMEOUT")),
        ("validate-order" | "close-order" | FLAG, _) => Err("has no provider"),
        _ => Err("not in the sandbox"),
    }
}

/// Looks until it sees something, up to the deadline.
async fn seen<T, F: Future<Output = Option<T>>>(what: &str, look: impl Fn() -> F) -> T {
    let started = Instant::now();
    while started.elapsed() < DEADLINE {
        if let Some(seen) = look().await {
            return seen;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not seen in time: {what}")
}

impl Cell {
    async fn place(service: Arc<Service>, step: &'static str, fault: Fault, asks: (&str, &str)) -> Self {
        let kind = match fault {
            Fault::Cancel(moment) => format!("{moment}:1"),
            Fault::Abort(moment) => format!("{moment}:{EXPRESS_TRIES}"),
            Fault::Refusal if step == "reserve-inventory" => "hold-before:1".to_owned(),
            Fault::Once(kind) => format!("{kind}:1"),
            Fault::OnEveryTry(kind) => format!("{kind}:always"),
            Fault::Refusal | Fault::ProviderFailsTwice | Fault::ProvidersAnswerLost => "none:0".to_owned(),
        };
        let directive = format!("fault:{step}:{kind}:{}", Uuid::new_v4());
        let product = service.product(u32::try_from(STOCK).unwrap()).await;
        let mut body = order("customer-1", &product);
        body["items"][0]["quantity"] = json!(PIECES);
        body["payment_method"] = json!(asks.0);
        body["shipping_address"]["postal_code"] = json!(asks.1);
        let mut cell = Self { service, step, fault, directive, product, id: String::new() };
        let asked_for_now = !cell.undoes_a_cancel() && step != REFUND;
        cell.id = cell.post("customer-1", "", &body, asked_for_now).await.expect(201).text("order_id");
        cell
    }

    fn undoes_a_cancel(&self) -> bool {
        (UNDO.contains(&self.step) || self.step == FLAG) && !matches!(self.fault, Fault::Cancel(_))
    }

    /// A step is given up at last.
    fn given_up(&self) -> bool {
        matches!(self.fault, Fault::OnEveryTry(_)) || self.stays_stuck()
    }

    /// What keeps the step from its work is not the test's to mend.
    fn stays_stuck(&self) -> bool {
        self.step == FLAG || !FORWARD.contains(&self.step) && self.fault == Fault::Refusal
    }

    fn flagged(&self) -> bool {
        // Who was given up had brought the order to its end, so nobody is needed.
        let ended = self.fault == LAST_FAULT.1 && ["send-confirmation", "close-order", REFUND].contains(&self.step);
        self.given_up() && !ended
    }

    fn right_end(&self) -> &'static str {
        match self.fault {
            Fault::Cancel(_) if UNDO.contains(&self.step) => "rejected",
            Fault::Cancel(_) => "cancelled",
            _ if self.stays_stuck() => "needs_attention",
            Fault::Refusal if self.step != "send-confirmation" => "rejected",
            _ if UNDO.contains(&self.step) => "cancelled",
            _ => "confirmed",
        }
    }

    async fn post(&self, who: &str, path: &str, body: &Value, asks_for_the_fault: bool) -> Answer {
        let path =
            if path.is_empty() { "/api/v1/orders".to_owned() } else { format!("/api/v1/orders/{}{path}", self.id) };
        let mut request = self.service.request(reqwest::Method::POST, &path).bearer_auth(token(who).await);
        if asks_for_the_fault {
            request = request.header("x-correlation-id", &self.directive);
        }
        self.service.send(request.header("idempotency-key", fresh_key()).json(body)).await
    }

    async fn cancel(&self, asks_for_the_fault: bool) -> Answer {
        self.post("customer-1", "/cancel", &json!({"reason": "changed my mind"}), asks_for_the_fault).await
    }

    async fn resume(&self) -> Answer {
        self.post("staff-1", "/fulfilment/resume", &json!({"reason": "mended"}), false).await
    }

    fn marks(&self) -> PathBuf {
        crate::service::stack_file("tmp/faults").join(&self.directive)
    }

    async fn held(&self) {
        seen(&format!("{} is held", self.step), || async { self.marks().join("held").exists().then_some(()) }).await;
    }

    fn go(&self) {
        fs::write(self.marks().join("go"), "").unwrap();
    }

    /// How often the step was called.
    fn tries(&self) -> usize {
        let marks =
            fs::read_dir(self.marks()).expect("a step that can be asked to fail: see infra/local/stack.py faults");
        marks.filter(|mark| mark.as_ref().unwrap().file_name().to_string_lossy().starts_with("try-")).count()
    }

    /// Which executions with this suffix to their name have worked on the order, when they have ended as they should.
    async fn executions(&self, suffix: &str, flagged: bool) -> &'static str {
        let name = format!("{}{suffix}", self.id);
        let ended = |execution: DescribeExecutionOutput| {
            Some(execution.status.as_str().to_owned()).filter(|status| status != "RUNNING")
        };
        let express = seen(&format!("the end of {name}"), || async {
            // It may not have been started yet.
            self.service.express_execution(&name).await.and_then(ended)
        })
        .await;
        let right = if flagged { "FAILED" } else { "SUCCEEDED" };
        let is_handed_over = self.service.standard_execution(&name).await.is_some();
        if is_handed_over {
            let standard = seen(&format!("the Standard end of {name}"), || async {
                self.service.standard_execution(&name).await.and_then(ended)
            })
            .await;
            assert_eq!(standard, right, "{name}");
        }
        match (express.as_str(), is_handed_over) {
            ("ABORTED", true) => "Express, Standard by `reconcile`",
            ("ABORTED", false) => "Express",
            (express, true) => {
                assert_eq!(express, "SUCCEEDED", "{name}");
                "Express, Standard"
            }
            (express, false) => {
                assert_eq!(express, right, "{name}");
                "Express"
            }
        }
    }

    /// What the fault happens in.
    fn suffix(&self) -> &'static str {
        match self.step {
            REFUND => "-refund-6",
            _ if self.undoes_a_cancel() => "-undo",
            _ => "",
        }
    }

    async fn status(&self, wanted: &str) -> Value {
        self.service.await_status("customer-1", &self.id, &[wanted]).await.body
    }

    /// Whether a part of the payment goes back by itself.
    fn gives_back_a_part(&self) -> bool {
        self.step == REFUND && self.right_end() == "confirmed"
    }

    /// Lets the order meet its fault.
    async fn meet(self) -> Met {
        if self.undoes_a_cancel() {
            self.status("confirmed").await;
            self.cancel(true).await.expect(202);
        } else if self.step == REFUND {
            self.status("confirmed").await;
            let part = json!({"amount": {"amount": PART, "currency": "CNY"}, "reason": "one packet was damaged"});
            self.post("staff-1", "/refunds", &part, true).await.expect(202);
        }
        if let Fault::Cancel(_) = self.fault {
            self.held().await;
            // Too late for an order that a step has refused.
            self.cancel(false).await.expect(if UNDO.contains(&self.step) { 409 } else { 202 });
            if self.step == REFUND {
                // The undoing does not wait for whoever is held.
                self.status("cancelled").await;
            }
            self.go();
        } else if (self.step, self.fault) == ("reserve-inventory", Fault::Refusal) {
            self.held().await;
            self.service.set_product(&self.product, 1999, 0).await.expect(200);
            self.go();
        }

        if let Fault::Abort(_) = self.fault {
            self.held().await;
            self.service.abort("FULFILMENT_EXPRESS_ARN", &format!("{}{}", self.id, self.suffix())).await;
            // The emulator ends an execution at the next border, when all tries of the step are over. None of them is let go.
            seen("the last try", || async { (self.tries() >= EXPRESS_TRIES).then_some(()) }).await;
            tokio::time::sleep(STEP_ENDS).await;
            return Met::Aborted(self);
        }
        Met::Ended(self.end().await)
    }

    /// Holds the order to its right end, and says in short what came of it.
    async fn end(self) -> End {
        if let Fault::Abort(_) = self.fault {
            self.status(self.right_end()).await;
        }
        let cancelled =
            self.undoes_a_cancel() || matches!((self.fault, self.right_end()), (Fault::Cancel(_), "cancelled"));
        let others = [""].into_iter().chain(cancelled.then_some("-undo"));
        for other in others.filter(|other| *other != self.suffix()) {
            assert_eq!(self.executions(other, false).await, "Express", "{}", self.id);
        }
        let by = self.executions(self.suffix(), self.flagged()).await;
        let tries = self.tries();
        let mut text = String::new();
        let mut resumed = false;
        if self.flagged() {
            let stuck = self.status("needs_attention").await;
            assert_eq!(stuck["attention"]["step"], if self.step == FLAG { "refund-payment" } else { self.step });
            resumed = !self.stays_stuck();
        }
        if resumed {
            self.assert_agreed().await;
            self.resume().await.expect(202);
            let events = self.service.event_types(&self.id).await;
            let event = events.iter().position(|event| event == "FulfilmentResumed").unwrap() + 1;
            let kind = if self.step == REFUND { "refund" } else { "resumed" };
            assert_eq!(self.executions(&format!("-{kind}-{event}"), false).await, "Express", "{}", self.id);
            text.push_str("needs_attention, then ");
        }

        let done = self.status(self.right_end()).await;
        assert_eq!(done["attention"] == Value::Null, done["status"] != "needs_attention", "{done:#}");
        text.push_str(self.right_end());
        text.push_str(self.assert_books(&done["status"]).await);
        self.assert_events(resumed).await;
        // Whoever is held is cancelled or refused, however often that took.
        if !self.marks().join("go").exists() {
            write!(text, " · {tries} {}", if tries == 1 { "try" } else { "tries" }).unwrap();
        }
        if self.flagged() {
            text.push_str(" · alarm");
        }
        End { by, text }
    }

    async fn assert_agreed(&self) -> Value {
        let path = format!("/api/v1/orders/{}/ledger", self.id);
        let ledger = self.service.get("staff-1", &path).await.expect(200).body;
        assert_eq!(ledger["agrees"], true, "{ledger:#}");
        ledger["providers"].clone()
    }

    /// Money, parcel and stock are where they belong at this end.
    async fn assert_books(&self, end: &Value) -> &'static str {
        let books = self.assert_agreed().await;
        let lines = self.service.ledger(&self.id).await;
        let count = |kind: &str| {
            let of_kind = lines.iter().filter(|line| line["entry"].as_s().unwrap().starts_with(kind));
            of_kind
                .filter(|line| line.get("outcome").is_none_or(|outcome| outcome.as_s().unwrap() == "completed"))
                .count()
        };
        let stock = self.service.stock(&self.product).await;
        let counts = (count("charge#"), count("refund#"));
        let was_sold_out = (self.step, self.fault) == ("reserve-inventory", Fault::Refusal);
        match end.as_str().unwrap() {
            "confirmed" | "needs_attention" => {
                // An undo that does not get done has not moved what comes after it; the parcel comes first.
                let shipment = if ["refund-payment", FLAG].contains(&self.step) { "cancelled" } else { "created" };
                let reserved = json!([{"product_id": self.product, "quantity": PIECES}]);
                let (parts, part) = if self.gives_back_a_part() { (1, PART) } else { (0, 0) };
                let right = json!({"charged": 3998, "refunded": part, "reserved": reserved, "shipment": shipment});
                assert_eq!(books, right, "{}", self.id);
                assert_eq!((counts, stock), ((1, parts), STOCK - PIECES), "{}", self.id);
            }
            _ => {
                assert_eq!(books["charged"], books["refunded"], "{}: {books:#}", self.id);
                assert_eq!(books["reserved"], json!([]), "{}: {books:#}", self.id);
                assert_ne!(books["shipment"], "created", "{}: {books:#}", self.id);
                assert_eq!(stock, if was_sold_out { 0 } else { STOCK }, "{}", self.id);
            }
        }
        match counts {
            (0, 0) => " · not charged",
            (1, 0) => " · charged once",
            (1, 1) if self.gives_back_a_part() => " · charged once, a part refunded once",
            (1, 1) => " · charged once, refunded once",
            (1, 2) if self.step == REFUND => " · charged once, a part refunded once, the rest refunded once",
            more => panic!("{}: {more:?} charges and refunds: {lines:#?}", self.id),
        }
    }

    /// No fact is recorded twice, and the last one is the end.
    async fn assert_events(&self, resumed: bool) {
        let events = self.service.event_types(&self.id).await;
        let mut once = events.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), events.len(), "{}: {events:?}", self.id);
        let last = match self.right_end() {
            "confirmed" if self.gives_back_a_part() => "RefundCompleted",
            "confirmed" => "OrderConfirmed",
            "rejected" => "OrderRejected",
            "cancelled" => "OrderCancelled",
            _ => "OrderFlagged",
        };
        assert_eq!(events.last().unwrap(), last, "{}: {events:?}", self.id);
        assert_eq!(events.contains(&"FulfilmentResumed".to_owned()), resumed, "{}: {events:?}", self.id);
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn faults() -> impl Iterator<Item = (&'static str, Fault)> {
    FAULTS.into_iter().chain([LAST_FAULT])
}

const HEAD: &str = "\
# What becomes of an order when a step fails

Generated by `tests/system/failure_matrix.rs`, but for its last section; `make test` holds the deployed system to it. Each cell
is one order that went through the deployed system and met that fault in that step. In each, the order's books and the
providers' agree, the stock is exact, no event stands twice, and the last event is that of the end which the cell names.

- *By*: the executions that came to the order's end. An Express one begins; after three tries of a step it hands over to a
  Standard one. One that ends without a word is found by `reconcile`, which starts a Standard one if anything is left to do.
- *Tries*: how often the step was called. In a Standard execution it pauses after five, `validate-order` after three, and begins
  again; on a laptop it does so twice, on AWS for more than an hour. Then the order says `needs_attention`; where it says `then`,
  the fault was lifted and staff let the order go on. What a provider refuses for good is not tried again.
- *Alarm*: a person is called, by the log line of `flag-order` and, for a Standard execution, by its failing. Nobody is when the
  order had come to its end.
- *Its execution ends* while the step is at work, as it does after five minutes on AWS: it is aborted, and no try of the step
  is answered.
- *Crashes* and *times out* are done to the step's process from outside; `infra/local/fault_proxy.py` says how.

## Forward
";

const UNDOING: &str = "
## Undo

The order was confirmed, then cancelled. In the first two rows it is one that a step had refused: its cancel is answered 409.
";

const REFUNDING: &str = "
## Refund by staff

The order was confirmed, then a part of its payment requested back. In the first two rows the order is cancelled meanwhile:
what is left goes back with it.
";

const FLAGGING: &str = "
## Flag

The order was cancelled and its refund is refused, so `flag-order` is called. A Standard execution tries it for half an hour; an
order that nobody can flag by then is flagged by `reconcile`.
";

const STARTING: &str = "
## Start

Nothing of AWS's says that an Express execution starts, or that it starts once.

| the start | by | the order |
|---|---|---|
";

/// From here on the file is another test's, which needs no deployed system.
const OTHERS: &str = "\n## Faults of the wire\n";

fn render(steps: &[&str], cell: impl Fn(&str, Fault) -> End) -> String {
    let mut table =
        format!("\n| the step | by | `{}` |\n|---|---{}|\n", steps.join("` | `"), "|---".repeat(steps.len()));
    for (name, fault) in faults() {
        let cells: Vec<End> = steps.iter().map(|step| cell(step, fault)).collect();
        let by: BTreeSet<&str> = cells.iter().map(|cell| cell.by).filter(|by| !by.is_empty()).collect();
        let (by, texts): (Vec<&str>, Vec<&str>) =
            (by.into_iter().collect(), cells.iter().map(|cell| cell.text.as_str()).collect());
        writeln!(table, "| {name} | {} | {} |", by.join("; "), texts.join(" | ")).unwrap();
    }
    table
}

/// The order's message never comes to whoever starts its execution.
async fn lost(service: &Service) -> End {
    let bus = EventBus::new(&aws_config::defaults(aws_config::BehaviorVersion::v2026_01_12()).load().await);
    let rules = bus.list_rules().event_bus_name(setting("EVENT_BUS")).send().await.unwrap().rules.unwrap();
    let rule = rules.into_iter().filter_map(|rule| rule.name).find(|name| name.contains("FulfilmentRule")).unwrap();
    let product = service.product(10).await;
    bus.disable_rule().event_bus_name(setting("EVENT_BUS")).name(&rule).send().await.unwrap();
    let id = service.place_asking(&product, "pm_card_visa", "200001").await;
    service.await_status("customer-1", &id, &["created"]).await;
    // Long enough for the event to pass the rule.
    tokio::time::sleep(Duration::from_secs(5)).await;
    bus.enable_rule().event_bus_name(setting("EVENT_BUS")).name(&rule).send().await.unwrap();
    reconcile(0).await;
    confirmed_and_charged_once(service, &id).await;
    assert!(service.express_execution(&id).await.is_none(), "{id}");
    assert!(service.standard_execution(&id).await.is_some(), "{id}");
    End { by: "Standard by `reconcile`", text: "confirmed · charged once".to_owned() }
}

/// Two executions of one order walk side by side, from its first step on.
async fn doubled(service: Arc<Service>) -> End {
    let asks = ("pm_card_visa", "200001");
    let cell = Cell::place(Arc::clone(&service), FORWARD[0], Fault::Cancel("hold-before"), asks).await;
    cell.held().await;
    let (first, second) = (cell.id.clone(), format!("{}-again", cell.id));
    let input = service.express_execution(&first).await.unwrap().input.unwrap();
    let start = service.sfn.start_execution().state_machine_arn(setting("FULFILMENT_EXPRESS_ARN"));
    start.name(&second).input(input).send().await.unwrap();
    cell.go();
    for name in [&first, &second] {
        seen(name, || async {
            let execution = service.express_execution(name).await?;
            (execution.status.as_str() == "SUCCEEDED").then_some(())
        })
        .await;
        assert!(service.standard_execution(name).await.is_none(), "{name}");
    }
    confirmed_and_charged_once(&service, &first).await;
    End { by: "Express twice", text: "confirmed · charged once".to_owned() }
}

async fn confirmed_and_charged_once(service: &Service, id: &str) {
    service.await_status("customer-1", id, &["confirmed"]).await;
    let books = service.agreed_books(id).await;
    assert_eq!((&books["charged"], &books["shipment"]), (&json!(3998), &json!("created")), "{id}");
    assert_eq!(service.ledger(id).await.len(), 1, "{id}");
    assert_eq!(service.event_types(id).await.len(), 5, "{id}");
}

fn differences(old: &str, new: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let gone = old.iter().filter(|line| !new.contains(line)).map(|line| format!("- {line}\n"));
    let come = new.iter().filter(|line| !old.contains(line)).map(|line| format!("+ {line}\n"));
    gone.chain(come).collect()
}

#[tokio::test]
#[ignore = "needs steps that can be asked to fail: infra/local/stack.py faults"]
async fn every_step_under_every_fault_comes_to_its_right_end() {
    let service = Arc::new(Service::connect().await);
    let letters_before = service.dead_letters().await;
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut cells = JoinSet::new();
    let (mut ends, mut aborted) = (Vec::new(), Vec::new());
    // The longest first.
    for (name, fault) in faults().collect::<Vec<_>>().into_iter().rev() {
        for step in FORWARD.into_iter().chain(UNDO).chain([REFUND, FLAG]) {
            match asks(step, fault) {
                Err(why) => ends.push((step, fault, End { by: "", text: format!("*{why}*") })),
                Ok(asks) => {
                    let (service, places) = (Arc::clone(&service), Arc::clone(&places));
                    cells.spawn(async move {
                        let _place = places.acquire_owned().await.unwrap();
                        let cell =
                            tokio::spawn(async move { Cell::place(service, step, fault, asks).await.meet().await });
                        (step, fault, cell.await.map_err(|error| format!("{step} {name}: {error}")))
                    });
                }
            }
        }
    }
    let mut wrong = Vec::new();
    while let Some(cell) = cells.join_next().await {
        match cell.unwrap() {
            (step, fault, Ok(Met::Ended(end))) => ends.push((step, fault, end)),
            (.., Ok(Met::Aborted(cell))) => aborted.push(cell),
            (_, _, Err(error)) => wrong.push(error),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // It looks at all orders, so no other is to be under way.
    reconcile(0).await;
    for cell in aborted {
        ends.push((cell.step, cell.fault, cell.end().await));
    }
    let (lost, doubled) = (lost(&service).await, doubled(Arc::clone(&service)).await);
    assert_eq!(service.dead_letters().await, letters_before);

    let cell = |step: &str, fault: Fault| {
        let (_, _, end) = ends.iter().find(|(of_step, of_fault, _)| (*of_step, *of_fault) == (step, fault)).unwrap();
        end.clone()
    };
    let (forward, undo) = (render(&FORWARD, cell), render(&UNDO, cell));
    let (refund, flag) = (render(&[REFUND], cell), render(&[FLAG], cell));
    let starts = [("is lost", lost), ("comes twice", doubled)];
    let starts: String = starts.map(|(start, End { by, text })| format!("| {start} | {by} | {text} |\n")).concat();
    let matrix = format!("{HEAD}{forward}{UNDOING}{undo}{REFUNDING}{refund}{FLAGGING}{flag}{STARTING}{starts}");
    let file = root().join("docs/failure-matrix.md");
    let written = fs::read_to_string(&file).unwrap_or_default();
    let (mut there, others) = written.split_at(written.find(OTHERS).unwrap_or(written.len()));
    if env::var_os("UPDATE").is_some() {
        fs::write(&file, format!("{matrix}{others}")).unwrap();
        there = &matrix;
    }
    assert!(
        there == matrix,
        "docs/failure-matrix.md says otherwise (UPDATE=1 rewrites it):\n{}",
        differences(there, &matrix)
    );
}
