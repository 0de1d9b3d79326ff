//! What an operator emits, collected into columns.
//!
//! An emission has the key and the time of its record unless it says otherwise. As long as a port has only such ones,
//! one for each record, nothing but values is written. From there on, only what differs is: the records that emissions
//! come from, or their keys, or their times. Nothing here hashes keys: one that is emitted twice appears twice.

use std::fmt::{self, Write as _};

use crate::columns::{
    Batch, Column, Emission as Columns, EmittedKeys, EmittedTimes, Rejection, Selection, Timestamp,
};
use crate::operator::unread;
use crate::{Port, Record, short};

/// Where an operator emits records. They leave when the whole batch has been processed.
#[derive(Debug)]
pub struct Output<'a> {
    pub(crate) ports: &'a mut [Emitted],
    pub(crate) rejections: &'a mut Vec<Rejection>,
    pub(crate) record: Record<'a>,
}

impl Output<'_> {
    /// Emits a record with the key and the time of the one that is being processed, to the first output port.
    #[inline]
    pub fn emit(&mut self, value: impl Payload) {
        self.to(Port::FIRST).emit(value);
    }

    /// Starts a record for another output port.
    ///
    /// # Panics
    /// When the port belongs to another operator.
    #[inline]
    pub fn to(&mut self, port: Port) -> Emission<'_> {
        Emission {
            port: &mut self.ports[usize::from(port.index())],
            record: self.record,
            key: None,
            timestamp: None,
        }
    }

    /// Starts a record with another key.
    #[inline]
    pub fn key<'a>(&'a mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Emission<'a> {
        self.to(Port::FIRST).key(key)
    }

    /// Starts a record with another event time, in milliseconds since 1970.
    #[inline]
    pub fn at(&mut self, timestamp: Timestamp) -> Emission<'_> {
        self.to(Port::FIRST).at(timestamp)
    }

    /// Rejects the record that is being processed: the pipeline's `on-error` decides what follows, such as a dead
    /// letter, and the other records of the batch are not affected. `why` is for people.
    ///
    /// What this record has emitted or written to states before stays, so reject first. Of several reasons the first
    /// counts.
    #[cold]
    pub fn reject(&mut self, why: impl fmt::Display) {
        let record = u32::try_from(self.record.index).expect("a batch stays below 4 Gi records");
        // Records come in order, so only the last rejection can be of this one.
        if self
            .rejections
            .last()
            .is_none_or(|last| last.record != record)
        {
            let reason = why.to_string();
            self.rejections.push(Rejection { record, reason });
        }
    }

    /// Makes room for many records with other keys, of `key_bytes` bytes in all, on the first output port. Worth it
    /// where one record makes millions: columns that grow step by step take up to three times the memory.
    pub fn reserve_keyed(&mut self, emissions: usize, key_bytes: usize) {
        let port = &mut self.ports[0];
        port.places.reserve(emissions);
        port.keys.ends.reserve(emissions);
        port.keys.bytes.reserve(key_bytes);
    }
}

/// A record under construction. [`emit`](Emission::emit) emits it.
#[derive(Debug)]
#[must_use = "nothing leaves before `emit`"]
pub struct Emission<'a> {
    port: &'a mut Emitted,
    record: Record<'a>,
    key: Option<&'a [u8]>,
    timestamp: Option<Timestamp>,
}

impl<'a> Emission<'a> {
    /// Gives it another key.
    #[inline]
    pub fn key(mut self, key: &'a (impl AsRef<[u8]> + ?Sized)) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// Gives it another event time, in milliseconds since 1970.
    #[inline]
    pub fn at(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Emits it.
    ///
    /// # Panics
    /// When some records on a port have their own event time and others do not, and the operator's `READS` says that it
    /// does not read event times.
    #[inline]
    pub fn emit(self, value: impl Payload) {
        let port = self.port;
        let is_like_record = self.key.is_none() && self.timestamp.is_none();
        if !(is_like_record && port.is_record_for_record(self.record.index)) {
            port.spell_out(self.record, self.key, self.timestamp);
        } else if self.record.index == 0 {
            port.values.ends.reserve(self.record.batch.slots.len());
        }
        value.append_to(&mut port.values.bytes);
        if !port.values.bytes.is_empty() {
            if port.values.ends.len() != port.emitted {
                port.spell_out_empty_values();
            }
            port.values.end_item();
        }
        port.emitted += 1;
    }
}

/// What leaves by one port in one call.
///
/// - There are `emitted` emissions. Each of `places`, `keys`, `timestamps` and `values` has none, or as many items.
/// - Without `places`, emission `i` comes from record `i`.
/// - Without `keys`, each emission has the key of its record; without `timestamps`, its time; without `values`, none
///   has a value.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    emitted: usize,
    places: Vec<u32>,
    keys: Column,
    timestamps: Vec<Timestamp>,
    values: Column,
    /// Whether an emission has said something that its record does not say.
    is_spelled_out: bool,
}

impl Emitted {
    /// The emissions of the port `output`, if there are any, in a call of `records` records.
    pub(crate) fn into_columns(self, output: u16, records: usize) -> Option<Columns> {
        let emitted = self.emitted;
        if emitted == 0 {
            return None;
        }
        Some(Columns {
            output,
            records: match self.places.is_empty() {
                true if emitted == records => Selection::All,
                true => Selection::Listed(first_places(emitted).collect()),
                false => Selection::Listed(self.places),
            },
            keys: match self.keys.is_empty() {
                true => EmittedKeys::Same,
                false => EmittedKeys::Fresh(self.keys),
            },
            values: (!self.values.bytes.is_empty()).then_some(self.values),
            timestamps: match self.timestamps.is_empty() {
                true => EmittedTimes::Same,
                false => EmittedTimes::Fresh(self.timestamps),
            },
        })
    }

    /// Whether all records before this one emitted one record each, like themselves.
    #[inline]
    fn is_record_for_record(&self, index: usize) -> bool {
        !self.is_spelled_out && self.emitted == index
    }

    /// Writes down what the emission that comes next does not have from the record at its own place.
    #[inline]
    fn spell_out(&mut self, record: Record<'_>, key: Option<&[u8]>, timestamp: Option<Timestamp>) {
        let emitted = self.emitted;
        self.is_spelled_out = true;
        if emitted != record.index || !self.places.is_empty() {
            if self.places.len() != emitted {
                self.list_places(record.batch);
            }
            let place = u32::try_from(record.index).expect("a batch stays below 4 Gi records");
            self.places.push(place);
        }
        if key.is_some() || !self.keys.is_empty() {
            if self.keys.len() != emitted {
                self.spell_out_keys(record.batch);
            }
            self.keys.push(key.unwrap_or_else(|| record.key()));
        }
        let is_own = |timestamp| record.has_timestamp(timestamp);
        if !timestamp.is_none_or(is_own) || !self.timestamps.is_empty() {
            if self.timestamps.len() != emitted {
                self.spell_out_timestamps(record.batch);
            }
            let own = || own_timestamp(record.batch, record.index);
            self.timestamps.push(timestamp.unwrap_or_else(own));
        }
    }

    #[cold]
    fn list_places(&mut self, batch: &Batch) {
        self.places.reserve(batch.slots.len());
        self.places.extend(first_places(self.emitted));
    }

    #[cold]
    fn spell_out_keys(&mut self, batch: &Batch) {
        self.keys.ends.reserve(batch.slots.len());
        for emission in 0..self.emitted {
            let slot = batch.slots[self.place(emission)];
            self.keys.push(batch.keys.get(slot as usize));
        }
    }

    #[cold]
    fn spell_out_timestamps(&mut self, batch: &Batch) {
        self.timestamps.reserve(batch.slots.len());
        for emission in 0..self.emitted {
            let own = own_timestamp(batch, self.place(emission));
            self.timestamps.push(own);
        }
    }

    /// Writes down that no emission had a value until now.
    #[cold]
    fn spell_out_empty_values(&mut self) {
        self.values.ends.resize(self.emitted, 0);
    }

    /// The record that an emission comes from.
    fn place(&self, emission: usize) -> usize {
        self.places
            .get(emission)
            .map_or(emission, |&place| place as usize)
    }
}

fn first_places(len: usize) -> std::ops::Range<u32> {
    0..u32::try_from(len).expect("a column stays below 4 Gi items")
}

/// The time of a record, as the contract writes it.
fn own_timestamp(batch: &Batch, record: usize) -> Timestamp {
    let own = batch.timestamps.get(record);
    *own.unwrap_or_else(|| {
        unread(
            "the event time of a record for another one's sake",
            "timestamps",
        )
    })
}

/// What can be emitted: bytes, text, formatted text (`format_args!`) and [`Decimal`] numbers.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be emitted",
    label = "not bytes, and it does not say how to become bytes",
    note = "emit bytes or text; a number becomes text by `Decimal(n)`, anything else by `format_args!(\"{{}}\", ..)`"
)]
pub trait Payload {
    /// Appends its bytes.
    fn append_to(&self, bytes: &mut Vec<u8>);
}

impl<P: Payload + ?Sized> Payload for &P {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        (**self).append_to(bytes);
    }
}

impl Payload for [u8] {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        short::append(bytes, self);
    }
}

impl<const N: usize> Payload for [u8; N] {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(self);
    }
}

impl Payload for Vec<u8> {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        short::append(bytes, self);
    }
}

impl Payload for str {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        short::append(bytes, self.as_bytes());
    }
}

impl Payload for String {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        short::append(bytes, self.as_bytes());
    }
}

impl Payload for fmt::Arguments<'_> {
    fn append_to(&self, bytes: &mut Vec<u8>) {
        struct Text<'a>(&'a mut Vec<u8>);
        impl fmt::Write for Text<'_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
        Text(bytes)
            .write_fmt(*self)
            .expect("a vector takes any text; a `Display` that fails breaks its own contract");
    }
}

/// A number as decimal text, without the cost of the formatting machinery.
#[derive(Debug, Clone, Copy)]
pub struct Decimal(pub u64);

impl Payload for Decimal {
    #[inline]
    fn append_to(&self, bytes: &mut Vec<u8>) {
        if self.0 >= EIGHT_DIGITS_END {
            return append_long(self.0, bytes);
        }
        let digits = eight_digits(self.0);
        let zeros = (digits.trailing_zeros() / 8).min(7) as usize;
        // A copy of eight bytes is one instruction, one of `8 - zeros` bytes is a loop.
        let end = bytes.len() + 8 - zeros;
        let text = (digits >> (zeros * 8)) | u64::from_le_bytes([b'0'; 8]);
        bytes.extend_from_slice(&text.to_le_bytes());
        bytes.truncate(end);
    }
}

const EIGHT_DIGITS_END: u64 = 100_000_000;

/// A number of more than eight digits. Apart from the short ones, so that those are inlined.
#[cold]
fn append_long(number: u64, bytes: &mut Vec<u8>) {
    Decimal(number / EIGHT_DIGITS_END).append_to(bytes);
    let digits = eight_digits(number % EIGHT_DIGITS_END);
    let text = digits | u64::from_le_bytes([b'0'; 8]);
    bytes.extend_from_slice(&text.to_le_bytes());
}

/// The last eight decimal digits of a number below 10⁸, the first in the lowest byte: halves, quarters and digits are
/// parted side by side in one word, so it takes three steps and no memory.
#[inline]
fn eight_digits(number: u64) -> u64 {
    let above = ten_thousands(number);
    let fours = above | ((number - above * 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | ((fours - hundreds * 100) << 16);
    let tens = ((twos * 103) >> 10) & 0x0f_000f_000f_000f;
    tens | ((twos - tens * 10) << 8)
}

/// `number / 10_000`, for a number below 2³².
///
/// WebAssembly has no upper half of a product, so a division by a constant stays a division there, which costs some 20
/// times as much. The factor is 2⁴⁵ / 10,000 rounded up, (2⁴⁵ + 1168) / 10,000, so that the product is larger than
/// `number / 10_000` by `number · 1168 / (10,000 · 2⁴⁵)`. As long as `number · 1168` is below 2⁴⁵ that is less than 1 /
/// 10,000, the least distance to the next whole number, so the whole part is the same: for all numbers below 3 · 10¹⁰.
/// The product does not overflow below 2³².
#[inline]
const fn ten_thousands(number: u64) -> u64 {
    (number * 3_518_437_209) >> 45
}

#[cfg(test)]
mod tests {
    //! Catches digits that get lost at either end of the range, and a quotient that is off by one.

    use super::*;

    #[test]
    fn ten_thousands_are_those_of_a_division() {
        // The function never falls, so if it is right on both sides of each step it is right between them.
        for quotient in 1..10_000 {
            let step = quotient * 10_000;
            assert_eq!(ten_thousands(step - 1), quotient - 1);
            assert_eq!(ten_thousands(step), quotient);
        }
        assert_eq!(ten_thousands(0), 0);
        assert_eq!(ten_thousands(99_999_999), 9_999);
        assert_eq!(ten_thousands(u64::from(u32::MAX)), 429_496);
    }

    #[test]
    fn decimals_read_as_the_standard_library_writes_them() {
        let around_powers = (0..20)
            .map(|digits| 10_u64.pow(digits))
            .flat_map(|power| [power - 1, power, power + 1]);
        let every_four = (0..10_000).flat_map(|four| [four, four * 10_000, four * 100_010_001]);
        for number in around_powers.chain(every_four).chain([u64::MAX]) {
            let mut bytes = b"n=".to_vec();
            Decimal(number).append_to(&mut bytes);
            assert_eq!(bytes, format!("n={number}").into_bytes());
        }
    }
}
