//! The places where the records of a batch were read, for messages about single records.
//!
//! An origin is stored once per batch and costs nothing per record: a source notes what it read for the whole batch,
//! and code that mixes batches joins their origins. Output of an operator inherits the origin of its input, so it names
//! the records that were read, not the ones that were made from them.

use std::fmt::Write as _;
use std::sync::Arc;

/// Largest number of spans of a batch: more would cost more than they are worth.
const SPANS_MAX: usize = 8;

/// The places where the records of a batch were read.
///
/// - At most eight spans; `has_others` if there were more.
/// - If there is a `first`, the records of the batch are, in order and without gaps, those of the spans from that one
///   on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origin {
    spans: Vec<Span>,
    has_others: bool,
    first: Option<usize>,
}

/// A part of a source that was read at once.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    source: Option<Arc<str>>,
    split: Arc<str>,
    unit: Unit,
    from: u64,
    to: u64,
    records: usize,
}

/// The unit of a span's positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes of a file.
    Bytes,
    /// Numbers of records.
    Records,
}

impl Unit {
    fn word(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Records => "numbers",
        }
    }
}

impl Origin {
    /// Notes that `records` records of a split were read, from a position up to another one. For sources that fill a
    /// batch.
    pub fn read(&mut self, split: &Arc<str>, unit: Unit, (from, to): (u64, u64), records: usize) {
        let has_room = self.spans.len() < SPANS_MAX;
        match self.spans.last_mut() {
            Some(last) if last.split == *split && last.to == from => {
                last.to = to;
                last.records += records;
            }
            _ if has_room => self.spans.push(Span {
                source: None,
                split: Arc::clone(split),
                unit,
                from,
                to,
                records,
            }),
            _ => self.has_others = true,
        }
    }

    /// Sets the name of the source of all spans. From now on it is known which record is which.
    pub fn of_source(&mut self, source: &Arc<str>) {
        for span in &mut self.spans {
            span.source = Some(Arc::clone(source));
        }
        self.first = Some(0);
    }

    /// Adds the origin of another batch, some of whose records are added to this one.
    pub fn join(&mut self, other: &Self) {
        self.first = None;
        self.has_others |= other.has_others;
        for span in &other.spans {
            self.join_span(span);
        }
    }

    /// The origin of records that were made from these.
    #[must_use]
    pub fn inherited(&self) -> Self {
        Self {
            first: None,
            ..self.clone()
        }
    }

    /// The origin of the records from the `index`-th on.
    #[must_use]
    pub fn from_record(&self, index: usize) -> Self {
        Self {
            first: self.first.map(|first| first + index),
            ..self.clone()
        }
    }

    /// The place where one record of the batch was read, in words.
    #[must_use]
    pub fn describe(&self, record: usize) -> String {
        if let Some((span, index)) = self.span_of(record) {
            return format!("{}, record {} of these", span.describe(), index + 1);
        }
        if self.spans.is_empty() {
            return "its origin was not recorded".to_owned();
        }
        let mut text = String::new();
        for (index, span) in self.spans.iter().enumerate() {
            let between = if index == 0 { "" } else { ", or " };
            let _ = write!(text, "{between}{}", span.describe());
        }
        if self.has_others {
            text += ", or others";
        }
        text
    }

    /// The span of a record, and its index there, if both are known for sure.
    fn span_of(&self, record: usize) -> Option<(&Span, usize)> {
        let mut index = self.first? + record;
        for span in &self.spans {
            if index < span.records {
                return Some((span, index));
            }
            index -= span.records;
        }
        None
    }

    fn join_span(&mut self, span: &Span) {
        let is_same = |known: &&mut Span| {
            let meet = known.from <= span.to && span.from <= known.to;
            meet && known.split == span.split && known.source == span.source
        };
        let has_room = self.spans.len() < SPANS_MAX;
        match self.spans.iter_mut().find(is_same) {
            Some(known) => {
                known.from = known.from.min(span.from);
                known.to = known.to.max(span.to);
            }
            _ if has_room => self.spans.push(span.clone()),
            _ => self.has_others = true,
        }
    }
}

impl Span {
    fn describe(&self) -> String {
        let Self {
            source,
            split,
            unit,
            from,
            to,
            ..
        } = self;
        let source = source.as_deref().unwrap_or_default();
        format!("source `{source}`: {split}, {} {from} to {to}", unit.word())
    }
}

#[cfg(test)]
mod tests {
    //! Catches a position of another record than the intended one, and origins that grow without limit.

    use super::*;

    fn of(spans: &[(&str, u64, u64, usize)]) -> Origin {
        let mut origin = Origin::default();
        for &(split, from, to, records) in spans {
            origin.read(&split.into(), Unit::Bytes, (from, to), records);
        }
        origin.of_source(&"text".into());
        origin
    }

    #[test]
    fn a_record_is_found_in_its_span() {
        let origin = of(&[("a", 0, 10, 2), ("b", 5, 9, 1)]);
        let first = "source `text`: a, bytes 0 to 10, record 2 of these";
        assert_eq!(origin.describe(1), first);
        let last = "source `text`: b, bytes 5 to 9, record 1 of these";
        assert_eq!(origin.describe(2), last);
        assert_eq!(origin.from_record(2).describe(0), last);
        let either = "source `text`: a, bytes 0 to 10, or source `text`: b, bytes 5 to 9";
        assert_eq!(origin.inherited().describe(2), either);
        assert_eq!(origin.inherited().from_record(1).describe(0), either);
    }

    #[test]
    fn what_is_joined_stays_small() {
        let mut origin = of(&[("a", 0, 10, 2)]);
        origin.join(&of(&[("a", 10, 30, 4)]));
        assert_eq!(origin.describe(0), "source `text`: a, bytes 0 to 30");
        for number in 0..20 {
            origin.join(&of(&[(&format!("b{number}"), 0, 1, 1)]));
        }
        assert_eq!(origin.spans.len(), SPANS_MAX);
        assert!(origin.describe(0).ends_with(", bytes 0 to 1, or others"));
        assert_eq!(Origin::default().describe(3), "its origin was not recorded");
    }
}
