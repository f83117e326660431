//! Staff search: the newest orders that a query matches, page by page.
//!
//! What a request costs goes with the page that it asks for, not with how many orders there are: lists are read from their
//! newest end, and only as far as the page reaches.

use std::collections::BTreeMap;

use domain::{
    ids::OrderId,
    order_view::OrderView,
    search::{SearchQuery, terms_of},
};

use crate::{
    event_store::Unavailable,
    ports::{Entry, Index, OrderViews, Posting},
};

/// How many of the orders found can be paged through.
pub const ROWS_MAX: usize = 1_000;

/// So many lists are looked into for a rare one.
const LISTS_MAX: usize = 4;

/// What a first look at a list reads at least: about four read units.
const FIRST_LOOK: usize = 100;

/// What is read of a list at once, once it is known that much of it has to be read.
const LIST_PAGE: usize = 1_000;

/// A request reads so many pages of lists at most.
const READS_MAX: usize = 50;

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

/// What the index has to have of an order. It changes with the customer's profile only.
pub fn entries_of(view: &OrderView) -> Vec<Entry> {
    let (at, id) = (view.created_at, view.id.to_string());
    let terms = terms_of(view).into_iter();
    terms.map(|(piece, text)| Entry { term: term(&piece), posting: Posting { at, id: id.clone(), text } }).collect()
}

fn term(piece: &str) -> String {
    format!("search/{piece}")
}

/// Page number `page`, from 1, of so many orders each, 100 at most. One read of views, after the reads of lists.
///
/// A posting may be older than its view: a row whose view does not match any more is left out, and the page is shorter.
pub async fn search_orders(
    index: &impl Index,
    views: &impl OrderViews,
    query: &SearchQuery,
    page: usize,
    page_size: usize,
) -> Result<FoundOrders, Unavailable> {
    let before = page.saturating_sub(1).saturating_mul(page_size);
    let up_to = before.saturating_add(page_size);
    let Matches { ids, all } = matches(index, query, up_to.saturating_add(1)).await?;
    let listed: Vec<OrderId> = ids.iter().copied().skip(before).take(page_size).collect();
    let loaded = if listed.is_empty() { Vec::new() } else { views.load_many(&listed).await? };
    let matching = loaded.into_iter().filter(|view| query.finds(view));
    let mut by_id: BTreeMap<OrderId, OrderView> = matching.map(|view| (view.id, view)).collect();
    let orders: Vec<OrderView> = listed.iter().filter_map(|id| by_id.remove(id)).collect();
    let stale = listed.len().saturating_sub(orders.len());
    Ok(FoundOrders {
        orders,
        total_count: ids.len().saturating_sub(stale),
        total_is_exact: all && stale == 0,
        more: ids.len() > up_to,
    })
}

/// The newest orders whose postings match.
struct Matches {
    ids: Vec<OrderId>,
    /// Whether there are no others.
    all: bool,
}

/// The newest `wanted` matches; fewer when there are no more, or when the bound on reads is met first.
///
/// Everything that matches is in each of the query's lists, with the text that decides it. So one list is enough, and the
/// rarest is the shortest way: the one whose first page is its last, or reaches furthest back.
async fn matches(index: &impl Index, query: &SearchQuery, wanted: usize) -> Result<Matches, Unavailable> {
    let limit = wanted.max(FIRST_LOOK);
    let mut reads: usize = 0;
    let mut rarest: Option<(String, Vec<Posting>)> = None;
    let mut found = Matches { ids: Vec::new(), all: false };
    // What stands first in an address says more than what stands last, and elsewhere it does not matter.
    for piece in query.terms().into_iter().take(LISTS_MAX) {
        let term = term(&piece);
        let page = index.newest(&term, None, None, limit).await?;
        reads = reads.saturating_add(1);
        let seen = Matches { ids: matching(&page, query), all: page.len() < limit };
        if seen.all || seen.ids.len() >= wanted {
            return Ok(seen);
        }
        let reaches = |page: &[Posting]| page.last().map(Posting::position);
        if rarest.as_ref().is_none_or(|(_, other)| reaches(&page) < reaches(other)) {
            rarest = Some((term, page));
            found = seen;
        }
    }
    let Some((term, mut page)) = rarest else { return Ok(found) };
    while !found.all && found.ids.len() < wanted && reads < READS_MAX {
        let from = page.last().map(Posting::position);
        page = index.newest(&term, from.as_ref(), None, LIST_PAGE).await?;
        reads = reads.saturating_add(1);
        found.all = page.len() < LIST_PAGE;
        // The list goes on at the posting that was read last.
        page.retain(|posting| from.as_ref() != Some(&posting.position()));
        found.ids.extend(matching(&page, query));
    }
    Ok(found)
}

fn matching(page: &[Posting], query: &SearchQuery) -> Vec<OrderId> {
    let matches = page.iter().filter(|posting| query.matches(&posting.id, &posting.text));
    matches.filter_map(|posting| OrderId::parse(&posting.id)).collect()
}
