//! Each operation of the contract, as a method.

use std::{fmt, sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use chrono::{DateTime, SecondsFormat, Utc};
use domain::ids::{CustomerId, OrderId, ProductId};
use reqwest::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use url::form_urlencoded;

use crate::{
    error::Error,
    transport::{Answer, Exchange, Request, Retries, TokenSource, Transport},
    types::{
        Accepted, At, Cancel, CustomerOrders, DeadLetter, DeadLetters, DeadLettersDiscarded, DeadLettersRedriven,
        DeadLettersWanted, DiscardDeadLetters, EventList, FoundOrder, FoundOrders, Health, History, Ledger,
        ListedEvent, ListedOrder, ListedOrders, Order, OrderPlaced, OrderRow, OrdersResumed, OrdersWanted, PastEvent,
        Period, PlaceOrder, Product, Products, Profile, PutCustomer, PutProduct, RedriveDeadLetters, Refund,
        RefundAccepted, ResumeOrders, Stats, StockAdjusted, StockChange, Timeline,
    },
};

/// A page may have no row and lead on all the same, so rows alone do not bound how many pages are read.
const PAGES_MAX: usize = 1_000;

/// The longest pause of whoever waits for a version: most orders go on within a second.
const WAIT_MAX: Duration = Duration::from_millis(500);

/// The order service, as whoever has the token sees it.
#[derive(Clone)]
pub struct OrderClient {
    transport: Transport,
}

/// A page of a list, with the link to the next one.
pub trait Page: DeserializeOwned {
    type Row;

    fn into_rows(self) -> (Vec<Self::Row>, Option<String>);
}

macro_rules! page {
    ($($page:ident has $rows:ident of $row:ident;)*) => {$(
        impl Page for $page {
            type Row = $row;

            fn into_rows(self) -> (Vec<$row>, Option<String>) {
                (self.$rows, self.next)
            }
        }
    )*};
}

page! {
    CustomerOrders has orders of OrderRow;
    DeadLetters has dead_letters of DeadLetter;
    EventList has events of ListedEvent;
    FoundOrders has orders of FoundOrder;
    History has events of PastEvent;
    ListedOrders has orders of ListedOrder;
    Products has products of Product;
}

/// The rows of some pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rows<T> {
    pub rows: Vec<T>,
    /// There are others, which nobody has read.
    pub more: bool,
}

impl OrderClient {
    /// Of the service at this URL: the output `ApiUrl` of its stack. Without a token, only [`health`](Self::health) is answered.
    pub fn new(base_url: &str) -> Result<Self, Error> {
        Ok(Self { transport: Transport::new(base_url)? })
    }

    #[must_use]
    pub fn with_token(mut self, source: impl TokenSource + 'static) -> Self {
        self.transport.token = Some(Arc::new(source));
        self
    }

    /// How long an attempt may take: 25 seconds, because some routes take 20 to say that they cannot.
    #[must_use]
    pub fn with_timeout(mut self, attempt_max: Duration) -> Self {
        self.transport.attempt_max = attempt_max;
        self
    }

    /// Four attempts in a minute, unless it is said otherwise.
    #[must_use]
    pub fn with_retries(mut self, retries: Retries) -> Self {
        self.transport.retries = retries;
        self
    }

    /// Shows every answer to every attempt to `watch`, before anything is made of it.
    #[must_use]
    pub fn watched_by(mut self, watch: impl Fn(&Exchange<'_>) + Send + Sync + 'static) -> Self {
        self.transport.watch = Some(Arc::new(watch));
        self
    }

    // Anything.

    /// Sends a request of one's own, and answers with what came back, whatever its status.
    pub async fn send(&self, request: &Request) -> Result<Answer, Error> {
        self.transport.send(request, &self.transport.retries).await
    }

    /// As [`send`](Self::send), for a path and perhaps a body.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let request = Request::new(method, path);
        let request = match body {
            Some(body) => request.json(body)?,
            None => request,
        };
        self.send(&request).await
    }

    async fn get<T: DeserializeOwned>(&self, path: impl Into<String>) -> Result<T, Error> {
        self.send(&Request::new(Method::GET, path)).await?.json()
    }

    async fn put<T: DeserializeOwned>(&self, path: String, body: &impl Serialize) -> Result<T, Error> {
        self.send(&Request::new(Method::PUT, path).json(body)?).await?.json()
    }

    /// The rows of a page and of those that follow it, up to so many.
    pub async fn all<P: Page>(&self, first: P, rows_max: usize) -> Result<Rows<P::Row>, Error> {
        let (mut rows, mut next) = first.into_rows();
        let mut pages = 1_usize;
        while let Some(link) = next.take_if(|_| rows.len() < rows_max && pages < PAGES_MAX) {
            let (further, link) = self.get::<P>(link).await?.into_rows();
            rows.extend(further);
            next = link;
            pages = pages.saturating_add(1);
        }
        let more = next.is_some() || rows.len() > rows_max;
        rows.truncate(rows_max);
        Ok(Rows { rows, more })
    }

    // Orders.

    pub async fn place(&self, order: &PlaceOrder) -> Result<OrderPlaced, Error> {
        self.send(&Request::place(order)?).await?.json()
    }

    pub async fn order(&self, id: OrderId) -> Result<Order, Error> {
        tagged(self.send(&Request::new(Method::GET, order_path(id, ""))).await?)
    }

    /// The order as soon as it has this version, as a command has answered it. A problem `unavailable` says that it did not come in
    /// time.
    pub async fn wait_for_version(&self, id: OrderId, version: u64, within: Duration) -> Result<Order, Error> {
        let path = with_query(&order_path(id, ""), [("min_version", Some(version.to_string()))]);
        let patience = Retries { attempts: u32::MAX, total: within, pause_max: WAIT_MAX, ..self.transport.retries };
        tagged(self.transport.send(&Request::new(Method::GET, path), &patience).await?)
    }

    /// The order as it is now, or nothing when it is as it was read, which costs no body.
    pub async fn newer(&self, order: &Order) -> Result<Option<Order>, Error> {
        let request = Request::new(Method::GET, order_path(order.id, ""));
        let request = match &order.etag {
            Some(etag) => request.if_none_match(etag)?,
            None => request,
        };
        let answer = self.send(&request).await?;
        if answer.status == StatusCode::NOT_MODIFIED { Ok(None) } else { tagged(answer).map(Some) }
    }

    pub async fn timeline(&self, id: OrderId) -> Result<Timeline, Error> {
        self.get(order_path(id, "/timeline")).await
    }

    /// The orders of all customers, the newest first.
    pub async fn orders(&self, wanted: &OrdersWanted) -> Result<ListedOrders, Error> {
        let OrdersWanted { status, from, to, page_size } = wanted;
        let query = [
            ("status", status.clone()),
            ("from", from.map(time)),
            ("to", to.map(time)),
            ("page_size", text(*page_size)),
        ];
        self.get(with_query("/api/v1/orders", query)).await
    }

    pub async fn customer_orders(
        &self,
        id: &CustomerId,
        status: Option<&str>,
        page_size: Option<u32>,
    ) -> Result<CustomerOrders, Error> {
        let path = format!("/api/v1/orders/customer/{}", customer_segment(id));
        let query = [("status", status.map(str::to_owned)), ("page_size", text(page_size))];
        self.get(with_query(&path, query)).await
    }

    /// Orders by a part of the id, or of their customer's e-mail address or name.
    pub async fn search(&self, wanted: &str, page_size: Option<u32>) -> Result<FoundOrders, Error> {
        let query = [("q", Some(wanted.to_owned())), ("page_size", text(page_size))];
        self.get(with_query("/api/v1/orders/search", query)).await
    }

    pub async fn cancel(&self, id: OrderId, cancel: &Cancel) -> Result<Accepted, Error> {
        self.send(&Request::cancel(id, cancel)?).await?.json()
    }

    pub async fn deliver(&self, id: OrderId) -> Result<Accepted, Error> {
        self.send(&Request::new(Method::POST, order_path(id, "/delivery"))).await?.json()
    }

    pub async fn refund(&self, id: OrderId, refund: &Refund) -> Result<RefundAccepted, Error> {
        self.send(&Request::refund(id, refund)?).await?.json()
    }

    // Fulfilment.

    pub async fn resume(&self, id: OrderId, reason: &str) -> Result<Accepted, Error> {
        self.send(&Request::resume(id, reason)?).await?.json()
    }

    /// Lets 500 go on at most; again while the answer says `more`.
    pub async fn resume_all(&self, resume: &ResumeOrders) -> Result<OrdersResumed, Error> {
        self.send(&Request::resume_all(resume)?).await?.json()
    }

    pub async fn skip(&self, id: OrderId, step: &str, reason: &str) -> Result<Accepted, Error> {
        self.send(&Request::skip(id, step, reason)?).await?.json()
    }

    pub async fn ledger(&self, id: OrderId) -> Result<Ledger, Error> {
        self.get(order_path(id, "/ledger")).await
    }

    // History.

    /// What has happened to an order, and the order as it was then: up to now without `at`.
    pub async fn order_events(&self, id: OrderId, at: Option<At>) -> Result<History, Error> {
        self.get(with_query(&order_path(id, "/events"), [("at", text(at))])).await
    }

    /// The events of one type over all orders, the newest first. The times may be 31 days apart.
    pub async fn events(
        &self,
        event_type: &str,
        from: DateTime<Utc>,
        to: DateTime<Utc>,
        page_size: Option<u32>,
    ) -> Result<EventList, Error> {
        let event_type = Some(event_type.to_owned());
        let query =
            [("type", event_type), ("from", Some(time(from))), ("to", Some(time(to))), ("page_size", text(page_size))];
        self.get(with_query("/api/v1/events", query)).await
    }

    // Customers and products.

    pub async fn customer(&self, id: &CustomerId) -> Result<Profile, Error> {
        self.get(format!("/api/v1/customers/{}", customer_segment(id))).await
    }

    pub async fn put_customer(&self, id: &CustomerId, profile: &PutCustomer) -> Result<Profile, Error> {
        self.put(format!("/api/v1/customers/{}", customer_segment(id)), profile).await
    }

    pub async fn product(&self, id: &ProductId) -> Result<Product, Error> {
        self.get(format!("/api/v1/products/{id}")).await
    }

    pub async fn put_product(&self, id: &ProductId, product: &PutProduct) -> Result<Product, Error> {
        self.put(format!("/api/v1/products/{id}"), product).await
    }

    pub async fn adjust_stock(&self, id: &ProductId, by: StockChange, reason: &str) -> Result<StockAdjusted, Error> {
        self.send(&Request::adjust_stock(id, by, reason)?).await?.json()
    }

    pub async fn products(&self, page_size: Option<u32>) -> Result<Products, Error> {
        self.get(with_query("/api/v1/products", [("page_size", text(page_size))])).await
    }

    // Operation.

    /// By hour or day of UTC; without times, the 24 hours or 30 days until now.
    pub async fn stats(
        &self,
        by: Period,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<Stats, Error> {
        let query = [("by", Some(by.word().to_owned())), ("from", from.map(time)), ("to", to.map(time))];
        self.get(with_query("/api/v1/stats", query)).await
    }

    /// What a consumer has not been able to handle; or, where settled ones are wanted, what became of it.
    pub async fn dead_letters(&self, wanted: &DeadLettersWanted) -> Result<DeadLetters, Error> {
        let DeadLettersWanted { consumer, error_type, settled, page_size } = wanted;
        let query = [
            ("consumer", Some(consumer.clone())),
            ("error_type", error_type.clone()),
            ("settled", settled.then(|| "true".to_owned())),
            ("page_size", text(*page_size)),
        ];
        self.get(with_query("/api/v1/dead-letters", query)).await
    }

    /// Works for 20 seconds at most. While the answer has `next`, again with that as `after`: what has failed is passed over then.
    pub async fn redrive_dead_letters(&self, redrive: &RedriveDeadLetters) -> Result<DeadLettersRedriven, Error> {
        self.send(&Request::redrive_dead_letters(redrive)?).await?.json()
    }

    /// As a redrive. A dry run says what it means, and leaves it.
    pub async fn discard_dead_letters(&self, discard: &DiscardDeadLetters) -> Result<DeadLettersDiscarded, Error> {
        self.send(&Request::discard_dead_letters(discard)?).await?.json()
    }

    /// Asked once: a service that says what of it is down has answered.
    pub async fn health(&self) -> Result<Health, Error> {
        let answer = self.transport.send(&Request::new(Method::GET, "/health"), &Retries::NONE).await?;
        match serde_json::from_str(&answer.body) {
            Ok(health) if answer.status == StatusCode::SERVICE_UNAVAILABLE => Ok(health),
            _ => answer.json(),
        }
    }

    /// As Prometheus reads it.
    pub async fn metrics(&self) -> Result<String, Error> {
        let answer = self.send(&Request::new(Method::GET, "/metrics")).await?;
        answer.success().map(|answer| answer.body)
    }
}

/// The commands that a client's methods send, for whoever has a key of their own for one.
impl Request {
    pub fn place(order: &PlaceOrder) -> Result<Self, Error> {
        Self::post("/api/v1/orders", order)
    }

    pub fn cancel(id: OrderId, cancel: &Cancel) -> Result<Self, Error> {
        Self::post(order_path(id, "/cancel"), cancel)
    }

    pub fn refund(id: OrderId, refund: &Refund) -> Result<Self, Error> {
        Self::post(order_path(id, "/refunds"), refund)
    }

    pub fn resume(id: OrderId, reason: &str) -> Result<Self, Error> {
        Self::post(order_path(id, "/fulfilment/resume"), &json!({ "reason": reason }))
    }

    pub fn resume_all(resume: &ResumeOrders) -> Result<Self, Error> {
        Self::post("/api/v1/fulfilment/resume", resume)
    }

    pub fn skip(id: OrderId, step: &str, reason: &str) -> Result<Self, Error> {
        Self::post(order_path(id, "/fulfilment/skip"), &json!({ "step": step, "reason": reason }))
    }

    pub fn adjust_stock(id: &ProductId, by: StockChange, reason: &str) -> Result<Self, Error> {
        let body = match by {
            StockChange::By(by) => json!({ "by": by, "reason": reason }),
            StockChange::Counted(counted) => json!({ "counted": counted, "reason": reason }),
        };
        Self::post(format!("/api/v1/products/{id}/stock-adjustments"), &body)
    }

    pub fn redrive_dead_letters(redrive: &RedriveDeadLetters) -> Result<Self, Error> {
        Self::post("/api/v1/dead-letters/redrive", redrive)
    }

    pub fn discard_dead_letters(discard: &DiscardDeadLetters) -> Result<Self, Error> {
        Self::post("/api/v1/dead-letters/discard", discard)
    }

    fn post(path: impl Into<String>, body: &impl Serialize) -> Result<Self, Error> {
        Self::new(Method::POST, path).json(body)
    }
}

fn order_path(id: OrderId, deed: &str) -> String {
    format!("/api/v1/orders/{id}{deed}")
}

/// A customer as a part of a path, as the service's own links have it: percent-encoding does not carry every id. `me` is oneself.
fn customer_segment(id: &CustomerId) -> String {
    let id = id.as_str();
    let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if plain && !["events", "ledger", ".", ".."].contains(&id) {
        id.to_owned()
    } else {
        format!("~{}", BASE64_URL_SAFE_NO_PAD.encode(id))
    }
}

fn with_query<const N: usize>(path: &str, query: [(&str, Option<String>); N]) -> String {
    let mut encoded = form_urlencoded::Serializer::new(String::new());
    encoded.extend_pairs(query.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let encoded = encoded.finish();
    if encoded.is_empty() { path.to_owned() } else { format!("{path}?{encoded}") }
}

fn text(value: Option<impl fmt::Display>) -> Option<String> {
    value.map(|value| value.to_string())
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

fn tagged(answer: Answer) -> Result<Order, Error> {
    let etag = answer.header("etag").map(str::to_owned);
    Ok(Order { etag, ..answer.json()? })
}
