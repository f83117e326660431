//! The orders of a customer in the order in which they were placed, such that any part of them is found at the same cost.
//!
//! A tree of two levels: a leaf is an item with up to [`LEAF_MAX`] places, and the root says how many each leaf has. A leaf,
//! and the root of a customer with 13,000 orders, fit into the 4 KB that one read unit reads. Whoever changes a leaf changes
//! its count in the root, on condition that the root is as it was read; so a leaf whose count is right belongs to the root.

use domain::ids::OrderId;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_bytes::ByteBuf;
use uuid::Uuid;

/// The most places in a leaf: 160 of 24 bytes, less than 4 KB.
const LEAF_MAX: usize = 160;

/// Where an order stands among those of its customer: by the time at which it was placed, then by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Milliseconds since 1970.
    pub(super) placed_at: i64,
    pub(super) order_id: OrderId,
}

/// The places of one part of the orders, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Leaf(Vec<Place>);

/// What the root knows of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Branch {
    pub(super) leaf: u32,
    count: u32,
    first: Place,
}

/// All leaves, that with the oldest orders first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Root(Vec<Branch>);

impl Root {
    /// How many orders there are.
    pub(super) fn total(&self) -> usize {
        self.0.iter().fold(0, |total, branch| total.saturating_add(branch.count()))
    }

    /// The leaf in which this place is, or would be; `None` while there is no leaf.
    pub(super) fn branch_of(&self, place: Place) -> Option<Branch> {
        let after = self.0.partition_point(|branch| branch.first <= place);
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

    /// The root with this place in the leaf that [`branch_of`](Self::branch_of) names, and the leaves that change with it.
    pub(super) fn insert(&self, mut leaf: Leaf, place: Place) -> (Self, Vec<(u32, Leaf)>) {
        let mut branches = self.0.clone();
        let at = branches.partition_point(|branch| branch.first <= place).saturating_sub(1);
        let number = branches.get(at).map_or(0, |branch| branch.leaf);
        let place_at = leaf.0.partition_point(|there| *there < place);
        leaf.0.insert(place_at, place);
        // Orders come nearly always at the end: then the full leaf stays full, so that the leaves are few.
        let at_the_end = at.saturating_add(1) >= branches.len() && place_at == LEAF_MAX;
        let half = if at_the_end { LEAF_MAX } else { LEAF_MAX / 2 };
        let split = if leaf.0.len() > LEAF_MAX { leaf.0.split_off(half) } else { Vec::new() };
        // No leaf is ever taken away, so the next free number is how many there are.
        let free = u32::try_from(branches.len()).unwrap_or(u32::MAX);
        let mut changed = Vec::new();
        let mut replacing = Vec::new();
        for (number, places) in [(number, leaf.0), (free, split)] {
            if let Some(first) = places.first().copied() {
                let count = u32::try_from(places.len()).unwrap_or(u32::MAX);
                replacing.push(Branch { leaf: number, count, first });
                changed.push((number, Leaf(places)));
            }
        }
        let replaced = at..at.saturating_add(1).min(branches.len());
        branches.splice(replaced, replacing);
        (Self(branches), changed)
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
        self.0.len() == branch.count() && self.0.first() == Some(&branch.first)
    }

    pub(super) fn has(&self, place: Place) -> bool {
        self.0.binary_search(&place).is_ok()
    }

    pub(super) fn newest_first(&self) -> impl Iterator<Item = OrderId> + '_ {
        self.0.iter().rev().map(|place| place.order_id)
    }
}

const PLACE_BYTES: usize = 24;
const BRANCH_BYTES: usize = 32;

impl Place {
    fn bytes(self) -> Vec<u8> {
        [&self.placed_at.to_be_bytes()[..], self.order_id.uuid().as_bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (placed_at, order_id) = bytes.split_first_chunk()?;
        let order_id = OrderId::new(Uuid::from_bytes(order_id.try_into().ok()?));
        Some(Self { placed_at: i64::from_be_bytes(*placed_at), order_id })
    }
}

impl Branch {
    fn bytes(self) -> Vec<u8> {
        [&self.leaf.to_be_bytes()[..], &self.count.to_be_bytes(), &self.first.bytes()].concat()
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (leaf, bytes) = bytes.split_first_chunk()?;
        let (count, bytes) = bytes.split_first_chunk()?;
        Some(Self { leaf: u32::from_be_bytes(*leaf), count: u32::from_be_bytes(*count), first: Place::read(bytes)? })
    }
}

/// Stored as bytes, because as text they would take twice the room, and room is what reads and writes are paid by.
macro_rules! stored_as_bytes {
    ($list:ident of $part:ident, $bytes:ident) => {
        impl Serialize for $list {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0.iter().flat_map(|part| part.bytes()).collect::<Vec<u8>>())
            }
        }

        impl<'de> Deserialize<'de> for $list {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes = ByteBuf::deserialize(deserializer)?;
                let parts = bytes.chunks($bytes).map(|chunk| $part::read(chunk)).collect::<Option<_>>();
                parts.map(Self).ok_or_else(|| D::Error::custom("these bytes are no places of orders"))
            }
        }
    };
}

stored_as_bytes!(Leaf of Place, PLACE_BYTES);
stored_as_bytes!(Root of Branch, BRANCH_BYTES);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The items as they would be stored.
    #[derive(Default)]
    struct Tree {
        root: Root,
        leaves: BTreeMap<u32, Leaf>,
    }

    impl Tree {
        fn insert(&mut self, place: Place) {
            let leaf = self.root.branch_of(place).map(|branch| self.leaves[&branch.leaf].clone());
            let (root, changed) = self.root.insert(leaf.unwrap_or_default(), place);
            assert!(changed.len() <= 2);
            self.root = root;
            self.leaves.extend(changed);
            for branch in &self.root.0 {
                assert!(self.leaves[&branch.leaf].belongs_to(*branch) && branch.count() <= LEAF_MAX);
            }
        }

        /// The ids, and how many leaves were read for them.
        fn part(&self, skip: usize, limit: usize) -> (Vec<OrderId>, usize) {
            let (branches, skip) = self.root.part(skip, limit);
            let ids = branches.iter().flat_map(|branch| self.leaves[&branch.leaf].newest_first());
            (ids.skip(skip).take(limit).collect(), branches.len())
        }
    }

    fn place(placed_at: i64, id: u128) -> Place {
        Place { placed_at, order_id: OrderId::new(Uuid::from_u128(id)) }
    }

    proptest! {
        #[test]
        fn any_part_is_that_of_the_sorted_list_and_in_few_leaves(
            times in vec(-5..400_i64, 0..900),
            parts in vec((0..1_000_usize, 0..200_usize), 10),
        ) {
            let mut tree = Tree::default();
            let mut places: Vec<Place> = (0..).zip(&times).map(|(id, at)| place(*at, id)).collect();
            for place in &places {
                tree.insert(*place);
            }
            places.sort_unstable();
            prop_assert_eq!(tree.root.total(), places.len());
            for (skip, limit) in parts {
                let (ids, leaves) = tree.part(skip, limit);
                let expected: Vec<_> = places.iter().rev().map(|place| place.order_id).skip(skip).take(limit).collect();
                prop_assert_eq!(ids, expected);
                prop_assert!(leaves <= limit.div_ceil(LEAF_MAX / 2).saturating_add(1));
            }
        }
    }

    #[test]
    fn orders_that_come_one_after_the_other_fill_their_leaves() {
        let mut tree = Tree::default();
        for number in 0..10_000 {
            tree.insert(place(number, 0));
        }
        assert_eq!(tree.leaves.len(), 10_000_usize.div_ceil(LEAF_MAX));
        assert!(tree.root.0.len() * BRANCH_BYTES < 4_000);
        for (skip, leaves) in [(0, 1), (4_990, 1), (9_980, 1)] {
            assert_eq!(tree.part(skip, 20).1, leaves);
        }
    }

    #[test]
    fn what_is_stored_comes_back() {
        let mut tree = Tree::default();
        for number in [7, -1, i64::MAX] {
            tree.insert(place(number, u128::MAX));
        }
        let item: serde_dynamo::Item = serde_dynamo::to_item(BTreeMap::from([("leaf", &tree.leaves[&0])])).unwrap();
        let read: BTreeMap<String, Leaf> = serde_dynamo::from_item(item).unwrap();
        assert_eq!(read["leaf"], tree.leaves[&0]);
        let item: serde_dynamo::Item = serde_dynamo::to_item(BTreeMap::from([("root", &tree.root)])).unwrap();
        let read: BTreeMap<String, Root> = serde_dynamo::from_item(item).unwrap();
        assert_eq!(read["root"], tree.root);
    }
}
