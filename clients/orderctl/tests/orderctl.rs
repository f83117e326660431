//! The program itself, against a service of the test's own: what it sends, where to, and what it says when it cannot know.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::{Value, json};

const ID: &str = "7e108758-d8c7-5ab4-90d5-4d493c88ba33";
const KEY: &str = "0f4cbb5e-6a0c-4d5e-9a55-2b8f6f0f7a11";

/// No answer of a test takes longer.
const DEADLINE: Duration = Duration::from_mins(1);

/// How the service answers a command.
#[derive(Clone, Copy)]
enum Commands {
    Answered(u16),
    /// In words of which the contract knows nothing.
    Strange,
    /// It may do them, and goes without a word.
    Broken,
    /// It may do them, and says nothing until the client has gone.
    Silent,
}

/// A service whose reads go well.
struct Service {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Service {
    fn start(commands: Commands) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let kept = Arc::clone(&asked);
        thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let kept = Arc::clone(&kept);
                thread::spawn(move || serve(stream, commands, &kept));
            }
        });
        Self { url, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// Those of the commands that came.
    fn keys(&self) -> Vec<String> {
        let asked = self.asked();
        let commands =
            asked.iter().filter(|request| request.starts_with("POST") && !request.contains("dry_run\":true"));
        commands.map(|request| header(request, "idempotency-key").unwrap_or("none").to_owned()).collect()
    }
}

fn header<'a>(request: &'a str, name: &str) -> Option<&'a str> {
    request.lines().filter_map(|line| line.split_once(": ")).find(|(each, _)| *each == name).map(|(_, value)| value)
}

fn serve(mut stream: TcpStream, commands: Commands, kept: &Mutex<Vec<String>>) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    while !request.ends_with("\r\n\r\n") {
        if reader.read_line(&mut request).unwrap() == 0 {
            return;
        }
    }
    let length = header(&request, "content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request += std::str::from_utf8(&body).unwrap();
    kept.lock().unwrap().push(request.clone());
    let (status, body) = if request.starts_with("GET") || request.contains("dry_run\":true") {
        (200, read(&request))
    } else {
        match commands {
            Commands::Answered(status) => (status, answer(&request)),
            Commands::Strange => (202, json!({})),
            Commands::Broken => return,
            Commands::Silent => {
                let _ = reader.read_exact(&mut [0]);
                return;
            }
        }
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
}

fn read(request: &str) -> Value {
    let money = json!({"amount": 1000, "currency": "CNY"});
    if request.contains("/customer/me") {
        return json!({"customer_id": "c", "orders": [], "page": 1, "page_size": 1, "total_count": 0, "total_pages": 0, "next": null, "previous": null});
    }
    if request.contains("/dead-letters/") {
        return letters(true, 0, None);
    }
    if request.starts_with("POST") {
        return json!({"dry_run": true, "matching": 2, "resumed": 0, "failed": 0, "more": false, "order_ids": [ID, ID]});
    }
    json!({
        "id": ID, "status": "needs_attention", "version": 5, "items": [], "total_amount": money,
        "customer": {"id": "c", "version": 0, "first_name": null, "last_name": null, "email": null, "email_verified": false},
        "shipping_address": {"street": "s", "city": null, "state": null, "country": "HK", "postal_code": null},
        "payment": {"transaction_id": "t", "status": "completed", "amount": money, "processed_at": "2026-03-01T08:00:00Z"},
        "shipment": null, "refunds": [], "rejection": null, "cancellation": null,
        "attention": {"step": "refund-payment", "reason": "RequestRefused", "interrupted": "confirmed"},
        "created_at": "2026-03-01T08:00:00Z", "updated_at": "2026-03-01T08:00:00Z"
    })
}

fn answer(request: &str) -> Value {
    let accepted = json!({"order_id": ID, "refund_id": ID, "status": "requested", "version": 6});
    let resumed =
        json!({"dry_run": false, "matching": 2, "resumed": 2, "failed": 0, "more": false, "order_ids": [ID, ID]});
    if request.contains("/dead-letters/") {
        // In the first call all that are tried fail, and in the third one those fail that are behind all places.
        let call = header(request, "idempotency-key").and_then(|key| key.chars().last());
        return match call {
            Some('0') => letters(false, 0, Some("order/5")),
            Some('1') => letters(false, 1, Some("message/")),
            _ => letters(false, 0, Some("message/")),
        };
    }
    if request.contains("/fulfilment/resume") && !request.contains(ID) { resumed } else { accepted }
}

/// What became of dead letters: so many are done in this call, and another one fails.
fn letters(dry_run: bool, done: u64, next: Option<&str>) -> Value {
    let failed =
        json!([{"id": format!("order/{ID}"), "error_type": "Unreadable", "error": "the event cannot be read"}]);
    json!({"consumer": "project-orders", "dry_run": dry_run, "matching": 3, "redriven": done, "discarded": done, "more": next.is_some(),
        "next": next, "failed": if dry_run { json!([]) } else { failed }, "consequence": "reads stay as they are"})
}

/// The program's surroundings, with profiles of the test's own.
struct Orderctl {
    config: PathBuf,
    variables: Vec<(&'static str, String)>,
}

struct Said {
    status: i32,
    err: String,
}

impl Orderctl {
    fn new(name: &str) -> Self {
        let config = env::temp_dir().join(format!("orderctl-program-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&config);
        fs::create_dir_all(config.join("orderctl")).unwrap();
        Self { config, variables: Vec::new() }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn signed_in(self, stage: &str, api_url: &str) -> Self {
        let path = self.config.join(format!("orderctl/{stage}.toml"));
        let tokens = "[tokens]\naccess = \"token-of-the-profile\"\nexpires_at = \"2999-01-01T00:00:00Z\"\n";
        let place = format!("api_url = \"{api_url}\"\npool_url = \"{api_url}\"\nclient_id = \"c\"\nuser = \"anna\"\n");
        fs::write(&path, place + tokens).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        self
    }

    /// At this service, by the environment.
    fn at(name: &str, service: &Service) -> Self {
        Self::new(name).with("ORDERCTL_API_URL", &service.url).with("ORDERCTL_TOKEN", "token-of-the-environment")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_orderctl"));
        for name in ["ORDERCTL_API_URL", "ORDERCTL_TOKEN", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.args(line.replace("ID", ID).replace("KEY", KEY).split_whitespace());
        command.env("XDG_CONFIG_HOME", &self.config).envs(self.variables.iter().cloned());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, line: &str) -> Said {
        let said = self.command(line).output().unwrap();
        Said { status: said.status.code().unwrap(), err: String::from_utf8(said.stderr).unwrap() }
    }
}

impl Drop for Orderctl {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.config);
    }
}

/// All that changes something, with what it has to say when it is repeated besides its key.
const COMMANDS: [(&str, &str); 11] = [
    ("refund ID 10.00 CNY --reason x", ""),
    ("refund ID --reason x", "10.00 CNY "),
    ("skip ID --step refund-payment --reason x", ""),
    ("skip ID --reason x", "--step refund-payment "),
    ("resume ID --reason x", ""),
    ("resume --step refund-payment --reason x", ""),
    ("cancel ID --reason x", ""),
    ("trigger refund-fails", ""),
    ("dead-letters redrive --consumer project-orders --error Unreadable --reason x", ""),
    ("dead-letters discard --consumer project-orders --all --reason x", ""),
    ("api POST /api/v1/products/tea/stock-adjustments {\"by\":-3}", ""),
];

/// The same key for all attempts, without the number that a call of several has.
fn only_key(service: &Service) -> String {
    let mut keys = service.keys();
    keys.dedup();
    let [key] = &keys[..] else { panic!("not one key: {keys:?}") };
    key.strip_suffix("-0").unwrap_or(key).to_owned()
}

#[test]
fn what_may_have_been_done_says_under_which_key_it_is_done_once() {
    for (line, besides) in COMMANDS {
        let service = Service::start(Commands::Answered(500));
        let orderctl = Orderctl::at("unknown", &service);
        let said = orderctl.run(line);
        let words = format!("{besides}--key {}", only_key(&service));
        assert_eq!(said.status, 1, "{line}: {}", said.err);
        let hint = format!("\nit may have been done: repeat it with {words}\ncorrelation id: ");
        assert!(said.err.contains(&hint), "{line}: {}", said.err);

        let service = Service::start(Commands::Answered(500));
        let said = Orderctl::at("unknown", &service).run(&format!("{line} --json"));
        let failure: Value = serde_json::from_str(&said.err).unwrap_or_else(|error| panic!("{error}: {}", said.err));
        assert_eq!(failure["repeat_with"], format!("{besides}--key {}", only_key(&service)), "{line}");
    }
}

#[test]
fn dead_letters_are_redriven_call_by_call_and_what_fails_is_told_once() {
    for (deed, told) in
        [("redrive", "1 of 3 dead letters of project-orders are redriven"), ("discard", "reads stay as they are")]
    {
        let service = Service::start(Commands::Answered(200));
        let line = format!("dead-letters {deed} --consumer project-orders --all --reason x --key KEY");
        let said = Orderctl::at(deed, &service).run(&line);
        assert_eq!(service.keys(), [0, 1, 2].map(|call| format!("{KEY}-{call}")));
        let asked = service.asked();
        let after: Vec<bool> = asked.iter().map(|request| request.contains("\"after\":\"")).collect();
        assert_eq!(after, [false, false, true, true], "the dry run and the first call begin at the beginning");
        assert!(
            asked[2].contains("\"after\":\"order/5\"") && asked[3].contains("\"after\":\"message/\""),
            "{asked:#?}"
        );
        assert_eq!(said.status, 1, "{}", said.err);
        assert!(said.err.contains(told) && said.err.contains("1 are dead letters still"), "{}", said.err);

        let service = Service::start(Commands::Answered(200));
        let said = Orderctl::at(deed, &service).run(&format!("{line} --dry-run"));
        assert_eq!((said.status, service.keys().len(), service.asked().len()), (0, 0, 1), "{}", said.err);
    }
}

#[test]
fn one_dead_letter_is_discarded_as_it_was_seen() {
    let service = Service::start(Commands::Answered(200));
    let line = "dead-letters discard --consumer project-orders --id order/ID --last-sequence 7 --reason x --key KEY";
    Orderctl::at("seen", &service).run(line);
    let asked = service.asked();
    assert!(asked.len() > 1, "the dry run is all: {asked:#?}");
    for request in asked {
        assert!(request.contains(&format!("\"id\":\"order/{ID}\"")), "{request}");
        assert!(request.contains("\"last_sequence\":7"), "{request}");
    }
}

#[test]
fn silence_is_unknown_too_and_so_is_an_answer_that_cannot_be_read() {
    let service = Service::start(Commands::Broken);
    let said = Orderctl::at("broken", &service).run("refund ID 10.00 CNY --reason x");
    assert_eq!((said.status, service.keys().len()), (1, 4));
    let key = only_key(&service);
    assert!(said.err.contains(&format!("it may have been done: repeat it with --key {key}\n")), "{}", said.err);

    let service = Service::start(Commands::Strange);
    let said = Orderctl::at("strange", &service).run("refund ID 10.00 CNY --reason x");
    let key = only_key(&service);
    assert!(said.status == 1 && said.err.contains(&format!("repeat it with --key {key}\n")), "{}", said.err);

    let service = Service::start(Commands::Answered(409));
    let said = Orderctl::at("refused", &service).run("refund ID 10.00 CNY --reason x");
    assert_eq!(said.status, 1);
    assert!(!said.err.contains("--key"), "what is refused is not done: {}", said.err);
}

#[test]
fn whoever_gives_up_waiting_knows_the_key_by_then() {
    let service = Service::start(Commands::Silent);
    let mut command = Orderctl::at("silent", &service).command("refund ID 10.00 CNY --reason x");
    let mut running = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let read = BufReader::new(running.stderr.take().unwrap()).read_line(&mut line);
    running.kill().unwrap();
    running.wait().unwrap();
    read.unwrap();
    assert!(line.contains(&format!("repeats it with --key {},", only_key(&service))), "{line}");
}

#[test]
fn the_same_again_is_sent_under_its_key() {
    for (line, besides) in COMMANDS {
        let service = Service::start(Commands::Answered(503));
        Orderctl::at("again", &service).run(&format!("{line} {besides}--key KEY"));
        assert_eq!(only_key(&service), KEY, "{line}");
    }
    // What these would read in between may have changed by what was done.
    let service = Service::start(Commands::Answered(202));
    for line in ["refund ID --reason x --key KEY", "skip ID --reason x --key KEY"] {
        let said = Orderctl::at("changed", &service).run(line);
        assert_eq!(said.status, 2, "{}", said.err);
    }
    assert!(service.asked().is_empty());
}

#[test]
fn a_place_that_nobody_knows_is_as_good_as_prod() {
    let orderctl = Orderctl::new("unknown-place").signed_in("dev", "https://dev.invalid");
    let orderctl = orderctl.with("ORDERCTL_API_URL", "https://prod.invalid").with("ORDERCTL_TOKEN", "t");
    for stage in ["local", "dev", "prod"] {
        for line in
            ["refund ID 1 CNY --reason x", "api DELETE /x", "skip ID --step s --reason x", "cancel ID --reason x"]
        {
            let said = orderctl.run(&format!("{line} --stage {stage}"));
            assert!(said.status == 1 && said.err.contains("nobody has agreed"), "{line}: {}", said.err);
        }
        let said = orderctl.run(&format!("trigger declined --yes --stage {stage}"));
        assert!(said.status == 1 && said.err.contains("nothing is asked to go wrong"), "{}", said.err);
    }
}

#[test]
fn the_profiles_token_goes_where_the_profile_leads_and_nowhere_else() {
    let (own, other) = (Service::start(Commands::Answered(202)), Service::start(Commands::Answered(202)));
    let said = Orderctl::new("own").signed_in("local", &own.url).with("ORDERCTL_API_URL", &format!("{}/", own.url));
    assert_eq!(said.run("cancel ID --reason x").status, 0);
    assert_eq!(header(&own.asked()[0], "authorization"), Some("Bearer token-of-the-profile"));

    let elsewhere = Orderctl::new("elsewhere").signed_in("local", &own.url).with("ORDERCTL_API_URL", &other.url);
    let said = elsewhere.run("api GET /health");
    assert!(said.status == 1 && said.err.contains("ORDERCTL_TOKEN"), "{}", said.err);
    assert!(other.asked().is_empty());
    let said = elsewhere.with("ORDERCTL_TOKEN", "token-of-the-environment").run("cancel ID --reason x");
    assert_eq!(said.status, 0, "{}", said.err);
    assert_eq!(header(&other.asked()[0], "authorization"), Some("Bearer token-of-the-environment"));
}

#[test]
fn no_token_goes_over_the_network_without_tls() {
    for url in ["http://api.invalid", "http://localhost:secret@api.invalid", "https://anna:secret@api.invalid"] {
        let orderctl = Orderctl::new("plain").with("ORDERCTL_API_URL", url).with("ORDERCTL_TOKEN", "secret");
        let said = orderctl.run("api GET /health");
        assert!(said.status == 2 && said.err.contains("ORDERCTL_API_URL"), "{url}: {}", said.err);
        assert!(!said.err.contains("secret"), "{}", said.err);
    }
    let (service, proxy) = (Service::start(Commands::Answered(202)), Service::start(Commands::Answered(202)));
    let said = Orderctl::at("proxy", &service).with("http_proxy", &proxy.url).run("cancel ID --reason x");
    assert_eq!((said.status, service.asked().len(), proxy.asked().len()), (0, 1, 0), "{}", said.err);
}
