//! The index table: customers under terms, an item for each; events under their type, an item for those of a type that came
//! together; and what is counted of orders, an item for each hour.

use std::{cmp::Ordering, collections::BTreeMap, mem};

use application::{
    event_store::{Commit, StreamId, Unavailable},
    ports::{EventPlace, Index, Position, Posting},
    stats::{Hour, Stat, Stats, Sum},
};
use aws_sdk_dynamodb::{
    Client,
    operation::query::builders::QueryFluentBuilder,
    types::{AttributeValue, PutRequest, WriteRequest},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    money::Currency,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use uuid::Uuid;

use super::{Item, PAGES_MAX, Table, all_ended, number, text};

/// The index of one generation: the keys of everything that it stores begin with its number.
///
/// Of the events of a type, those of one minute that came in one batch are one item. A minute is read as a whole, because
/// batches may overlap, and an event may be in several of them: its item is named by all that is in it, so that none ever
/// takes the place of another one.
pub struct DynamoIndex {
    table: Table,
    generation: u32,
}

/// How many items are asked for at once where few are wanted: one read unit or two.
const FEW: usize = 100;

/// The most bytes of events in one item.
const ITEM_BYTES_MAX: usize = 100 * 1024;

const MINUTE_MILLIS: i64 = 60_000;

impl DynamoIndex {
    pub fn new(client: Client, table: String, generation: u32) -> Self {
        let table = Table { client, name: table, partition_key: "term", sort_key: Some("place"), what: "the index" };
        Self { table, generation }
    }

    fn customers_key(&self, term: &str) -> String {
        format!("{}/customer/{term}", self.generation)
    }

    fn events_key(&self, event_type: &str) -> String {
        format!("{}/event/{event_type}", self.generation)
    }

    fn hours_key(&self) -> String {
        format!("{}/hours", self.generation)
    }

    /// One write unit.
    async fn count_hour(&self, hour: Hour, sums: &BTreeMap<Stat, Sum>) -> Result<(), Unavailable> {
        let key = [("term".to_owned(), text(self.hours_key())), ("place".to_owned(), text(hour_key(hour)))];
        let mut update = self.table.client.update_item().table_name(&self.table.name).set_key(Some(key.into()));
        let mut added = Vec::new();
        for (number_of, (name, amount)) in sums.iter().flat_map(|(stat, sum)| counts(*stat, sum)).enumerate() {
            added.push(format!("#name{number_of} :amount{number_of}"));
            update = update
                .expression_attribute_names(format!("#name{number_of}"), name)
                .expression_attribute_values(format!(":amount{number_of}"), number(amount));
        }
        let update = update.update_expression(format!("ADD {}", added.join(", ")));
        update.send().await.map_err(|error| self.table.unavailable(error))?;
        Ok(())
    }

    fn take_in(&self, item: Item, stats: &mut Stats) -> Result<(), Unavailable> {
        let place = item.get("place").and_then(|place| place.as_s().ok()).and_then(|place| place.parse().ok());
        let hour = Hour::new(place.ok_or_else(|| self.table.unavailable("an hour without its number"))?);
        for (name, value) in item {
            if let (Some((stat, currency)), AttributeValue::N(digits)) = (counted(&name), value) {
                let amount = digits.parse().map_err(|error| self.table.unavailable(error))?;
                let sum = match currency {
                    None => Sum { count: amount, ..Sum::default() },
                    Some(currency) => Sum { count: 0, amounts: BTreeMap::from([(currency, amount)]) },
                };
                stats.add(hour, stat, &sum);
            }
        }
        Ok(())
    }

    fn posting_row(&self, Posting { term, customer, text }: &Posting) -> PostingRow {
        PostingRow { term: self.customers_key(term), place: customer.to_string(), text: text.clone() }
    }

    async fn put(&self, rows: &[impl Serialize]) -> Result<(), Unavailable> {
        let put = |row| {
            let put = PutRequest::builder().set_item(Some(self.table.item(row)?)).build();
            Ok(WriteRequest::builder().put_request(put.map_err(|error| self.table.unavailable(error))?).build())
        };
        self.table.write(rows.iter().map(put).collect::<Result<_, Unavailable>>()?).await
    }

    fn query(&self, term: String) -> QueryFluentBuilder {
        let query = self.table.client.query().table_name(&self.table.name).consistent_read(true);
        query.expression_attribute_names("#term", "term").expression_attribute_values(":term", text(term))
    }
}

impl Index for DynamoIndex {
    async fn add(&self, postings: &[Posting]) -> Result<(), Unavailable> {
        let rows: Vec<PostingRow> = postings.iter().map(|posting| self.posting_row(posting)).collect();
        self.put(&rows).await
    }

    async fn remove(&self, postings: &[Posting]) -> Result<(), Unavailable> {
        let key = |posting| {
            let PostingRow { term, place, .. } = self.posting_row(posting);
            Item::from([("term".to_owned(), text(term)), ("place".to_owned(), text(place))])
        };
        self.table.delete(postings.iter().map(key).collect()).await
    }

    async fn customers(&self, term: &str, limit: usize) -> Result<Vec<Posting>, Unavailable> {
        let query = self.query(self.customers_key(term)).key_condition_expression("#term = :term");
        let mut postings = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let Some(wanted @ 1..) = limit.checked_sub(postings.len()) else { return Ok(postings) };
            let page = query.clone().set_exclusive_start_key(from).limit(i32::try_from(wanted).unwrap_or(i32::MAX));
            let page = page.send().await.map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                let PostingRow { place, text, .. } = self.table.row(item)?;
                postings.push(Posting { term: term.to_owned(), customer: CustomerId::stored(place), text });
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(postings);
            }
        }
        Err(self.table.unavailable(format!("{term} fills more than {PAGES_MAX} pages")))
    }

    async fn list(&self, commits: &[Commit]) -> Result<(), Unavailable> {
        let mut lists: BTreeMap<(&str, i64), BTreeMap<Position, EventPlace>> = BTreeMap::new();
        for (event_type, place) in commits.iter().flat_map(EventPlace::of) {
            lists.entry((event_type, minute_of(place.millis))).or_default().insert(place.position(), place);
        }
        let mut rows = Vec::new();
        for ((event_type, minute), places) in lists {
            let mut events = Vec::new();
            for place in places.values() {
                events.extend(bytes_of(place));
                if events.len() > ITEM_BYTES_MAX {
                    rows.push(EventsRow::new(self.events_key(event_type), minute, mem::take(&mut events)));
                }
            }
            if !events.is_empty() {
                rows.push(EventsRow::new(self.events_key(event_type), minute, events));
            }
        }
        self.put(&rows).await
    }

    async fn newest(
        &self,
        event_type: &str,
        not_after: Option<&Position>,
        not_before: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<Vec<EventPlace>, Unavailable> {
        let first = not_before.map_or(0, |time| minute_of(time.timestamp_millis()));
        let last = not_after.map_or(MINUTE_MAX, |position| minute_of(position.millis()));
        // An interval that ends before it begins is an error to DynamoDB.
        if first > last || limit == 0 {
            return Ok(Vec::new());
        }
        let query = self
            .query(self.events_key(event_type))
            .scan_index_forward(false)
            .key_condition_expression("#term = :term AND #place BETWEEN :first AND :last")
            .expression_attribute_names("#place", "place")
            .expression_attribute_values(":first", text(minute_key(first)))
            .expression_attribute_values(":last", text(format!("{}~", minute_key(last))))
            .limit(i32::try_from(limit.max(FEW)).unwrap_or(i32::MAX));
        let earliest = not_before.map_or(i64::MIN, |time| time.timestamp_millis());
        // Only of what happened in the same millisecond the names are looked at: there may be a million others.
        let is_wanted = |place: &EventPlace| {
            let in_time = not_after.is_none_or(|last| match place.millis.cmp(&last.millis()) {
                Ordering::Less => true,
                Ordering::Equal => place.position() <= *last,
                Ordering::Greater => false,
            });
            in_time && place.millis >= earliest
        };
        let mut found: Vec<EventPlace> = Vec::new();
        // Those of the minute at hand, which is read as a whole.
        let (mut minute, mut of_minute) = (String::new(), Vec::new());
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let page = query.clone().set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                let row: EventsRow = self.table.row(item)?;
                if row.minute() != minute {
                    found.append(&mut newest_first(mem::take(&mut of_minute)));
                    // Whatever is in the minutes before is older than all of these.
                    if found.len() >= limit {
                        found.truncate(limit);
                        return Ok(found);
                    }
                    row.minute().clone_into(&mut minute);
                }
                let places = row.places().ok_or_else(|| self.table.unavailable("bytes that are no events"))?;
                of_minute.extend(places.into_iter().filter(is_wanted));
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                found.append(&mut newest_first(of_minute));
                found.truncate(limit);
                return Ok(found);
            }
        }
        Err(self.table.unavailable(format!("{event_type} fills more than {PAGES_MAX} pages")))
    }

    async fn count(&self, stats: &Stats) -> Result<(), Unavailable> {
        let counting: Vec<_> = stats.by_hour().map(|(hour, sums)| self.count_hour(hour, sums)).collect();
        // Whoever is told that some are missing cannot add them.
        all_ended(counting).await.map(drop)
    }

    async fn stats(&self, from: Hour, to: Hour) -> Result<Stats, Unavailable> {
        let mut stats = Stats::default();
        // An interval that ends before it begins is an error to DynamoDB.
        if from >= to {
            return Ok(stats);
        }
        let query = self
            .query(self.hours_key())
            .key_condition_expression("#term = :term AND #place BETWEEN :from AND :to")
            .expression_attribute_names("#place", "place")
            .expression_attribute_values(":from", text(hour_key(from)))
            .expression_attribute_values(":to", text(hour_key(to.previous())));
        let mut start = None;
        for _ in 0..PAGES_MAX {
            let page = query.clone().set_exclusive_start_key(start).send().await;
            let page = page.map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                self.take_in(item, &mut stats)?;
            }
            start = page.last_evaluated_key;
            if start.is_none() {
                return Ok(stats);
            }
        }
        Err(self.table.unavailable(format!("the hours fill more than {PAGES_MAX} pages")))
    }
}

/// Each once: batches overlap.
fn newest_first(mut places: Vec<EventPlace>) -> Vec<EventPlace> {
    let by_position = |one: &EventPlace, other: &EventPlace| {
        other.millis.cmp(&one.millis).then_with(|| other.position().cmp(&one.position()))
    };
    places.sort_unstable_by(by_position);
    places.dedup();
    places
}

/// Of the latest of all times.
const MINUTE_MAX: i64 = 9_999_999_999;

/// None before 1970 is asked for.
fn minute_of(millis: i64) -> i64 {
    millis.div_euclid(MINUTE_MILLIS).clamp(0, MINUTE_MAX)
}

/// Sorts like the minute.
fn minute_key(minute: i64) -> String {
    format!("{minute:010}")
}

/// Sorts like the hour.
fn hour_key(hour: Hour) -> String {
    format!("{:010}", hour.number().max(0))
}

/// The attributes that a sum is stored in: how many, and how much in each currency.
fn counts(stat: Stat, Sum { count, amounts }: &Sum) -> impl Iterator<Item = (String, u64)> {
    let amounts = amounts.iter().map(move |(currency, amount)| (format!("{}:{currency}", stat.name()), *amount));
    std::iter::once((stat.name().to_owned(), *count)).chain(amounts)
}

/// What an attribute of this name stands for; `None` of what another version has counted.
fn counted(name: &str) -> Option<(Stat, Option<Currency>)> {
    let (stat, currency) = name.split_once(':').map_or((name, None), |(stat, code)| (stat, Some(code)));
    let stat = Stat::ALL.into_iter().find(|known| known.name() == stat)?;
    Some((stat, currency.map(Currency::parse_any).transpose().ok()?))
}

/// An item with a customer under a term.
#[derive(Debug, Serialize, Deserialize)]
struct PostingRow {
    term: String,
    place: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
}

/// An item with events of one type and minute.
#[derive(Debug, Serialize, Deserialize)]
struct EventsRow {
    term: String,
    /// The minute, and a name for what is in the item.
    place: String,
    events: ByteBuf,
}

impl EventsRow {
    fn new(term: String, minute: i64, events: Vec<u8>) -> Self {
        let (name, ..) = Uuid::new_v5(&Uuid::NAMESPACE_OID, &events).as_u64_pair();
        Self { term, place: format!("{}/{name:016x}", minute_key(minute)), events: events.into() }
    }

    fn minute(&self) -> &str {
        self.place.split_once('/').map_or("", |(minute, _)| minute)
    }

    fn places(&self) -> Option<Vec<EventPlace>> {
        let (mut places, mut bytes) = (Vec::new(), self.events.as_slice());
        while !bytes.is_empty() {
            let (place, rest) = read_place(bytes)?;
            places.push(place);
            bytes = rest;
        }
        Some(places)
    }
}

/// A storage format: the time, the number of the event, how many come before it in its commit, and the stream. An order's is
/// its id, of 16 bytes; any other its name, after the length of that. 0 stands for an order's, because no name is empty.
fn bytes_of(place: &EventPlace) -> Vec<u8> {
    let before = u16::try_from(place.version.saturating_sub(place.commit)).unwrap_or(u16::MAX);
    let name = place.stream.as_str().as_bytes();
    let order_id = place.stream.order_id().filter(|id| StreamId::order(*id) == place.stream);
    let (length, stream) = match order_id {
        Some(id) => (0, id.uuid().as_bytes().to_vec()),
        None => (u16::try_from(name.len()).unwrap_or(u16::MAX), name.to_vec()),
    };
    let version = u32::try_from(place.version).unwrap_or(u32::MAX);
    [&place.millis.to_be_bytes()[..], &version.to_be_bytes(), &before.to_be_bytes(), &length.to_be_bytes(), &stream]
        .concat()
}

fn read_place(bytes: &[u8]) -> Option<(EventPlace, &[u8])> {
    let (millis, bytes) = bytes.split_first_chunk()?;
    let (version, bytes) = bytes.split_first_chunk()?;
    let (before, bytes) = bytes.split_first_chunk()?;
    let (length, bytes) = bytes.split_first_chunk()?;
    let (stream, bytes) = match u16::from_be_bytes(*length) {
        0 => {
            let (id, bytes) = bytes.split_first_chunk()?;
            (StreamId::order(OrderId::new(Uuid::from_bytes(*id))), bytes)
        }
        length => {
            let (name, bytes) = bytes.split_at_checked(length.into())?;
            (StreamId::new(String::from_utf8(name.to_vec()).ok()?), bytes)
        }
    };
    let version = u64::from(u32::from_be_bytes(*version));
    let commit = version.checked_sub(u16::from_be_bytes(*before).into())?;
    Some((EventPlace { millis: i64::from_be_bytes(*millis), stream, version, commit }, bytes))
}
