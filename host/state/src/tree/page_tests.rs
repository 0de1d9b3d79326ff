//! Catches pages whose bytes change between versions, and pages from a damaged disk that make a reader or writer panic,
//! loop without end, or use invalid content.

use std::ops::Bound;

use super::page::{
    BLANK_LEAF, Page, Pruned, begin_inner, prune, push_child, push_item, push_values,
    with_next_free, with_values,
};
use super::tests::{FOR_EVER, Kept};
use super::*;
use crate::stream::Column;

const LATER: Lifetime = Lifetime {
    ttl_ms: Some(10),
    now_ms: 1000,
};

fn leaf(items: &[(&str, &str, Option<u64>)]) -> Vec<u8> {
    let mut page = BLANK_LEAF.to_vec();
    for (sub_key, value, written_ms) in items {
        push_item(&mut page, sub_key.as_bytes(), value.as_bytes(), *written_ms);
    }
    page
}

fn inner(level: u8, children: &[(&str, u64)]) -> Vec<u8> {
    let mut page = begin_inner(level);
    for (separator, node) in children {
        push_child(&mut page, separator.as_bytes(), *node);
    }
    page
}

fn kept(pages: &[(u64, Vec<u8>)]) -> Kept {
    Kept {
        pages: pages.iter().cloned().collect(),
        ..Kept::default()
    }
}

#[test]
fn pages_of_version_1() {
    let page = leaf(&[("a", "one", None), ("bc", "", Some(0x0102_0304))]);
    let expected = [
        &[1, 0][..],
        &[2, 3, b'a', b'o', b'n', b'e'],
        &[5, 0, 4, 3, 2, 1, 0, 0, 0, 0, b'b', b'c'],
    ];
    assert_eq!(page, expected.concat());

    let page = inner(2, &[("", 1), ("m", 300)]);
    assert_eq!(page, [1, 2, 0, 1, 1, 0xac, 2, b'm']);
    let root = with_next_free(&page, 301).unwrap();
    assert_eq!(root, [1, 0x82, 0xad, 2, 0, 1, 1, 0xac, 2, b'm']);
    assert_eq!(with_next_free(&root, 302).unwrap()[2..4], [0xae, 2]);
}

/// Calls every method of a tree; the results do not matter.
fn use_it(pages: &Kept) {
    for lifetime in [FOR_EVER, LATER] {
        let some: [(&[u8], Option<&[u8]>); 4] = [
            (b"", None),
            (b"00000100", Some(b"new")),
            (b"00000101", None),
            (b"zzz", Some(&[7; 3000])),
        ];
        for (sub_key, value) in some {
            let _ = pages.clone().tree(lifetime).get(sub_key);
            let _ = pages
                .clone()
                .tree(lifetime)
                .apply(&[Write { sub_key, value }]);
        }
        let mut all = pages.clone();
        let writes = some.map(|(sub_key, value)| Write { sub_key, value });
        if all.tree(lifetime).apply(&writes).is_ok() {
            let _ = all.tree(lifetime).count();
        }
        let limits = ScanLimits {
            items: 1000,
            bytes: 1 << 20,
        };
        for is_reverse in [false, true] {
            let (start, end) = (Bound::Unbounded, Bound::Unbounded);
            let _ = pages
                .clone()
                .tree(lifetime)
                .scan(start, end, limits, is_reverse);
        }
        let _ = pages.clone().tree(lifetime).append(&[b"one", b"two"]);
        let _ = pages.clone().tree(lifetime).count();
        let _ = pages.clone().tree(lifetime).clear();
        for page in pages.pages.values() {
            let _ = prune(page, lifetime);
            let mut values = Column::new();
            if push_values(page, &mut values).is_ok() {
                with_values(page, values.iter()).unwrap();
            }
        }
    }
}

/// A root, two inner pages and some leaves.
fn small_tree() -> Kept {
    let numbers = |range: std::ops::Range<u32>| {
        let mut page = BLANK_LEAF.to_vec();
        for number in range {
            push_item(
                &mut page,
                format!("{number:08}").as_bytes(),
                b"value",
                Some(999),
            );
        }
        page
    };
    let pages = kept(&[
        (
            0,
            with_next_free(&inner(2, &[("", 1), ("0000011", 2)]), 7).unwrap(),
        ),
        (1, inner(1, &[("", 3), ("00000105", 4)])),
        (2, inner(1, &[("", 5), ("0000012", 6)])),
        (3, numbers(100..105)),
        (4, numbers(105..110)),
        (5, numbers(110..115)),
        (6, numbers(120..122)),
    ]);
    assert_eq!(pages.clone().tree(FOR_EVER).count(), Ok(17));
    pages
}

#[test]
fn damaged_pages_do_no_harm() {
    let sound = small_tree();
    for (&node, page) in &sound.pages {
        for at in 0..page.len() {
            for flip in [1, 2, 4, 0x80, 0xff] {
                let mut damaged = sound.clone();
                damaged.pages.get_mut(&node).unwrap()[at] ^= flip;
                use_it(&damaged);
            }
            let mut cut = sound.clone();
            cut.pages.get_mut(&node).unwrap().truncate(at);
            use_it(&cut);
        }
        let mut missing = sound.clone();
        missing.pages.remove(&node);
        use_it(&missing);
        if node != 0 {
            assert!(missing.tree(FOR_EVER).count().is_err());
        }
    }
}

#[test]
fn forged_pages_are_refused() {
    let some_leaf = leaf(&[("a", "1", None)]);
    let root =
        |level, children: &[(&str, u64)]| with_next_free(&inner(level, children), 9).unwrap();
    let cases = [
        (
            "a page below itself",
            vec![(0, root(2, &[("", 1)])), (1, inner(2, &[("", 1)]))],
        ),
        ("the root below itself", vec![(0, root(1, &[("", 0)]))]),
        (
            "a leaf where a page of level 1 should be",
            vec![(0, root(2, &[("", 1)])), (1, some_leaf.clone())],
        ),
        (
            "one leaf twice",
            vec![(0, root(1, &[("", 1), ("b", 1)])), (1, some_leaf.clone())],
        ),
        ("no child", vec![(0, vec![1, 0x81, 9])]),
        ("no item", vec![(0, BLANK_LEAF.to_vec())]),
        (
            "an inner page without the next free number as the root",
            vec![(0, inner(1, &[("", 1)])), (1, some_leaf.clone())],
        ),
        (
            "two items in the wrong order",
            vec![(0, leaf(&[("b", "1", None), ("a", "1", None)]))],
        ),
        (
            "an item twice",
            vec![(0, leaf(&[("a", "1", None), ("a", "1", None)]))],
        ),
        (
            "a first separator",
            vec![(0, root(1, &[("a", 1)])), (1, some_leaf.clone())],
        ),
        ("version 2", vec![(0, vec![2, 0, 2, 0, b'a'])]),
        (
            "a length of more than 64 bits",
            vec![(0, [&[1, 0][..], &[0xff; 20]].concat())],
        ),
        (
            "a length beyond the page",
            vec![(0, [&[1, 0][..], &[0xfe; 9], &[1, 0]].concat())],
        ),
    ];
    for (what, pages) in cases {
        let mut kept = kept(&pages);
        assert!(kept.tree(FOR_EVER).count().is_err(), "{what}");
        use_it(&kept);
    }
}

#[test]
fn forged_pages_that_name_the_same_ones_over_and_over_end() {
    let children = |node| [("", node), ("b", node), ("c", node), ("d", node)];
    let mut pages: Vec<_> = (1..30u8)
        .map(|level| {
            (
                u64::from(level),
                inner(
                    level,
                    &children(u64::from(level) - 1 + 100 * u64::from(level == 1)),
                ),
            )
        })
        .collect();
    pages.push((100, leaf(&[("a", "1", None)])));
    pages.push((0, with_next_free(&inner(30, &children(29)), 200).unwrap()));
    use_it(&kept(&pages));
}

#[test]
fn a_next_free_number_that_is_in_use_is_refused() {
    let mut kept = small_tree();
    let root = with_next_free(&kept.pages[&0], 2).unwrap();
    kept.pages.insert(0, root);
    let writes = [Write {
        sub_key: b"zzz",
        value: Some(b""),
    }];
    assert!(kept.tree(FOR_EVER).apply(&writes).is_err());
}

#[test]
fn pruning_keeps_the_last_of_a_page_that_has_to_stay() {
    let page = leaf(&[
        ("a", "1", Some(990)),
        ("b", "2", None),
        ("c", "3", Some(991)),
        ("d", "4", Some(0)),
    ]);
    let left = leaf(&[("b", "2", None), ("c", "3", Some(991))]);
    assert_eq!(prune(&page, LATER), Ok(Pruned::Smaller(left.clone())));
    assert_eq!(prune(&left, LATER), Ok(Pruned::Unchanged));
    assert_eq!(prune(&page, FOR_EVER), Ok(Pruned::Unchanged));
    let page = leaf(&[("a", "1", Some(0)), ("b", "2", Some(0))]);
    assert_eq!(
        prune(&page, LATER),
        Ok(Pruned::Nothing(leaf(&[("b", "2", Some(0))])))
    );
    let page = inner(1, &[("", 1)]);
    assert_eq!(prune(&page, LATER), Ok(Pruned::Unchanged));
}

#[test]
fn migrated_values_keep_sub_keys_and_times() {
    let page = leaf(&[("a", "1", Some(5)), ("b", "", None)]);
    let mut values = Column::new();
    push_values(&page, &mut values).unwrap();
    let longer: Vec<Vec<u8>> = values.iter().map(|value| [value, b"+"].concat()).collect();
    let migrated = with_values(&page, longer.iter().map(Vec::as_slice)).unwrap();
    assert_eq!(migrated, leaf(&[("a", "1+", Some(5)), ("b", "+", None)]));
    let Ok(Page::Leaf(leaf)) = Page::parse(&migrated) else {
        panic!("a leaf stays one");
    };
    assert_eq!(leaf.find(b"a").unwrap().unwrap().written_ms, Some(5));
}
