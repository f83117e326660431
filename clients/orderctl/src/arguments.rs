//! What can be typed.

use chrono::{DateTime, Utc};
use clap::{ArgGroup, Parser, Subcommand, ValueEnum};
use order_client::{At, Currency, Method, OrderId, Period, ProductId, WhichLetters, is_loopback};
use reqwest::Url;
use uuid::Uuid;

use crate::scenario::Scenario;

const ALWAYS: &str = "For all commands";

const AFTER: &str = "\
A profile (~/.config/orderctl/<stage>.toml) says where the stage is and who is signed in; ORDERCTL_API_URL and ORDERCTL_TOKEN go before it.
A URL of its own gets no token of the profile's, and counts as prod unless it is the profile's or of this machine.
Times are in UTC. Exit status: 0 it is done, 1 it is not or nobody knows, 2 it was not understood.
Where nobody knows, it says under which --key the same may be sent again, and is done once.";

/// Finds orders of the order service, shows where they are, and helps those that are stuck
#[derive(Debug, Parser)]
#[command(name = "orderctl", version, after_help = AFTER)]
pub(crate) struct Arguments {
    /// Which deployment
    #[arg(long, global = true, value_name = "NAME", default_value = "local", value_parser = stage, help_heading = ALWAYS)]
    pub(crate) stage: String,
    /// Answer with one JSON document, in the words of the API's contract
    #[arg(long, global = true, help_heading = ALWAYS)]
    pub(crate) json: bool,
    /// Do not ask before anything is changed in prod
    #[arg(long, global = true, help_heading = ALWAYS)]
    pub(crate) yes: bool,
    /// Change under this Idempotency-Key: what was done under it before is not done again
    #[arg(long, global = true, value_name = "UUID", help_heading = ALWAYS)]
    pub(crate) key: Option<Uuid>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Sign in, and keep that in the stage's profile; without options, to the local stack of this checkout
    Login(Login),
    /// Give the profile's tokens back; where the stage is, it keeps
    Logout,
    /// Find orders by a part of their id, or of their customer's name or e-mail address
    Find {
        /// Three characters at least, or a Chinese one
        text: String,
        /// So many at most
        #[arg(long, default_value_t = 20, value_parser = rows)]
        limit: u32,
    },
    /// Show an order and, for staff, its books beside the providers'
    Show {
        /// Its id, in full
        #[arg(value_parser = order_id)]
        order: OrderId,
        /// As it was at this version or time, with its events up to then
        #[arg(long, value_name = "VERSION|TIME")]
        at: Option<At>,
    },
    /// Tell an order's story as it happens, until nothing more comes by itself
    Follow {
        /// Its id, in full
        #[arg(value_parser = order_id)]
        order: OrderId,
        /// For so many seconds at most
        #[arg(long = "for", value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=86_400))]
        seconds: u32,
    },
    /// Tell an order's story, and what comes next
    Timeline {
        /// Its id, in full
        #[arg(value_parser = order_id)]
        order: OrderId,
    },
    /// List the orders that wait for a person: where they are stuck, why and since when
    Attention {
        /// So many at most
        #[arg(long, default_value_t = 100, value_parser = rows)]
        limit: u32,
    },
    /// Let a stuck order go on, or all that are stuck at a step
    #[command(group(ArgGroup::new("which").required(true).args(["order", "step"])))]
    Resume {
        /// Its id, in full
        #[arg(value_parser = order_id)]
        order: Option<OrderId>,
        /// All that are stuck at this step
        #[arg(long)]
        step: Option<String>,
        /// Of those, only the ones with this error
        #[arg(long, conflicts_with = "order")]
        error: Option<String>,
        /// Only say which ones
        #[arg(long, conflicts_with = "order")]
        dry_run: bool,
        /// Why, for the order's history
        #[arg(long)]
        reason: String,
    },
    /// Let a stuck order go on without the step that it is stuck at; for supervisors
    Skip {
        /// Its id, in full
        #[arg(value_parser = order_id)]
        order: OrderId,
        /// Only if it is stuck at this step; at whichever it is stuck, unless it is said
        #[arg(long)]
        step: Option<String>,
        /// Why, for the order's history
        #[arg(long)]
        reason: String,
    },
    /// Give back a payment: so much of it, as in 19.99 CNY, or what is left
    Refund {
        /// Its id, in full
        #[arg(value_parser = order_id)]
        order: OrderId,
        /// In the currency's own unit
        #[arg(requires = "currency")]
        amount: Option<String>,
        /// By its ISO 4217 code
        #[arg(value_parser = currency)]
        currency: Option<Currency>,
        /// Why; the customer reads it
        #[arg(long)]
        reason: String,
        /// What only staff read
        #[arg(long)]
        note: Option<String>,
    },
    /// Cancel an order; what was done for it is undone
    Cancel {
        /// Its id, in full
        #[arg(value_parser = order_id)]
        order: OrderId,
        /// Why; the customer reads it
        #[arg(long)]
        reason: String,
        /// What only staff read
        #[arg(long)]
        note: Option<String>,
    },
    /// Place an order that goes wrong in one of the sandbox's ways, and follow it; never in prod
    Trigger {
        /// What goes wrong
        #[arg(value_enum)]
        scenario: Scenario,
        /// Of this product, one
        #[arg(long, value_name = "ID", default_value = "cup-celadon", value_parser = product_id)]
        product: ProductId,
    },
    /// Count what was placed and what became of it, and how much money that was
    Stats {
        /// 30 days ago unless it is said; by the hour, 24 hours ago
        #[arg(long, value_name = "TIME")]
        from: Option<DateTime<Utc>>,
        /// Now unless it is said
        #[arg(long, value_name = "TIME")]
        to: Option<DateTime<Utc>>,
        #[arg(long, value_enum, default_value_t = By::Day)]
        by: By,
    },
    /// List the catalogue with its stock
    Products {
        /// So many at most
        #[arg(long, default_value_t = 1_000, value_parser = rows)]
        limit: u32,
    },
    /// List what a consumer has not been able to handle; redrive and discard end that
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    DeadLetters {
        #[command(subcommand)]
        deed: Option<LettersDeed>,
        #[command(flatten)]
        list: ListLetters,
    },
    /// Send any request, and print what comes back
    Api {
        /// GET, POST, PUT or DELETE
        #[arg(value_parser = method)]
        method: Method,
        /// Such as /api/v1/orders?status=confirmed
        path: String,
        /// JSON, or - for standard input
        body: Option<String>,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LettersDeed {
    /// List them, as does no word at all
    List(ListLetters),
    /// Have them handled after all, once the cause is mended
    Redrive {
        #[command(flatten)]
        change: ChangeLetters,
        /// So many are begun in a second; 10 unless it is said
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..=50))]
        pace: Option<u32>,
    },
    /// Give them up, so that the consumer never handles them; for supervisors
    Discard {
        #[command(flatten)]
        change: ChangeLetters,
        /// The last of its events, as the list shows it: if more waits by now, it is not given up
        #[arg(long, value_name = "NUMBER", conflicts_with_all = ["error", "all"], value_parser = clap::value_parser!(u64).range(1..))]
        last_sequence: Option<u64>,
    },
}

#[derive(Debug, clap::Args)]
pub(crate) struct ListLetters {
    /// Who could not handle them: project-orders, publish-events or start-fulfilment
    #[arg(long, value_name = "NAME", required = true)]
    pub(crate) consumer: Option<String>,
    /// Only those with this error
    #[arg(long, value_name = "NAME")]
    pub(crate) error: Option<String>,
    /// Those that were redriven or discarded: by whom, when and why
    #[arg(long)]
    pub(crate) settled: bool,
    /// So many at most
    #[arg(long, default_value_t = 100, value_parser = rows)]
    pub(crate) limit: u32,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ChangeLetters {
    /// Who could not handle them: project-orders, publish-events or start-fulfilment
    #[arg(long, value_name = "NAME")]
    pub(crate) consumer: String,
    #[command(flatten)]
    pub(crate) chosen: ChosenLetters,
    /// Why; it is kept with them for a year
    #[arg(long)]
    pub(crate) reason: String,
    /// Only say how many these are
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// One of the three, so that nobody means all by accident.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ChosenLetters {
    /// This one, as the list names it
    #[arg(long)]
    id: Option<String>,
    /// Those with this error
    #[arg(long, value_name = "NAME")]
    error: Option<String>,
    /// All
    #[arg(long)]
    all: bool,
}

impl From<ChosenLetters> for WhichLetters {
    fn from(ChosenLetters { id, error, all }: ChosenLetters) -> Self {
        match (id, error, all) {
            (Some(id), ..) => Self::one(id),
            (None, Some(error), _) => Self::with_error(error),
            // There is one of the three.
            (None, None, _) => Self::all(),
        }
    }
}

#[derive(Debug, clap::Args)]
pub(crate) struct Login {
    /// Who; staff-1 on the local stack
    #[arg(long = "as", value_name = "USER")]
    pub(crate) user: Option<String>,
    /// The stack's output `ApiUrl`
    #[arg(long, value_name = "URL", requires_all = ["client_id", "region"], value_parser = api_url)]
    pub(crate) api_url: Option<String>,
    /// The stack's output `UserPoolClientId`
    #[arg(long, value_name = "ID", requires = "api_url")]
    pub(crate) client_id: Option<String>,
    /// Of the user pool
    #[arg(long, value_name = "NAME", requires = "api_url", value_parser = region)]
    pub(crate) region: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    Hour,
    Day,
}

impl From<By> for Period {
    fn from(by: By) -> Self {
        match by {
            By::Hour => Self::Hour,
            By::Day => Self::Day,
        }
    }
}

/// A stage's name becomes that of a file.
fn stage(text: &str) -> Result<String, String> {
    if (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_') {
        Ok(text.to_owned())
    } else {
        Err("a stage's name has 1 to 64 letters, digits and - _".to_owned())
    }
}

/// Whatever is sent there has a token with it. A user's name in it, as in `http://localhost:x@elsewhere`, only misleads.
pub(crate) fn api_url(text: &str) -> Result<String, String> {
    let safe = |url: &Url| url.scheme() == "https" || url.scheme() == "http" && is_loopback(text);
    let plain = |url: &Url| url.username().is_empty() && url.password().is_none();
    let whole = |url: &Url| url.query().is_none() && url.fragment().is_none();
    if Url::parse(text).is_ok_and(|url| safe(&url) && plain(&url) && whole(&url)) {
        Ok(text.to_owned())
    } else {
        Err("a URL with https, unless it is of this machine, and without user, query and fragment".to_owned())
    }
}

/// A region's name becomes a part of the host that is told the password.
fn region(text: &str) -> Result<String, String> {
    if text.contains('-') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-') {
        Ok(text.to_owned())
    } else {
        Err("a region is named as eu-central-1 is".to_owned())
    }
}

fn order_id(text: &str) -> Result<OrderId, String> {
    OrderId::parse(text)
        .ok_or_else(|| "an order's id is a UUID, and written out; `orderctl find` takes a part of it".to_owned())
}

fn product_id(text: &str) -> Result<ProductId, String> {
    ProductId::parse(text).map_err(|error| error.to_string())
}

fn currency(text: &str) -> Result<Currency, String> {
    Currency::parse_any(text).map_err(|error| error.to_string())
}

fn rows(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|rows| (1..=10_000).contains(rows)).ok_or_else(|| "from 1 to 10000".to_owned())
}

fn method(text: &str) -> Result<Method, String> {
    match text.to_uppercase().as_str() {
        "GET" => Ok(Method::GET),
        "POST" => Ok(Method::POST),
        "PUT" => Ok(Method::PUT),
        "DELETE" => Ok(Method::DELETE),
        _ => Err("GET, POST, PUT or DELETE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, error::ErrorKind};

    use super::*;

    const ID: &str = "7e108758-d8c7-5ab4-90d5-4d493c88ba33";

    fn parse(line: &str) -> Result<Arguments, ErrorKind> {
        Arguments::try_parse_from(line.replace("ID", ID).split_whitespace()).map_err(|error| error.kind())
    }

    #[test]
    fn the_definition_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_for_all_commands_may_come_after_them() {
        let arguments = parse("orderctl attention --json --stage dev --yes").unwrap();
        assert!(arguments.json && arguments.yes && arguments.stage == "dev");
        assert_eq!(parse("orderctl attention").unwrap().stage, "local");
        assert_eq!(parse("orderctl attention --stage ../prod").unwrap_err(), ErrorKind::ValueValidation);
    }

    #[test]
    fn an_order_is_named_by_its_whole_id() {
        for command in ["show", "follow", "timeline", "skip --reason x", "cancel --reason x", "refund --reason x"] {
            parse(&format!("orderctl {command} ID")).unwrap();
            let short = parse(&format!("orderctl {command} 7e108758")).unwrap_err();
            assert_eq!(short, ErrorKind::ValueValidation, "{command}");
        }
    }

    #[test]
    fn one_order_or_all_of_a_step_are_resumed() {
        for good in ["ID --reason x", "--step refund-payment --reason x", "--step s --error E --dry-run --reason x"] {
            parse(&format!("orderctl resume {good}")).unwrap();
        }
        for bad in ["--reason x", "ID", "ID --step s --reason x", "ID --error E --reason x", "ID --dry-run --reason x"]
        {
            parse(&format!("orderctl resume {bad}")).unwrap_err();
        }
    }

    #[test]
    fn dead_letters_are_listed_unless_it_is_said_which_of_them_are_changed() {
        for good in [
            "--consumer project-orders",
            "list --consumer project-orders --error Unreadable --settled --limit 5",
            "redrive --consumer c --id order/ID --reason x",
            "redrive --consumer c --error E --reason x --pace 50 --dry-run --json",
            "discard --consumer c --all --reason x --yes",
            "discard --consumer c --id order/ID --last-sequence 7 --reason x",
        ] {
            parse(&format!("orderctl dead-letters {good}")).unwrap();
        }
        for bad in [
            "",
            "list",
            "--consumer c redrive --consumer c --all --reason x",
            "redrive --consumer c --reason x",
            "redrive --consumer c --all",
            "redrive --all --reason x",
            "redrive --consumer c --all --error E --reason x",
            "redrive --consumer c --all --reason x --pace 51",
            "discard --consumer c --all --reason x --pace 5",
            "discard --consumer c --all --last-sequence 7 --reason x",
            "discard --consumer c --id order/ID --last-sequence 0 --reason x",
            "redrive --consumer c --id order/ID --last-sequence 7 --reason x",
        ] {
            parse(&format!("orderctl dead-letters {bad}")).unwrap_err();
        }
        let line = "orderctl dead-letters redrive --consumer c --error E --reason x";
        let Command::DeadLetters { deed: Some(LettersDeed::Redrive { change, .. }), .. } = parse(line).unwrap().command
        else {
            panic!()
        };
        assert_eq!(WhichLetters::from(change.chosen), WhichLetters::with_error("E"));
    }

    #[test]
    fn an_amount_has_a_currency() {
        let Command::Refund { amount, currency, .. } =
            parse("orderctl refund ID 19.99 CNY --reason x").unwrap().command
        else {
            panic!()
        };
        assert_eq!((amount.as_deref(), currency.unwrap().code()), (Some("19.99"), "CNY"));
        assert_eq!(parse("orderctl refund ID 19.99 --reason x").unwrap_err(), ErrorKind::MissingRequiredArgument);
        assert_eq!(parse("orderctl refund ID 19.99 CNY").unwrap_err(), ErrorKind::MissingRequiredArgument);
    }

    #[test]
    fn a_deployment_is_named_with_all_that_signing_in_takes() {
        parse("orderctl login").unwrap();
        parse("orderctl login --as customer-1").unwrap();
        parse("orderctl login --stage dev --api-url https://x --client-id c --region eu-central-1 --as a@b.example")
            .unwrap();
        for bad in [
            "--api-url https://x",
            "--client-id c",
            "--api-url http://x --client-id c --region eu-central-1",
            "--api-url http://localhost:1@x --client-id c --region eu-central-1",
            "--api-url https://x?y= --client-id c --region eu-central-1",
            "--api-url https://x --client-id c --region evil.example/",
        ] {
            parse(&format!("orderctl login {bad}")).unwrap_err();
        }
    }

    #[test]
    fn a_key_is_a_uuid_and_for_any_command() {
        for command in ["refund ID 1 CNY --reason x", "skip ID --step s --reason x", "api POST /x {}"] {
            let arguments = parse(&format!("orderctl {command} --key ID")).unwrap();
            assert_eq!(arguments.key.map(|key| key.to_string()).as_deref(), Some(ID));
            let bad = parse(&format!("orderctl {command} --key again")).unwrap_err();
            assert_eq!(bad, ErrorKind::ValueValidation);
        }
    }

    #[test]
    fn every_scenario_has_a_name_and_a_method_is_one_of_http() {
        parse("orderctl trigger refund-fails").unwrap();
        parse("orderctl trigger no-such").unwrap_err();
        let Command::Api { method, .. } = parse("orderctl api get /health").unwrap().command else { panic!() };
        assert_eq!(method, Method::GET);
        parse("orderctl api BREW /health").unwrap_err();
    }
}
