//! `GET /console` and everything below it: the page for staff, whose files are part of this binary.
//!
//! No token needed: there is nothing in the page but how to ask for one, and how to ask the API with it. What is no file is the
//! page, which knows its own paths; 404 for a file that there is none of. `config.json` says where to sign in.

use adapters::{
    http::{self, ApiRequest, Open, Problem},
    lambda,
};
use lambda_http::{Body, Response};
use serde::Serialize;
use url::Url;

/// A file of `assets`, as it is and as most clients want it.
struct Asset {
    path: &'static str,
    digest: &'static str,
    bytes: &'static [u8],
    deflated: &'static [u8],
}

include!(concat!(env!("OUT_DIR"), "/assets.rs"));

const PAGE: &str = "index.html";
const CONFIG: &str = "config.json";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    lambda::init(env!("CARGO_PKG_NAME"));
    let console = Console::new(Config {
        stage: lambda::variable("STAGE")?,
        sandbox: lambda::variable("SANDBOX_TRIGGERS")? == "true",
        sign_in: SignIn {
            client_id: lambda::variable("CONSOLE_CLIENT_ID")?,
            authorize_url: lambda::variable("CONSOLE_AUTHORIZE_URL")?,
            token_url: lambda::variable("CONSOLE_TOKEN_URL")?,
            logout_url: lambda::variable("CONSOLE_LOGOUT_URL")?,
            scope: lambda::variable("CONSOLE_SCOPE")?,
        },
    })?;
    http::run(&Open, async |request| console.handle(&request)).await
}

/// What the page has to know of where it is. Nothing in it is secret.
#[derive(Debug, Serialize)]
struct Config {
    stage: String,
    /// Whether orders can ask the built-in providers to misbehave.
    sandbox: bool,
    sign_in: SignIn,
}

/// A public client of the issuer of tokens: it has no secret, and proves by PKCE that it is who has asked.
#[derive(Debug, Serialize)]
struct SignIn {
    /// Empty where nobody has said how to sign in with an issuer of one's own.
    client_id: String,
    authorize_url: String,
    token_url: String,
    /// Empty for an issuer that has no such page.
    logout_url: String,
    scope: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the console's token URL is no URL that begins with https:// or http://")]
struct NoTokenUrl;

struct Console {
    config: Config,
    policy: String,
}

impl Console {
    fn new(config: Config) -> Result<Self, NoTokenUrl> {
        let issuer = match config.sign_in.token_url.as_str() {
            "" => String::new(),
            url => {
                let url = Url::parse(url).ok().filter(|url| matches!(url.scheme(), "https" | "http"));
                format!(" {}", url.ok_or(NoTokenUrl)?.origin().ascii_serialization())
            }
        };
        let policy = format!(
            "default-src 'none'; script-src 'self' '{IMPORT_MAP}'; style-src 'self'; img-src 'self'; \
             connect-src 'self'{issuer}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        );
        Ok(Self { config, policy })
    }

    fn handle(&self, request: &ApiRequest) -> Result<Response<Body>, Problem> {
        let path = request.path_parameter("proxy");
        let answer = if path == CONFIG {
            http::json(200, &self.config)?
        } else {
            file(asset(&path).ok_or_else(|| Problem::not_found("file"))?, request)?
        };
        let answer = http::with_header(answer, "content-security-policy", &self.policy);
        let answer = http::with_header(answer, "cross-origin-opener-policy", "same-origin");
        let answer = http::with_header(answer, "referrer-policy", "no-referrer");
        Ok(http::with_header(answer, "x-content-type-options", "nosniff"))
    }
}

/// The file at a path; the page at one that names no file.
fn asset(path: &str) -> Option<&'static Asset> {
    let is_file = path.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let path = if is_file { path } else { PAGE };
    ASSETS.iter().find(|asset| asset.path == path)
}

fn file(asset: &Asset, request: &ApiRequest) -> Result<Response<Body>, Problem> {
    // Weak, because it is one for both forms of the file.
    let tag = format!("W/\"{}\"", asset.digest);
    let lists = |header, wanted: &str| {
        request.header(header).is_some_and(|list| list.split(',').any(|one| one.trim() == wanted))
    };
    let answer = if lists("if-none-match", &tag) {
        http::bytes(304, content_type(asset.path), &[])?
    } else if lists("accept-encoding", "deflate") {
        let answer = http::bytes(200, content_type(asset.path), asset.deflated)?;
        http::with_header(answer, "content-encoding", "deflate")
    } else {
        http::bytes(200, content_type(asset.path), asset.bytes)?
    };
    // What others have written has its version in its name.
    let is_for_ever = asset.path.starts_with("vendor/") && extension(asset.path) != "txt";
    let kept = if is_for_ever { "public, max-age=31536000, immutable" } else { "no-cache" };
    let answer = http::with_header(answer, "cache-control", kept);
    let answer = http::with_header(answer, "etag", &tag);
    Ok(http::with_header(answer, "vary", "accept-encoding"))
}

fn content_type(path: &str) -> &'static str {
    match extension(path) {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    }
}

fn extension(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fmt::Write, future::ready};

    use chrono::Utc;
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};

    use super::*;

    const SAMPLE: &str = include_str!("../../../events/console.json");

    fn console() -> Console {
        let sign_in = SignIn {
            client_id: "c-1".to_owned(),
            authorize_url: "https://id.example/authorize".to_owned(),
            token_url: "https://tokens.id.example:8443/oauth2/token?x=1".to_owned(),
            logout_url: String::new(),
            scope: "openid".to_owned(),
        };
        Console::new(Config { stage: "dev".to_owned(), sandbox: true, sign_in }).unwrap()
    }

    fn ask(path: &str, headers: &[(&str, &str)]) -> Result<Response<Body>, Problem> {
        let mut event: Value = serde_json::from_str(SAMPLE).unwrap();
        event["pathParameters"] = if path.is_empty() { Value::Null } else { json!({ "proxy": path }) };
        event["headers"] = headers.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        console().handle(&ApiRequest::from_event(&event.to_string(), Utc::now()).unwrap())
    }

    fn header<'a>(answer: &'a Response<Body>, name: &str) -> &'a str {
        answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn the_sample_gets_the_page() {
        let answer = console().handle(&ApiRequest::from_event(SAMPLE, Utc::now()).unwrap()).unwrap();
        assert_eq!((answer.status().as_u16(), header(&answer, "content-type")), (200, "text/html; charset=utf-8"));
        for path in ["", "orders", "orders/7e108758-d8c7-5ab4-90d5-4d493c88ba33", "<script>"] {
            let page = ask(path, &[]).unwrap();
            assert!(page.body().starts_with(b"<!doctype html>"), "{path}");
        }
    }

    #[test]
    fn a_file_that_there_is_none_of_is_not_found() {
        for path in ["app.ts", "vendor/preact.mjs", "../Cargo.toml", ".", "..", "orders/x.js", "index.html/"] {
            let found = ask(path, &[]).map(|answer| answer.body().starts_with(b"<!doctype html>"));
            match found {
                Ok(is_page) => assert!(is_page && path.ends_with('/'), "{path}"),
                Err(problem) => assert_eq!(problem.status, 404, "{path}"),
            }
        }
    }

    #[test]
    fn every_file_comes_as_it_is_or_smaller_and_only_once() {
        for asset in ASSETS {
            let plain = ask(asset.path, &[]).unwrap();
            assert_eq!(
                (plain.body().as_ref(), header(&plain, "content-encoding")),
                (asset.bytes, ""),
                "{}",
                asset.path
            );
            let small = ask(asset.path, &[("accept-encoding", "gzip, deflate, br")]).unwrap();
            let whole = miniz_oxide::inflate::decompress_to_vec_zlib(small.body()).unwrap();
            assert_eq!(
                (whole.as_slice(), header(&small, "content-encoding")),
                (asset.bytes, "deflate"),
                "{}",
                asset.path
            );
            let tag = header(&small, "etag");
            let again = ask(asset.path, &[("if-none-match", tag), ("accept-encoding", "deflate")]).unwrap();
            assert_eq!((again.status().as_u16(), again.body().len(), header(&again, "etag")), (304, 0, tag));
            assert_eq!(ask(asset.path, &[("if-none-match", "\"other\"")]).unwrap().status(), 200);
        }
    }

    #[test]
    fn the_console_stays_below_100_kilobytes() {
        let served = ASSETS.iter().filter(|asset| extension(asset.path) != "txt");
        let bytes: usize = served.map(|asset| asset.deflated.len()).sum();
        assert!(bytes < 100_000, "{bytes} bytes");
    }

    #[test]
    fn only_what_has_its_version_in_its_name_is_kept_for_ever() {
        for asset in ASSETS {
            let answer = ask(asset.path, &[]).unwrap();
            let has_version = asset.path.split(['-', '/']).any(|part| part.matches('.').count() >= 3);
            assert_eq!(header(&answer, "cache-control").contains("immutable"), has_version, "{}", asset.path);
        }
    }

    #[test]
    fn the_policy_lets_in_nothing_but_this_origin_and_the_issuer() {
        for path in ["", "app.js", CONFIG] {
            let answer = ask(path, &[]).unwrap();
            let policy = header(&answer, "content-security-policy");
            let sources: BTreeSet<&str> = policy.split([' ', ';']).filter(|word| word.contains(['\'', ':'])).collect();
            let map = format!("'{IMPORT_MAP}'");
            assert_eq!(
                sources,
                BTreeSet::from(["'none'", "'self'", &map, "https://tokens.id.example:8443"]),
                "{policy}"
            );
            assert!(policy.starts_with("default-src 'none'; "), "{policy}");
            assert_eq!(header(&answer, "x-content-type-options"), "nosniff");
            assert_eq!(header(&answer, "referrer-policy"), "no-referrer");
        }
    }

    #[test]
    fn the_page_has_no_script_and_no_style_of_its_own_but_its_import_map() {
        let page = ask("", &[]).unwrap();
        let page = std::str::from_utf8(page.body()).unwrap();
        let scripts: Vec<&str> = page.split("<script").skip(1).filter(|script| !script.contains(" src=")).collect();
        assert_eq!(scripts.len(), 1);
        let map = scripts[0].strip_prefix(" type=\"importmap\">").unwrap().split("</script>").next().unwrap();
        let map: Value = serde_json::from_str(map).unwrap();
        for (name, path) in map["imports"].as_object().unwrap() {
            let path = path.as_str().unwrap().strip_prefix("/console/").unwrap();
            assert!(asset(path).is_some(), "{name}");
        }
        assert!(!page.contains("<style") && !page.contains(" style=") && !page.contains(" on"), "{page}");
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    #[test]
    fn what_others_have_written_is_as_they_published_it() {
        let sums = std::str::from_utf8(asset("vendor/SHA256SUMS.txt").unwrap().bytes).unwrap();
        let sums: BTreeSet<(String, &str)> =
            sums.lines().filter_map(|line| line.split_once("  ")).map(|(sum, name)| (sum.to_owned(), name)).collect();
        let vendored = ASSETS.iter().filter_map(|asset| Some((asset.path.strip_prefix("vendor/")?, asset.bytes)));
        let vendored = vendored.filter(|(name, _)| extension(name) != "txt");
        assert_eq!(sums, vendored.map(|(name, bytes)| (hex(&Sha256::digest(bytes)), name)).collect());
        let notice = std::str::from_utf8(asset("vendor/NOTICE.txt").unwrap().bytes).unwrap();
        for (_, name) in sums {
            assert!(notice.contains(name), "{name}");
        }
    }

    #[test]
    fn the_configuration_is_what_the_page_needs_and_is_not_kept() {
        let answer = ask(CONFIG, &[]).unwrap();
        let told: Value = serde_json::from_slice(answer.body()).unwrap();
        let sign_in = json!({"client_id": "c-1", "authorize_url": "https://id.example/authorize", "logout_url": "", "scope": "openid",
            "token_url": "https://tokens.id.example:8443/oauth2/token?x=1"});
        assert_eq!(told, json!({"stage": "dev", "sandbox": true, "sign_in": sign_in}));
        assert_eq!(header(&answer, "cache-control"), "");
    }

    #[test]
    fn without_an_issuer_there_is_nowhere_to_sign_in_and_a_wrong_one_stops_the_function() {
        let of = |token_url: &str| {
            let mut config = console().config;
            token_url.clone_into(&mut config.sign_in.token_url);
            Console::new(config).map(|console| console.policy)
        };
        assert!(of("").unwrap().contains("connect-src 'self';"));
        for wrong in ["tokens", "javascript:alert(1)", "https:// ;script-src *"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn hostile_events_are_answered() {
        let console = console();
        http::hostile::is_answered(SAMPLE, |request| ready(console.handle(&request)), || ()).await;
    }
}
