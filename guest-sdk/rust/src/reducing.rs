//! States that fold the inputs of a key into one value: `Reducing` where both have the same type, `Aggregating` where
//! not.
//!
//! To the host both are value states. They differ from a `Value` in that the way to change them is part of their type.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::columns::StateKind;
use crate::encoding::{Encoding, Postcard};
use crate::states::{Call, Declaration, State, Writes, sealed};
use crate::{Result, Value};

/// A type whose values can be combined in pairs.
///
/// The order in which they do must not matter to the operator: `(a, b), c` is `a, (b, c)`.
pub trait Reduce {
    /// Combines it with another value.
    fn reduce(&mut self, other: Self);
}

/// A state that keeps, for each key, all added values reduced to one.
///
/// ```
/// # use floodmark_sdk::{Config, Operator, Output, Record, Result, States};
/// use floodmark_sdk::{Max, Reducing};
///
/// #[derive(Default, States)]
/// struct Highest {
///     level: Reducing<Max<i64>>,
/// }
///
/// impl Operator for Highest {
///     # fn open(_: &Config) -> Result<Self> { Ok(Self::default()) }
///     fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
///         let Max(highest) = self.level.add(Max(record.text()?.parse()?));
///         out.emit(format_args!("{highest}"));
///         Ok(())
///     }
/// }
/// # let mut task = floodmark_sdk::testing::Task::new::<Highest>();
/// # assert_eq!(task.run([("a", "-5"), ("a", "3"), ("a", "1")])?, [("a", "-5"), ("a", "3"), ("a", "3")]);
/// # Result::<()>::Ok(())
/// ```
pub struct Reducing<T, E = Postcard>(Value<T, E>);

impl<T: Reduce, E> Reducing<T, E> {
    /// Adds a value and returns the combination of all of them.
    pub fn add(&mut self, value: T) -> &T {
        if let Some(kept) = self.0.get_mut() {
            kept.reduce(value);
        } else {
            self.0.set(value);
        }
        self.0.get().expect("it was just set")
    }

    /// The combination of all added values, if there were any.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

/// A type that accumulates inputs and computes a result. Its default is the state before any input.
pub trait Aggregate: Default {
    /// What is added.
    type Input;

    /// The type of the result.
    type Output;

    /// Adds an input.
    fn add(&mut self, input: Self::Input);

    /// The result of all inputs so far.
    fn result(&self) -> Self::Output;
}

/// A state that keeps, for each key, the aggregate of all added inputs.
///
/// ```
/// # use floodmark_sdk::{Config, Operator, Output, Record, Result, States};
/// use floodmark_sdk::{Aggregate, Aggregating};
///
/// #[derive(Default, serde::Serialize, serde::Deserialize)]
/// struct Mean { sum: f64, count: u32 }
///
/// impl Aggregate for Mean {
///     type Input = f64;
///     type Output = f64;
///     fn add(&mut self, input: f64) { self.sum += input; self.count += 1; }
///     fn result(&self) -> f64 { self.sum / f64::from(self.count) }
/// }
///
/// #[derive(Default, States)]
/// struct Average {
///     mean: Aggregating<Mean>,
/// }
///
/// impl Operator for Average {
///     # fn open(_: &Config) -> Result<Self> { Ok(Self::default()) }
///     fn process(&mut self, record: Record<'_>, out: &mut Output<'_>) -> Result {
///         let mean = self.mean.add(record.text()?.parse()?);
///         out.emit(format_args!("{mean}"));
///         Ok(())
///     }
/// }
/// # let mut task = floodmark_sdk::testing::Task::new::<Average>();
/// # assert_eq!(task.run([("a", "1"), ("a", "2")])?, [("a", "1"), ("a", "1.5")]);
/// # Result::<()>::Ok(())
/// ```
pub struct Aggregating<A, E = Postcard>(Value<A, E>);

impl<A: Aggregate, E> Aggregating<A, E> {
    /// Adds an input and returns the result of all of them.
    pub fn add(&mut self, input: A::Input) -> A::Output {
        let kept = self.0.or_default();
        kept.add(input);
        kept.result()
    }

    /// The result of the added inputs, if there were any.
    #[must_use]
    pub fn get(&self) -> Option<A::Output> {
        self.0.get().map(A::result)
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

macro_rules! value_states {
    ($($state:ident, $bound:ident;)+) => { $(
        impl<T, E> Default for $state<T, E> {
            fn default() -> Self {
                Self(Value::default())
            }
        }

        impl<T: fmt::Debug, E> fmt::Debug for $state<T, E> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.debug_tuple(stringify!($state)).field(&self.0).finish()
            }
        }

        impl<T, E> sealed::Sealed for $state<T, E> {}

        impl<T: $bound, E: Encoding<T>> State for $state<T, E> {
            const KIND: StateKind = StateKind::Value;

            type Item = T;

            type Encoding = E;

            fn load(&mut self, declaration: &Declaration, call: &Call<'_>, index: usize) -> Result {
                self.0.load(declaration, call, index)
            }

            #[inline]
            fn seek(&mut self, slot: u32) {
                self.0.seek(slot);
            }

            fn store(
                &mut self,
                declaration: &Declaration,
                writes: &mut Writes,
                index: usize,
            ) -> Result {
                self.0.store(declaration, writes, index)
            }
        }
    )+ };
}

value_states! {
    Reducing, Reduce;
    Aggregating, Aggregate;
}

macro_rules! reducers {
    ($($(#[$doc:meta])+ $name:ident: $bound:path, $reduce:expr;)+) => { $(
        $(#[$doc])+
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name<T>(pub T);

        impl<T: $bound> Reduce for $name<T> {
            #[inline]
            fn reduce(&mut self, other: Self) {
                let reduce: fn(&mut T, T) = $reduce;
                reduce(&mut self.0, other.0);
            }
        }

        impl<T: Serialize> Serialize for $name<T> {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.serialize(serializer)
            }
        }

        impl<'de, T: Deserialize<'de>> Deserialize<'de> for $name<T> {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                T::deserialize(deserializer).map(Self)
            }
        }
    )+ };
}

reducers! {
    /// Reduces to the sum.
    Sum: std::ops::AddAssign, |kept, other| *kept += other;
    /// Reduces to the least.
    Min: PartialOrd, |kept, other| if other < *kept { *kept = other };
    /// Reduces to the greatest.
    Max: PartialOrd, |kept, other| if other > *kept { *kept = other };
}
