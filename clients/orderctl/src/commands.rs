//! What each command does.

use std::{
    env,
    io::{self, BufRead, IsTerminal, Read, Write},
    pin::pin,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use order_client::{
    Accepted, Address, Answer, At, Cancel, Currency, CustomerId, DeadLettersDiscarded, DeadLettersRedriven,
    DeadLettersWanted, DiscardDeadLetters, Error, FailedLetter, Method, Money, Order, OrderClient, OrderId,
    OrderPlaced, OrdersResumed, OrdersWanted, Period, PlaceOrder, ProductId, RedriveDeadLetters, Refund,
    RefundAccepted, Request, RequestedItem, ResumeOrders, Timeline,
};
use secrecy::SecretString;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

use crate::{
    arguments::{self, Arguments, ChangeLetters, Command, LettersDeed, ListLetters, Login},
    failure::Failure,
    pool::{Pool, SignedIn},
    profile::{LocalStack, Profile, Profiles},
    render::{self, Style},
    scenario::Scenario,
};

/// The rows of a page at most, as the contract has it.
const PAGE_MAX: u32 = 100;

/// So many events of one order are shown at most.
const EVENTS_MAX: usize = 10_000;

/// A call lets 500 orders go on at most. What is stuck again at once would be let go on for ever.
const RESUMES_MAX: usize = 20;

/// A call works for 20 seconds at most. At its usual pace these are some 150,000 dead letters.
const LETTERS_CALLS_MAX: usize = 1_000;

/// How often an order is looked at that is followed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// An order that was placed to go wrong has done so by then.
const TRIGGER_MAX: Duration = Duration::from_mins(5);

/// Whoever has waited for so long may give up, and has to know the key by then.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than any request may have.
const BODY_MAX: u64 = 1024 * 1024;

/// Longer than any password that Cognito takes.
const SECRET_MAX: u64 = 4_096;

pub(crate) async fn run(arguments: Arguments, style: Style) -> Result<(), Failure> {
    let Arguments { stage, json, yes, key, command } = arguments;
    let out = Out { json, style };
    let profiles = Profiles::of_environment()?;
    let desk = || Desk::open(out, profiles.clone(), &stage, yes, key);
    match command {
        Command::Login(login) => sign_in(out, &profiles, &stage, login).await,
        Command::Logout => sign_out(out, &profiles, &stage).await,
        Command::Find { text, limit } => desk()?.find(&text, limit).await,
        Command::Show { order, at } => desk()?.show(order, at).await,
        Command::Follow { order, seconds } => desk()?.follow(order, Duration::from_secs(seconds.into())).await,
        Command::Timeline { order } => desk()?.timeline(order).await,
        Command::Attention { limit } => desk()?.attention(limit).await,
        Command::Resume { order: Some(order), reason, .. } => desk()?.resume(order, &reason).await,
        Command::Resume { step, error, dry_run, reason, .. } => {
            // There is one: it is asked for where no order is named.
            let step = step.unwrap_or_default();
            desk()?.resume_all(ResumeOrders { step, error, reason, dry_run }).await
        }
        Command::Skip { step: None, .. } if key.is_some() => Err(Failure::Usage(
            "by now the order may be stuck at another step: with --key, --step says which".to_owned(),
        )),
        Command::Skip { order, step, reason } => desk()?.skip(order, step, &reason).await,
        Command::Refund { amount: None, .. } if key.is_some() => {
            Err(Failure::Usage("by now another amount may be left: with --key, the amount has to be said".to_owned()))
        }
        Command::Refund { order, amount, currency, reason, note } => {
            let amount = amount.zip(currency).map(|(amount, currency)| money(&amount, currency)).transpose()?;
            desk()?.refund(order, amount, reason, note).await
        }
        Command::Cancel { order, reason, note } => desk()?.cancel(order, &Cancel { reason, note }).await,
        Command::Trigger { scenario, product } => desk()?.trigger(scenario, product).await,
        Command::Stats { from, to, by } => desk()?.stats(by.into(), from, to).await,
        Command::Products { limit } => desk()?.products(limit).await,
        Command::DeadLetters { deed: None, list }
        | Command::DeadLetters { deed: Some(LettersDeed::List(list)), .. } => desk()?.letters(list).await,
        Command::DeadLetters { deed: Some(LettersDeed::Redrive { change, pace }), .. } => {
            desk()?.redrive(change, pace).await
        }
        Command::DeadLetters { deed: Some(LettersDeed::Discard { change, last_sequence }), .. } => {
            desk()?.discard(change, last_sequence).await
        }
        Command::Api { method, path, body } => desk()?.api(method, path, body).await,
    }
}

/// Where answers go.
#[derive(Clone, Copy)]
struct Out {
    json: bool,
    style: Style,
}

impl Out {
    /// One document for scripts, or words for people.
    fn answer(self, json: &impl Serialize, text: &str) -> Result<(), Failure> {
        if !self.json {
            return self.tell(text);
        }
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, json).map_err(io::Error::from)?;
        Ok(writeln!(out)?)
    }

    /// For people only, beside the answer.
    fn warn(self, text: &str) {
        if !self.json {
            // Whoever cannot be warned still waits for the answer.
            let _ = writeln!(io::stderr().lock(), "{}", render::printable(text));
        }
    }

    /// For people only.
    fn tell(self, text: &str) -> Result<(), Failure> {
        if self.json {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        write!(out, "{text}")?;
        Ok(out.flush()?)
    }
}

async fn sign_in(out: Out, profiles: &Profiles, stage: &str, login: Login) -> Result<(), Failure> {
    let Login { user, api_url, client_id, region } = login;
    let known = profiles.load(stage)?;
    let (place, password) = match (api_url.zip(client_id).zip(region), known) {
        (Some(((api_url, client_id), region)), known) => {
            let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
            let pool_url = format!("https://cognito-idp.{region}.{domain}");
            let user = known.map(|profile| profile.user).unwrap_or_default();
            (Profile { api_url, pool_url, client_id, user, tokens: None }, None)
        }
        (None, _) if stage == "local" => {
            let cannot = |source| Failure::File { path: ".".into(), source };
            let LocalStack { api_url, pool_url, client_id, password } =
                LocalStack::around(&env::current_dir().map_err(cannot)?)?;
            (Profile { api_url, pool_url, client_id, user: "staff-1".to_owned(), tokens: None }, Some(password))
        }
        (None, Some(known)) => (known, None),
        (None, None) => {
            let what = format!("where {stage} is, nobody has said yet: --api-url, --client-id and --region do");
            return Err(Failure::Usage(what));
        }
    };
    let user = user.unwrap_or(place.user);
    if user.is_empty() {
        return Err(Failure::Usage("who signs in, --as says".to_owned()));
    }
    let password = match password {
        Some(password) => password,
        None => secret(&format!("Password of {user}: "))?,
    };
    let pool = Pool::new(&place.pool_url, &place.client_id)?;
    let tokens = pool.sign_in(&user, &password, || secret("Code of the authenticator app: ")).await?;
    let profile = Profile { user, tokens: Some(tokens), ..place };
    profiles.save(stage, &profile)?;
    let Profile { user, api_url, .. } = profile;
    let text = format!("{user} is signed in to {stage}, at {api_url}\n");
    out.answer(&json!({ "stage": stage, "user": user, "api_url": api_url }), &text)
}

/// Asked for without showing it, or a line of standard input; never an argument, which others on the machine can see.
fn secret(question: &str) -> Result<String, Failure> {
    let given = if io::stdin().is_terminal() {
        rpassword::prompt_password(question)
    } else {
        let mut line = String::new();
        io::stdin().lock().take(SECRET_MAX).read_line(&mut line).map(|_| line.trim_end_matches(['\r', '\n']).to_owned())
    };
    let given = given.map_err(|source| Failure::NoTerminal { source })?;
    if given.is_empty() {
        Err(Failure::Refused(format!("{}nobody has said it", question.to_lowercase())))
    } else {
        Ok(given)
    }
}

async fn sign_out(out: Out, profiles: &Profiles, stage: &str) -> Result<(), Failure> {
    let signed_out = || Failure::SignedOut { stage: stage.to_owned() };
    let profile = profiles.load(stage)?.ok_or_else(signed_out)?;
    let tokens = profile.tokens.clone().ok_or_else(signed_out)?;
    profiles.save(stage, &Profile { tokens: None, ..profile.clone() })?;
    // Whoever leaves does not stay because the pool is silent; but they are told that the token lives on.
    let revoked = match &tokens.refresh {
        Some(refresh) => Pool::new(&profile.pool_url, &profile.client_id)?.revoke(refresh).await,
        None => Ok(()),
    };
    let why = revoked.err().map(|failure| failure.said());
    let lives =
        why.as_ref().map(|why| format!(" The tokens are gone from here, but not revoked: {}", render::printable(why)));
    let text = format!("Nobody is signed in to {stage} any more.{}\n", lives.unwrap_or_default());
    out.answer(&json!({ "stage": stage, "revoked": why.is_none() }), &text)
}

/// Whoever is signed in, at one stage.
struct Desk {
    client: OrderClient,
    out: Out,
    /// What of prod would be changed, if any.
    prod: Option<String>,
    yes: bool,
    /// Under which a command is done once, however often it is sent.
    key: Uuid,
}

impl Desk {
    fn open(out: Out, profiles: Profiles, stage: &str, yes: bool, key: Option<Uuid>) -> Result<Self, Failure> {
        let signed_out = || Failure::SignedOut { stage: stage.to_owned() };
        let setting = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let profile = profiles.load(stage)?;
        let known = profile.as_ref().map(|profile| profile.api_url.clone());
        let told = setting("ORDERCTL_API_URL").map(|url| arguments::api_url(&url)).transpose();
        let told = told.map_err(|wanted| Failure::Usage(format!("ORDERCTL_API_URL has to be {wanted}")))?;
        let api_url = told.or(known).ok_or_else(signed_out)?;
        let prod = profiles.prod_at(stage, profile.as_ref(), &api_url)?;
        let client = OrderClient::new(&api_url)?;
        let client = if let Some(token) = setting("ORDERCTL_TOKEN") {
            client.with_token(SecretString::from(token))
        } else {
            let profile = profile.filter(|profile| profile.tokens.is_some()).ok_or_else(signed_out)?;
            if !profile.leads_to(&api_url) {
                return Err(Failure::TokenOfElsewhere { stage: stage.to_owned() });
            }
            client.with_token(SignedIn::new(profiles, stage, profile)?)
        };
        Ok(Self { client, out, prod, yes, key: key.unwrap_or_else(Uuid::new_v4) })
    }

    /// Before anything is changed in prod.
    fn confirm(&self, deed: &str) -> Result<(), Failure> {
        match &self.prod {
            Some(prod) if !self.yes => agreed(prod, deed, ask),
            _ => Ok(()),
        }
    }

    /// What the same command again has to say, besides these words: then it is done once.
    fn again(&self, words: Option<&str>) -> String {
        let key = format!("--key {}", self.key);
        match words {
            Some(words) => format!("{words} {key}"),
            None => key,
        }
    }

    /// Sends a command under the key.
    async fn command<T: DeserializeOwned>(&self, request: Request, again: String) -> Result<T, Failure> {
        self.keyed(&request.idempotency_key(self.key), again).await
    }

    /// Sends a command that has its key.
    async fn keyed<T: DeserializeOwned>(&self, request: &Request, again: String) -> Result<T, Failure> {
        let answer = self.patiently(request, &again).await?;
        answer.json().map_err(|error| unknown(error, again))
    }

    async fn patiently(&self, request: &Request, again: &str) -> Result<Answer, Failure> {
        let mut sending = pin!(self.client.send(request));
        let answer = if let Ok(answer) = timeout(PATIENCE, &mut sending).await {
            answer
        } else {
            self.out
                .warn(&format!("No answer yet. Whoever gives up repeats it with {again}, so that it is done once."));
            sending.await
        };
        answer.map_err(|error| unknown(error, again.to_owned()))
    }

    async fn find(&self, text: &str, limit: u32) -> Result<(), Failure> {
        let found = self.client.search(text, Some(limit.min(PAGE_MAX))).await?;
        let (total, exact) = (found.total_count, found.total_is_exact);
        let rows = self.client.all(found, usize_of(limit)).await?.rows;
        let at_least = if exact { "" } else { "at least " };
        let count = format!("{} of {at_least}{total} found\n", rows.len());
        let text = format!("{}{count}", render::found(self.out.style, &rows));
        self.out.answer(&json!({ "orders": rows, "total_count": total, "total_is_exact": exact }), &text)
    }

    async fn attention(&self, limit: u32) -> Result<(), Failure> {
        let status = Some("needs_attention".to_owned());
        let wanted = OrdersWanted { status, page_size: Some(limit.min(PAGE_MAX)), ..OrdersWanted::default() };
        let listed = self.client.orders(&wanted).await?;
        let listed = self.client.all(listed, usize_of(limit)).await?;
        let mut text = render::attention(self.out.style, &listed.rows);
        if listed.rows.is_empty() {
            text += "No order waits for a person.\n";
        } else if listed.more {
            text += "There are more: --limit shows them.\n";
        }
        self.out.answer(&json!({ "orders": listed.rows, "more": listed.more }), &text)
    }

    async fn show(&self, id: OrderId, at: Option<At>) -> Result<(), Failure> {
        let style = self.out.style;
        if at.is_some() {
            let history = self.client.order_events(id, at).await?;
            let order = history.order.clone();
            let events = self.client.all(history, EVENTS_MAX).await?.rows;
            let text = render::order(style, &order, None, Some(&events));
            return self.out.answer(&json!({ "order": order, "events": events }), &text);
        }
        let order = self.client.order(id).await?;
        let (ledger, why) = match self.client.ledger(id).await {
            Ok(ledger) => (Some(ledger), None),
            Err(error) if error.status() == Some(403) => (None, None),
            // What the order itself says is worth showing while providers are silent.
            Err(error @ Error::Problem(_)) => (None, Some(error.to_string())),
            Err(error) => return Err(error.into()),
        };
        let shown = render::order(style, &order, ledger.as_ref(), None);
        let why = why.map(|why| format!("\nThe books cannot be had: {}\n", render::printable(&why)));
        let ways_out = order.attention.as_ref().map(|_| {
            format!(
                "\nOnce its cause is mended: orderctl resume {id} --reason ...\n\
                 Without the step, for supervisors: orderctl skip {id} --reason ...\n"
            )
        });
        let text = [Some(shown), why, ways_out].into_iter().flatten().collect::<String>();
        self.out.answer(&json!({ "order": order, "ledger": ledger }), &text)
    }

    async fn timeline(&self, id: OrderId) -> Result<(), Failure> {
        let timeline = self.client.timeline(id).await?;
        let entries: String = timeline.entries.iter().map(render::entry).collect();
        self.out.answer(&timeline, &format!("{entries}{}", self.next(&timeline)))
    }

    fn next(&self, timeline: &Timeline) -> String {
        render::next(self.out.style, &timeline.status, &timeline.next)
    }

    async fn follow(&self, id: OrderId, within: Duration) -> Result<(), Failure> {
        let timeline = self.until_at_rest(id, 0, within).await?;
        self.out.answer(&timeline, &self.next(&timeline))
    }

    /// Tells what happens after this version, until the service has nothing more to do by itself.
    async fn until_at_rest(&self, id: OrderId, after: u64, within: Duration) -> Result<Timeline, Failure> {
        let started = Instant::now();
        let mut told = after;
        loop {
            let timeline = self.client.timeline(id).await?;
            for entry in timeline.entries.iter().filter(|entry| entry.version > told) {
                self.out.tell(&render::entry(entry))?;
            }
            told = told.max(timeline.version);
            // A command that was accepted shows in the order's own events at once, so the story is not read too early.
            if timeline.next.waits_for != "service" {
                return Ok(timeline);
            }
            if started.elapsed() >= within {
                let status = render::printable(&timeline.status);
                return Err(Failure::Refused(format!("the order is still {status} after {} s", within.as_secs())));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn accepted(&self, accepted: &impl Serialize, id: OrderId, what: &str) -> Result<(), Failure> {
        self.out.answer(accepted, &format!("{what} What becomes of it: orderctl follow {id}\n"))
    }

    async fn resume(&self, id: OrderId, reason: &str) -> Result<(), Failure> {
        self.confirm(&format!("let the order {id} go on"))?;
        let accepted: Accepted = self.command(Request::resume(id, reason)?, self.again(None)).await?;
        self.accepted(&accepted, id, "The order goes on.")
    }

    async fn resume_all(&self, resume: ResumeOrders) -> Result<(), Failure> {
        let dry = self.client.resume_all(&ResumeOrders { dry_run: true, ..resume.clone() }).await?;
        let step = render::printable(&resume.step);
        let number = format!("{}{}", dry.matching, if dry.more { " or more" } else { "" });
        if resume.dry_run || dry.matching == 0 {
            let ids = dry.order_ids.iter().map(|id| id.to_string() + "\n").collect::<String>();
            return self.out.answer(&dry, &format!("{ids}{number} stuck at {step}\n"));
        }
        self.confirm(&format!("let {number} orders go on that are stuck at {step}"))?;
        let mut all =
            OrdersResumed { dry_run: false, matching: 0, resumed: 0, failed: 0, more: true, order_ids: Vec::new() };
        let request = Request::resume_all(&resume)?;
        for call in 0..RESUMES_MAX {
            // Under the key of a call before, what is stuck again would not go on.
            let request = request.clone().idempotency_key(format!("{}-{call}", self.key));
            let some: OrdersResumed = self.keyed(&request, self.again(None)).await?;
            all.matching = all.matching.saturating_add(some.matching);
            all.resumed = all.resumed.saturating_add(some.resumed);
            all.failed = all.failed.saturating_add(some.failed);
            all.order_ids.extend(some.order_ids);
            all.more = some.more;
            // Where none goes on, asking again at once changes nothing.
            if !all.more || some.resumed == 0 {
                break;
            }
        }
        let (resumed, failed) = (all.resumed, all.failed);
        let more = if all.more { "; there may be more" } else { "" };
        self.out.answer(&all, &format!("{resumed} go on, {failed} could not be asked{more}\n"))?;
        if failed == 0 { Ok(()) } else { Err(Failure::Refused(format!("{failed} orders are stuck still"))) }
    }

    async fn skip(&self, id: OrderId, step: Option<String>, reason: &str) -> Result<(), Failure> {
        let (step, again) = if let Some(step) = step {
            (step, None)
        } else {
            let stuck = self.client.order(id).await?.attention;
            let step = stuck.ok_or_else(|| Failure::Refused("the order is not stuck".to_owned()))?.step;
            let again = format!("--step {step}");
            (step, Some(again))
        };
        let shown = render::printable(&step);
        self.confirm(&format!("let the order {id} go on without {shown}"))?;
        let request = Request::skip(id, &step, reason)?;
        let accepted: Accepted = self.command(request, self.again(again.as_deref())).await?;
        self.accepted(&accepted, id, &format!("The order goes on without {shown}."))
    }

    async fn refund(
        &self,
        id: OrderId,
        amount: Option<Money>,
        reason: String,
        note: Option<String>,
    ) -> Result<(), Failure> {
        let (amount, again) = if let Some(amount) = amount {
            (amount, None)
        } else {
            let left = left(&self.client.order(id).await?)?;
            (left, Some(left.to_string()))
        };
        self.confirm(&format!("give back {amount} of the order {id}"))?;
        let request = Request::refund(id, &Refund { amount, reason, note })?;
        let accepted: RefundAccepted = self.command(request, self.again(again.as_deref())).await?;
        self.accepted(&accepted, id, &format!("{amount} are to be given back, as refund {}.", accepted.refund_id))
    }

    async fn cancel(&self, id: OrderId, cancel: &Cancel) -> Result<(), Failure> {
        self.confirm(&format!("cancel the order {id}"))?;
        let accepted: Accepted = self.command(Request::cancel(id, cancel)?, self.again(None)).await?;
        self.accepted(&accepted, id, &format!("The order is {}.", render::printable(&accepted.status)))
    }

    async fn trigger(&self, scenario: Scenario, product_id: ProductId) -> Result<(), Failure> {
        if let Some(prod) = &self.prod {
            return Err(Failure::Refused(format!("in {prod} nothing is asked to go wrong")));
        }
        let Scenario { payment_method, postal_code, then_cancel, .. } = scenario;
        let shipping_address = Address {
            street: "1 Nanjing Road".to_owned(),
            city: Some("Shanghai".to_owned()),
            state: Some("Shanghai".to_owned()),
            country: "CN".to_owned(),
            postal_code: Some(postal_code.to_owned()),
        };
        let me = self.client.customer_orders(&CustomerId::stored("me"), None, Some(1)).await?.customer_id;
        let item = RequestedItem { product_id, quantity: 1, unit_price: None };
        let payment_method = Some(payment_method.to_owned());
        let order = PlaceOrder { customer_id: me, items: vec![item], shipping_address, payment_method };
        let placed: OrderPlaced = self.command(Request::place(&order)?, self.again(None)).await?;
        let id = placed.order_id;
        self.out.tell(&format!("order {id}\n"))?;
        let mut timeline = self.until_at_rest(id, 0, TRIGGER_MAX).await?;
        if then_cancel && timeline.status == "confirmed" {
            let cancel = Cancel { reason: "to see it go wrong".to_owned(), note: None };
            let _: Accepted = self.command(Request::cancel(id, &cancel)?, self.again(None)).await?;
            timeline = self.until_at_rest(id, timeline.version, TRIGGER_MAX).await?;
        }
        self.out.answer(&timeline, &self.next(&timeline))
    }

    async fn stats(&self, by: Period, from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<(), Failure> {
        let stats = self.client.stats(by, from, to).await?;
        self.out.answer(&stats, &render::stats(self.out.style, &stats))
    }

    async fn products(&self, limit: u32) -> Result<(), Failure> {
        let products = self.client.products(Some(limit.min(PAGE_MAX))).await?;
        let products = self.client.all(products, usize_of(limit)).await?;
        let more = if products.more { "There are more: --limit shows them.\n" } else { "" };
        let text = format!("{}{more}", render::products(self.out.style, &products.rows));
        self.out.answer(&json!({ "products": products.rows, "more": products.more }), &text)
    }

    async fn letters(&self, ListLetters { consumer, error, settled, limit }: ListLetters) -> Result<(), Failure> {
        // There is one: it is asked for where nothing is changed.
        let consumer = consumer.unwrap_or_default();
        let page_size = Some(limit.min(PAGE_MAX));
        let wanted = DeadLettersWanted { consumer, error_type: error, settled, page_size };
        let listed = self.client.dead_letters(&wanted).await?;
        let listed = self.client.all(listed, usize_of(limit)).await?;
        let mut text = if settled {
            render::settled_letters(self.out.style, &listed.rows)
        } else {
            render::letters(self.out.style, &listed.rows)
        };
        if listed.rows.is_empty() {
            text += if settled { "None was settled.\n" } else { "No dead letter waits.\n" };
        } else if listed.more {
            text += "There are more: --limit shows them.\n";
        }
        self.out.answer(&json!({ "dead_letters": listed.rows, "more": listed.more }), &text)
    }

    async fn redrive(&self, change: ChangeLetters, pace: Option<u32>) -> Result<(), Failure> {
        let ChangeLetters { consumer, chosen, reason, dry_run } = change;
        let redrive = RedriveDeadLetters { consumer, which: chosen.into(), reason, dry_run: true, after: None, pace };
        let dry = self.client.redrive_dead_letters(&redrive).await?;
        let these = these(dry.matching, dry.more, &dry.consumer);
        if dry_run || dry.matching == 0 {
            return self.out.answer(&dry, &format!("{these} would be redriven\n"));
        }
        self.confirm(&format!("redrive {these}"))?;
        let mut redrive = RedriveDeadLetters { dry_run: false, ..redrive };
        let mut all = DeadLettersRedriven { dry_run: false, ..dry };
        for call in 0..LETTERS_CALLS_MAX {
            let request = Request::redrive_dead_letters(&redrive)?.idempotency_key(format!("{}-{call}", self.key));
            let some: DeadLettersRedriven = self.keyed(&request, self.again(None)).await?;
            all.redriven = all.redriven.saturating_add(some.redriven);
            add_failed(&mut all.failed, some.failed);
            (all.more, all.next) = (some.more, some.next);
            if is_over(redrive.after.as_deref(), all.next.as_deref(), some.redriven) {
                break;
            }
            redrive.after.clone_from(&all.next);
            self.out.warn(&format!("{} of {these} are redriven, {} failed", all.redriven, all.failed.len()));
        }
        let done = format!("{} redriven, {} failed", all.redriven, all.failed.len());
        self.letters_changed(&all, &all.failed, &done, all.more)
    }

    async fn discard(&self, change: ChangeLetters, last_sequence: Option<u64>) -> Result<(), Failure> {
        let ChangeLetters { consumer, chosen, reason, dry_run } = change;
        let which = chosen.into();
        let discard = DiscardDeadLetters { consumer, which, last_sequence, reason, dry_run: true, after: None };
        let dry = self.client.discard_dead_letters(&discard).await?;
        let these = these(dry.matching, dry.more, &dry.consumer);
        let consequence = render::printable(&dry.consequence);
        if dry_run || dry.matching == 0 {
            return self.out.answer(&dry, &format!("{these} would be discarded: {consequence}\n"));
        }
        self.out.warn(&format!("Of what is discarded: {consequence}"));
        self.confirm(&format!("discard {these}: {consequence}"))?;
        let mut discard = DiscardDeadLetters { dry_run: false, ..discard };
        let mut all = DeadLettersDiscarded { dry_run: false, ..dry };
        for call in 0..LETTERS_CALLS_MAX {
            let request = Request::discard_dead_letters(&discard)?.idempotency_key(format!("{}-{call}", self.key));
            let some: DeadLettersDiscarded = self.keyed(&request, self.again(None)).await?;
            all.discarded = all.discarded.saturating_add(some.discarded);
            add_failed(&mut all.failed, some.failed);
            (all.more, all.next) = (some.more, some.next);
            if is_over(discard.after.as_deref(), all.next.as_deref(), some.discarded) {
                break;
            }
            discard.after.clone_from(&all.next);
            self.out.warn(&format!("{} of {these} are discarded, {} failed", all.discarded, all.failed.len()));
        }
        let done = format!("{} discarded, {} failed", all.discarded, all.failed.len());
        self.letters_changed(&all, &all.failed, &done, all.more)
    }

    fn letters_changed(
        &self,
        all: &impl Serialize,
        failed: &[FailedLetter],
        done: &str,
        more: bool,
    ) -> Result<(), Failure> {
        let more = if more { "; there may be more" } else { "" };
        self.out.answer(all, &format!("{}{done}{more}\n", render::failed_letters(self.out.style, failed)))?;
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure::Refused(format!("{} are dead letters still", failed.len())))
        }
    }

    /// What comes back is printed as it is, also when it is a refusal.
    async fn api(&self, method: Method, path: String, body: Option<String>) -> Result<(), Failure> {
        let body = match body.as_deref() {
            Some("-") => {
                let mut text = String::new();
                io::stdin().lock().take(BODY_MAX).read_to_string(&mut text)?;
                Some(text)
            }
            _ => body,
        };
        if method != Method::GET {
            self.confirm(&format!("send {method} {}", render::printable(&path)))?;
        }
        // What is no POST leaves what it leaves however often it comes, so the service takes no key with it.
        let again = (method == Method::POST).then(|| self.again(None));
        let request = Request::new(method, path);
        let request = body.into_iter().fold(request, Request::body);
        let answer = match &again {
            Some(again) => self.patiently(&request.idempotency_key(self.key), again).await?,
            None => self.client.send(&request).await?,
        };
        let json: Value = serde_json::from_str(&answer.body).unwrap_or_else(|_| Value::String(answer.body.clone()));
        let end = if answer.body.ends_with('\n') { "" } else { "\n" };
        self.out.answer(&json, &format!("{}{end}", answer.body))?;
        if answer.status.is_success() {
            return Ok(());
        }
        let status = answer.status.to_string();
        let id = answer.header("x-correlation-id").unwrap_or(&answer.sent.correlation_id);
        let again = again.filter(|_| answer.retry_key().is_some());
        Err(Failure::Printed { status, correlation_id: id.to_owned(), again })
    }
}

/// Whether it was done, the same again under its key finds out.
fn unknown(source: Error, again: String) -> Failure {
    if source.retry_key().is_some() { Failure::Unknown { source, again } } else { source.into() }
}

/// So many dead letters, in words.
fn these(matching: u64, more: bool, consumer: &str) -> String {
    let or_more = if more { " or more" } else { "" };
    format!("{matching}{or_more} dead letters of {}", render::printable(consumer))
}

/// Whether another call would change nothing. Among what a queue has given up there is one place only: where a call has done none of
/// that, the same fail again.
fn is_over(after: Option<&str>, next: Option<&str>, done: u64) -> bool {
    next.is_none() || (next == after && done == 0)
}

/// What fails again in the next call has failed once.
fn add_failed(all: &mut Vec<FailedLetter>, some: Vec<FailedLetter>) {
    all.retain(|known| some.iter().all(|failed| failed.id != known.id));
    all.extend(some);
}

fn usize_of(limit: u32) -> usize {
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Asks at the terminal; `None` where there is none.
fn ask(question: &str) -> io::Result<Option<String>> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(None);
    }
    write!(io::stderr().lock(), "{question}")?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    Ok(Some(answer))
}

/// Whether somebody says yes, in full: a y is typed too easily.
fn agreed(stage: &str, deed: &str, ask: impl FnOnce(&str) -> io::Result<Option<String>>) -> Result<(), Failure> {
    match ask(&format!("This will {deed}, in {stage}. Type yes to go on: "))? {
        Some(answer) if answer.trim() == "yes" => Ok(()),
        Some(_) => Err(Failure::Refused("nothing was done".to_owned())),
        None => Err(Failure::Unconfirmed(stage.to_owned())),
    }
}

/// An amount as people write it: in the currency's own unit, `19.99` of CNY and `1999` of JPY.
fn money(text: &str, currency: Currency) -> Result<Money, Failure> {
    let wrong = || Failure::Usage(format!("{} is no amount of {currency}", render::printable(text)));
    let decimals = usize::from(currency.decimals().ok_or_else(wrong)?);
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) || part.len() > decimals || text.ends_with('.') {
        return Err(wrong());
    }
    let amount = format!("{whole}{part:0<decimals$}").parse().map_err(|_| wrong())?;
    Money::new(amount, currency).map_err(|_| wrong())
}

/// What of the payment has neither gone back nor is about to.
fn left(order: &Order) -> Result<Money, Failure> {
    let nothing = || Failure::Refused("there is no payment of the order to give back".to_owned());
    let payment = order.payment.as_ref().filter(|payment| payment.status == "completed").ok_or_else(nothing)?;
    let given = order.refunds.iter().filter(|refund| refund.status != "failed").map(|refund| refund.amount);
    let left = given.into_iter().try_fold(payment.amount, Money::minus).ok();
    left.filter(|left| left.amount() > 0).ok_or_else(nothing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_changed_in_prod_before_somebody_has_said_yes() {
        let with = |answer: Option<&str>| agreed("prod", "cancel the order", |_| Ok(answer.map(str::to_owned)));
        assert!(with(Some("yes\n")).is_ok());
        for no in ["", "\n", "y\n", "no\n", "yes please\n"] {
            assert!(matches!(with(Some(no)), Err(Failure::Refused(_))), "{no:?}");
        }
        let Err(failure) = with(None) else { panic!() };
        assert!(failure.said().contains("--yes"), "{failure}");
        agreed("prod", "cancel the order", |question| {
            assert!(question.contains("cancel the order, in prod"), "{question}");
            Ok(Some("yes".to_owned()))
        })
        .unwrap();
    }

    #[test]
    fn prod_is_asked_and_every_other_stage_is_not() {
        let desk = |prod: Option<&str>, yes| {
            let client = OrderClient::new("https://any.example").unwrap();
            let out = Out { json: false, style: Style::Plain };
            Desk { client, out, prod: prod.map(str::to_owned), yes, key: Uuid::nil() }
        };
        desk(None, false).confirm("x").unwrap();
        desk(Some("prod"), true).confirm("x").unwrap();
    }

    #[test]
    fn an_amount_is_read_as_it_is_told() {
        let currency = |code| Currency::parse(code).unwrap();
        for (text, code, amount) in [
            ("19.99", "CNY", 1999),
            ("19.9", "CNY", 1990),
            ("19", "CNY", 1900),
            ("1999", "JPY", 1999),
            ("0.005", "KWD", 5),
        ] {
            assert_eq!(
                money(text, currency(code)).unwrap(),
                Money::new(amount, currency(code)).unwrap(),
                "{text} {code}"
            );
        }
        for (text, code) in [
            ("19.999", "CNY"),
            ("19.", "CNY"),
            (".5", "CNY"),
            ("", "CNY"),
            ("-1", "CNY"),
            ("1,5", "CNY"),
            ("1.5", "JPY"),
            ("1.2.3", "CNY"),
            ("99999999999999999999", "CNY"),
        ] {
            assert!(money(text, currency(code)).is_err(), "{text} {code}");
        }
        assert!(money("1", Currency::parse_any("ZZZ").unwrap()).is_err());
    }

    #[test]
    fn what_is_left_of_a_payment_is_what_has_not_gone_back() {
        let id = "7e108758-d8c7-5ab4-90d5-4d493c88ba33";
        let money = |amount: u64| json!({"amount": amount, "currency": "CNY"});
        let order = |status: &str, refunds: &[(u64, &str)]| -> Order {
            let refunds = refunds.iter().map(|(amount, status)| {
                json!({"refund_id": id, "amount": money(*amount), "reason": "x", "status": status, "requested_at": "2026-03-01T08:00:00Z"})
            });
            serde_json::from_value(json!({
                "id": id, "status": "confirmed", "version": 5, "items": [], "total_amount": money(1000),
                "customer": {"id": "c", "version": 0, "first_name": null, "last_name": null, "email": null, "email_verified": false},
                "shipping_address": {"street": "s", "city": null, "state": null, "country": "HK", "postal_code": null},
                "payment": {"transaction_id": "t", "status": status, "amount": money(1000), "processed_at": "2026-03-01T08:00:00Z"},
                "shipment": null, "refunds": refunds.collect::<Vec<_>>(), "rejection": null, "cancellation": null, "attention": null,
                "created_at": "2026-03-01T08:00:00Z", "updated_at": "2026-03-01T08:00:00Z"
            }))
            .unwrap()
        };
        let some = order("completed", &[(300, "completed"), (100, "requested"), (900, "failed")]);
        assert_eq!(left(&some).unwrap().amount(), 600);
        assert!(left(&order("completed", &[(1000, "completed")])).is_err());
        assert!(left(&order("refunded", &[])).is_err());
    }
}
