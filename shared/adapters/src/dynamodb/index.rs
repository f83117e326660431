//! The index of terms: one item per posting, smaller than a write unit, in lists that are sorted by time.

use std::collections::BTreeMap;

use application::{
    event_store::Unavailable,
    ports::{Entry, Index, Position, Posting},
};
use aws_sdk_dynamodb::{
    Client,
    types::{PutRequest, WriteRequest},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Item, PAGES_MAX, Table, text};

pub struct DynamoIndex {
    table: Table,
    prefix: String,
}

impl DynamoIndex {
    /// The prefix stands before every term: two indexes with different ones share a table and nothing else.
    pub fn new(client: Client, table: String, prefix: String) -> Self {
        let table =
            Table { client, name: table, partition_key: "term", sort_key: Some("place"), what: "the index of terms" };
        Self { table, prefix }
    }

    /// The entries as rows. The same key twice in one request is an error to `DynamoDB`.
    fn rows(&self, entries: &[Entry]) -> impl Iterator<Item = PostingRow> {
        let rows = entries.iter().map(|Entry { term, posting }| {
            let (term, place) = (self.key(term), place(&posting.position()));
            ((term.clone(), place.clone()), PostingRow { term, place, text: posting.text.clone() })
        });
        rows.collect::<BTreeMap<_, _>>().into_values()
    }

    fn key(&self, term: &str) -> String {
        format!("{}{term}", self.prefix)
    }
}

impl Index for DynamoIndex {
    async fn add(&self, entries: &[Entry]) -> Result<(), Unavailable> {
        let mut requests = Vec::with_capacity(entries.len());
        for row in self.rows(entries) {
            let put = PutRequest::builder().set_item(Some(self.table.item(&row)?)).build();
            let put = put.map_err(|error| self.table.unavailable(error))?;
            requests.push(WriteRequest::builder().put_request(put).build());
        }
        self.table.write(requests).await
    }

    async fn remove(&self, entries: &[Entry]) -> Result<(), Unavailable> {
        let key = |PostingRow { term, place, .. }| {
            Item::from([("term".to_owned(), text(term)), ("place".to_owned(), text(place))])
        };
        self.table.delete(self.rows(entries).map(key).collect()).await
    }

    async fn newest(
        &self,
        term: &str,
        not_after: Option<&Position>,
        not_before: Option<DateTime<Utc>>,
        limit: usize,
    ) -> Result<Vec<Posting>, Unavailable> {
        let last = not_after.map_or_else(|| AFTER_EVERY_PLACE.to_owned(), place);
        let first = not_before.map_or_else(|| BEFORE_EVERY_PLACE.to_owned(), |time| place(&Position::start_of(time)));
        // An interval that ends before it begins is an error to DynamoDB.
        if first > last {
            return Ok(Vec::new());
        }
        let query = self
            .table
            .client
            .query()
            .table_name(&self.table.name)
            .consistent_read(true)
            .scan_index_forward(false)
            .key_condition_expression("#term = :term AND #place BETWEEN :first AND :last")
            .expression_attribute_names("#term", "term")
            .expression_attribute_names("#place", "place")
            .expression_attribute_values(":term", text(self.key(term)))
            .expression_attribute_values(":first", text(first))
            .expression_attribute_values(":last", text(last));
        let mut postings = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let Some(wanted @ 1..) = limit.checked_sub(postings.len()) else { return Ok(postings) };
            let page = query.clone().set_exclusive_start_key(from).limit(i32::try_from(wanted).unwrap_or(i32::MAX));
            let page = page.send().await.map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                let row: PostingRow = self.table.row(item)?;
                postings.push(row.posting().ok_or_else(|| self.table.unavailable("a place that is none"))?);
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(postings);
            }
        }
        Err(self.table.unavailable(format!("{term} fills more than {PAGES_MAX} pages")))
    }
}

/// Every place begins with a digit.
const BEFORE_EVERY_PLACE: &str = "0";
const AFTER_EVERY_PLACE: &str = ":";

/// A position as text that sorts like it. As many digits as the latest of all times has; none before 1970 is asked for.
fn place(position: &Position) -> String {
    format!("{:016}/{}", position.millis().max(0), position.id())
}

/// An item of the index table.
#[derive(Debug, Serialize, Deserialize)]
struct PostingRow {
    term: String,
    place: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    text: String,
}

impl PostingRow {
    fn posting(self) -> Option<Posting> {
        let (millis, id) = self.place.split_once('/')?;
        let at = DateTime::from_timestamp_millis(millis.parse().ok()?)?;
        Some(Posting { at, id: id.to_owned(), text: self.text })
    }
}
