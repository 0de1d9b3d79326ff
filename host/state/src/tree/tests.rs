//! Catches a tree that disagrees with a map: after any writes, in both directions, page by page, over time; one that
//! breaks its invariants; and one that reads or writes more pages than documented.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, RangeBounds};

use floodmark_testing::Random;

use super::page::{PAGE_BYTES, Page, Pruned, prune};
use super::*;

/// Pages in memory, and the number of accesses to each.
#[derive(Debug, Default, Clone)]
pub struct Kept {
    pub pages: BTreeMap<u64, Vec<u8>>,
    pub reads: BTreeMap<u64, usize>,
    pub writes: BTreeMap<u64, usize>,
    pub fails_at: Option<usize>,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Failed {
    Tree(MalformedTree),
    Disk,
}

impl From<MalformedTree> for Failed {
    fn from(error: MalformedTree) -> Self {
        Self::Tree(error)
    }
}

impl Nodes for Kept {
    type Error = Failed;

    fn read(&mut self, node: u64) -> Result<Option<&[u8]>, Failed> {
        if self.fails_at == Some(self.reads.values().sum()) {
            return Err(Failed::Disk);
        }
        *self.reads.entry(node).or_default() += 1;
        Ok(self.pages.get(&node).map(Vec::as_slice))
    }

    fn write(&mut self, node: u64, page: &[u8]) -> Result<(), Failed> {
        *self.writes.entry(node).or_default() += 1;
        self.pages.insert(node, page.to_vec());
        Ok(())
    }

    fn remove(&mut self, node: u64) -> Result<(), Failed> {
        *self.writes.entry(node).or_default() += 1;
        self.pages.remove(&node);
        Ok(())
    }
}

pub const FOR_EVER: Lifetime = Lifetime {
    ttl_ms: None,
    now_ms: 0,
};

const ALL: ScanLimits = ScanLimits {
    items: usize::MAX,
    bytes: usize::MAX,
};

/// A value, and the time of its write if it can expire.
type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// Short ones, long ones, and ones that begin alike.
fn sub_key(random: &mut Random, keys: u64) -> Vec<u8> {
    let number = random.below(keys);
    match number % 50 {
        0 => format!("{}{number}", "long".repeat(200)).into_bytes(),
        1 => Vec::from(&number.to_be_bytes()[..(number % 9) as usize]),
        _ => format!("{number}").into_bytes(),
    }
}

fn value(random: &mut Random) -> Vec<u8> {
    let len = match random.below(200) {
        0 => random.below(10_000),
        _ => random.below(30),
    };
    vec![random.below(256) as u8; len as usize]
}

impl Kept {
    pub fn tree(&mut self, lifetime: Lifetime) -> Tree<'_, Self> {
        Tree::new(self, lifetime)
    }

    pub fn put(&mut self, items: &Model, lifetime: Lifetime) {
        let writes: Vec<_> = items
            .iter()
            .map(|(sub_key, (value, _))| Write {
                sub_key,
                value: Some(value),
            })
            .collect();
        self.tree(lifetime).apply(&writes).unwrap();
    }

    /// Prunes all pages, as compaction does.
    fn compact(&mut self, lifetime: Lifetime) {
        for (node, page) in self.pages.clone() {
            match prune(&page, lifetime).unwrap() {
                Pruned::Unchanged => {}
                Pruned::Nothing(_) if node == 0 => drop(self.pages.remove(&0)),
                Pruned::Smaller(page) | Pruned::Nothing(page) => {
                    self.pages.insert(node, page);
                }
            }
        }
    }

    /// Checks the invariants; returns the number of levels.
    fn check(&self) -> usize {
        let Some(root) = self.pages.get(&0) else {
            assert!(self.pages.is_empty(), "pages without a root");
            return 0;
        };
        let root = Page::parse(root).unwrap();
        let next_free = match root {
            Page::Leaf(_) => 1,
            Page::Inner(inner) => inner.next_free.unwrap(),
        };
        let mut nodes = BTreeSet::new();
        self.check_node(0, root.level(), &[], None, &mut nodes);
        assert!(nodes.iter().eq(self.pages.keys()), "pages without a parent");
        assert!(nodes.last() < Some(&next_free));
        usize::from(root.level()) + 1
    }

    fn check_node(
        &self,
        node: u64,
        level: u8,
        low: &[u8],
        high: Option<&[u8]>,
        nodes: &mut BTreeSet<u64>,
    ) {
        assert!(nodes.insert(node), "two parents");
        let bytes = &self.pages[&node];
        let within = |key: &[u8]| key >= low && high.is_none_or(|high| key < high);
        match Page::parse(bytes).unwrap() {
            Page::Leaf(leaf) => {
                assert_eq!(level, 0);
                let items: Vec<_> = leaf.items().map(Result::unwrap).collect();
                assert!(items.iter().all(|item| within(item.sub_key)));
                assert!(bytes.len() <= PAGE_BYTES || items.len() == 1, "too long");
            }
            Page::Inner(inner) => {
                assert_eq!(level, inner.level);
                let children: Vec<_> = inner.children().map(Result::unwrap).collect();
                assert!(node != 0 || children.len() > 1, "a root with one child");
                assert!(bytes.len() <= PAGE_BYTES + 20 || children.len() <= 4);
                for (index, child) in children.iter().enumerate() {
                    let low = if index == 0 { low } else { child.separator };
                    assert!(within(low));
                    let high = children
                        .get(index + 1)
                        .map_or(high, |next| Some(next.separator));
                    self.check_node(child.node, level - 1, low, high, nodes);
                }
            }
        }
    }
}

fn live(model: &Model, lifetime: Lifetime) -> BTreeMap<&[u8], &[u8]> {
    let items = model.iter();
    items
        .filter(|(_, (_, written))| !lifetime.is_expired(*written))
        .map(|(sub_key, (value, _))| (sub_key.as_slice(), value.as_slice()))
        .collect()
}

fn bound(bytes: &[u8], kind: u64) -> Bound<&[u8]> {
    match kind {
        0 => Bound::Unbounded,
        1 => Bound::Included(bytes),
        _ => Bound::Excluded(bytes),
    }
}

/// Reads a range page by page, and compares it with the model's.
fn check_scan(kept: &mut Kept, model: &Model, lifetime: Lifetime, random: &mut Random) {
    let (low, high) = (sub_key(random, 3000), sub_key(random, 3000));
    let (low, high) = (bound(&low, random.below(3)), bound(&high, random.below(3)));
    let is_reverse = random.below(2) == 0;
    let limits = ScanLimits {
        items: 1 + random.below(100) as usize,
        bytes: random.below(3000) as usize,
    };
    let mut expected: Vec<_> = live(model, lifetime)
        .into_iter()
        .filter(|(sub_key, _)| RangeBounds::<[u8]>::contains(&(low, high), *sub_key))
        .collect();
    if is_reverse {
        expected.reverse();
    }
    let mut got: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    loop {
        let behind = got.last().map(|(sub_key, _)| sub_key.clone());
        let behind = behind.as_deref().map(Bound::Excluded);
        let (start, end) = match is_reverse {
            false => (behind.unwrap_or(low), high),
            true => (low, behind.unwrap_or(high)),
        };
        let page = kept
            .tree(lifetime)
            .scan(start, end, limits, is_reverse)
            .unwrap();
        assert!(page.values.len() <= limits.items);
        assert!(
            page.values.len() <= 1
                || page.values.bytes().len() + page.sub_keys.bytes().len() <= limits.bytes
        );
        let items = page.sub_keys.iter().zip(page.values.iter());
        got.extend(items.map(|(sub_key, value)| (sub_key.to_vec(), value.to_vec())));
        if !page.more {
            break;
        }
        assert!(!page.values.is_empty(), "a scan that gets nowhere");
    }
    assert!(
        got.iter()
            .map(|(sub_key, value)| (sub_key.as_slice(), value.as_slice()))
            .eq(expected)
    );
}

fn check_all(kept: &mut Kept, model: &Model, lifetime: Lifetime) {
    let expected = live(model, lifetime);
    let all = kept
        .tree(lifetime)
        .scan(Bound::Unbounded, Bound::Unbounded, ALL, false)
        .unwrap();
    let items = all.sub_keys.iter().zip(all.values.iter());
    assert!(items.eq(expected.iter().map(|(sub_key, value)| (*sub_key, *value))));
    assert_eq!(kept.tree(lifetime).count().unwrap(), expected.len() as u64);
}

/// Batches of random writes.
fn run(seed: u64, keys: u64, rounds: u64, ttl: bool) {
    let mut random = Random(seed);
    let (mut kept, mut model) = (Kept::default(), Model::new());
    for round in 0..rounds {
        // Grows for a while, then shrinks.
        let puts = if (round * 4 / rounds).is_multiple_of(2) {
            9
        } else {
            2
        };
        // The time to live is switched on during the run; earlier items have no time.
        let ttl_ms = (ttl && round * 3 > rounds).then_some(20);
        let lifetime = Lifetime {
            ttl_ms,
            now_ms: round,
        };
        let mut batch = BTreeMap::new();
        for _ in 0..random.below(if round % 50 == 0 { keys / 2 } else { 30 }) {
            let value = (random.below(10) < puts).then(|| value(&mut random));
            batch.insert(sub_key(&mut random, keys), value);
        }
        let writes: Vec<_> = batch
            .iter()
            .map(|(sub_key, value)| Write {
                sub_key,
                value: value.as_deref(),
            })
            .collect();
        kept.tree(lifetime).apply(&writes).unwrap();
        kept.check();
        for (sub_key, value) in batch {
            match value {
                Some(value) => model.insert(sub_key, (value, lifetime.stamp())),
                None => model.remove(&sub_key),
            };
        }
        if random.below(10) == 0 {
            kept.compact(lifetime);
        }
        for _ in 0..10 {
            let sub_key = sub_key(&mut random, keys);
            let item = model.get(&sub_key);
            let item = item.filter(|(_, written)| !lifetime.is_expired(*written));
            let expected = item.map(|(value, _)| value.clone());
            assert_eq!(kept.tree(lifetime).get(&sub_key).unwrap(), expected);
        }
        check_scan(&mut kept, &model, lifetime, &mut random);
        model.retain(|_, (_, written)| !lifetime.is_expired(*written));
        if round % 20 == 19 {
            check_all(&mut kept, &model, lifetime);
        }
    }
    kept.tree(FOR_EVER).clear().unwrap();
    assert!(kept.pages.is_empty());
}

#[test]
fn equals_a_map() {
    for seed in 0..6 {
        run(seed, 40, 200, false);
        run(seed, 3000, 80, false);
    }
    run(6, 40_000, 8, false);
}

#[test]
fn equals_a_map_over_time() {
    for seed in 0..6 {
        run(seed, 40, 200, true);
        run(seed, 3000, 120, true);
    }
}

fn numbered(count: u64) -> Model {
    let item = |number: u64| (number.to_be_bytes().to_vec(), (vec![7; 20], None));
    (0..count).map(item).collect()
}

#[test]
fn a_hundred_thousand_items_fill_their_pages() {
    let (mut kept, model) = (Kept::default(), numbered(100_000));
    kept.put(&model, FOR_EVER);
    assert_eq!(kept.check(), 3);
    check_all(&mut kept, &model, FOR_EVER);
    let used: usize = kept.pages.values().map(Vec::len).sum();
    assert!(used * 10 > kept.pages.len() * PAGE_BYTES * 9, "{used}");
}

#[test]
fn random_writes_leave_no_page_nearly_empty() {
    let (mut kept, mut random) = (Kept::default(), Random(1));
    for _ in 0..5000 {
        let key = random.below(1 << 40).to_be_bytes();
        let writes = [Write {
            sub_key: &key,
            value: Some(&[7; 20]),
        }];
        kept.tree(FOR_EVER).apply(&writes).unwrap();
    }
    kept.check();
    let used: usize = kept.pages.values().map(Vec::len).sum();
    assert!(used * 10 > kept.pages.len() * PAGE_BYTES * 6, "{used}");
    // Nine of ten are removed, one by one.
    let keys = kept
        .tree(FOR_EVER)
        .scan(Bound::Unbounded, Bound::Unbounded, ALL, false)
        .unwrap();
    for (index, sub_key) in keys.sub_keys.iter().enumerate() {
        if index % 10 != 0 {
            kept.tree(FOR_EVER)
                .apply(&[Write {
                    sub_key,
                    value: None,
                }])
                .unwrap();
        }
    }
    kept.check();
    let used: usize = kept.pages.values().map(Vec::len).sum();
    assert!(
        used * 10 > kept.pages.len() * PAGE_BYTES * 2,
        "{used} in {}",
        kept.pages.len()
    );
}

#[test]
fn a_batch_touches_a_page_once_and_a_look_costs_the_depth() {
    let (mut kept, model) = (Kept::default(), numbered(100_000));
    kept.put(&model, FOR_EVER);
    assert!(
        kept.reads.values().all(|&count| count <= 2),
        "the root, to see whether it is there"
    );
    assert!(kept.writes.values().all(|&count| count == 1));
    kept.reads.clear();
    assert!(
        kept.tree(FOR_EVER)
            .get(&77_777u64.to_be_bytes())
            .unwrap()
            .is_some()
    );
    assert_eq!(kept.reads.values().sum::<usize>(), 3);

    // New values of the same length: the leaves are written, and nothing above them.
    kept.reads.clear();
    kept.writes.clear();
    let batch: Model = (0..200)
        .map(|number| (u64::to_be_bytes(number * 450).to_vec(), (vec![8; 20], None)))
        .collect();
    kept.put(&batch, FOR_EVER);
    assert_eq!(kept.writes.len(), 200);
    assert!(kept.writes.values().all(|&count| count == 1));
    let reads = kept.reads.iter().filter(|&(_, &count)| count > 1);
    assert_eq!(
        reads
            .map(|(node, count)| (*node, *count))
            .collect::<Vec<_>>(),
        [(0, 2)]
    );

    // Repeating it writes nothing.
    kept.writes.clear();
    kept.put(&batch, FOR_EVER);
    assert!(kept.writes.is_empty());

    // An append writes the last leaf.
    kept.tree(FOR_EVER).append(&[b"one", b"two"]).unwrap();
    assert_eq!(kept.writes.len(), 1);
    assert_eq!(
        kept.tree(FOR_EVER)
            .get(&100_001u64.to_be_bytes())
            .unwrap()
            .unwrap(),
        b"two"
    );
}

#[test]
fn a_failed_read_leaves_the_tree_as_it_was() {
    let (mut kept, model) = (Kept::default(), numbered(3000));
    kept.put(&model, FOR_EVER);
    let before = kept.clone();
    let writes: Vec<_> = model
        .keys()
        .map(|sub_key| Write {
            sub_key,
            value: None,
        })
        .collect();
    for fails_at in 0.. {
        kept.reads.clear();
        kept.fails_at = Some(fails_at);
        match kept.tree(FOR_EVER).apply(&writes[..2000]) {
            Err(error) => assert_eq!(error, Failed::Disk),
            Ok(()) => break,
        }
        assert!(kept.pages == before.pages);
    }
    kept.fails_at = None;
    assert_eq!(kept.tree(FOR_EVER).count().unwrap(), 1000);
    kept.check();
}

#[test]
fn long_sub_keys_make_no_endless_levels() {
    let mut kept = Kept::default();
    let model: Model = (0..300u32)
        .map(|number| {
            let sub_key = [vec![b'x'; 5000], number.to_be_bytes().to_vec()].concat();
            (sub_key, (vec![1], None))
        })
        .collect();
    for (sub_key, (value, _)) in &model {
        kept.tree(FOR_EVER)
            .apply(&[Write {
                sub_key,
                value: Some(value),
            }])
            .unwrap();
    }
    assert!(kept.check() <= 9);
    check_all(&mut kept, &model, FOR_EVER);
}

#[test]
fn a_list_keeps_its_positions_while_its_front_expires() {
    let mut kept = Kept::default();
    let value = [9; 100];
    for now_ms in 0..1000 {
        let lifetime = Lifetime {
            ttl_ms: Some(100),
            now_ms,
        };
        kept.tree(lifetime).append(&[&value, &value]).unwrap();
        kept.check();
        let expected = 2 * (now_ms + 1).min(100);
        assert_eq!(kept.tree(lifetime).count().unwrap(), expected);
        let limits = ScanLimits {
            items: 3,
            bytes: 300,
        };
        let read = kept.tree(lifetime).list_read(0, limits).unwrap();
        let first = (2 * (now_ms + 1) - expected).to_be_bytes();
        assert_eq!((read.sub_keys.get(0), read.values.len()), (&first[..], 2));
        assert_eq!(read.more, expected > 2);
    }
    assert!(
        kept.pages.len() < 20,
        "the front does not go: {}",
        kept.pages.len()
    );
    let later = Lifetime {
        ttl_ms: Some(100),
        now_ms: 5000,
    };
    assert_eq!(kept.tree(later).count().unwrap(), 0);
    // No item is visible, but the next one is still appended after it.
    kept.tree(later).append(&[b"next"]).unwrap();
    let read = kept.tree(later).list_read(0, ALL).unwrap();
    assert_eq!(read.sub_keys.get(0), 2000u64.to_be_bytes());
    assert_eq!(read.values.get(0), b"next");
}

#[test]
fn switching_the_time_to_live_keeps_what_is_there() {
    let mut kept = Kept::default();
    let at = |ttl_ms, now_ms| Lifetime { ttl_ms, now_ms };
    let put = |kept: &mut Kept, sub_key: &[u8], lifetime| {
        let value = Some(&b"v"[..]);
        kept.tree(lifetime)
            .apply(&[Write { sub_key, value }])
            .unwrap();
    };
    put(&mut kept, b"old", at(None, 0));
    put(&mut kept, b"new", at(Some(10), 100));
    let get = |kept: &mut Kept, sub_key: &[u8], lifetime| {
        kept.tree(lifetime).get(sub_key).unwrap().is_some()
    };
    assert!(get(&mut kept, b"new", at(Some(10), 109)));
    assert!(
        !get(&mut kept, b"new", at(Some(10), 110)),
        "expired to the millisecond"
    );
    assert!(
        get(&mut kept, b"old", at(Some(10), 1_000_000)),
        "written without a time"
    );
    assert!(get(&mut kept, b"new", at(None, 1_000_000)), "switched off");
    put(&mut kept, b"old", at(Some(10), 200));
    assert!(!get(&mut kept, b"old", at(Some(10), 210)), "written again");
    assert!(
        !get(&mut kept, b"new", at(None, 210)),
        "gone with its page's rewrite"
    );
}

#[test]
fn a_scan_for_one_item_reads_one_leaf() {
    let (mut kept, model) = (Kept::default(), numbered(1000));
    kept.put(&model, FOR_EVER);
    assert_eq!(kept.check(), 2);
    for sub_key in model.keys() {
        for is_reverse in [false, true] {
            kept.reads.clear();
            let one = Bound::Included(sub_key.as_slice());
            let scan = kept.tree(FOR_EVER).scan(one, one, ALL, is_reverse).unwrap();
            assert_eq!((scan.values.len(), scan.more), (1, false));
            assert_eq!(kept.reads.len(), 2, "the root and a leaf");
        }
    }
}
