//! Byte strings stored end to end, in the form in which they cross the guest boundary (`wit/types.wit`).
//!
//! A column has two allocations whatever its length, so moving a batch is two copies and no work per record. It is
//! independent of the meaning of the bytes.

use std::ops::Range;

use super::short;

/// A column of byte strings.
///
/// - `ends` never decreases.
/// - The last end, or 0 for an empty column, is the length of `bytes`.
/// - The length of `bytes` fits a `u32`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Column {
    ends: Vec<u32>,
    bytes: Vec<u8>,
}

/// The reason why parts are not a column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MalformedColumn {
    /// An end is smaller than the one before it.
    #[error("end {index} is {end}, before the one in front of it ({previous})")]
    Decreasing {
        /// The index of the end.
        index: usize,
        /// Its value.
        end: u32,
        /// The value before it.
        previous: u32,
    },
    /// The last end is not the length of the bytes.
    #[error("the last end is {end}, but there are {bytes} bytes")]
    Length {
        /// The last end.
        end: u32,
        /// The number of bytes.
        bytes: usize,
    },
    /// The length of the bitmap does not match the number of items.
    #[error("a bitmap of {bytes} bytes cannot cover {items} items")]
    Bitmap {
        /// Bytes of the bitmap.
        bytes: usize,
        /// Items of the column.
        items: usize,
    },
    /// An item is marked absent, but has bytes.
    #[error("item {index} is absent, but has bytes")]
    AbsentWithBytes {
        /// The index of the item.
        index: usize,
    },
}

impl Column {
    /// An empty column.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty column with room for `items` items of `bytes` bytes in all.
    #[must_use]
    pub fn with_capacity(items: usize, bytes: usize) -> Self {
        Self {
            ends: Vec::with_capacity(items),
            bytes: Vec::with_capacity(bytes),
        }
    }

    /// A column of items without bytes.
    #[must_use]
    pub fn of_empty_items(items: usize) -> Self {
        Self {
            ends: vec![0; items],
            bytes: Vec::new(),
        }
    }

    /// A column of untrusted parts.
    ///
    /// # Errors
    /// When the parts are not a column: the reason.
    pub fn from_parts(ends: Vec<u32>, bytes: Vec<u8>) -> Result<Self, MalformedColumn> {
        check_ends(&ends, bytes.len())?;
        Ok(Self { ends, bytes })
    }

    /// Number of items.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is no item.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Adds an item.
    ///
    /// # Panics
    /// When the column would exceed 4 GiB. Callers limit their columns far below that.
    #[inline]
    pub fn push(&mut self, item: &[u8]) {
        short::append(&mut self.bytes, item);
        let end = u32::try_from(self.bytes.len()).expect("a column stays below 4 GiB");
        self.ends.push(end);
    }

    /// Item `index`.
    ///
    /// # Panics
    /// When the index is out of bounds.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> &[u8] {
        &self.bytes[start_of(&self.ends, index)..self.ends[index] as usize]
    }

    /// Item `index` if it has at most sixteen bytes, and its length. The bytes after it in the array are arbitrary:
    /// copying a fixed number avoids branches, which random lengths would mispredict.
    ///
    /// # Panics
    /// When the index is out of bounds.
    #[inline]
    #[must_use]
    pub fn short(&self, index: usize) -> Option<([u8; 16], usize)> {
        let start = start_of(&self.ends, index);
        let len = self.ends[index] as usize - start;
        if len > 16 {
            return None;
        }
        let ahead = &self.bytes[start..];
        let bytes = ahead.first_chunk().copied();
        Some((bytes.unwrap_or_else(|| padded(ahead)), len))
    }

    /// Adds item `index` of another column.
    ///
    /// # Panics
    /// When the index is out of bounds, or this column would exceed 4 GiB.
    #[inline]
    pub fn push_from(&mut self, other: &Self, index: usize) {
        let Some((bytes, len)) = other.short(index) else {
            return self.push(other.get(index));
        };
        let end = self.bytes.len() + len;
        self.bytes.extend_from_slice(&bytes);
        self.bytes.truncate(end);
        self.ends
            .push(u32::try_from(end).expect("a column stays below 4 GiB"));
    }

    /// Bytes of item `index`.
    ///
    /// # Panics
    /// When the index is out of bounds.
    #[inline]
    #[must_use]
    pub fn len_of(&self, index: usize) -> usize {
        self.ends[index] as usize - start_of(&self.ends, index)
    }

    /// Number of items that fit without reallocating.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.ends.capacity()
    }

    /// Copies some of the items.
    ///
    /// # Panics
    /// When the range is out of bounds.
    #[must_use]
    pub fn part(&self, items: Range<usize>) -> Self {
        let start = start_of(&self.ends, items.start) as u32;
        let ends: Vec<u32> = self.ends[items].iter().map(|end| end - start).collect();
        let len = ends.last().map_or(0, |&end| end as usize);
        let bytes = self.bytes[start as usize..start as usize + len].to_vec();
        Self { ends, bytes }
    }

    /// The items in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// The end of each item within [`Column::bytes`].
    #[must_use]
    #[inline]
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// All items, end to end.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Removes all items and keeps the capacity.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.bytes.clear();
    }

    /// The ends and the bytes.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u32>, Vec<u8>) {
        (self.ends, self.bytes)
    }
}

impl<'a> FromIterator<&'a [u8]> for Column {
    fn from_iter<I: IntoIterator<Item = &'a [u8]>>(items: I) -> Self {
        let mut column = Self::new();
        for item in items {
            column.push(item);
        }
        column
    }
}

/// A column with absent items.
///
/// - The column is valid as [`Column`] requires.
/// - `present` has one bit per item, lowest first, and zeros after the last.
/// - An absent item has no bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OptionalColumn {
    present: Vec<u8>,
    items: Column,
}

impl OptionalColumn {
    /// An empty column.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A column of untrusted parts. Bits after the last item are cleared.
    ///
    /// # Errors
    /// When the parts are not a column: the reason.
    pub fn from_parts(
        mut present: Vec<u8>,
        ends: Vec<u32>,
        bytes: Vec<u8>,
    ) -> Result<Self, MalformedColumn> {
        let items = Column::from_parts(ends, bytes)?;
        if present.len() != items.len().div_ceil(8) {
            return Err(MalformedColumn::Bitmap {
                bytes: present.len(),
                items: items.len(),
            });
        }
        if let (Some(last), used @ 1..) = (present.last_mut(), items.len() % 8) {
            *last &= (1 << used) - 1;
        }
        let column = Self { present, items };
        if column.has_no_gaps() {
            return Ok(column);
        }
        for index in 0..column.len() {
            if !column.is_present(index) && !column.items.get(index).is_empty() {
                return Err(MalformedColumn::AbsentWithBytes { index });
            }
        }
        Ok(column)
    }

    /// Number of items, including absent ones.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are no items.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Reserves capacity for items of a few bytes each.
    pub fn reserve(&mut self, items: usize) {
        self.present.reserve(items.div_ceil(8));
        self.items.ends.reserve(items);
        self.items.bytes.reserve(8 * items);
    }

    /// Adds an item.
    #[inline]
    pub fn push(&mut self, item: Option<&[u8]>) {
        let index = self.len();
        if index.is_multiple_of(8) {
            self.present.push(0);
        }
        if item.is_some() {
            self.present[index / 8] |= 1 << (index % 8);
        }
        self.items.push(item.unwrap_or_default());
    }

    /// Item `index`; `None` if it is absent.
    ///
    /// # Panics
    /// When the index is out of bounds.
    #[inline]
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.is_present(index).then(|| self.items.get(index))
    }

    /// The items in order.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&[u8]>> {
        (0..self.len()).map(|index| self.get(index))
    }

    /// One bit per item, lowest first.
    #[must_use]
    #[inline]
    pub fn present(&self) -> &[u8] {
        &self.present
    }

    /// The end of each item within [`OptionalColumn::bytes`].
    #[must_use]
    #[inline]
    pub fn ends(&self) -> &[u32] {
        self.items.ends()
    }

    /// All items, end to end.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        self.items.bytes()
    }

    /// Removes all items and keeps the capacity.
    pub fn clear(&mut self) {
        self.present.clear();
        self.items.clear();
    }

    /// The bitmap, the ends and the bytes.
    #[must_use]
    pub fn into_parts(self) -> (Vec<u8>, Vec<u32>, Vec<u8>) {
        (self.present, self.items.ends, self.items.bytes)
    }

    fn has_no_gaps(&self) -> bool {
        let Some((last, whole)) = self.present.split_last() else {
            return true;
        };
        let used = self.items.len() - 8 * whole.len();
        u32::from(*last) == (1 << used) - 1 && whole.iter().all(|&bits| bits == u8::MAX)
    }

    fn is_present(&self, index: usize) -> bool {
        self.present[index / 8] & (1 << (index % 8)) != 0
    }
}

/// The last bytes of a column, fewer than sixteen. Apart from the copy of sixteen bytes, or both become one copy of a
/// variable length, which is a call.
#[cold]
#[inline(never)]
fn padded(bytes: &[u8]) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..bytes.len()].copy_from_slice(bytes);
    padded
}

fn start_of(ends: &[u32], index: usize) -> usize {
    match index.checked_sub(1) {
        Some(before) => ends[before] as usize,
        None => 0,
    }
}

fn check_ends(ends: &[u32], bytes: usize) -> Result<(), MalformedColumn> {
    // Without an early exit, so that it can be vectorised.
    let falls = |falls: bool, two: &[u32; 2]| falls | (two[0] > two[1]);
    let is_sound = match ends.split_last() {
        None => bytes == 0,
        Some((&last, _)) => last as usize == bytes && !ends.array_windows::<2>().fold(false, falls),
    };
    if is_sound {
        return Ok(());
    }
    let mut previous = 0;
    for (index, &end) in ends.iter().enumerate() {
        if end < previous {
            return Err(MalformedColumn::Decreasing {
                index,
                end,
                previous,
            });
        }
        previous = end;
    }
    if previous as usize != bytes {
        return Err(MalformedColumn::Length {
            end: previous,
            bytes,
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Catches parts of a hostile guest that are accepted as a column, and absent items that read as empty ones.

    use super::*;

    #[test]
    fn items_come_back_as_they_went_in() {
        let column: Column = [b"a".as_slice(), b"", b"bcd"].into_iter().collect();
        assert_eq!(
            column.iter().collect::<Vec<_>>(),
            [b"a".as_slice(), b"", b"bcd"]
        );
        let rebuilt = Column::from_parts(column.ends().to_vec(), column.bytes().to_vec());
        assert_eq!(rebuilt, Ok(column));
    }

    #[test]
    fn items_of_any_length_go_over_from_another_column() {
        let bytes: Vec<u8> = (1..=40).collect();
        // Short ones last, so that sixteen bytes extend beyond the end.
        let column: Column = (0..30).rev().map(|len| &bytes[..len]).collect();
        let mut copy = Column::new();
        for index in 0..column.len() {
            copy.push_from(&column, index);
            let short = column
                .short(index)
                .map(|(bytes, len)| bytes[..len].to_vec());
            let item = column.get(index).to_vec();
            assert_eq!(short, (item.len() <= 16).then_some(item));
        }
        assert_eq!(copy, column);
    }

    #[test]
    fn a_gap_is_not_an_empty_item() {
        let mut column = OptionalColumn::new();
        for index in 0..17 {
            column.push((index % 3 != 0).then_some(if index % 2 == 0 {
                b""
            } else {
                b"xy".as_slice()
            }));
        }
        assert_eq!(column.get(0), None);
        assert_eq!(column.get(2), Some(b"".as_slice()));
        assert_eq!(column.get(13), Some(b"xy".as_slice()));
        let parts = (
            column.present().to_vec(),
            column.ends().to_vec(),
            column.bytes().to_vec(),
        );
        assert_eq!(
            OptionalColumn::from_parts(parts.0, parts.1, parts.2),
            Ok(column)
        );
    }

    #[test]
    fn forged_bits_do_not_come_back_with_later_items() {
        let mut column = OptionalColumn::from_parts(vec![0xff], vec![0], vec![]).expect("one item");
        column.push(None);
        assert_eq!(column.get(0), Some(b"".as_slice()));
        assert_eq!(column.get(1), None);
    }

    #[test]
    fn forged_parts_are_refused() {
        let check =
            |ends: &[u32], bytes: usize| Column::from_parts(ends.to_vec(), vec![0; bytes]).is_err();
        assert!(check(&[2, 1], 1), "decreasing");
        assert!(check(&[1], 2), "too short");
        assert!(check(&[u32::MAX], 2), "too long");
        assert!(check(&[], 1), "bytes without an item");
        assert!(
            OptionalColumn::from_parts(vec![0, 0], vec![0], vec![]).is_err(),
            "bitmap too long"
        );
        assert!(
            OptionalColumn::from_parts(vec![], vec![0], vec![]).is_err(),
            "bitmap too short"
        );
        assert!(
            OptionalColumn::from_parts(vec![0], vec![1], vec![7]).is_err(),
            "absent with bytes"
        );
    }
}
