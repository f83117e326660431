//! The layers, and what comes out of them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
};

use config::{Config, Environment, File, FileFormat, Value, ValueKind};

use crate::Settings;

const FILES: [(&str, &str); 3] = [
    ("local", include_str!("../../../infra/config/local.toml")),
    ("dev", include_str!("../../../infra/config/dev.toml")),
    ("prod", include_str!("../../../infra/config/prod.toml")),
];

const DEFAULTS: &str = "defaults";

const TOGETHER: &str = "all layers together";

/// Why there are no settings: in which layer, and what is wrong there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{layer}: {problem}")]
pub struct BadSettings {
    pub layer: String,
    pub problem: String,
}

/// What is laid over the defaults.
#[derive(Debug, Clone)]
pub struct Layers {
    stage: String,
    /// The newest document of AppConfig, as JSON; nothing where there is none.
    document: Option<String>,
    environment: HashMap<String, String>,
}

impl Layers {
    /// Of a stage; one without a file of its own goes by the defaults. Of the environment, what begins with `APP__` counts.
    pub fn new(stage: String, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let environment = environment.into_iter().filter(|(name, _)| name.starts_with("APP__")).collect();
        Self { stage, document: None, environment }
    }

    /// Those of this process, without a document.
    pub fn of_process() -> Self {
        let environment = std::env::vars_os();
        let environment =
            environment.filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::new(std::env::var("STAGE").unwrap_or_default(), environment)
    }

    /// With another document of AppConfig, as JSON.
    #[must_use]
    pub fn with_document(&self, document: Option<String>) -> Self {
        Self { document, ..self.clone() }
    }

    pub fn settings(&self) -> Result<Settings, BadSettings> {
        // A start on most stages, which is not to take longer than it has to.
        if self.document.is_none() && self.environment.is_empty() && says_nothing(self.file()) {
            return Ok(Settings::default());
        }
        let layers = self.each()?;
        // Beneath all of them, so that a layer may say one number of a limit and leave the other as it is.
        let mut together = Config::builder().add_source(defaults()?);
        for (name, layer) in layers {
            let _: Settings = layer.clone().try_deserialize().map_err(|error| bad(&name, &error))?;
            together = together.add_source(layer);
        }
        let together = together.build().and_then(Config::try_deserialize);
        let settings: Settings = together.map_err(|error| bad(TOGETHER, &error))?;
        match settings.problems().into_iter().next() {
            None => Ok(settings),
            Some(problem) => Err(BadSettings { layer: TOGETHER.to_owned(), problem }),
        }
    }

    /// The value of each field, and the layer that it comes from.
    pub fn origins(&self) -> Result<BTreeMap<String, (String, String)>, BadSettings> {
        let mut origins = BTreeMap::new();
        for (name, layer) in [(DEFAULTS.to_owned(), defaults()?)].into_iter().chain(self.each()?) {
            collect(String::new(), layer.cache, &name, &mut origins);
        }
        Ok(origins)
    }

    fn file(&self) -> &'static str {
        FILES.iter().find(|(stage, _)| *stage == self.stage).map_or("", |(_, text)| text)
    }

    /// The lowest first, without the defaults.
    fn each(&self) -> Result<Vec<(String, Config)>, BadSettings> {
        let document = self.document.as_deref().unwrap_or("{}");
        let environment = Environment::with_prefix("APP").prefix_separator("__").separator("__").try_parsing(true);
        let layers = [
            (
                format!("infra/config/{}.toml", self.stage),
                Config::builder().add_source(File::from_str(self.file(), FileFormat::Toml)),
            ),
            ("AppConfig".to_owned(), Config::builder().add_source(File::from_str(document, FileFormat::Json))),
            (
                "environment".to_owned(),
                Config::builder().add_source(environment.source(Some(self.environment.clone()))),
            ),
        ];
        let built = layers.into_iter().map(|(name, layer)| match layer.build() {
            Ok(layer) => Ok((name, layer)),
            Err(error) => Err(bad(&name, &error)),
        });
        built.collect()
    }
}

/// By way of JSON: `Config::try_from` makes all that it has so far anew for each field.
fn defaults() -> Result<Config, BadSettings> {
    let text = serde_json::to_string(&Settings::default()).map_err(|error| bad(DEFAULTS, &error))?;
    let defaults = Config::builder().add_source(File::from_str(&text, FileFormat::Json));
    defaults.build().map_err(|error| bad(DEFAULTS, &error))
}

/// Whether a file has comments at most.
fn says_nothing(file: &str) -> bool {
    file.lines().map(str::trim_start).all(|line| line.is_empty() || line.starts_with('#'))
}

fn bad(layer: &str, error: &impl Display) -> BadSettings {
    BadSettings { layer: layer.to_owned(), problem: error.to_string() }
}

fn collect(field: String, value: Value, layer: &str, origins: &mut BTreeMap<String, (String, String)>) {
    match value.kind {
        ValueKind::Table(table) if !table.is_empty() => {
            origins.remove(&field);
            for (name, value) in table {
                let field = if field.is_empty() { name } else { format!("{field}.{name}") };
                collect(field, value, layer, origins);
            }
        }
        // Nothing is laid over what a lower layer has in there.
        ValueKind::Table(_) if origins.keys().any(|known| known.starts_with(&format!("{field}."))) => {}
        kind => {
            origins.insert(field, (kind.to_string(), layer.to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Address, Breaker, Kind, Limits, Transport};

    fn layers(document: &str, environment: &[(&str, &str)]) -> Layers {
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Layers::new("local".to_owned(), environment).with_document(Some(document.to_owned()))
    }

    #[test]
    fn every_stages_file_is_good_and_the_defaults_are_the_sandbox() {
        for stage in ["dev", "prod", "another"] {
            assert_eq!(Layers::new(stage.to_owned(), []).settings(), Ok(Settings::default()), "{stage}");
        }
        // Tests send as one customer what many do elsewhere.
        let local = Layers::new("local".to_owned(), []).settings().unwrap();
        let Settings { limits, .. } = Settings::default();
        for ((class, here), (_, there)) in local.limits.each().into_iter().zip(limits.each()) {
            assert!(here.per_minute > there.per_minute && here.burst > there.burst, "{class}");
        }
        // And an order's pauses are shorter.
        let mut providers = local.providers.clone();
        let each =
            [&mut providers.inventory, &mut providers.payments, &mut providers.shipping, &mut providers.notifications];
        for provider in each {
            assert!(provider.breaker.open_seconds < Breaker::default().open_seconds);
            provider.breaker = Breaker::default();
        }
        assert_eq!(Settings { providers, limits, ..local }, Settings::default());
    }

    #[test]
    fn the_defaults_are_good_and_the_same_beneath_a_layer_that_repeats_one_of_them() {
        assert_eq!(Settings::default().problems(), Vec::<String>::new());
        let prod = Layers::new("prod".to_owned(), []).with_document(Some(r#"{"poll_seconds": 30}"#.to_owned()));
        assert_eq!(prod.settings(), Ok(Settings::default()));
        let origins = prod.origins().unwrap();
        assert_eq!(origins["poll_seconds"], ("30".to_owned(), "AppConfig".to_owned()));
        assert_eq!(origins["limits.searches.burst"], ("30".to_owned(), "defaults".to_owned()));
        for nothing in ["services", "secrets", "ca_bundles"] {
            assert!(!origins.contains_key(nothing), "{nothing}");
        }
    }

    #[test]
    fn later_layers_lie_over_earlier_ones_field_by_field() {
        let document = r#"{"providers": {"payments": {"kind": "grpc", "service": "pay", "deadline_ms": 3000}},
            "services": {"pay": ["grpc://127.0.0.1:50051"]}}"#;
        let environment = [("APP__PROVIDERS__PAYMENTS__DEADLINE_MS", "200"), ("APP_ELSE", "1"), ("PATH", "/")];
        let layers = layers(document, &environment);
        let payments = layers.settings().unwrap().providers.payments;
        assert_eq!((payments.kind, payments.service.as_str(), payments.deadline_ms), (Kind::Grpc, "pay", 200));
        let origins = layers.origins().unwrap();
        for (field, value, layer) in [
            ("providers.payments.deadline_ms", "200", "environment"),
            ("providers.payments.kind", "grpc", "AppConfig"),
            ("providers.payments.breaker.failures", "5", "defaults"),
            ("providers.shipping.kind", "sandbox", "defaults"),
        ] {
            assert_eq!(origins[field], (value.to_owned(), layer.to_owned()), "{field}");
        }
    }

    #[test]
    fn a_limit_has_the_number_that_nobody_says_from_the_layer_below() {
        let layers =
            layers(r#"{"limits": {"searches": {"per_minute": 7}}}"#, &[("APP__LIMITS__CUSTOMER_READS__BURST", "9")]);
        let Limits { searches, customer_reads, staff_reads, .. } = layers.settings().unwrap().limits;
        let local = Layers::new("local".to_owned(), []).settings().unwrap().limits;
        assert_eq!((searches.per_minute.get(), searches.burst), (7, local.searches.burst));
        assert_eq!((customer_reads.per_minute, customer_reads.burst.get()), (local.customer_reads.per_minute, 9));
        assert_eq!(staff_reads, local.staff_reads);
        let origins = layers.origins().unwrap();
        assert_eq!(origins["limits.searches.per_minute"], ("7".to_owned(), "AppConfig".to_owned()));
        assert_eq!(origins["limits.searches.burst"].1, "infra/config/local.toml");
        assert_eq!(origins["limits.decline_costs"].1, "defaults");
        let prod = Layers::new("prod".to_owned(), [])
            .with_document(Some(r#"{"limits": {"scrapes": {"burst": 3}}}"#.to_owned()));
        let Limits { scrapes, .. } = prod.settings().unwrap().limits;
        assert_eq!((scrapes.per_minute, scrapes.burst.get()), (Limits::default().scrapes.per_minute, 3));
    }

    #[test]
    fn a_sender_is_there_before_it_is_used_and_after() {
        for kind in ["ses", "sandbox"] {
            let provider = format!(r#"{{"kind": "{kind}", "sender": "orders@example.com"}}"#);
            let settings = layers(&format!(r#"{{"providers": {{"notifications": {provider}}}}}"#), &[]).settings();
            assert_eq!(settings.unwrap().providers.notifications.sender, "orders@example.com");
        }
    }

    #[test]
    fn a_service_is_listed_or_registered() {
        let document = r#"{"providers": {"payments": {"kind": "rest", "service": "pay"}}, "services": {
            "pay": {}, "ship": {"cloud_map": "Parcels_1", "fallback": ["grpcs://a.example", "https://a.example"]},
            "stock": ["grpc://127.0.0.1:1"]}}"#;
        let layers = layers(document, &[]);
        let settings = layers.settings().unwrap();
        let registered = ["pay", "ship", "stock", "nowhere"].map(|name| settings.registered_as(name));
        assert_eq!(registered, [Some("pay"), Some("Parcels_1"), None, None]);
        assert_eq!(settings.addresses("ship", Transport::Rest), [Address::parse("https://a.example").unwrap()]);
        assert_eq!(settings.addresses("pay", Transport::Rest), []);
        let origins = layers.origins().unwrap();
        assert_eq!(origins["services.ship.cloud_map"], ("Parcels_1".to_owned(), "AppConfig".to_owned()));
        assert_eq!(origins["services.pay"].1, "AppConfig", "a table in which nothing is said");
        assert!(!origins.contains_key("services"));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_layer() {
        let payments = |rest: &str| format!(r#"{{"providers": {{"payments": {{{rest}}}}}}}"#);
        let notifications = |rest: &str| format!(r#"{{"providers": {{"notifications": {{{rest}}}}}}}"#);
        for (document, layer, named) in [
            (payments(r#""kine": "grpc""#), "AppConfig", "kine"),
            (payments(r#""kind": "soap""#), "AppConfig", "soap"),
            (payments(r#""deadline_ms": -1"#), "AppConfig", "deadline_ms"),
            (payments(r#""breaker": {"failures": 0}"#), "AppConfig", "failures"),
            ("[]".to_owned(), "AppConfig", ""),
            ("{".to_owned(), "AppConfig", ""),
            (payments(r#""deadline_ms": 5001"#), TOGETHER, "providers.payments.deadline_ms"),
            (payments(r#""kind": "grpc", "service": "pay""#), TOGETHER, "providers.payments.service"),
            (payments(r#""service": "pay""#), TOGETHER, "providers.payments.service"),
            (payments(r#""kind": "ses", "sender": "a@b""#), TOGETHER, "providers.payments.sender"),
            (payments(r#""kind": "ses""#), TOGETHER, "providers.payments.kind"),
            (notifications(r#""kind": "ses""#), TOGETHER, "providers.notifications.sender"),
            (notifications(r#""kind": "ses", "sender": "Shop <a@b>""#), TOGETHER, "providers.notifications.sender"),
            (notifications(r#""kind": "ses", "sender": "a@b@c""#), TOGETHER, "providers.notifications.sender"),
            (notifications(r#""sender": "a@""#), TOGETHER, "providers.notifications.sender"),
            (
                notifications(r#""kind": "ses", "sender": "a@b", "service": "mail""#),
                TOGETHER,
                "providers.notifications.service",
            ),
            (r#"{"services": {"Pay": []}}"#.to_owned(), TOGETHER, "services.Pay"),
            (r#"{"services": {"pay": ["grpc://10.0.0.1:1"]}}"#.to_owned(), TOGETHER, "services.pay"),
            (r#"{"services": {"pay": {"cloudmap": "pay"}}}"#.to_owned(), "AppConfig", "cloudmap"),
            (r#"{"services": {"pay": "grpc://127.0.0.1:1"}}"#.to_owned(), "AppConfig", "a list of URLs, or a table"),
            (r#"{"services": {"pay": {"cloud_map": "pay service"}}}"#.to_owned(), TOGETHER, "services.pay.cloud_map"),
            (r#"{"services": {"pay": {"fallback": ["grpc://10.0.0.1:1"]}}}"#.to_owned(), TOGETHER, "services.pay"),
            (r#"{"poll_seconds": 0}"#.to_owned(), TOGETHER, "poll_seconds"),
            (r#"{"limits": {"reads": {"burst": 1}}}"#.to_owned(), "AppConfig", "reads"),
            (r#"{"limits": {"searches": {"burst": 0}}}"#.to_owned(), "AppConfig", "searches.burst"),
            (r#"{"limits": {"searches": {"burst": 100001}}}"#.to_owned(), TOGETHER, "limits.searches.burst"),
            (r#"{"limits": {"decline_costs": 100001}}"#.to_owned(), TOGETHER, "limits.decline_costs"),
            (r#"{"ca_bundles": {"pay": "x"}}"#.to_owned(), TOGETHER, "ca_bundles.pay must be of a service"),
            (r#"{"secrets": {"pay": "stack/pay"}}"#.to_owned(), TOGETHER, "secrets.pay must be of a service"),
            (
                r#"{"services": {"pay": []}, "secrets": {"pay": "arn:aws:x"}}"#.to_owned(),
                TOGETHER,
                "secrets.pay must name",
            ),
            (r#"{"services": {"pay": []}, "secrets": {"pay": "ssm:"}}"#.to_owned(), TOGETHER, "secrets.pay must name"),
        ] {
            let bad = layers(&document, &[]).settings().unwrap_err();
            assert_eq!(bad.layer, layer, "{document}");
            assert!(bad.problem.contains(named), "{document}: {}", bad.problem);
        }
        let bad = layers("{}", &[("APP__PROVIDERS__PAYMENTS__KINE", "grpc")]).settings().unwrap_err();
        assert_eq!(bad.layer, "environment");
        assert!(bad.problem.contains("kine"), "{}", bad.problem);
    }
}
