//! What operators can turn while the service runs, and where each value comes from.
//!
//! Four layers, later over earlier: the defaults here, the stage's file in `infra/config`, a document of AppConfig, and environment
//! variables `APP__SECTION__FIELD`. Each is held to the same structure, so that a field that nobody knows is refused by the name of
//! its layer. What wires the stack together, such as names of tables, is not here.

mod address;
mod layers;
mod live;
mod secrets;
mod service;

pub use address::{Address, BadAddress, Transport};
pub use layers::{BadSettings, Layers};
pub use live::{Live, NoSettings, Source};
pub use secrets::Secrets;
pub use service::{Discovery, Look, Registered, Service};

use std::{collections::BTreeMap, num::NonZeroU32, time::Duration};

use rustls_pki_types::pem::{PemObject, SectionKind};
use serde::{Deserialize, Serialize};

/// All settings, with their defaults.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a running function goes by what it knows before it looks for a newer document of AppConfig: 20 to 3600 seconds.
    /// Above 120, functions that run may find a document wrong when AppConfig watches it no more, and does not take it back.
    pub poll_seconds: u32,
    pub providers: Providers,
    /// Where services are: for each name the URLs of its instances, up to 20, or a table that says what it is called in Cloud Map.
    /// `grpc`, `grpcs`, `http` or `https`; without TLS only on this machine. A service that no new order uses stays here for as long as
    /// orders that were placed with it may need it.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// For a service that asks for a bearer token the name of the secret that is the token, and nothing else: in Secrets Manager, or
    /// with `ssm:` before it in SSM's Parameter Store. 1 to 500 letters, digits and / _ + = . @ -; the stack's functions may read those
    /// that begin as its parameter `ProviderSecrets` says. It belongs to the service and not to the port, so that nobody is shown
    /// another one's token when new orders go elsewhere.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    /// For a service whose certificate leads to a root of one's own: that root, and others if need be, as PEM, up to 64 KB. They count
    /// beside the system's, for this service alone. Certificates are public: nothing else may stand there.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub ca_bundles: BTreeMap<String, String>,
    pub cache: Cache,
    /// How much each caller may ask for. Those of a running function that calls no provider are the ones of its stage until it has
    /// read a document.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            poll_seconds: 30,
            providers: Providers::default(),
            services: BTreeMap::new(),
            secrets: BTreeMap::new(),
            ca_bundles: BTreeMap::new(),
            cache: Cache::default(),
            limits: Limits::default(),
        }
    }
}

/// For how long a running function goes by what others have told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cache {
    /// By the instances of a service that Cloud Map has named, before it looks for them again beside its work: 5 to 300 seconds. At once
    /// when one of them has failed.
    pub instances_seconds: u32,
    /// By a service's token, before it reads it again: 30 to 3600 seconds. At once when it is refused.
    pub token_seconds: u32,
}

impl Default for Cache {
    fn default() -> Self {
        Self { instances_seconds: 30, token_seconds: 300 }
    }
}

/// Each caller's by themselves. Which route belongs to which is in `shared/adapters/src/http/limits.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// What customers send that changes something: orders and cancellations.
    pub customer_commands: Rate,
    pub customer_reads: Rate,
    pub staff_commands: Rate,
    pub staff_reads: Rate,
    /// Parcels that have arrived, which a carrier may tell of by the hundred.
    pub carrier_commands: Rate,
    /// Of `/metrics`, each of which is some forty calls.
    pub scrapes: Rate,
    /// Each of which changes up to 900 entries of the search index.
    pub profile_changes: Rate,
    /// Searches, each of which looks at up to a million ids, and lists and counts of all customers' orders.
    pub searches: Rate,
    /// Events of one order and over all orders, up to 2 MB a page.
    pub event_lists: Rate,
    /// Reads with `min_version`, each of which may hold a function for 750 ms.
    pub waiting_reads: Rate,
    /// So many of a customer's commands an order costs besides that is declined: it has held stock that others could not buy. 0 up
    /// to the burst of `customer_commands`.
    pub decline_costs: u32,
    /// The most that staff give back of one order in all, in minor units of whatever currency; more is for supervisors.
    pub staff_refund: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            customer_commands: Rate::new(30, 20),
            customer_reads: Rate::new(300, 100),
            staff_commands: Rate::new(300, 100),
            staff_reads: Rate::new(600, 200),
            carrier_commands: Rate::new(1_200, 600),
            scrapes: Rate::new(30, 10),
            profile_changes: Rate::new(10, 10),
            searches: Rate::new(60, 30),
            event_lists: Rate::new(60, 30),
            waiting_reads: Rate::new(60, 30),
            decline_costs: 5,
            staff_refund: 100_000,
        }
    }
}

impl Limits {
    fn each(&self) -> [(&'static str, &Rate); 10] {
        [
            ("customer_commands", &self.customer_commands),
            ("customer_reads", &self.customer_reads),
            ("staff_commands", &self.staff_commands),
            ("staff_reads", &self.staff_reads),
            ("carrier_commands", &self.carrier_commands),
            ("scrapes", &self.scrapes),
            ("profile_changes", &self.profile_changes),
            ("searches", &self.searches),
            ("event_lists", &self.event_lists),
            ("waiting_reads", &self.waiting_reads),
        ]
    }
}

/// How fast, in the long run and at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// 1 to 600000.
    pub per_minute: NonZeroU32,
    /// 1 to 100000, after a pause in which they have come back.
    pub burst: NonZeroU32,
}

/// For a layer that is read for itself and says only one of the two. What counts in the end has those of [`Limits`] beneath it.
impl Default for Rate {
    fn default() -> Self {
        Self::new(1, 1)
    }
}

impl Rate {
    fn new(per_minute: u32, burst: u32) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self { per_minute: at_least_one(per_minute), burst: at_least_one(burst) }
    }
}

const PER_MINUTE_MAX: u32 = 600_000;

const BURST_MAX: u32 = 100_000;

/// Who new orders are placed with, and how providers are called.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Providers {
    /// Where products and their stock are, and what orders reserve.
    pub inventory: Provider,
    /// Who charges customers, and gives back.
    pub payments: Provider,
    /// Who takes parcels to them.
    pub shipping: Provider,
    /// Who tells them.
    pub notifications: Provider,
}

impl Providers {
    pub fn each(&self) -> [(&'static str, &Provider); 4] {
        [
            ("inventory", &self.inventory),
            ("payments", &self.payments),
            ("shipping", &self.shipping),
            ("notifications", &self.notifications),
        ]
    }
}

/// One kind of provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Provider {
    /// `sandbox` is built in; `grpc` and `rest` are services of one's own (`api/providers/v1`); `ses` sends e-mails, for
    /// notifications only.
    pub kind: Kind,
    /// Its name under `services`, which orders keep: 1 to 64 lower-case letters, digits and -. For `grpc` and `rest` only.
    pub service: String,
    /// The address that `ses` sends from; for notifications only. It stays here for as long as orders may need it that were placed
    /// with `ses`.
    pub sender: String,
    /// For a whole call, with finding an instance and reading the token when these are due: 100 to 5000 milliseconds, which leaves room
    /// in every function that calls providers, also one after another.
    pub deadline_ms: u32,
    /// When it is left alone: each running function keeps count for itself.
    pub breaker: Breaker,
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            kind: Kind::Sandbox,
            service: String::new(),
            sender: String::new(),
            deadline_ms: 5_000,
            breaker: Breaker::default(),
        }
    }
}

impl Provider {
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms.into())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    #[default]
    Sandbox,
    Grpc,
    Rest,
    Ses,
}

impl Kind {
    /// How a service of one's own is spoken to; none for what is built in.
    pub fn transport(self) -> Option<Transport> {
        match self {
            Self::Sandbox | Self::Ses => None,
            Self::Grpc => Some(Transport::Grpc),
            Self::Rest => Some(Transport::Rest),
        }
    }
}

/// When a provider that fails is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// After so many failures in a row.
    pub failures: NonZeroU32,
    /// Until so many calls in a row have succeeded that were let through to see.
    pub successes: NonZeroU32,
    /// The first of them after so many seconds: 1 to 600.
    pub open_seconds: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            failures: NonZeroU32::MIN.saturating_add(4),
            successes: NonZeroU32::MIN.saturating_add(1),
            open_seconds: 30,
        }
    }
}

/// The most instances of one service.
pub const INSTANCES_MAX: usize = 20;

const NAME_MAX: usize = 64;

/// The most that fits into a mail command (RFC 5321, section 4.5.3.1.3, less the brackets).
const MAILBOX_MAX: usize = 254;

/// An address without a name beside it, and with nothing that would have to be quoted. Whether it is verified, only SES knows.
fn is_mailbox(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
    let sides = text.split_once('@').filter(|(local, host)| !local.is_empty() && !host.is_empty());
    text.len() <= MAILBOX_MAX && sides.is_some_and(|(local, host)| local.chars().chain(host.chars()).all(allowed))
}

const SECRET_NAME_MAX: usize = 500;

const CA_BUNDLE_BYTES_MAX: usize = 65_536;

impl Settings {
    /// What is wrong with them besides their shape: the field, and what it must be.
    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut must = |holds: bool, field: String, problem: &str| {
            if !holds {
                problems.push(format!("{field} must {problem}"));
            }
        };
        must((20..=3_600).contains(&self.poll_seconds), "poll_seconds".to_owned(), "be from 20 to 3600");
        let Cache { instances_seconds, token_seconds } = self.cache;
        must((5..=300).contains(&instances_seconds), "cache.instances_seconds".to_owned(), "be from 5 to 300");
        must((30..=3_600).contains(&token_seconds), "cache.token_seconds".to_owned(), "be from 30 to 3600");
        for (port, provider) in self.providers.each() {
            let field = |name: &str| format!("providers.{port}.{name}");
            must((100..=5_000).contains(&provider.deadline_ms), field("deadline_ms"), "be from 100 to 5000");
            must((1..=600).contains(&provider.breaker.open_seconds), field("breaker.open_seconds"), "be from 1 to 600");
            let sends_mail = port == "notifications";
            let sender = provider.sender.as_str();
            must(sends_mail || sender.is_empty(), field("sender"), "be empty, because only notifications are sent");
            must(sender.is_empty() || is_mailbox(sender), field("sender"), "be an address such as orders@example.com");
            if provider.kind == Kind::Ses {
                must(sends_mail, field("kind"), "be sandbox, grpc or rest, because only notifications are sent");
                must(!sends_mail || !sender.is_empty(), field("sender"), "be the address that ses sends from");
            }
            let Some(transport) = provider.kind.transport() else {
                must(provider.service.is_empty(), field("service"), "be empty for what is built in");
                continue;
            };
            must(
                self.registered_as(&provider.service).is_some()
                    || !self.addresses(&provider.service, transport).is_empty(),
                field("service"),
                "name a service with an instance that is spoken to like that",
            );
        }
        for (name, service) in &self.services {
            let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            let good = (1..=NAME_MAX).contains(&name.len()) && name.chars().all(allowed);
            must(good, format!("services.{name}"), "have a name of 1 to 64 lower-case letters, digits and -");
            must(service.urls().len() <= INSTANCES_MAX, format!("services.{name}"), "have 20 URLs at most");
            let registered = self.registered_as(name).unwrap_or(name);
            let allowed = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
            must(
                registered.len() <= NAME_MAX && registered.chars().all(allowed),
                format!("services.{name}.cloud_map"),
                "be 1 to 64 letters, digits, - and _",
            );
        }
        for (name, url) in self.services.iter().flat_map(|(name, of)| of.urls().iter().map(move |url| (name, url))) {
            if let Err(problem) = Address::parse(url) {
                problems.push(format!("services.{name}: {problem}"));
            }
        }
        let of_services = [("secrets", &self.secrets), ("ca_bundles", &self.ca_bundles)];
        for (section, service) in of_services.iter().flat_map(|(section, of)| of.keys().map(move |of| (section, of))) {
            if !self.services.contains_key(service) {
                problems.push(format!("{section}.{service} must be of a service"));
            }
        }
        for (service, bundle) in &self.ca_bundles {
            if bundle.len() > CA_BUNDLE_BYTES_MAX || !are_certificates(bundle) {
                problems
                    .push(format!("ca_bundles.{service} must be certificates as PEM and nothing else, in 65536 bytes"));
            }
        }
        for (class, Rate { per_minute, burst }) in self.limits.each() {
            if per_minute.get() > PER_MINUTE_MAX {
                problems.push(format!("limits.{class}.per_minute must be from 1 to {PER_MINUTE_MAX}"));
            }
            if burst.get() > BURST_MAX {
                problems.push(format!("limits.{class}.burst must be from 1 to {BURST_MAX}"));
            }
        }
        if self.limits.decline_costs > self.limits.customer_commands.burst.get() {
            problems.push("limits.decline_costs must be at most the burst of customer_commands".to_owned());
        }
        for (service, secret) in &self.secrets {
            let name = secret.strip_prefix("ssm:").unwrap_or(secret);
            let allowed = |c: char| c.is_ascii_alphanumeric() || "/_+=.@-".contains(c);
            if !(1..=SECRET_NAME_MAX).contains(&name.len()) || !name.chars().all(allowed) {
                problems.push(format!(
                    "secrets.{service} must name a secret, or with ssm: a parameter: 1 to 500 letters, digits and / _ + = . @ -"
                ));
            }
        }
        problems
    }

    /// What a service is called in the registry, if its instances are found there.
    pub fn registered_as<'s>(&'s self, service: &'s str) -> Option<&'s str> {
        match self.services.get(service)? {
            Service::Listed(_) => None,
            Service::Registered(Registered { cloud_map, .. }) if cloud_map.is_empty() => Some(service),
            Service::Registered(Registered { cloud_map, .. }) => Some(cloud_map),
        }
    }

    /// Where a service is by the settings alone, as far as it is spoken to like that.
    pub fn addresses(&self, service: &str, transport: Transport) -> Vec<Address> {
        let urls = self.services.get(service).map(Service::urls).unwrap_or_default().iter();
        let addresses = urls.filter_map(|url| Address::parse(url).ok());
        addresses.filter(|address| address.transport == transport).collect()
    }
}

/// A key that somebody has left in the file would be deployed and shown with it.
fn are_certificates(pem: &str) -> bool {
    let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem.as_bytes()).peekable();
    pem.starts_with("-----BEGIN CERTIFICATE-----")
        && sections.peek().is_some()
        && sections.all(|section| matches!(section, Ok((SectionKind::Certificate, _))))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    /// The one in template.yaml, by which AppConfig refuses to deploy a document.
    fn schema() -> Value {
        let template = include_str!("../../../template.yaml");
        let (_, rest) = template.split_once("- Type: JSON_SCHEMA").unwrap();
        let (_, rest) = rest.split_once("Content: |\n").unwrap();
        let text: String = rest.lines().take_while(|line| line.starts_with("            ")).collect();
        serde_json::from_str(&text).unwrap()
    }

    /// Every field, and with it that nothing else is let in.
    fn has_the_fields_of(schema: &Value, node: &Value, value: &Value, at: &str) {
        let node = match node.get("$ref").and_then(Value::as_str) {
            Some(name) => schema.pointer(name.trim_start_matches('#')).unwrap(),
            None => node,
        };
        let Value::Object(fields) = value else { return };
        assert_eq!(node["additionalProperties"], false, "{at}");
        let Some(known) = node["properties"].as_object() else {
            assert!(node["patternProperties"].is_object(), "{at}");
            return;
        };
        assert!(known.keys().eq(fields.keys()), "{at}: {:?} in the schema, {:?} here", known.keys(), fields.keys());
        for (name, value) in fields {
            has_the_fields_of(schema, &known[name], value, &format!("{at}.{name}"));
        }
    }

    #[test]
    fn the_schema_has_the_fields_of_the_settings_and_no_others() {
        let (schema, mut settings) = (schema(), serde_json::to_value(Settings::default()).unwrap());
        for left_out_while_empty in ["ca_bundles", "secrets", "services"] {
            settings[left_out_while_empty] = Value::Object(serde_json::Map::new());
        }
        has_the_fields_of(&schema, &schema, &settings, "");
        let service = &schema["properties"]["services"]["patternProperties"]["^[a-z0-9-]{1,64}$"];
        has_the_fields_of(&schema, service, &serde_json::to_value(Registered::default()).unwrap(), "services");
        let kinds = schema["definitions"]["provider"]["properties"]["kind"]["enum"].as_array().unwrap();
        let known = serde_json::from_value::<Kind>("none".into()).unwrap_err().to_string();
        let known: Vec<&str> = known.split('`').skip(3).step_by(2).collect();
        assert_eq!(kinds, &known, "kinds of providers");
    }

    /// `tests/template_suite.py` holds the schema to the same documents.
    #[test]
    fn documents_are_taken_or_refused_as_the_schema_does() {
        let documents: Value = serde_json::from_str(include_str!("../tests/documents.json")).unwrap();
        let each = |list: &str| documents[list].as_array().unwrap().clone();
        let settings =
            |document: &Value| Layers::new("local".to_owned(), []).with_document(Some(document.to_string())).settings();
        for good in each("good") {
            assert!(settings(&good).is_ok(), "{good}: {:?}", settings(&good));
        }
        for wrong in each("wrong").into_iter().chain(each("wrong to the code alone")) {
            assert!(settings(&wrong).is_err(), "{wrong} is taken");
        }
    }

    #[test]
    fn a_ca_bundle_is_made_of_certificates_and_nothing_else() {
        let section = |kind: &str| format!("-----BEGIN {kind}-----\nTm90IHJlYWxseSBvbmU=\n-----END {kind}-----\n");
        let certificate = section("CERTIFICATE");
        assert!(are_certificates(&certificate));
        assert!(are_certificates(&(certificate.clone() + &certificate)));
        let key = certificate.clone() + &section("PRIVATE KEY");
        let cut: String = certificate.chars().take(40).collect();
        for bad in ["", "ca.pem", &section("PRIVATE KEY"), &key, &cut, &certificate.replace("Tm", "?!")] {
            assert!(!are_certificates(bad), "{bad}");
        }
    }
}
