//! Catches rejections of records that the call does not have or that would count twice, emissions from missing records
//! or with too few parts, and markers for the whole call that are misread.

use super::*;

fn check(records: &[u32]) -> Result<Vec<u32>, BadOutput> {
    let rejection = |&record: &u32| wit::Rejection {
        record,
        reason: "no\n".repeat(10_000),
    };
    let checked = check_rejections(records.iter().map(rejection).collect(), 3)?;
    assert!(
        checked
            .iter()
            .all(|rejection| rejection.reason.len() < 3000 && !rejection.reason.contains('\n'))
    );
    Ok(checked.iter().map(|rejection| rejection.record).collect())
}

#[test]
fn each_record_of_the_call_is_rejected_at_most_once() {
    assert_eq!(check(&[]), Ok(vec![]));
    assert_eq!(check(&[2, 0]), Ok(vec![0, 2]));
    let refused = |record| Err(BadOutput::Rejection { record, records: 3 });
    assert_eq!(check(&[3]), refused(3));
    assert_eq!(check(&[1, u32::MAX]), refused(u32::MAX));
    assert_eq!(check(&[1, 2, 1]), refused(1));
}

/// Three records of two keys: `a` at 10, `b` at 20, `a` at 30.
fn call() -> Batch {
    Batch {
        keys: [&b"a"[..], b"b"].into_iter().collect(),
        slots: vec![0, 1, 0],
        values: Column::of_empty_items(3),
        timestamps: vec![10, 20, 30],
        ..Batch::default()
    }
}

fn items(items: &[&str]) -> Items {
    let column: Column = items.iter().map(|item| item.as_bytes()).collect();
    let (ends, bytes) = column.into_parts();
    Items { ends, bytes }
}

/// The effect of an emission by `records`: key, value and time of each emitted record, as text.
fn emitted(
    records: Selection,
    keys: Option<&[&str]>,
    values: Option<&[&str]>,
    timestamps: Option<&[i64]>,
) -> Result<String, BadOutput> {
    let batch = call();
    let declared = Declared {
        batch: &batch,
        outputs: 1,
        states: &[],
    };
    let emission = returned::ReturnedEmission {
        output: 0,
        rows: Rows::Records {
            records,
            keys: keys.map(items),
            timestamps: timestamps.map(<[i64]>::to_vec),
        },
        values: values.map(items),
    };
    let emission = check_emission(emission, declared)?;
    let keys = match emission.keys {
        EmittedKeys::Fresh(keys) => keys,
        EmittedKeys::Input => batch.keys,
    };
    let lossy = String::from_utf8_lossy;
    let parts = emission.slots.iter().zip(emission.values.iter());
    let rows = parts
        .zip(&emission.timestamps)
        .map(|((&slot, value), time)| {
            format!("{}={}@{time}", lossy(keys.get(slot as usize)), lossy(value))
        });
    Ok(rows.collect::<Vec<_>>().join(" "))
}

#[test]
fn an_emission_has_what_its_record_has() {
    let shown = |rows: &str| Ok(rows.to_owned());
    let listed = |records: &[u32]| Selection::Listed(records.to_vec());
    let values = Some(&["x", "y", "z"][..]);
    assert_eq!(
        emitted(Selection::All, None, values, None),
        shown("a=x@10 b=y@20 a=z@30")
    );
    assert_eq!(
        emitted(Selection::All, None, None, None),
        shown("a=@10 b=@20 a=@30")
    );
    assert_eq!(
        emitted(listed(&[2, 2, 0]), None, values, None),
        shown("a=x@30 a=y@30 a=z@10")
    );
    assert_eq!(
        emitted(listed(&[1]), Some(&["k"]), Some(&["v"]), Some(&[7])),
        shown("k=v@7")
    );
    assert_eq!(emitted(listed(&[]), None, None, None), shown(""));
}

#[test]
fn an_emission_that_does_not_fit_the_call_is_refused() {
    let listed = |records: &[u32]| Selection::Listed(records.to_vec());
    let record = |record| Err(BadOutput::Record { record, records: 3 });
    assert_eq!(emitted(listed(&[0, 3]), None, None, None), record(3));
    assert_eq!(
        emitted(listed(&[u32::MAX]), None, None, None),
        record(u32::MAX)
    );
    let lengths = |records, what, items| {
        Err(BadOutput::EmissionLengths {
            records,
            what,
            items,
        })
    };
    let two = Some(&["x", "y"][..]);
    assert_eq!(
        emitted(Selection::All, None, two, None),
        lengths(3, "values", 2)
    );
    assert_eq!(
        emitted(listed(&[0]), two, None, None),
        lengths(1, "keys", 2)
    );
    assert_eq!(
        emitted(Selection::All, None, None, Some(&[1, 2, 3, 4])),
        lengths(3, "times", 4)
    );
}

#[test]
fn a_write_of_all_slots_has_one_value_a_key() {
    let write = |slots, values: usize| {
        let write = returned::ReturnedValueWrites {
            state: 0,
            slots,
            values: OptionalItems {
                present: vec![0; values.div_ceil(8)],
                items: items(&vec![""; values]),
            },
        };
        check_values(write, 2).map(|checked| checked.slots)
    };
    assert_eq!(write(Selection::All, 2), Ok(vec![0, 1]));
    for values in [0, 1, 3] {
        let refused = Err(BadOutput::WriteLengths { slots: 2, values });
        assert_eq!(write(Selection::All, values), refused);
    }
    assert_eq!(write(Selection::Listed(vec![1, 0]), 2), Ok(vec![1, 0]));
    let twice = Err(BadOutput::SlotTwice { state: 0, slot: 1 });
    assert_eq!(write(Selection::Listed(vec![1, 1]), 2), twice);
}
