//! The read model's table: one item per order with the view as JSON, and beside these what finds and counts them.

use std::collections::BTreeMap;

use application::{
    event_store::Unavailable,
    ports::{CustomerOrders, OpenOrders, OrderViews, SaveError, Standing},
};
use aws_sdk_dynamodb::{
    Client,
    operation::{put_item::PutItemError, query::builders::QueryFluentBuilder},
    types::{AttributeValue, Put, TransactWriteItem, Update, builders::PutBuilder},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderStatus,
    order_view::OrderView,
};
use serde::{Deserialize, Serialize};

use super::{
    Backoff, CONDITION_FAILED, Item, PAGES_MAX, Table, Transacted,
    customer_orders::{Branch, Leaf, Place, Root},
    json_text, number, text,
};

/// The index of the orders that are open, by the time at which they were placed, with their status.
const OPEN_ORDERS: &str = "open-orders";

/// The index of a customer's orders with their status.
const CUSTOMER_ORDERS: &str = "customer-orders";

/// The last digit of an order's id, which is random in ids of every kind: all open orders under one key would be more than a
/// partition takes, and all counts in one item more than one item takes.
const SHARDS: [&str; 16] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "a", "b", "c", "d", "e", "f"];

/// The order views of one generation: everything that it stores is under keys that begin with its number, so that several
/// can be in the table side by side.
pub struct DynamoOrderViews {
    table: Table,
    generation: u32,
}

impl DynamoOrderViews {
    pub fn new(client: Client, table: String, generation: u32) -> Self {
        let table = Table { client, name: table, partition_key: "key", sort_key: None, what: "the order view" };
        Self { table, generation }
    }
}

impl OrderViews for DynamoOrderViews {
    async fn load(&self, id: OrderId) -> Result<Option<OrderView>, Unavailable> {
        let row: Option<ViewRow> = self.table.get(key(self.order_key(id))).await?;
        Ok(row.map(|row| row.view))
    }

    async fn load_many(&self, ids: &[OrderId]) -> Result<Vec<OrderView>, Unavailable> {
        let keys = ids.iter().map(|id| key(self.order_key(*id))).collect();
        let rows: Vec<ViewRow> = self.table.get_many(keys).await?;
        Ok(rows.into_iter().map(|row| row.view).collect())
    }

    async fn place(&self, view: &OrderView) -> Result<(), SaveError> {
        let customer = &view.customer.id;
        let place = Place { placed_at: view.created_at.timestamp_millis(), order_id: view.id };
        let first = self.put(&self.row(view))?.condition_expression("attribute_not_exists(#key)");
        let first = Action::Put(self.built(first.expression_attribute_names("#key", "key"))?);
        let counting = self.counting(view, None)?;
        let mut backoff = Backoff::new();
        loop {
            let root = self.root(customer).await?;
            let leaf = match root.branches.branch_of(place) {
                Some(branch) => self.leaf(customer, branch).await?,
                None => Some(Leaf::default()),
            };
            // Without its leaf the root is not the newest any more.
            if let Some(leaf) = leaf {
                // An order that is listed was placed before, and counted: only its view has been lost since.
                let more = if leaf.has(place) {
                    Vec::new()
                } else {
                    let insertion = self.insertion(customer, &root, leaf, place)?;
                    insertion.into_iter().chain(counting.clone()).collect()
                };
                let actions = [vec![first.clone()], more].concat();
                match self.transact(actions).await? {
                    Saved::Done => return Ok(()),
                    Saved::ViewIsAnother => return Err(SaveError::Superseded),
                    Saved::InTheWay => {}
                }
            }
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    /// A transaction costs twice as much, so there is one only when the order comes to rest, or leaves it.
    async fn save(&self, view: &OrderView, replaces: &OrderView) -> Result<(), SaveError> {
        let put = self
            .put(&self.row(view))?
            .condition_expression("#version = :version AND customer_version = :customer_version")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", number(replaces.version))
            .expression_attribute_values(":customer_version", number(replaces.customer.version));
        let put = self.built(put)?;
        let counting = self.counting(view, Some(replaces))?;
        let mut backoff = Backoff::new();
        loop {
            let saved = match &counting {
                Some(counting) => self.transact(vec![Action::Put(put.clone()), counting.clone()]).await?,
                None => self.replace(&put).await?,
            };
            match saved {
                Saved::Done => return Ok(()),
                Saved::ViewIsAnother => return Err(SaveError::Superseded),
                Saved::InTheWay => backoff.pause().await.map_err(|error| self.table.unavailable(error))?,
            }
        }
    }

    async fn customer_orders(
        &self,
        customer: &CustomerId,
        skip: usize,
        limit: usize,
    ) -> Result<CustomerOrders, Unavailable> {
        let mut backoff = Backoff::new();
        'again: loop {
            let root = self.root(customer).await?.branches;
            let (branches, skip) = root.part(skip, limit);
            let mut ids = Vec::new();
            for branch in branches {
                let Some(leaf) = self.leaf(customer, branch).await? else {
                    // An order was placed between the two reads.
                    backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
                    continue 'again;
                };
                ids.extend(leaf.newest_first());
            }
            let ids = ids.into_iter().skip(skip).take(limit).collect();
            return Ok(CustomerOrders { ids, total: root.total() });
        }
    }

    async fn customer_orders_with_status(
        &self,
        customer: &CustomerId,
        status: OrderStatus,
        skip: usize,
        limit: usize,
    ) -> Result<CustomerOrders, Unavailable> {
        let query = self.table.client.query().table_name(&self.table.name).index_name(CUSTOMER_ORDERS);
        let query = query
            .key_condition_expression("#customer = :customer")
            .filter_expression("#status = :status")
            .expression_attribute_names("#customer", "customer")
            .expression_attribute_names("#status", "status")
            .expression_attribute_values(":customer", text(self.customer_key(customer)))
            .expression_attribute_values(":status", text(status.name()));
        let rows = self.index_rows(query).await?;
        let mut places: Vec<Place> = rows.iter().filter_map(IndexRow::place).collect();
        places.sort_unstable_by(|one, other| other.cmp(one));
        let ids = places.iter().skip(skip).take(limit).map(|place| place.order_id).collect();
        Ok(CustomerOrders { ids, total: places.len() })
    }

    /// One query for each part of the index, until there are enough.
    async fn open_orders(
        &self,
        standing: Standing,
        placed_before: DateTime<Utc>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<OpenOrders, Unavailable> {
        let from: Option<WalkedTo> =
            after.map(serde_json::from_str).transpose().map_err(|error| self.table.unavailable(error))?;
        let WalkedTo { shard: first, entry } = from.unwrap_or_default();
        let mut entry = entry.map(|entry| self.table.item(&entry)).transpose()?;
        let before = placed_before.timestamp_millis();
        let mut ids = Vec::new();
        for (number, shard) in SHARDS.iter().enumerate().skip(first) {
            let room = limit.saturating_sub(ids.len());
            if room == 0 {
                return self.page(ids, Some(WalkedTo { shard: number, entry: None }));
            }
            let query = self.table.client.query().table_name(&self.table.name).index_name(OPEN_ORDERS);
            let page = query
                .key_condition_expression("#open = :part AND placed_at < :before")
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":part", text(self.part_of(shard, standing)))
                .expression_attribute_values(":before", AttributeValue::N(before.to_string()))
                .set_exclusive_start_key(entry.take())
                .limit(i32::try_from(room).unwrap_or(i32::MAX))
                .send()
                .await
                .map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                ids.extend(self.table.row::<IndexRow>(item)?.order_id());
            }
            if let Some(last) = page.last_evaluated_key {
                return self.page(ids, Some(WalkedTo { shard: number, entry: Some(self.table.row(last)?) }));
            }
        }
        self.page(ids, None)
    }

    async fn place_kept(&self) -> Result<Option<String>, Unavailable> {
        let row: Option<PlaceRow> = self.table.get(key(self.place_key())).await?;
        Ok(row.and_then(|row| row.place))
    }

    async fn keep_place(&self, place: Option<&str>) -> Result<(), Unavailable> {
        let item = self.table.item(&PlaceRow { key: self.place_key(), place: place.map(str::to_owned) })?;
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
        put.send().await.map_err(|error| self.table.unavailable(error))?;
        Ok(())
    }

    /// Those at rest are counted as they come to rest; those that are open are few enough to be counted when somebody asks.
    async fn count(&self) -> Result<BTreeMap<OrderStatus, u64>, Unavailable> {
        let mut counts: BTreeMap<OrderStatus, i64> = BTreeMap::new();
        let mut add = |status, more| {
            let count = counts.entry(status).or_default();
            *count = count.saturating_add(more);
        };
        let shards = SHARDS.iter().map(|shard| key(self.count_key(shard))).collect();
        let rows: Vec<CountRow> = self.table.get_many(shards).await?;
        for CountRow { confirmed, cancelled, rejected } in rows {
            add(OrderStatus::Confirmed, confirmed);
            add(OrderStatus::Cancelled, cancelled);
            add(OrderStatus::Rejected, rejected);
        }
        let parts = |shard| [Standing::UnderWay, Standing::Waiting].map(|standing| self.part_of(shard, standing));
        for part in SHARDS.iter().flat_map(|shard| parts(shard)) {
            let query = self.table.client.query().table_name(&self.table.name).index_name(OPEN_ORDERS);
            let query = query
                .key_condition_expression("#open = :part")
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":part", text(part));
            for row in self.index_rows(query).await? {
                add(row.status, 1);
            }
        }
        Ok(counts.into_iter().map(|(status, count)| (status, u64::try_from(count).unwrap_or_default())).collect())
    }
}

/// What became of a write.
enum Saved {
    Done,
    /// The condition on the view did not hold.
    ViewIsAnother,
    /// Others were writing the same items: the same again may do.
    InTheWay,
}

impl DynamoOrderViews {
    fn order_key(&self, id: OrderId) -> String {
        format!("{}/order/{id}", self.generation)
    }

    fn customer_key(&self, customer: &CustomerId) -> String {
        format!("{}/customer/{customer}", self.generation)
    }

    fn leaf_key(&self, customer: &CustomerId, leaf: u32) -> String {
        format!("{}/customer-orders/{leaf}/{customer}", self.generation)
    }

    fn count_key(&self, shard: &str) -> String {
        format!("{}/count/{shard}", self.generation)
    }

    /// The orders that wait for a person have parts of their own: there may be many of them, for long.
    fn part_of(&self, shard: &str, standing: Standing) -> String {
        let waiting = match standing {
            Standing::UnderWay => "",
            Standing::Waiting => "waiting/",
        };
        format!("{}/{waiting}{shard}", self.generation)
    }

    fn place_key(&self) -> String {
        format!("{}/walk-over-open-orders", self.generation)
    }

    fn page(&self, ids: Vec<OrderId>, next: Option<WalkedTo>) -> Result<OpenOrders, Unavailable> {
        let next = next.map(|next| serde_json::to_string(&next)).transpose();
        Ok(OpenOrders { ids, next: next.map_err(|error| self.table.unavailable(error))? })
    }

    fn row(&self, view: &OrderView) -> ViewRow {
        let standing = if view.attention.is_some() { Standing::Waiting } else { Standing::UnderWay };
        let part = || self.part_of(&shard_of(view.id), standing);
        ViewRow {
            key: self.order_key(view.id),
            version: view.version,
            customer_version: view.customer.version,
            customer: self.customer_key(&view.customer.id),
            status: view.status,
            open: view.is_open().then(part),
            placed_at: view.created_at.timestamp_millis(),
            view: view.clone(),
        }
    }

    fn put(&self, row: &impl Serialize) -> Result<PutBuilder, Unavailable> {
        Ok(Put::builder().table_name(&self.table.name).set_item(Some(self.table.item(row)?)))
    }

    fn built(&self, put: PutBuilder) -> Result<Put, Unavailable> {
        put.build().map_err(|error| self.table.unavailable(error))
    }

    /// Counts an order that comes to rest, and one that leaves it.
    fn counting(&self, view: &OrderView, replaces: Option<&OrderView>) -> Result<Option<Action>, Unavailable> {
        let (now, before) = (view.status_at_rest(), replaces.and_then(OrderView::status_at_rest));
        if now == before {
            return Ok(None);
        }
        let mut update = Update::builder().table_name(&self.table.name);
        let mut changes = Vec::new();
        for (status, name, value, change) in [(now, "#now", ":one", "1"), (before, "#before", ":less", "-1")] {
            if let Some(status) = status {
                changes.push(format!("{name} {value}"));
                update = update
                    .expression_attribute_names(name, status.name())
                    .expression_attribute_values(value, AttributeValue::N(change.to_owned()));
            }
        }
        let update = update
            .set_key(Some(key(self.count_key(&shard_of(view.id)))))
            .update_expression(format!("ADD {}", changes.join(", ")))
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        Ok(Some(Action::Update(update)))
    }

    async fn root(&self, customer: &CustomerId) -> Result<RootRow, Unavailable> {
        let key_of_root = self.customer_key(customer);
        let root: Option<RootRow> = self.table.get(key(key_of_root.clone())).await?;
        Ok(root.unwrap_or(RootRow { key: key_of_root, version: 0, branches: Root::default() }))
    }

    /// `None` when orders were placed since the root was read.
    async fn leaf(&self, customer: &CustomerId, branch: Branch) -> Result<Option<Leaf>, Unavailable> {
        let row: Option<LeafRow> = self.table.get(key(self.leaf_key(customer, branch.leaf))).await?;
        Ok(row.map(|row| row.places).filter(|leaf| leaf.belongs_to(branch)))
    }

    /// Puts an order among its customer's, if the root is still as it was read.
    fn insertion(
        &self,
        customer: &CustomerId,
        root: &RootRow,
        leaf: Leaf,
        place: Place,
    ) -> Result<Vec<Action>, Unavailable> {
        let (branches, leaves) = root.branches.insert(leaf, place);
        let row = RootRow { key: root.key.clone(), version: root.version.saturating_add(1), branches };
        let put = match root.version {
            0 => self
                .put(&row)?
                .condition_expression("attribute_not_exists(#key)")
                .expression_attribute_names("#key", "key"),
            version => self
                .put(&row)?
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":version", number(version)),
        };
        let mut actions = vec![Action::Put(self.built(put)?)];
        for (leaf, places) in leaves {
            let row = LeafRow { key: self.leaf_key(customer, leaf), places };
            actions.push(Action::Put(self.built(self.put(&row)?)?));
        }
        Ok(actions)
    }

    /// Writes the view, which comes first, and all that belongs to it.
    async fn transact(&self, actions: Vec<Action>) -> Result<Saved, Unavailable> {
        let items = actions.into_iter().map(Action::into_item).collect();
        Ok(match self.table.transact(items).await? {
            Transacted::Done => Saved::Done,
            Transacted::Cancelled(reasons) => match reasons.first().and_then(|reason| reason.code()) {
                Some(CONDITION_FAILED) => Saved::ViewIsAnother,
                _ => Saved::InTheWay,
            },
        })
    }

    async fn replace(&self, put: &Put) -> Result<Saved, Unavailable> {
        let Put { item, table_name, condition_expression, .. } = put.clone();
        let answer = self
            .table
            .client
            .put_item()
            .table_name(table_name)
            .set_item(Some(item))
            .set_condition_expression(condition_expression)
            .set_expression_attribute_names(put.expression_attribute_names.clone())
            .set_expression_attribute_values(put.expression_attribute_values.clone())
            .send()
            .await;
        let Err(error) = answer else { return Ok(Saved::Done) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(Saved::ViewIsAnother),
            Some(PutItemError::TransactionConflictException(_)) => Ok(Saved::InTheWay),
            _ => Err(self.table.unavailable(error)),
        }
    }

    /// All that a query of an index finds.
    async fn index_rows(&self, query: QueryFluentBuilder) -> Result<Vec<IndexRow>, Unavailable> {
        let mut rows = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let page = query.clone().set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                rows.push(self.table.row(item)?);
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(rows);
            }
        }
        Err(self.table.unavailable(format!("a part of an index fills more than {PAGES_MAX} pages")))
    }
}

/// One write of a transaction.
#[derive(Clone)]
enum Action {
    Put(Put),
    Update(Update),
}

impl Action {
    fn into_item(self) -> TransactWriteItem {
        match self {
            Self::Put(put) => TransactWriteItem::builder().put(put).build(),
            Self::Update(update) => TransactWriteItem::builder().update(update).build(),
        }
    }
}

fn key(key: String) -> Item {
    Item::from([("key".to_owned(), text(key))])
}

fn shard_of(id: OrderId) -> String {
    id.to_string().chars().last().into_iter().collect()
}

/// An item with the view of an order. What conditions and indexes look at stands beside the view.
#[derive(Debug, Serialize, Deserialize)]
struct ViewRow {
    key: String,
    version: u64,
    customer_version: u64,
    customer: String,
    status: OrderStatus,
    /// Absent when the order has come to rest, and with it its entry in the index.
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<String>,
    placed_at: i64,
    #[serde(with = "json_text")]
    view: OrderView,
}

/// An entry of either index.
#[derive(Debug, Deserialize)]
struct IndexRow {
    key: String,
    status: OrderStatus,
    placed_at: i64,
}

impl IndexRow {
    fn order_id(&self) -> Option<OrderId> {
        self.key.rsplit('/').next().and_then(OrderId::parse)
    }

    fn place(&self) -> Option<Place> {
        Some(Place { placed_at: self.placed_at, order_id: self.order_id()? })
    }
}

/// How many orders of one shard have come to rest with each status, less those that have left it again. Below 0 where an
/// order was counted under another shard, as long as shards were told apart by the first digit; their sum is right.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CountRow {
    confirmed: i64,
    cancelled: i64,
    rejected: i64,
}

/// Where a walk over the open orders has come to: in which part of the index, and which of its entries it has met last.
#[derive(Debug, Default, Serialize, Deserialize)]
struct WalkedTo {
    shard: usize,
    entry: Option<OpenEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OpenEntry {
    key: String,
    open: String,
    placed_at: i64,
}

/// The item that keeps the place of a walk.
#[derive(Debug, Serialize, Deserialize)]
struct PlaceRow {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<String>,
}

/// The item that a customer's leaves are found by.
#[derive(Debug, Serialize, Deserialize)]
struct RootRow {
    key: String,
    /// One more with each order.
    version: u64,
    branches: Root,
}

/// An item with a part of a customer's orders.
#[derive(Debug, Serialize, Deserialize)]
struct LeafRow {
    key: String,
    places: Leaf,
}
