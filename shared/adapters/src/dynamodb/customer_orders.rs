//! The orders of a customer in the order in which they were placed, such that any part of them is found at the same cost.
//!
//! The newest are in one item, the head, which is nearly always the only one that changes: it is small enough for one write
//! unit. What there is no room for goes into a tree of two levels: a leaf is an item with up to [`LEAF_MAX`] orders, and the
//! root says how many each leaf has. A leaf, and the root of a customer with 13,000 orders, fit into the 4 KB that one read
//! unit reads. Whoever changes anything changes the head with it, on condition that it is as it was read; so a leaf whose
//! count is right belongs to the root, and a root whose total is right to the head.

use std::collections::BTreeMap;

use application::ports::PlacedOrder;
use domain::{ids::OrderId, order::OrderStatus, order_view::OrderView};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_bytes::ByteBuf;
use uuid::Uuid;

/// The most orders in the head: 32 of 25 bytes, so that there is room within 1 KB for a customer's id of 130 characters, stored in
/// the key.
const HEAD_MAX: usize = 32;

/// How many stay in the head when it has become too full: orders come to rest while they are among the newest.
const HEAD_KEEPS: usize = 8;

/// The most orders in a leaf: 160 of 25 bytes, about 4 KB.
const LEAF_MAX: usize = 160;

/// An order, and how it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) order: PlacedOrder,
    /// `None` for one that is open, or of which that is not known.
    pub(super) at_rest: Option<OrderStatus>,
}

impl Listed {
    pub(super) fn of(view: &OrderView) -> Self {
        Self { order: PlacedOrder::of(view), at_rest: view.status_at_rest() }
    }
}

/// Some orders, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "LeafBytes", into = "LeafBytes")]
pub(super) struct Leaf(Vec<Listed>);

/// What the root knows of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) leaf: u32,
    count: u32,
    first: PlacedOrder,
}

/// All leaves, that with the oldest orders first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Root(Vec<Branch>);

/// The newest orders, and what is in the tree.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct Head {
    #[serde(flatten)]
    pub(super) newest: Leaf,
    /// How many orders are in the tree.
    pub(super) before: usize,
    /// The newest of these: what is newer belongs into the head.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "place")]
    after: Option<PlacedOrder>,
}

/// What becomes of a head with an order put into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The order stands there like that.
    Nothing,
    /// Only the head changes; how the order stood there before, unless it is new.
    Head(Head, Option<Listed>),
    /// These orders go into the tree: one that came late, or those that the head, as it is then, has no room for; and how the
    /// order stood in the head before.
    Tree(Head, Vec<Listed>, Option<Listed>),
}

impl Head {
    /// Of a customer whose orders are all in the tree.
    pub(super) fn of(root: &Root, last: Option<&Leaf>) -> Self {
        let after = last.and_then(|leaf| leaf.0.last()).map(|listed| listed.order);
        Self { newest: Leaf::default(), before: root.total(), after }
    }

    pub(super) fn total(&self) -> usize {
        self.before.saturating_add(self.newest.0.len())
    }

    pub(super) fn put(&self, listed: Listed) -> Change {
        let mut head = self.clone();
        if self.after.is_some_and(|after| listed.order <= after) {
            return Change::Tree(head, vec![listed], None);
        }
        let stood = head.newest.put(listed);
        if stood == Some(listed) {
            return Change::Nothing;
        }
        if head.newest.0.len() <= HEAD_MAX {
            return Change::Head(head, stood);
        }
        let kept = head.newest.0.split_off(head.newest.0.len().saturating_sub(HEAD_KEEPS));
        let moved = std::mem::replace(&mut head.newest.0, kept);
        head.after = moved.last().map(|listed| listed.order);
        Change::Tree(head, moved, stood)
    }

    /// With all of these in it, and how each of them stood there before; `None` if the tree would change.
    pub(super) fn put_all(&self, orders: &[Listed]) -> Option<(Self, Vec<Option<Listed>>)> {
        let (mut head, mut before) = (self.clone(), Vec::with_capacity(orders.len()));
        for listed in orders {
            before.push(match head.put(*listed) {
                Change::Nothing => Some(*listed),
                Change::Head(changed, stood) => {
                    head = changed;
                    stood
                }
                Change::Tree(..) => return None,
            });
        }
        Some((head, before))
    }

    /// The head that belongs to this tree.
    pub(super) fn with_tree(self, root: &Root) -> Self {
        Self { before: root.total(), ..self }
    }
}

impl Root {
    /// How many orders there are.
    pub(super) fn total(&self) -> usize {
        self.0.iter().fold(0, |total, branch| total.saturating_add(branch.count()))
    }

    pub(super) fn last(&self) -> Option<Branch> {
        self.0.last().copied()
    }

    /// The leaf in which this order is, or would be; `None` while there is no leaf.
    pub(super) fn branch_of(&self, order: PlacedOrder) -> Option<Branch> {
        let after = self.0.partition_point(|branch| branch.first <= order);
        self.0.get(after.saturating_sub(1)).copied()
    }

    /// The leaves that hold the orders from number `skip` on, counted from the newest, and how many of the first leaf's
    /// are to be skipped.
    pub(super) fn part(&self, mut skip: usize, mut limit: usize) -> (Vec<Branch>, usize) {
        let mut branches = Vec::new();
        let mut skip_in_first = 0;
        for branch in self.0.iter().rev() {
            if limit == 0 {
                break;
            }
            if let Some(more) = skip.checked_sub(branch.count()) {
                skip = more;
                continue;
            }
            if branches.is_empty() {
                skip_in_first = skip;
            }
            limit = limit.saturating_sub(branch.count().saturating_sub(skip));
            skip = 0;
            branches.push(*branch);
        }
        (branches, skip_in_first)
    }

    /// Puts orders that belong into one leaf, or after all of them, into the tree. Answers the leaves that change with it by
    /// their numbers, and how the first of the orders stood there before, unless it is new.
    pub(super) fn put(&mut self, leaf: Leaf, orders: &[Listed]) -> (BTreeMap<u32, Leaf>, Option<Listed>) {
        let mut leaves = BTreeMap::new();
        let mut stood = None;
        if let Some(branch) = orders.first().and_then(|first| self.branch_of(first.order)) {
            leaves.insert(branch.leaf, leaf);
        }
        for (number, listed) in orders.iter().enumerate() {
            let before = self.put_one(&mut leaves, *listed);
            if number == 0 {
                stood = before;
            }
        }
        (leaves, stood)
    }

    fn put_one(&mut self, leaves: &mut BTreeMap<u32, Leaf>, listed: Listed) -> Option<Listed> {
        let at = self.0.partition_point(|branch| branch.first <= listed.order).saturating_sub(1);
        let number = self.0.get(at).map_or(0, |branch| branch.leaf);
        let mut leaf = leaves.remove(&number).unwrap_or_default();
        let stood = leaf.put(listed);
        // Orders come nearly always at the end: then the full leaf stays full, so that the leaves are few.
        let at_the_end =
            at.saturating_add(1) >= self.0.len() && leaf.0.last().map(|last| last.order) == Some(listed.order);
        let half = if at_the_end { LEAF_MAX } else { LEAF_MAX / 2 };
        let split = if leaf.0.len() > LEAF_MAX { leaf.0.split_off(half) } else { Vec::new() };
        // No leaf is ever taken away, so the next free number is how many there are.
        let free = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mut replacing = Vec::new();
        for (number, leaf) in [(number, leaf), (free, Leaf(split))] {
            if let Some(first) = leaf.0.first() {
                let count = u32::try_from(leaf.0.len()).unwrap_or(u32::MAX);
                replacing.push(Branch { leaf: number, count, first: first.order });
                leaves.insert(number, leaf);
            }
        }
        let replaced = at..at.saturating_add(1).min(self.0.len());
        self.0.splice(replaced, replacing);
        stood
    }
}

impl Branch {
    fn count(self) -> usize {
        usize::try_from(self.count).unwrap_or(usize::MAX)
    }
}

impl Leaf {
    /// Whether the root that this branch was read from is as old as the leaf.
    pub(super) fn belongs_to(&self, branch: Branch) -> bool {
        self.0.len() == branch.count() && self.0.first().map(|first| first.order) == Some(branch.first)
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = Listed> + '_ {
        self.0.iter().rev().copied()
    }

    /// How the order stood there before, unless it is new.
    fn put(&mut self, listed: Listed) -> Option<Listed> {
        let at = self.0.partition_point(|there| there.order < listed.order);
        match self.0.get_mut(at) {
            Some(there) if there.order == listed.order => Some(std::mem::replace(there, listed)),
            _ => {
                self.0.insert(at, listed);
                None
            }
        }
    }
}

const PLACE_BYTES: usize = 24;
const BRANCH_BYTES: usize = 32;

fn place_bytes(place: PlacedOrder) -> Vec<u8> {
    [&place.millis.to_be_bytes()[..], place.id.uuid().as_bytes()].concat()
}

fn read_place(bytes: &[u8]) -> Option<PlacedOrder> {
    let (millis, id) = bytes.split_first_chunk()?;
    Some(PlacedOrder { millis: i64::from_be_bytes(*millis), id: OrderId::new(Uuid::from_bytes(id.try_into().ok()?)) })
}

impl Branch {
    fn bytes(self) -> Vec<u8> {
        [&self.leaf.to_be_bytes()[..], &self.count.to_be_bytes(), &place_bytes(self.first)].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (leaf, bytes) = bytes.split_first_chunk()?;
        let (count, bytes) = bytes.split_first_chunk()?;
        Some(Self { leaf: u32::from_be_bytes(*leaf), count: u32::from_be_bytes(*count), first: read_place(bytes)? })
    }
}

/// Stored as bytes, because as text they would take twice the room, and room is what reads and writes are paid by.
#[derive(Serialize, Deserialize)]
struct LeafBytes {
    /// The time and the id of each order, one after the other.
    places: ByteBuf,
    /// How each of them stands, one byte each. Not there where the leaf was written before this was kept.
    #[serde(default)]
    at_rest: ByteBuf,
}

impl From<Leaf> for LeafBytes {
    fn from(Leaf(orders): Leaf) -> Self {
        let at_rest: Vec<u8> = orders.iter().map(|listed| byte_of(listed.at_rest)).collect();
        let places: Vec<u8> = orders.iter().flat_map(|listed| place_bytes(listed.order)).collect();
        Self { places: places.into(), at_rest: at_rest.into() }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("these bytes are no orders of a customer")]
struct NoOrders;

impl TryFrom<LeafBytes> for Leaf {
    type Error = NoOrders;

    fn try_from(LeafBytes { places, at_rest }: LeafBytes) -> Result<Self, NoOrders> {
        let at_rest = at_rest.iter().map(|byte| status_of(*byte)).chain(std::iter::repeat(None));
        let listed = places.chunks(PLACE_BYTES).zip(at_rest).map(|(place, at_rest)| {
            let order = read_place(place).ok_or(NoOrders)?;
            Ok(Listed { order, at_rest })
        });
        listed.collect::<Result<_, _>>().map(Self)
    }
}

/// A storage format: the numbers do not change.
fn byte_of(at_rest: Option<OrderStatus>) -> u8 {
    match at_rest {
        Some(OrderStatus::Confirmed) => 1,
        Some(OrderStatus::Cancelled) => 2,
        Some(OrderStatus::Rejected) => 3,
        _ => 0,
    }
}

fn status_of(byte: u8) -> Option<OrderStatus> {
    match byte {
        1 => Some(OrderStatus::Confirmed),
        2 => Some(OrderStatus::Cancelled),
        3 => Some(OrderStatus::Rejected),
        _ => None,
    }
}

impl Serialize for Root {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0.iter().flat_map(|branch| branch.bytes()).collect::<Vec<u8>>())
    }
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = ByteBuf::deserialize(deserializer)?;
        let branches = bytes.chunks(BRANCH_BYTES).map(Branch::read).collect::<Option<_>>();
        branches.map(Self).ok_or_else(|| D::Error::custom(NoOrders))
    }
}

/// For `#[serde(with)]`.
mod place {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};
    use serde_bytes::ByteBuf;

    use super::{NoOrders, PlacedOrder, place_bytes, read_place};

    #[expect(clippy::ref_option, reason = "serde hands over a reference to the field")]
    pub(super) fn serialize<S: Serializer>(place: &Option<PlacedOrder>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&place.map(place_bytes).unwrap_or_default())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<PlacedOrder>, D::Error> {
        let bytes = ByteBuf::deserialize(deserializer)?;
        read_place(&bytes).map(Some).ok_or_else(|| D::Error::custom(NoOrders))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The items as they would be stored.
    #[derive(Default)]
    struct Orders {
        head: Head,
        root: Root,
        leaves: BTreeMap<u32, Leaf>,
    }

    impl Orders {
        /// How the order stood before, unless it is new, and how many items are written.
        fn put(&mut self, listed: Listed) -> (Option<Listed>, usize) {
            match self.head.put(listed) {
                Change::Nothing => (Some(listed), 0),
                Change::Head(head, stood) => {
                    assert!(head.newest.0.len() <= HEAD_MAX);
                    self.head = head;
                    (stood, 1)
                }
                Change::Tree(head, orders, stood_in_head) => {
                    let leaf = self.root.branch_of(orders[0].order).map(|branch| self.leaves[&branch.leaf].clone());
                    let (changed, stood) = self.root.put(leaf.unwrap_or_default(), &orders);
                    assert!(changed.len() <= 2);
                    let written = changed.len().saturating_add(2);
                    self.leaves.extend(changed);
                    self.head = head.with_tree(&self.root);
                    for branch in &self.root.0 {
                        assert!(self.leaves[&branch.leaf].belongs_to(*branch) && branch.count() <= LEAF_MAX);
                    }
                    (if orders.len() == 1 { stood } else { stood_in_head }, written)
                }
            }
        }

        /// The orders, and how many leaves were read for them.
        fn part(&self, skip: usize, limit: usize) -> (Vec<Listed>, usize) {
            let newest = self.head.newest.newest_first().skip(skip).take(limit).collect::<Vec<_>>();
            let skip = skip.saturating_sub(self.head.newest.0.len());
            let limit = limit.saturating_sub(newest.len());
            let (branches, skip) = self.root.part(skip, limit);
            let older = branches.iter().flat_map(|branch| self.leaves[&branch.leaf].newest_first());
            ([newest, older.skip(skip).take(limit).collect()].concat(), branches.len())
        }
    }

    fn listed(millis: i64, id: u128, at_rest: Option<OrderStatus>) -> Listed {
        Listed { order: PlacedOrder { millis, id: OrderId::new(Uuid::from_u128(id)) }, at_rest }
    }

    fn status() -> impl Strategy<Value = Option<OrderStatus>> {
        (0..4_u8).prop_map(status_of)
    }

    proptest! {
        #[test]
        fn any_part_is_that_of_the_sorted_list_and_in_few_leaves(
            puts in vec((-5..400_i64, status()), 0..900),
            again in vec((any::<prop::sample::Index>(), status()), 0..100),
            parts in vec((0..1_000_usize, 0..200_usize), 10),
        ) {
            let mut orders = Orders::default();
            let mut model: BTreeMap<PlacedOrder, Option<OrderStatus>> = BTreeMap::new();
            let mut all: Vec<Listed> = (0..).zip(&puts).map(|(id, (at, status))| listed(*at, id, *status)).collect();
            let changed: Vec<Listed> = again
                .iter()
                .filter(|_| !all.is_empty())
                .map(|(which, at_rest)| Listed { at_rest: *at_rest, ..*which.get(&all) })
                .collect();
            all.extend(changed);
            for listed in &all {
                let stood = model.insert(listed.order, listed.at_rest).map(|at_rest| Listed { at_rest, ..*listed });
                prop_assert_eq!(orders.put(*listed).0, stood);
                prop_assert_eq!(orders.put(*listed).0, Some(*listed));
            }
            prop_assert_eq!(orders.head.total(), model.len());
            for (skip, limit) in parts {
                let (part, leaves) = orders.part(skip, limit);
                let expected: Vec<Listed> =
                    model.iter().rev().map(|(order, at_rest)| Listed { order: *order, at_rest: *at_rest }).skip(skip).take(limit).collect();
                prop_assert_eq!(part, expected);
                prop_assert!(leaves <= limit.div_ceil(LEAF_MAX / 2).saturating_add(1));
            }
        }
    }

    #[test]
    fn orders_that_come_one_after_the_other_fill_their_leaves_and_are_nearly_always_one_write() {
        let mut orders = Orders::default();
        let mut written = 0;
        for number in 0..10_000 {
            written += orders.put(listed(number, 0, None)).1;
            written += orders.put(listed(number, 0, Some(OrderStatus::Confirmed))).1;
        }
        assert!(written < 21_500, "{written}");
        assert!(orders.leaves.len() <= 10_000_usize.div_ceil(LEAF_MAX));
        assert!(orders.root.0.len() * BRANCH_BYTES < 4_000);
        for (skip, leaves) in [(0, 1), (4_990, 1), (9_980, 1)] {
            assert!(orders.part(skip, 20).1 <= leaves + 1);
        }
    }

    fn stored<T: Serialize + serde::de::DeserializeOwned>(value: &T) -> T {
        let item: serde_dynamo::Item = serde_dynamo::to_item(value).unwrap();
        serde_dynamo::from_item(item).unwrap()
    }

    #[test]
    fn what_is_stored_comes_back() {
        let mut orders = Orders::default();
        for number in (0..200).chain([-1, i64::MAX]) {
            orders.put(listed(number, u128::MAX, status_of(u8::try_from(number.rem_euclid(4)).unwrap())));
        }
        assert!(orders.head.after.is_some());
        assert_eq!(stored(&orders.head), orders.head);
        assert_eq!(stored(&Head::default()), Head::default());
        assert_eq!(stored(&orders.leaves[&0]), orders.leaves[&0]);
        assert_eq!(stored(&BTreeMap::from([("root".to_owned(), orders.root.clone())]))["root"], orders.root);
    }

    /// As leaves were before 2026-11-26.
    #[test]
    fn a_leaf_that_does_not_say_how_its_orders_stand_is_read() {
        let orders = [listed(1, 1, None), listed(2, 2, None)];
        let places: Vec<u8> = orders.iter().flat_map(|listed| place_bytes(listed.order)).collect();
        let item: serde_dynamo::Item =
            serde_dynamo::to_item(BTreeMap::from([("places", ByteBuf::from(places))])).unwrap();
        assert_eq!(serde_dynamo::from_item::<_, Leaf>(item).unwrap(), Leaf(orders.to_vec()));
    }
}
