//! Holds the layout true: who may depend on whom, and that every function is where a reader looks for it.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that panics has failed, as it should"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use toml::Table;

/// What the domain may use: data types, their text forms, what Unicode says of characters, and the error derive. No async, no
/// clock, no AWS.
const DOMAIN_MAY_USE: [&str; 9] = [
    "chrono",
    "icu_casemap",
    "icu_properties",
    "iso_currency",
    "serde",
    "serde_json",
    "thiserror",
    "unicode-normalization",
    "uuid",
];

/// What functions are made of.
const SHARED: [&str; 9] = [
    "domain",
    "application",
    "settings",
    "telemetry",
    "adapters",
    "providers",
    "reference-provider",
    "certify",
    "replay",
];

/// Programs outside the service, which know it by its contract.
const CLIENTS: [&str; 3] = ["rust", "orderctl", "consumer/rust"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(path: &str) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn manifest(path: &str) -> Table {
    read(path).parse().unwrap()
}

fn dependencies(manifest: &Table, kind: &str) -> BTreeSet<String> {
    manifest.get(kind).and_then(|table| table.as_table()).into_iter().flat_map(Table::keys).cloned().collect()
}

fn functions() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(root().join("functions"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert!(!names.is_empty());
    names
}

#[test]
fn the_domain_uses_only_what_is_pure() {
    let used = dependencies(&manifest("shared/domain/Cargo.toml"), "dependencies");
    let allowed = DOMAIN_MAY_USE.map(str::to_owned).into();
    assert!(used.is_subset(&allowed), "the domain must not use {:?}", used.difference(&allowed));
}

#[test]
fn the_domain_has_no_clock_and_no_randomness() {
    for file in rust_files(&root().join("shared/domain/src")) {
        let text = fs::read_to_string(&file).unwrap();
        for impure in ["Utc::now", "Local::now", "SystemTime", "Instant", "new_v4", "now_v7", "async fn", "std::env"] {
            assert!(!text.contains(impure), "{} uses {impure}", file.display());
        }
    }
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn dependencies_point_one_way() {
    let may_use = [
        ("domain", &[][..]),
        ("application", &["domain"]),
        ("settings", &[]),
        ("telemetry", &[]),
        ("adapters", &["domain", "application", "settings", "telemetry"]),
        ("providers", &["domain", "application", "settings", "telemetry"]),
        ("reference-provider", &["domain", "application", "providers"]),
        ("certify", &["application", "providers", "settings"]),
        ("replay", &["domain", "application", "adapters"]),
    ];
    for (name, may_use) in may_use {
        let used = dependencies(&manifest(&format!("shared/{name}/Cargo.toml")), "dependencies");
        for other in SHARED.iter().filter(|other| !may_use.contains(other)) {
            assert!(!used.contains(*other), "{name} must not depend on {other}");
        }
    }
    for name in CLIENTS {
        let used = dependencies(&manifest(&format!("clients/{name}/Cargo.toml")), "dependencies");
        let shared: Vec<_> = SHARED.iter().filter(|shared| used.contains(**shared)).collect();
        assert!(shared.iter().all(|shared| **shared == "domain"), "clients/{name} must not depend on {shared:?}");
    }
    let inside = functions().into_iter().map(|name| format!("functions/{name}"));
    for path in inside.chain(SHARED.map(|name| format!("shared/{name}"))) {
        let used = dependencies(&manifest(&format!("{path}/Cargo.toml")), "dependencies");
        assert!(!used.contains("order-client"), "{path} must not call the service from outside");
    }
    let application = dependencies(&manifest("shared/application/Cargo.toml"), "dependencies");
    assert!(!application.iter().any(|name| name.starts_with("aws") || name.starts_with("lambda")));
}

#[test]
fn no_aws_crate_comes_with_its_default_features() {
    let workspace = manifest("Cargo.toml");
    let dependencies = workspace["workspace"]["dependencies"].as_table().unwrap();
    let aws: Vec<_> = dependencies.iter().filter(|(name, _)| name.starts_with("aws-")).collect();
    assert!(!aws.is_empty());
    for (name, dependency) in aws {
        let defaults = dependency.get("default-features").and_then(toml::Value::as_bool);
        assert_eq!(defaults, Some(false), "{name} needs default-features = false");
    }
}

#[test]
fn every_dependency_gets_its_version_from_the_workspace() {
    let mut manifests: Vec<String> = functions().iter().map(|name| format!("functions/{name}/Cargo.toml")).collect();
    manifests.extend(SHARED.map(|name| format!("shared/{name}/Cargo.toml")));
    manifests.extend(CLIENTS.map(|name| format!("clients/{name}/Cargo.toml")));
    manifests.push("tests/Cargo.toml".to_owned());
    for path in manifests {
        let manifest = manifest(&path);
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{path} needs the workspace's lints");
        for kind in ["dependencies", "dev-dependencies"] {
            for (name, value) in manifest.get(kind).and_then(toml::Value::as_table).into_iter().flatten() {
                assert!(value.get("version").is_none(), "{path}: {name} has a version of its own");
            }
        }
    }
}

/// Otherwise what both need is compiled twice.
#[test]
fn the_benchmark_is_checked_by_the_profile_of_the_workspace() {
    let of = |path: &str| manifest(path)["profile"]["dev"].clone();
    assert_eq!(of("tests/bench/Cargo.toml"), of("Cargo.toml"));
}

#[test]
fn every_function_has_its_sample_event_its_place_in_the_template_and_its_row_in_the_pages() {
    let (template, page) = (read("template.yaml"), read("docs/extend.md"));
    for name in functions() {
        let package = manifest(&format!("functions/{name}/Cargo.toml"));
        assert_eq!(package["package"]["name"].as_str(), Some(name.as_str()), "a crate is named like its folder");
        assert!(root().join(format!("events/{name}.json")).exists(), "events/{name}.json is missing");
        assert!(template.contains(&format!("CodeUri: functions/{name}/")), "template.yaml does not deploy {name}");
        assert!(page.contains(&format!("\n| `{name}` |")), "docs/extend.md has no row for {name}");
    }
}

/// Every process pays at its start for what it has linked.
#[test]
fn only_functions_that_call_providers_link_their_transports_and_can_find_them() {
    let lock: Table = read("Cargo.lock").parse().unwrap();
    // By name, whatever the version. Of the workspace's own crates the lock file has what their tests need, too.
    let mut needs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in lock["package"].as_array().unwrap() {
        let names = package.get("dependencies").and_then(|list| list.as_array()).into_iter().flatten();
        let names = names.map(|name| name.as_str().unwrap().split(' ').next().unwrap().to_owned());
        needs.entry(package["name"].as_str().unwrap().to_owned()).or_default().extend(names);
    }
    for name in SHARED {
        needs.insert(name.to_owned(), dependencies(&manifest(&format!("shared/{name}/Cargo.toml")), "dependencies"));
    }
    let template = read("template.yaml");
    let mut callers = 0;
    for name in functions() {
        let direct = dependencies(&manifest(&format!("functions/{name}/Cargo.toml")), "dependencies");
        let calls = direct.contains("providers");
        callers += u32::from(calls);
        let (mut linked, mut next) = (BTreeSet::new(), Vec::from_iter(direct));
        while let Some(name) = next.pop() {
            next.extend(needs.get(&name).into_iter().flatten().filter(|needed| !linked.contains(*needed)).cloned());
            linked.insert(name);
        }
        for transport in ["tonic", "reqwest"] {
            assert_eq!(linked.contains(transport), calls, "{name} and {transport}");
        }
        let place = template.split(&format!("CodeUri: functions/{name}/\n")).nth(1).unwrap();
        let place = place.split("CodeUri: ").next().unwrap();
        // `health` says whether they can be found.
        let finds = calls || name == "health";
        assert_eq!(place.contains("DISCOVERY_NAMESPACE:"), finds, "{name}: who calls providers has to find them");
    }
    assert!(callers > 10, "{callers}");
}

/// Whoever can place an order could else have refunds and parcels of a real shop refused.
#[test]
fn orders_ask_the_sandbox_to_misbehave_in_prod_only_where_a_parameter_lets_them() {
    let template = read("template.yaml");
    let condition = "  MisbehavesOnRequest: !Or
    - !Equals [!Ref SandboxTriggers, \"true\"]
    - !And [!Equals [!Ref SandboxTriggers, \"\"], !Not [!Condition IsProd]]
";
    assert!(template.contains(condition));
    assert!(template.contains("        SANDBOX_TRIGGERS: !If [MisbehavesOnRequest, \"true\", \"false\"]\n"));
    assert_eq!(template.matches("SANDBOX_TRIGGERS").count(), 1, "one setting for all functions");
    assert!(!read("samconfig.toml").contains("SandboxTriggers"), "the default is the rule");
}

/// A name that no step gives would make what only a person can decide go on by itself for an hour.
#[test]
fn the_state_machine_goes_by_errors_that_steps_give() {
    let machine = read("infra/fulfilment.asl.json");
    let list =
        machine.split("$states.input.failed.reason in [").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let steps = read("shared/application/src/fulfilment.rs");
    let names: Vec<&str> = list.split(", ").map(|name| name.trim_matches('\'')).collect();
    assert!(names.len() > 1, "{list}");
    for name in names {
        assert!(steps.contains(&format!("=> \"{name}\"")), "no step's error is named {name}");
    }
}

/// But for the one by which an order comes about: at a replay it is there.
#[test]
fn every_decision_is_asked_at_a_replay() {
    let (asked, mut decisions) = (read("shared/replay/src/answers.rs"), 0);
    for file in rust_files(&root().join("shared/domain/src/order")) {
        let decision = file.file_stem().unwrap().to_str().unwrap();
        assert!(decision == "create" || asked.contains(&format!("{decision}::")), "a replay does not ask {decision}");
        decisions += 1;
    }
    assert!(decisions >= 18);
}

#[test]
fn every_function_whose_command_has_an_id_holds_it_still() {
    let mut held = 0;
    for name in functions() {
        let source = read(&format!("functions/{name}/src/main.rs"));
        let (code, tests) = source.split_once("#[cfg(test)]").unwrap_or((&source, ""));
        if ["idempotency_key()", ".command_id(", ".work_id(\""].iter().any(|id| code.contains(id)) {
            let test = "fn a_retry_is_found_again_whatever_the_version()";
            assert!(tests.contains(test), "functions/{name} lets a retry be taken for another request: no {test}");
            held += 1;
        }
    }
    assert!(held >= 6);
}

#[test]
fn every_function_that_answers_http_is_fed_hostile_events() {
    // It asks nothing of its request but that there is one, and everything of the AWS around it.
    const WITHOUT: [&str; 1] = ["health"];
    let mut fed = 0;
    for name in functions() {
        let source = read(&format!("functions/{name}/src/main.rs"));
        if source.contains("http::run(") && !WITHOUT.contains(&name.as_str()) {
            let test = "async fn hostile_events_are_answered()";
            assert!(source.contains(test), "functions/{name} is not fed hostile events: no {test}");
            fed += 1;
        }
    }
    assert!(fed >= 19);
}

#[test]
fn every_sample_event_belongs_to_a_function() {
    let functions = functions();
    for entry in fs::read_dir(root().join("events")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let stem = name.strip_suffix(".json").unwrap_or(&name).to_owned();
        assert!(functions.contains(&stem), "events/{name} belongs to no function");
    }
}

#[test]
fn architecture_decisions_are_numbered_without_gaps() {
    let mut names: Vec<String> = fs::read_dir(root().join("docs/adr"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    for (number, name) in (1..).zip(&names) {
        assert!(name.starts_with(&format!("{number:04}-")), "{name} should be number {number:04}");
    }
}

/// Whoever reads what has changed knows of which version, and since when.
#[test]
fn the_newest_version_is_the_crates_and_the_clients_and_has_a_date() {
    let changelog = read("CHANGELOG.md");
    let mut headings = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    let newest = headings.find(|heading| *heading != "Unreleased").unwrap();
    let (version, date) = newest.split_once(" – ").unwrap_or_else(|| panic!("{newest} has no date"));
    date.parse::<chrono::NaiveDate>().unwrap_or_else(|error| panic!("{date}: {error}"));
    assert_eq!(manifest("Cargo.toml")["workspace"]["package"]["version"].as_str(), Some(version));
    let package: serde_json::Value = serde_json::from_str(&read("clients/typescript/package.json")).unwrap();
    assert_eq!(package["version"], version, "clients/typescript/package.json");
}
