//! What staff do at a terminal: the program itself, from signing in to the last refund.

use std::{
    env, fs,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::Value;
use tokio::{process::Command, time::timeout};
use uuid::Uuid;

use crate::service::{DEADLINE, Service};

/// The program, with profiles of the test's own.
struct Orderctl {
    config: PathBuf,
}

struct Said {
    status: i32,
    out: String,
    err: String,
}

impl Said {
    #[track_caller]
    fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{}{}", self.out, self.err);
        self
    }
}

impl Orderctl {
    async fn signed_in(who: &str) -> Self {
        let orderctl = Self { config: env::temp_dir().join(format!("orderctl-{}", Uuid::new_v4())) };
        let said = orderctl.run(&["login", "--as", who]).await.expect(0);
        assert!(said.out.starts_with(&format!("{who} is signed in to local")), "{}", said.out);
        let profile = fs::read_to_string(orderctl.config.join("orderctl/local.toml")).unwrap();
        let token = profile.lines().find_map(|line| line.strip_prefix("access = ")).unwrap().trim_matches('"');
        assert!(token.len() > 100 && !format!("{}{}", said.out, said.err).contains(token), "tokens are never printed");
        orderctl
    }

    /// Built beside the tests: by `stack build`, as are all programs.
    async fn run(&self, words: &[&str]) -> Said {
        let tests = env::current_exe().unwrap();
        let program = tests.ancestors().nth(2).unwrap().join("orderctl");
        let mut run = Command::new(&program);
        run.args(words).env("XDG_CONFIG_HOME", &self.config).stdin(Stdio::null()).kill_on_drop(true);
        run.env_remove("ORDERCTL_API_URL").env_remove("ORDERCTL_TOKEN");
        let said = timeout(2 * DEADLINE, run.output()).await.unwrap();
        let said = said.unwrap_or_else(|error| panic!("{} (`make orderctl` builds it): {error}", program.display()));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Said { status: said.status.code().unwrap(), out: text(said.stdout), err: text(said.stderr) }
    }

    /// What comes out for scripts: one document, and nothing beside it.
    async fn json(&self, words: &[&str]) -> Value {
        let said = self.run(&[words, &["--json"]].concat()).await.expect(0);
        assert_eq!(said.err, "");
        serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {}", said.out))
    }

    /// Lists follow the events, so an order is in one after a moment.
    async fn until_listed(&self, words: &[&str], id: &str) -> Value {
        let started = Instant::now();
        loop {
            let listed = self.json(words).await;
            let mut orders = listed["orders"].as_array().unwrap().iter();
            if let Some(order) = orders.find(|order| order["id"] == id) {
                return order.clone();
            }
            assert!(started.elapsed() < DEADLINE, "{id} is not in {words:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn trigger(&self, scenario: &str, product: &str) -> (String, Value) {
        let told = self.json(&["trigger", scenario, "--product", product]).await;
        (told["order_id"].as_str().unwrap().to_owned(), told)
    }
}

impl Drop for Orderctl {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.config);
    }
}

#[tokio::test]
async fn an_order_that_is_stuck_is_found_shown_resumed_and_skipped() {
    let product = Service::connect().await.product(10).await;
    let orderctl = Orderctl::signed_in("staff-1").await;
    let (id, told) = orderctl.trigger("refund-fails", &product).await;
    assert_eq!(told["status"], "needs_attention", "{told:#}");

    let row = orderctl.until_listed(&["attention", "--limit", "10000"], &id).await;
    assert_eq!(row["attention"]["step"], "refund-payment");
    let shown = orderctl.run(&["show", &id]).await.expect(0).out;
    for part in [&id, "stuck at   refund-payment: RequestRefused", "19.99 CNY", "BOOKS", "They agree.", "orderctl skip"]
    {
        assert!(shown.contains(part), "no {part} in {shown}");
    }
    assert!(!shown.contains('\u{1b}'), "colours are for terminals");

    let resumed = orderctl.json(&["resume", &id, "--reason", "the provider is back"]).await;
    assert_eq!(resumed["status"], "resumed");
    let again = orderctl.json(&["follow", &id]).await;
    assert_eq!(again["status"], "needs_attention", "the sandbox refuses it again: {again:#}");
    orderctl.run(&["skip", &id, "--reason", "paid back by bank transfer"]).await.expect(0);
    let followed = orderctl.run(&["follow", &id]).await.expect(0).out;
    assert!(
        followed.contains("paid back by bank transfer") && followed.ends_with("cancelled: Nothing more.\n"),
        "{followed}"
    );
    let then = orderctl.json(&["show", &id, "--at", "3"]).await;
    assert_eq!((&then["order"]["status"], then["events"].as_array().unwrap().len()), (&Value::from("paid"), 3));
    let dry = ["resume", "--step", "refund-payment", "--error", "NobodyHasThis", "--reason", "x", "--dry-run"];
    assert_eq!(orderctl.json(&dry).await["matching"], 0);
}

#[tokio::test]
async fn a_payment_is_given_back_in_part_then_the_rest_and_the_order_cancelled() {
    let product = Service::connect().await.product(10).await;
    let orderctl = Orderctl::signed_in("staff-1").await;
    let (id, told) = orderctl.trigger("charge-times-out", &product).await;
    assert_eq!(told["status"], "confirmed", "{told:#}");
    let said = orderctl.run(&["refund", &id, "10.00", "CNY", "--reason", "damp"]).await.expect(0).out;
    assert!(said.starts_with("10.00 CNY are to be given back"), "{said}");
    orderctl.json(&["follow", &id]).await;
    let said = orderctl.run(&["refund", &id, "--reason", "the rest"]).await.expect(0).out;
    assert!(said.starts_with("9.99 CNY are to be given back"), "{said}");
    orderctl.json(&["follow", &id]).await;
    let told = orderctl.run(&["timeline", &id]).await.expect(0).out;
    assert!(told.contains("10.00 CNY went back.") && told.contains("9.99 CNY went back."), "{told}");
    orderctl.run(&["refund", &id, "1", "CNY", "--reason", "more"]).await.expect(1);
    assert_eq!(orderctl.json(&["cancel", &id, "--reason", "out of season"]).await["status"], "cancelling");
    assert_eq!(orderctl.json(&["follow", &id]).await["status"], "cancelled");
    assert_eq!(orderctl.until_listed(&["find", &id], &id).await["id"], id.as_str());
    let counted = orderctl.json(&["stats", "--by", "hour"]).await;
    assert!(counted["periods"].as_array().is_some_and(|periods| !periods.is_empty()), "{counted:#}");
    let listed = orderctl.json(&["products", "--limit", "10000"]).await;
    assert!(listed["products"].as_array().unwrap().iter().any(|row| row["id"] == "tea-longjing"));
}

#[tokio::test]
async fn dead_letters_are_listed_and_nobodys_are_neither_redriven_nor_discarded() {
    let orderctl = Orderctl::signed_in("staff-1").await;
    for consumer in ["project-orders", "publish-events", "start-fulfilment"] {
        for settled in [None, Some("--settled")] {
            let words: Vec<&str> = ["dead-letters", "--consumer", consumer].into_iter().chain(settled).collect();
            let listed = orderctl.json(&words).await;
            assert!(listed["dead_letters"].is_array(), "{listed:#}");
        }
        for deed in ["redrive", "discard"] {
            let words =
                ["dead-letters", deed, "--consumer", consumer, "--error", "NobodyHasThis", "--reason", "to see it"];
            assert_eq!(orderctl.json(&words).await["matching"], 0, "{consumer}");
            let said = orderctl.run(&words).await.expect(0).out;
            assert!(said.starts_with(&format!("0 dead letters of {consumer} would be {deed}")), "{said}");
        }
    }
    let said = orderctl.run(&["dead-letters", "--consumer", "nobody"]).await.expect(1);
    assert!(said.err.contains("?consumer"), "{}", said.err);
}

#[tokio::test]
async fn what_fails_says_why_and_under_which_correlation_id() {
    let orderctl = Orderctl::signed_in("customer-1").await;
    let nobodys = Uuid::new_v4().to_string();
    let said = orderctl.run(&["show", &nobodys]).await.expect(1);
    assert!(
        said.out.is_empty() && said.err.starts_with("error: 404 Not found: there is no such order\n"),
        "{}",
        said.err
    );
    let (_, id) = said.err.trim().rsplit_once("correlation id: ").unwrap();
    Uuid::parse_str(id).unwrap();
    let said = orderctl.run(&["attention", "--json"]).await.expect(1);
    let failure: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!((&failure["status"], &failure["type"]), (&403.into(), &"urn:order-service:problem:forbidden".into()));
    assert!(failure["correlation_id"].is_string() && said.out.is_empty(), "{failure}");

    let said = orderctl.run(&["api", "POST", "/api/v1/orders", "{}"]).await.expect(1);
    let problem: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(problem["errors"].as_array().unwrap().len(), 3);
    assert_eq!(orderctl.json(&["api", "GET", "/health"]).await["status"], "up");
    for misunderstood in
        [&["show", "7e10"][..], &["trigger", "nothing"], &["refund", &nobodys, "1,5", "CNY", "--reason", "x"]]
    {
        orderctl.run(misunderstood).await.expect(2);
    }
    orderctl.run(&["logout"]).await.expect(0);
    let said = orderctl.run(&["timeline", &nobodys]).await.expect(1);
    assert!(said.err.contains("orderctl login --stage local"), "{}", said.err);
}

#[tokio::test]
async fn nothing_changes_in_prod_before_somebody_has_agreed() {
    let product = Service::connect().await.product(10).await;
    let orderctl = Orderctl::signed_in("staff-1").await;
    let (id, told) = orderctl.trigger("charge-fails-twice", &product).await;
    let profiles = orderctl.config.join("orderctl");
    // With its mode, which others may not read.
    fs::copy(profiles.join("local.toml"), profiles.join("prod.toml")).unwrap();

    // The other name leads to the same place, so it is as much prod as its own.
    for stage in ["prod", "local"] {
        let said = orderctl.run(&["cancel", &id, "--reason", "x", "--stage", stage]).await.expect(1);
        assert!(said.err.contains("--yes"), "{}", said.err);
        let said = orderctl.run(&["trigger", "declined", "--yes", "--stage", stage]).await.expect(1);
        assert!(said.err.contains("in prod nothing is asked to go wrong"), "{}", said.err);
    }
    assert_eq!(orderctl.json(&["timeline", &id, "--stage", "prod"]).await["version"], told["version"]);
    orderctl.run(&["cancel", &id, "--reason", "x", "--stage", "prod", "--yes"]).await.expect(0);
    assert_eq!(orderctl.json(&["follow", &id, "--stage", "prod"]).await["status"], "cancelled");
}
