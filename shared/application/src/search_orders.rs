//! Staff search: the newest orders that a query matches, page by page.
//!
//! A customer is found in the index, and their orders in the list of these. Where a query leads to more customers than can be
//! gone through one by one, the newest orders of all are looked at instead: where many match, many of those are theirs. A part
//! of an id is looked for in the list of everything that was ever ordered, from its newest end.

use std::collections::{BTreeMap, BTreeSet};

use domain::{
    ids::{CustomerId, OrderId},
    order_view::OrderView,
    search::SearchQuery,
};
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::{
    event_store::Unavailable,
    ports::{EventPlace, Index, OrderViews, PlacedOrder, Position, VIEWS_MAX},
    shown_orders::load_shown,
};

/// How many of the orders found can be paged through.
pub const ROWS_MAX: usize = 1_000;

/// So many lists of customers are looked into for a short one.
const LISTS_MAX: usize = 6;

/// What a look at each of them reads, and what further looks do where no list was that short.
const LOOKS: [usize; 3] = [500, 2_000, 10_000];

/// The most customers whose orders are put together.
const CUSTOMERS_MAX: usize = 500;

/// The orders of how many customers are read at the same time.
const AT_ONCE: usize = 16;

/// How many of the newest orders are looked at for those of a crowd of customers: so many, and then as many more.
const LOOKED_AT: [usize; 2] = [500, 4_500];

/// How many ids are read at once, and how often, for those that have something as a part: a million ids, some 90 MB,
/// and once more, to see that they end there.
const IDS_PAGE: usize = 20_000;
const IDS_PAGES_MAX: usize = 51;

/// Every order has one of these.
const FIRST_EVENT: &str = "OrderCreated";

/// A page of orders, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundOrders {
    pub orders: Vec<OrderView>,
    /// How many orders the query matches; when that is not exact, at least so many.
    pub total_count: usize,
    pub total_is_exact: bool,
    /// Whether another page follows.
    pub more: bool,
}

/// The newest orders that match.
#[derive(Debug, Default)]
struct Matches {
    newest: Vec<PlacedOrder>,
    /// How many there are at least.
    total: usize,
    /// Whether that is how many there are.
    is_exact: bool,
}

/// Page number `page`, from 1, of so many orders each, 100 at most.
///
/// The index may be older than the views: a row whose view does not match any more is left out, and the page is shorter.
pub async fn search_orders(
    index: &impl Index,
    views: &impl OrderViews,
    query: &SearchQuery,
    page: usize,
    page_size: usize,
) -> Result<FoundOrders, Unavailable> {
    let before = page.saturating_sub(1).saturating_mul(page_size);
    let up_to = before.saturating_add(page_size);
    let wanted = up_to.saturating_add(1);
    let by_customer = by_customer(index, views, query, wanted).await?;
    // What is older than so many orders is on a later page.
    let oldest = by_customer.newest.get(wanted.saturating_sub(1)).copied();
    let found = either(by_id(index, views, query, wanted, oldest).await?, by_customer);
    let listed: Vec<OrderId> = found.newest.iter().map(|order| order.id).skip(before).take(page_size).collect();
    let matching = load_shown(views, &listed).await?.into_iter().filter(|view| query.finds(view));
    let mut by_id: BTreeMap<OrderId, OrderView> = matching.map(|view| (view.id, view)).collect();
    let orders: Vec<OrderView> = listed.iter().filter_map(|id| by_id.remove(id)).collect();
    let stale = listed.len().saturating_sub(orders.len());
    Ok(FoundOrders {
        orders,
        total_count: found.total.saturating_sub(stale),
        total_is_exact: found.is_exact && stale == 0,
        more: found.newest.len() > up_to,
    })
}

fn either(by_id: Matches, by_customer: Matches) -> Matches {
    let theirs: BTreeSet<OrderId> = by_customer.newest.iter().map(|order| order.id).collect();
    let others: Vec<PlacedOrder> = by_id.newest.into_iter().filter(|order| !theirs.contains(&order.id)).collect();
    // An order may be found both ways, and one of its places be further down than was read.
    let told_apart = others.is_empty() || theirs.len() == by_customer.total;
    let total = by_customer.total.max(theirs.len().saturating_add(others.len()));
    let newest = newest_first([by_customer.newest, others].concat());
    Matches { newest, total, is_exact: by_id.is_exact && by_customer.is_exact && told_apart }
}

fn newest_first(mut orders: Vec<PlacedOrder>) -> Vec<PlacedOrder> {
    orders.sort_unstable_by(|one, other| other.cmp(one));
    orders
}

async fn by_id(
    index: &impl Index,
    views: &impl OrderViews,
    query: &SearchQuery,
    wanted: usize,
    oldest: Option<PlacedOrder>,
) -> Result<Matches, Unavailable> {
    let mut found = Matches { is_exact: true, ..Matches::default() };
    if let Some(id) = query.order_id() {
        found.newest = views.load(id).await?.iter().map(PlacedOrder::of).collect();
    } else if query.may_be_of_an_id() {
        let mut ids = NewestOrders::new(index, IDS_PAGE);
        for _ in 0..IDS_PAGES_MAX {
            let Some(page) = ids.page().await? else { break };
            let reached = page.last().copied();
            found.newest.extend(page.into_iter().filter(|order| query.matches_id(order.id)));
            if found.newest.len() >= wanted || reached < oldest {
                break;
            }
        }
        found.is_exact = ids.ended;
    }
    found.total = found.newest.len();
    Ok(found)
}

async fn by_customer(
    index: &impl Index,
    views: &impl OrderViews,
    query: &SearchQuery,
    wanted: usize,
) -> Result<Matches, Unavailable> {
    // Whoever matches is in each of the query's lists, with the text that decides it. So one list is enough, if it is short;
    // and what stands first in an address says more than what stands last.
    let terms: Vec<String> = query.terms().into_iter().take(LISTS_MAX).collect();
    for limit in LOOKS {
        for term in &terms {
            let list = index.customers(term, limit.saturating_add(1)).await?;
            let is_whole = list.len() <= limit;
            let matching = list.into_iter().filter(|posting| query.matches(&posting.text));
            let customers: Vec<CustomerId> = matching.map(|posting| posting.customer).collect();
            if customers.len() > CUSTOMERS_MAX {
                return of_a_crowd(index, views, query, wanted).await;
            }
            if is_whole {
                return of_customers(views, customers, wanted).await;
            }
        }
    }
    of_a_crowd(index, views, query, wanted).await
}

async fn of_customers(
    views: &impl OrderViews,
    customers: Vec<CustomerId>,
    wanted: usize,
) -> Result<Matches, Unavailable> {
    let read = stream::iter(customers)
        .map(|customer: CustomerId| async move { views.customer_orders(&customer, 0, wanted).await });
    let lists: Vec<_> = read.buffer_unordered(AT_ONCE).try_collect().await?;
    let total = lists.iter().fold(0_usize, |total, list| total.saturating_add(list.total));
    let mut newest = newest_first(lists.into_iter().flat_map(|list| list.orders).collect());
    newest.truncate(wanted);
    Ok(Matches { newest, total, is_exact: true })
}

async fn of_a_crowd(
    index: &impl Index,
    views: &impl OrderViews,
    query: &SearchQuery,
    wanted: usize,
) -> Result<Matches, Unavailable> {
    let mut orders = NewestOrders::new(index, 0);
    let mut found = Matches::default();
    for page_size in LOOKED_AT {
        orders.page_size = page_size;
        let page = orders.page().await?.unwrap_or_default();
        for page in page.chunks(VIEWS_MAX) {
            if found.newest.len() >= wanted {
                found.total = found.newest.len();
                return Ok(found);
            }
            let ids: Vec<OrderId> = page.iter().map(|order| order.id).collect();
            let shown = load_shown(views, &ids).await?;
            let shown = shown.iter().filter(|view| query.finds(view));
            let matching: BTreeSet<OrderId> = shown.map(|view| view.id).collect();
            found.newest.extend(page.iter().filter(|order| matching.contains(&order.id)));
        }
    }
    found.total = found.newest.len();
    found.is_exact = orders.ended;
    Ok(found)
}

/// All orders, the newest first, page by page.
struct NewestOrders<'i, I> {
    index: &'i I,
    page_size: usize,
    last: Option<Position>,
    ended: bool,
}

impl<'i, I: Index> NewestOrders<'i, I> {
    fn new(index: &'i I, page_size: usize) -> Self {
        Self { index, page_size, last: None, ended: false }
    }

    /// `None` after the last one.
    async fn page(&mut self) -> Result<Option<Vec<PlacedOrder>>, Unavailable> {
        if self.ended {
            return Ok(None);
        }
        let last = self.last.take();
        let mut page = self.index.newest(FIRST_EVENT, last.as_ref(), None, self.page_size).await?;
        self.ended = page.len() < self.page_size;
        self.last = page.last().map(EventPlace::position);
        // The list goes on at the event that was read last.
        page.retain(|place| last.as_ref() != Some(&place.position()));
        let orders = page.iter().filter_map(|place| {
            let id = place.stream.order_id()?;
            Some(PlacedOrder { millis: place.millis, id })
        });
        Ok(Some(orders.collect()))
    }
}
