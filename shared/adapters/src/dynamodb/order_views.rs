//! The read model's table: one item per order with the view as JSON, and beside these what finds and counts them.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use application::{
    event_store::Unavailable,
    ports::{CustomerOrders, OpenOrders, OrderViews, PlacedOrder, Position, SaveError, Standing, VIEWS_MAX},
};
use aws_sdk_dynamodb::{
    Client,
    operation::{put_item::PutItemError, query::builders::QueryFluentBuilder},
    types::{AttributeValue, Put, Select, TransactWriteItem, Update},
};
use chrono::{DateTime, Utc};
use domain::{
    ids::{CustomerId, OrderId},
    order::OrderStatus,
    order_view::{CustomerView, OrderView},
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use super::{
    AT_ONCE, Backoff, Item, PAGES_MAX, Table, Transacted, all_ended,
    customer_orders::{Change, Head, Leaf, Listed, Root},
    json_text, number, packed_json, text,
};

/// The index of the orders that are open or in doubt, by the time since which they are so. It is written when an order is placed and when
/// it comes to rest: nothing that changes in between is in it.
const OPEN_ORDERS: &str = "open-orders";

/// How many orders of one part of the index there may be in one millisecond: far more than are ever placed.
const SAME_MILLISECOND_MAX: usize = 10;

/// The most views that are read to count the orders under way by their status.
const LOOKED_AT_MAX: usize = 1_000;

/// How many customers' orders are listed in one transaction: a few, since all of it is for nothing when others are at one of them.
const HEADS_AT_ONCE: usize = 16;

/// The most orders of a customer that are listed together with other customers'.
const ORDERS_TOGETHER: usize = 3;

/// How often customers' orders are listed together, before each order is listed by itself.
const GROUP_TRIES: usize = 2;

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

    async fn save(&self, view: &OrderView, replaces: Option<&OrderView>) -> Result<(), SaveError> {
        let item = self.table.item(&self.row(view))?;
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
        let put = match replaces {
            None => put.condition_expression("attribute_not_exists(#key)").expression_attribute_names("#key", "key"),
            Some(replaces) => put
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":version", number(replaces.version)),
        };
        let Err(error) = put.send().await else { return Ok(()) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Err(SaveError::Superseded),
            _ => Err(self.table.unavailable(error).into()),
        }
    }

    /// A transaction only where more than the head changes: when the order comes to rest, which is counted, and when the tree
    /// changes.
    async fn list(&self, view: &OrderView) -> Result<bool, Unavailable> {
        let customer = &view.customer.id;
        let listed = Listed::of(view);
        let mut backoff = Backoff::new();
        loop {
            let row = self.head(customer).await?;
            let (head, mut actions, stood) = match row.head.put(listed) {
                Change::Nothing => return Ok(false),
                Change::Head(head, stood) => {
                    let adopted =
                        row.adopted.as_ref().map(|(root, _)| self.put_root(customer, root, &row)).transpose()?;
                    (Some(head), adopted.into_iter().collect(), stood)
                }
                Change::Tree(head, orders, stood_in_head) => match self.in_tree(customer, &row, &orders).await? {
                    Some((_, _, Some(stood))) if stood == listed => return Ok(false),
                    Some((root, puts, stood)) => (Some(head.with_tree(&root)), puts, stood_in_head.or(stood)),
                    None => (None, Vec::new(), None),
                },
            };
            if let Some(head) = head {
                let mut counted = Counted::default();
                counted.change(listed.at_rest, stood.and_then(|stood| stood.at_rest));
                actions.extend(self.counting(&shard_of(view.id), &counted)?);
                if self.write(&row, head, actions).await? {
                    return Ok(true);
                }
            }
            // Somebody else has changed something since the head was read.
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    async fn list_many(&self, views: &[OrderView]) -> Result<(), Unavailable> {
        if let [view] = views {
            return self.list(view).await.map(drop);
        }
        let mut by_customer: BTreeMap<&CustomerId, Vec<&OrderView>> = BTreeMap::new();
        for view in views {
            by_customer.entry(&view.customer.id).or_default().push(view);
        }
        // Who has many orders here has others elsewhere, and somebody may be at them: that is to stop nobody else's.
        let (many, few): (Vec<_>, Vec<_>) =
            by_customer.into_iter().partition(|(_, views)| views.len() > ORDERS_TOGETHER);
        let groups = few.chunks(HEADS_AT_ONCE).map(<[_]>::to_vec).chain(many.into_iter().map(|of| vec![of]));
        let (mut groups, mut left): (Vec<Vec<OfCustomer<'_>>>, Vec<OfCustomer<'_>>) = (groups.collect(), Vec::new());
        // Each group counts elsewhere: only the sum of all parts means anything.
        let first = views.first().map(|view| shard_of(view.id));
        let first = SHARDS.iter().position(|shard| first.as_deref() == Some(*shard)).unwrap_or_default();
        // Once more together where others were at one of them: that one has them all left over.
        for _ in 0..GROUP_TRIES {
            let parts = SHARDS.iter().cycle().skip(first);
            let listed = groups.into_iter().zip(parts).map(|(of, part)| self.list_in_heads(of, part));
            let not_listed = all_ended(listed.collect()).await?;
            groups = Vec::new();
            for NotListed { in_tree, overtaken } in not_listed {
                left.extend(in_tree);
                groups.extend(Some(overtaken).filter(|of| !of.is_empty()));
            }
        }
        left.extend(groups.concat());
        let each = left.into_iter().map(|(_, views)| async move {
            for view in views {
                self.list(view).await?;
            }
            Ok(())
        });
        all_ended(each.collect()).await.map(drop)
    }

    async fn customer_orders(
        &self,
        customer: &CustomerId,
        skip: usize,
        limit: usize,
    ) -> Result<CustomerOrders, Unavailable> {
        let (listed, total) = self.listed(customer, skip, limit).await?;
        Ok(CustomerOrders { orders: listed.into_iter().map(|listed| listed.order).collect(), total })
    }

    async fn customer_orders_with_status(
        &self,
        customer: &CustomerId,
        status: OrderStatus,
        skip: usize,
        limit: usize,
    ) -> Result<CustomerOrders, Unavailable> {
        let (listed, _) = self.listed(customer, 0, usize::MAX).await?;
        let open: Vec<OrderId> =
            listed.iter().filter(|listed| listed.at_rest.is_none()).map(|listed| listed.order.id).collect();
        let mut statuses: BTreeMap<OrderId, OrderStatus> = BTreeMap::new();
        for ids in open.chunks(VIEWS_MAX) {
            statuses.extend(self.load_many(ids).await?.into_iter().map(|view| (view.id, view.status)));
        }
        let has = |listed: &Listed| listed.at_rest.or_else(|| statuses.get(&listed.order.id).copied()) == Some(status);
        let orders: Vec<PlacedOrder> = listed.into_iter().filter(has).map(|listed| listed.order).collect();
        let total = orders.len();
        Ok(CustomerOrders { orders: orders.into_iter().skip(skip).take(limit).collect(), total })
    }

    async fn customers(&self, ids: &[CustomerId]) -> Result<Vec<CustomerView>, Unavailable> {
        let keys = ids.iter().map(|id| key(self.profile_key(id))).collect();
        let rows: Vec<CustomerRow> = self.table.get_many(keys).await?;
        Ok(rows.into_iter().map(|row| row.customer).collect())
    }

    async fn save_customer(&self, customer: &CustomerView) -> Result<(), Unavailable> {
        let row =
            CustomerRow { key: self.profile_key(&customer.id), version: customer.version, customer: customer.clone() };
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(self.table.item(&row)?));
        let put = put
            .condition_expression("attribute_not_exists(#key) OR #version < :version")
            .expression_attribute_names("#key", "key")
            .expression_attribute_names("#version", "version")
            .expression_attribute_values(":version", number(customer.version));
        let Err(error) = put.send().await else { return Ok(()) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(_)) => Ok(()),
            _ => Err(self.table.unavailable(error)),
        }
    }

    /// One query for each part of the index, until there are enough.
    async fn open_orders(
        &self,
        standing: Standing,
        before: DateTime<Utc>,
        after: Option<&str>,
        limit: usize,
    ) -> Result<OpenOrders, Unavailable> {
        let from: Option<WalkedTo> =
            after.map(serde_json::from_str).transpose().map_err(|error| self.table.unavailable(error))?;
        let WalkedTo { shard: first, entry } = from.unwrap_or_default();
        let mut entry = entry.map(|entry| self.table.item(&entry)).transpose()?;
        let before = before.timestamp_millis();
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

    /// The newest of each part of the index, all parts at once.
    async fn newest_open(
        &self,
        standing: Standing,
        not_before: DateTime<Utc>,
        before: &Position,
        limit: usize,
    ) -> Result<Vec<PlacedOrder>, Unavailable> {
        if before.millis() < not_before.timestamp_millis() {
            return Ok(Vec::new());
        }
        let of_part = async |shard: &&str| {
            let query = self.table.client.query().table_name(&self.table.name).index_name(OPEN_ORDERS);
            let query = query
                .key_condition_expression("#open = :part AND placed_at BETWEEN :from AND :to")
                .expression_attribute_names("#open", "open")
                .expression_attribute_values(":part", text(self.part_of(shard, standing)))
                .expression_attribute_values(":from", AttributeValue::N(not_before.timestamp_millis().to_string()))
                // Of this time, there may be some.
                .expression_attribute_values(":to", AttributeValue::N(before.millis().to_string()))
                .scan_index_forward(false)
                .limit(i32::try_from(limit.saturating_add(SAME_MILLISECOND_MAX)).unwrap_or(i32::MAX));
            let page = query.send().await.map_err(|error| self.table.unavailable(error))?;
            let rows = page.items.unwrap_or_default().into_iter().map(|item| self.table.row::<IndexRow>(item));
            rows.collect::<Result<Vec<IndexRow>, Unavailable>>()
        };
        let parts = stream::iter(SHARDS.iter().map(of_part)).buffer_unordered(AT_ONCE);
        let parts: Vec<Vec<IndexRow>> = parts.try_collect().await?;
        let orders = parts.iter().flatten().filter_map(IndexRow::order);
        let mut orders: Vec<PlacedOrder> = orders.filter(|order| order.position() < *before).collect();
        orders.sort_by(|one, other| other.cmp(one));
        orders.truncate(limit);
        Ok(orders)
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

    /// Those at rest are counted as they come to rest, and those that wait need only be counted. Those under way are looked at
    /// when somebody asks: all of up to a thousand, and some of more, so that their status is about right then.
    async fn count(&self) -> Result<BTreeMap<OrderStatus, u64>, Unavailable> {
        let mut counts: BTreeMap<OrderStatus, i64> = BTreeMap::new();
        let mut add = |status, more: i64| {
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
        let parts = |standing| SHARDS.map(|shard| self.part_of(shard, standing));
        let waiting: Vec<_> = parts(Standing::Waiting).into_iter().map(|part| self.open_count(part)).collect();
        let waiting: Vec<i32> = stream::iter(waiting).buffer_unordered(AT_ONCE).try_collect().await?;
        add(OrderStatus::NeedsAttention, waiting.into_iter().map(i64::from).sum());
        let under_way: Vec<_> = parts(Standing::UnderWay).into_iter().map(|part| self.open_ids(part)).collect();
        let under_way: Vec<Vec<OrderId>> = stream::iter(under_way).buffer_unordered(AT_ONCE).try_collect().await?;
        let under_way = under_way.concat();
        // Of a great many, each of so many stands for those after it: whoever asks does so every few seconds.
        let each = under_way.len().div_ceil(LOOKED_AT_MAX).max(1);
        let looked_at: Vec<OrderId> = under_way.iter().copied().step_by(each).collect();
        let views: Vec<_> = looked_at.chunks(VIEWS_MAX).map(|ids| self.load_many(ids)).collect();
        let views: Vec<Vec<OrderView>> = stream::iter(views).buffer_unordered(AT_ONCE).try_collect().await?;
        // The index may be a moment behind the view, and what waits is counted already.
        for view in views.concat().iter().filter(|view| view.is_open() && view.attention.is_none()) {
            add(view.status, i64::try_from(each).unwrap_or(i64::MAX));
        }
        Ok(counts.into_iter().map(|(status, count)| (status, u64::try_from(count).unwrap_or_default())).collect())
    }
}

const AS_IT_WAS_READ: &str = "attribute_not_exists(#key) OR revision = :revision";

/// A customer, and orders of theirs.
type OfCustomer<'v> = (&'v CustomerId, Vec<&'v OrderView>);

/// Of orders that were to be listed in their customers' heads, those that were not.
#[derive(Default)]
struct NotListed<'v> {
    /// More than the head changes.
    in_tree: Vec<OfCustomer<'v>>,
    /// Others were at the same items.
    overtaken: Vec<OfCustomer<'v>>,
}

/// The leaves and the root of a tree as they are to be, as puts, and how an order stood there before, unless it is new.
type InTree = (Root, Vec<TransactWriteItem>, Option<Listed>);

impl DynamoOrderViews {
    fn order_key(&self, id: OrderId) -> String {
        format!("{}/order/{id}", self.generation)
    }

    fn profile_key(&self, customer: &CustomerId) -> String {
        format!("{}/profile/{customer}", self.generation)
    }

    fn head_key(&self, customer: &CustomerId) -> String {
        format!("{}/newest/{customer}", self.generation)
    }

    fn root_key(&self, customer: &CustomerId) -> String {
        format!("{}/customer/{customer}", self.generation)
    }

    fn leaf_key(&self, customer: &CustomerId, leaf: u32) -> String {
        format!("{}/customer-orders/{leaf}/{customer}", self.generation)
    }

    fn count_key(&self, shard: &str) -> String {
        format!("{}/count/{shard}", self.generation)
    }

    /// The orders that wait for a person have parts of their own: there may be many of them, for long. So have those in doubt.
    fn part_of(&self, shard: &str, standing: Standing) -> String {
        let standing = match standing {
            Standing::UnderWay => "",
            Standing::Waiting => "waiting/",
            Standing::InDoubt => "in-doubt/",
        };
        format!("{}/{standing}{shard}", self.generation)
    }

    fn place_key(&self) -> String {
        format!("{}/walk-over-open-orders", self.generation)
    }

    fn page(&self, ids: Vec<OrderId>, next: Option<WalkedTo>) -> Result<OpenOrders, Unavailable> {
        let next = next.map(|next| serde_json::to_string(&next)).transpose();
        Ok(OpenOrders { ids, next: next.map_err(|error| self.table.unavailable(error))? })
    }

    fn row(&self, view: &OrderView) -> ViewRow {
        let standing = Standing::of(view);
        ViewRow {
            key: self.order_key(view.id),
            version: view.version,
            open: standing.map(|standing| self.part_of(&shard_of(view.id), standing)),
            placed_at: standing.map(|_| Standing::since(view).timestamp_millis()),
            view: view.clone(),
        }
    }

    /// Writes the change of the counts into a part of them; nothing where there is none.
    fn counting(&self, part: &str, Counted(changes): &Counted) -> Result<Option<TransactWriteItem>, Unavailable> {
        let mut update = Update::builder().table_name(&self.table.name);
        let mut added = Vec::new();
        for (number, (status, change)) in changes.iter().filter(|(_, change)| **change != 0).enumerate() {
            added.push(format!("#status{number} :change{number}"));
            update = update
                .expression_attribute_names(format!("#status{number}"), status.name())
                .expression_attribute_values(format!(":change{number}"), AttributeValue::N(change.to_string()));
        }
        if added.is_empty() {
            return Ok(None);
        }
        let update = update
            .set_key(Some(key(self.count_key(part))))
            .update_expression(format!("ADD {}", added.join(", ")))
            .build()
            .map_err(|error| self.table.unavailable(error))?;
        Ok(Some(TransactWriteItem::builder().update(update).build()))
    }

    /// Lists orders of several customers in their heads: in one transaction with the counts, if there is anything to count.
    async fn list_in_heads<'v>(
        &self,
        customers: Vec<OfCustomer<'v>>,
        part: &str,
    ) -> Result<NotListed<'v>, Unavailable> {
        let keys = customers.iter().map(|(customer, _)| key(self.head_key(customer))).collect();
        let rows: Vec<HeadRow> = self.table.get_many(keys).await?;
        let mut rows: HashMap<String, HeadRow> = rows.into_iter().map(|row| (row.key.clone(), row)).collect();
        let new = customers.iter().map(|(customer, _)| *customer).filter(|of| !rows.contains_key(&self.head_key(of)));
        let keys = new.map(|customer| key(self.root_key(customer))).collect();
        let roots: Vec<RootRow> = self.table.get_many(keys).await?;
        let to_adopt: BTreeSet<String> = roots.into_iter().map(|root| root.key).collect();

        let (mut changed, mut counted, mut not_listed) = (Vec::new(), Counted::default(), NotListed::default());
        for (customer, views) in customers {
            let key = self.head_key(customer);
            let row = rows.remove(&key).unwrap_or_else(|| HeadRow::new(key));
            let orders: Vec<Listed> = views.iter().map(|view| Listed::of(view)).collect();
            match row.head.put_all(&orders).filter(|_| !to_adopt.contains(&self.root_key(customer))) {
                None => not_listed.in_tree.push((customer, views)),
                Some((head, stood)) => {
                    for (order, stood) in orders.iter().zip(stood) {
                        counted.change(order.at_rest, stood.and_then(|stood| stood.at_rest));
                    }
                    if head != row.head {
                        changed.push(((customer, views), row, head));
                    }
                }
            }
        }
        if let Some(count) = self.counting(part, &counted)? {
            let mut writes = vec![count];
            for (_, row, head) in &changed {
                writes.push(self.put_head(row, head.clone())?);
            }
            if matches!(self.table.transact(writes).await?, Transacted::Cancelled) {
                not_listed.overtaken.extend(changed.into_iter().map(|(of, ..)| of));
            }
        } else {
            let writes = changed.into_iter().map(|(of, row, head)| async move {
                let written = self.write(&row, head, Vec::new()).await?;
                Ok((!written).then_some(of))
            });
            not_listed.overtaken.extend(all_ended(writes.collect()).await?.into_iter().flatten());
        }
        Ok(not_listed)
    }

    /// A customer of whom there is no head yet may have a tree: that was all there was before there were heads.
    async fn head(&self, customer: &CustomerId) -> Result<HeadRow, Unavailable> {
        let key_of_head = self.head_key(customer);
        if let Some(head) = self.table.get(key(key_of_head.clone())).await? {
            return Ok(head);
        }
        let root: Option<RootRow> = self.table.get(key(self.root_key(customer))).await?;
        let Some(RootRow { version, branches: root, .. }) = root else { return Ok(HeadRow::new(key_of_head)) };
        let last = match root.last() {
            Some(branch) => self.table.get::<LeafRow>(key(self.leaf_key(customer, branch.leaf))).await?,
            None => None,
        };
        let head = Head::of(&root, last.map(|row| row.leaf).as_ref());
        Ok(HeadRow { key: key_of_head, revision: 0, head, adopted: version.map(|version| (root, version)) })
    }

    async fn root(&self, customer: &CustomerId) -> Result<Root, Unavailable> {
        let root: Option<RootRow> = self.table.get(key(self.root_key(customer))).await?;
        Ok(root.map(|root| root.branches).unwrap_or_default())
    }

    /// A root that was there before there was a head is written with the first one, and only if it is as it was read: without a
    /// version, which whoever knows of no heads asks for.
    fn put_root(&self, customer: &CustomerId, root: &Root, read: &HeadRow) -> Result<TransactWriteItem, Unavailable> {
        let row = RootRow { key: self.root_key(customer), version: None, branches: root.clone() };
        let mut put = Put::builder().table_name(&self.table.name).set_item(Some(self.table.item(&row)?));
        if let Some((_, version)) = &read.adopted {
            put = put
                .condition_expression("#version = :version")
                .expression_attribute_names("#version", "version")
                .expression_attribute_values(":version", number(*version));
        }
        let put = put.build().map_err(|error| self.table.unavailable(error))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// `None` when the tree has changed since the head was read.
    async fn in_tree(
        &self,
        customer: &CustomerId,
        row: &HeadRow,
        orders: &[Listed],
    ) -> Result<Option<InTree>, Unavailable> {
        let mut root = self.root(customer).await?;
        if root.total() != row.head.before {
            return Ok(None);
        }
        let leaf = match orders.first().and_then(|first| root.branch_of(first.order)) {
            None => Leaf::default(),
            Some(branch) => {
                let leaf: Option<LeafRow> = self.table.get(key(self.leaf_key(customer, branch.leaf))).await?;
                match leaf.map(|row| row.leaf).filter(|leaf| leaf.belongs_to(branch)) {
                    Some(leaf) => leaf,
                    None => return Ok(None),
                }
            }
        };
        let (leaves, stood) = root.put(leaf, orders);
        let mut puts = vec![self.put_root(customer, &root, row)?];
        for (number, leaf) in leaves {
            puts.push(self.put(&LeafRow { key: self.leaf_key(customer, number), leaf })?);
        }
        Ok(Some((root, puts, stood)))
    }

    fn put(&self, row: &impl Serialize) -> Result<TransactWriteItem, Unavailable> {
        let put = Put::builder().table_name(&self.table.name).set_item(Some(self.table.item(row)?)).build();
        Ok(TransactWriteItem::builder().put(put.map_err(|error| self.table.unavailable(error))?).build())
    }

    /// Writes the head in place of the one that was read, and all that changes with it; answers false when another one is there.
    async fn write(&self, read: &HeadRow, head: Head, more: Vec<TransactWriteItem>) -> Result<bool, Unavailable> {
        if !more.is_empty() {
            let written = self.table.transact([vec![self.put_head(read, head)?], more].concat()).await?;
            return Ok(matches!(written, Transacted::Done));
        }
        let (item, names, value) = self.replacing(read, head)?;
        let put = self.table.client.put_item().table_name(&self.table.name).set_item(Some(item));
        let put = put.condition_expression(AS_IT_WAS_READ).set_expression_attribute_names(Some(names));
        let Err(error) = put.set_expression_attribute_values(Some(value)).send().await else { return Ok(true) };
        match error.as_service_error() {
            Some(PutItemError::ConditionalCheckFailedException(_) | PutItemError::TransactionConflictException(_)) => {
                Ok(false)
            }
            _ => Err(self.table.unavailable(error)),
        }
    }

    fn put_head(&self, read: &HeadRow, head: Head) -> Result<TransactWriteItem, Unavailable> {
        let (item, names, value) = self.replacing(read, head)?;
        let put = Put::builder().table_name(&self.table.name).set_item(Some(item)).condition_expression(AS_IT_WAS_READ);
        let put = put.set_expression_attribute_names(Some(names)).set_expression_attribute_values(Some(value)).build();
        Ok(TransactWriteItem::builder().put(put.map_err(|error| self.table.unavailable(error))?).build())
    }

    /// The item of a head, and the names and values of the condition that it is [as it was read](AS_IT_WAS_READ).
    fn replacing(&self, read: &HeadRow, head: Head) -> Result<(Item, HashMap<String, String>, Item), Unavailable> {
        let row = HeadRow { key: read.key.clone(), revision: read.revision.saturating_add(1), head, adopted: None };
        let names = HashMap::from([("#key".to_owned(), "key".to_owned())]);
        Ok((self.table.item(&row)?, names, Item::from([(":revision".to_owned(), number(read.revision))])))
    }

    /// A customer's orders from number `skip` on, the newest first, and how many there are in all.
    async fn listed(
        &self,
        customer: &CustomerId,
        skip: usize,
        limit: usize,
    ) -> Result<(Vec<Listed>, usize), Unavailable> {
        let mut backoff = Backoff::new();
        loop {
            let head = self.head(customer).await?.head;
            let newest: Vec<Listed> = head.newest.newest_first().collect();
            let older = skip.saturating_sub(newest.len());
            let mut listed: Vec<Listed> = newest.into_iter().skip(skip).take(limit).collect();
            let limit = limit.saturating_sub(listed.len());
            if limit == 0 || head.before <= older {
                return Ok((listed, head.total()));
            }
            if let Some(more) = self.older(customer, head.before, older, limit).await? {
                listed.extend(more);
                return Ok((listed, head.total()));
            }
            // Orders were put into the tree between the reads.
            backoff.pause().await.map_err(|error| self.table.unavailable(error))?;
        }
    }

    /// Those in the tree; `None` when it is not the one with so many orders in all.
    async fn older(
        &self,
        customer: &CustomerId,
        total: usize,
        skip: usize,
        limit: usize,
    ) -> Result<Option<Vec<Listed>>, Unavailable> {
        let root = self.root(customer).await?;
        if root.total() != total {
            return Ok(None);
        }
        let (branches, skip) = root.part(skip, limit);
        let mut listed = Vec::new();
        for branches in branches.chunks(VIEWS_MAX) {
            let keys = branches.iter().map(|branch| key(self.leaf_key(customer, branch.leaf))).collect();
            let rows: Vec<LeafRow> = self.table.get_many(keys).await?;
            let mut leaves: BTreeMap<String, Leaf> = rows.into_iter().map(|row| (row.key, row.leaf)).collect();
            for branch in branches {
                match leaves.remove(&self.leaf_key(customer, branch.leaf)) {
                    Some(leaf) if leaf.belongs_to(*branch) => listed.extend(leaf.newest_first()),
                    _ => return Ok(None),
                }
            }
        }
        Ok(Some(listed.into_iter().skip(skip).take(limit).collect()))
    }

    fn part(&self, part: String) -> QueryFluentBuilder {
        let query = self.table.client.query().table_name(&self.table.name).index_name(OPEN_ORDERS);
        query
            .key_condition_expression("#open = :part")
            .expression_attribute_names("#open", "open")
            .expression_attribute_values(":part", text(part))
    }

    /// How many orders there are in a part of the index.
    async fn open_count(&self, part: String) -> Result<i32, Unavailable> {
        let query = self.part(part).select(Select::Count);
        let (mut count, mut from) = (0_i32, None);
        for _ in 0..PAGES_MAX {
            let page = query.clone().set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| self.table.unavailable(error))?;
            count = count.saturating_add(page.count);
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(count);
            }
        }
        Err(self.table.unavailable(format!("a part of an index fills more than {PAGES_MAX} pages")))
    }

    /// All orders in a part of the index.
    async fn open_ids(&self, part: String) -> Result<Vec<OrderId>, Unavailable> {
        let query = self.part(part);
        let mut ids = Vec::new();
        let mut from = None;
        for _ in 0..PAGES_MAX {
            let page = query.clone().set_exclusive_start_key(from).send().await;
            let page = page.map_err(|error| self.table.unavailable(error))?;
            for item in page.items.unwrap_or_default() {
                ids.extend(self.table.row::<IndexRow>(item)?.order_id());
            }
            from = page.last_evaluated_key;
            if from.is_none() {
                return Ok(ids);
            }
        }
        Err(self.table.unavailable(format!("a part of an index fills more than {PAGES_MAX} pages")))
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
    /// Absent when the order has come to rest, and with it its entry in the index.
    #[serde(skip_serializing_if = "Option::is_none")]
    open: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    placed_at: Option<i64>,
    #[serde(with = "packed_json")]
    view: OrderView,
}

/// An item with a customer as they are now.
#[derive(Debug, Serialize, Deserialize)]
struct CustomerRow {
    key: String,
    version: u64,
    #[serde(with = "json_text")]
    customer: CustomerView,
}

/// An entry of the index.
#[derive(Debug, Deserialize)]
struct IndexRow {
    key: String,
    placed_at: i64,
}

/// How much there is to be added to the counts.
#[derive(Debug, Default)]
struct Counted(BTreeMap<OrderStatus, i64>);

impl Counted {
    /// An order comes to rest, or leaves it.
    fn change(&mut self, now: Option<OrderStatus>, before: Option<OrderStatus>) {
        for (status, change) in [(now, 1), (before, -1)] {
            if let Some(status) = status {
                let count = self.0.entry(status).or_default();
                *count = count.saturating_add(change);
            }
        }
    }
}

impl IndexRow {
    fn order_id(&self) -> Option<OrderId> {
        self.key.rsplit('/').next().and_then(OrderId::parse)
    }

    fn order(&self) -> Option<PlacedOrder> {
        self.order_id().map(|id| PlacedOrder { millis: self.placed_at, id })
    }
}

/// How many orders have come to rest with each status, as far as it was counted in one shard, less those that have left it again.
/// Below 0 where an order was counted under another shard; their sum is right.
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

/// The item with a customer's newest orders.
#[derive(Debug, Serialize, Deserialize)]
struct HeadRow {
    key: String,
    /// One more with each change of anything that belongs to it; 0 for one that is not there yet.
    revision: u64,
    #[serde(flatten)]
    head: Head,
    /// The root, and its version, of a tree from before there were heads.
    #[serde(skip)]
    adopted: Option<(Root, u64)>,
}

impl HeadRow {
    /// Of a customer without orders.
    fn new(key: String) -> Self {
        Self { key, revision: 0, head: Head::default(), adopted: None }
    }
}

/// The item that a customer's leaves are found by.
#[derive(Debug, Serialize, Deserialize)]
struct RootRow {
    key: String,
    /// Of a tree from before there were heads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    branches: Root,
}

/// An item with a part of a customer's orders.
#[derive(Debug, Serialize, Deserialize)]
struct LeafRow {
    key: String,
    #[serde(flatten)]
    leaf: Leaf,
}
