//! Makes a component of an operator.
//!
//! The exports exist only for Wasm targets: their names hold `:` and `/`, which no native linker takes. On others
//! `export!` only checks the operator, so that a plugin is an ordinary member of a workspace, with tests.

use std::cell::RefCell;

use crate::columns::{Batch, Description, OptionalColumn, Output, Plugin};
use crate::operator::is_same;
use crate::{Config, Error, Operator, Port, Result, metrics, plain};

/// Makes a plugin of an operator. Once a crate; name and version are those of the crate.
#[macro_export]
macro_rules! export {
    ($operator:ty) => {
        const _: () = $crate::export::check_operator::<$operator>();
        $crate::export_plugin!($crate::RecordByRecord<$operator>);
    };
}

/// Makes a plugin of a [`columns::Plugin`](crate::columns::Plugin).
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        const _: () = {
            #[cfg(not(target_family = "wasm"))]
            const _: () = $crate::export::check_plugin::<$plugin>();

            #[cfg(target_family = "wasm")]
            ::std::thread_local! {
                static INSTANCE: $crate::export::Instance<$plugin> =
                    const { $crate::export::Instance::new() };
            }

            #[cfg(target_family = "wasm")]
            struct Exported;

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::floodmark::engine::operator::Guest for Exported {
                fn describe() -> $crate::columns::Description {
                    $crate::export::describe::<$plugin>(
                        ::core::env!("CARGO_PKG_NAME"),
                        ::core::env!("CARGO_PKG_VERSION"),
                    )
                }

                fn open(
                    config: ::std::vec::Vec<(::std::string::String, ::std::string::String)>,
                ) -> ::core::result::Result<(), ::std::string::String> {
                    INSTANCE.with(|instance| instance.open(config))
                }

                fn process(
                    input: u16,
                    records: $crate::columns::Batch,
                    states: ::std::vec::Vec<$crate::columns::OptionalColumn>,
                ) -> ::core::result::Result<
                    $crate::bindings::exports::floodmark::engine::operator::Output,
                    ::std::string::String,
                > {
                    INSTANCE.with(|instance| instance.process_plain(input, records, states))
                }
            }

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::floodmark::engine::operator_compact::Guest
                for Exported
            {
                fn process(
                    input: u16,
                    records: $crate::columns::Batch,
                    states: ::std::vec::Vec<$crate::columns::OptionalColumn>,
                ) -> ::core::result::Result<$crate::columns::Output, ::std::string::String>
                {
                    INSTANCE.with(|instance| instance.process(input, records, states))
                }
            }

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::floodmark::engine::input_columns::Guest for Exported {
                fn unread() -> ::std::vec::Vec<$crate::columns::UnreadColumns> {
                    <$plugin as $crate::columns::Plugin>::unread()
                }
            }

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::floodmark::engine::state_values::Guest for Exported {
                fn migrate(
                    state: u16,
                    from_version: u32,
                    values: $crate::columns::Column,
                ) -> ::core::result::Result<$crate::columns::Column, ::std::string::String>
                {
                    <$plugin as $crate::columns::Plugin>::migrate(state, from_version, &values)
                        .map_err($crate::Error::into_message)
                }

                fn to_json(
                    state: u16,
                    part: $crate::columns::Part,
                    values: $crate::columns::Column,
                ) -> ::core::result::Result<$crate::columns::Column, ::std::string::String>
                {
                    <$plugin as $crate::columns::Plugin>::to_json(state, part, &values)
                        .map_err($crate::Error::into_message)
                }

                fn from_json(
                    state: u16,
                    part: $crate::columns::Part,
                    texts: $crate::columns::Column,
                ) -> ::core::result::Result<$crate::columns::Column, ::std::string::String>
                {
                    <$plugin as $crate::columns::Plugin>::from_json(state, part, &texts)
                        .map_err($crate::Error::into_message)
                }
            }

            #[cfg(target_family = "wasm")]
            impl $crate::bindings::exports::floodmark::engine::checkpoint_listener::Guest
                for Exported
            {
                fn completed(checkpoint: u64) {
                    INSTANCE.with(|instance| instance.completed(checkpoint));
                }

                fn aborted(checkpoint: u64) {
                    INSTANCE.with(|instance| instance.aborted(checkpoint));
                }
            }

            #[cfg(target_family = "wasm")]
    $crate::bindings::export_component!(Exported with_types_in $crate::bindings);
        };
    };
}

/// The one instance that a component holds.
///
/// After an error the plugin may have seen half of a batch, so it is dropped, and the next call opens another one.
#[derive(Debug)]
pub struct Instance<P>(RefCell<Held<P>>);

#[derive(Debug)]
struct Held<P> {
    config: Config,
    plugin: Option<P>,
}

impl<P: Plugin> Instance<P> {
    /// Not opened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(RefCell::new(Held {
            config: Config::new(Vec::new()),
            plugin: None,
        }))
    }

    /// Opens it.
    ///
    /// # Errors
    /// The configuration is wrong; there is no plugin.
    pub fn open(&self, config: Vec<(String, String)>) -> Result<(), String> {
        metrics::begin();
        let config = Config::new(config);
        let plugin = Some(P::open(&config).map_err(Error::into_message)?);
        self.0.replace(Held { config, plugin });
        metrics::succeeded();
        Ok(())
    }

    /// Handles one batch.
    ///
    /// # Errors
    /// The plugin cannot continue; the next call gets a fresh one.
    pub fn process(
        &self,
        input: u16,
        records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<Output, String> {
        metrics::begin();
        let Held { config, plugin } = &mut *self.0.borrow_mut();
        let mut opened = match plugin.take() {
            Some(opened) => opened,
            None => P::open(config).map_err(Error::into_message)?,
        };
        let output = opened
            .process(Port::at(input), records, states)
            .map_err(Error::into_message)?;
        *plugin = Some(opened);
        metrics::succeeded();
        Ok(output)
    }

    /// The same for a host that does not know compact output.
    ///
    /// # Errors
    /// As [`Instance::process`].
    pub fn process_plain(
        &self,
        input: u16,
        records: Batch,
        states: Vec<OptionalColumn>,
    ) -> Result<plain::Output, String> {
        let called = plain::Called::of(&records);
        let output = self.process(input, records, states)?;
        Ok(called.spell_out(output))
    }

    /// Tells the plugin, if there is one, that a checkpoint is durable.
    pub fn completed(&self, checkpoint: u64) {
        if let Some(plugin) = &mut self.0.borrow_mut().plugin {
            metrics::begin();
            plugin.checkpoint_completed(checkpoint);
            metrics::succeeded();
        }
    }

    /// Tells the plugin, if there is one, that a checkpoint was aborted.
    pub fn aborted(&self, checkpoint: u64) {
        if let Some(plugin) = &mut self.0.borrow_mut().plugin {
            metrics::begin();
            plugin.checkpoint_aborted(checkpoint);
            metrics::succeeded();
        }
    }
}

impl<P: Plugin> Default for Instance<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// The description of a plugin, with the name and version of its crate where it has none of its own.
#[must_use]
pub fn describe<P: Plugin>(name: &str, version: &str) -> Description {
    let mut description = P::describe();
    if description.name.is_empty() {
        description.name = name.to_ascii_lowercase().replace('_', "-");
    }
    if description.version.is_empty() {
        version.clone_into(&mut description.version);
    }
    description
}

/// Fails to compile where `P` is not a plugin.
pub const fn check_plugin<P: Plugin>() {}

/// Fails to compile where an operator has ports that no host would take.
///
/// # Panics
/// At compile time, with a sentence that says what to change.
pub const fn check_operator<O: Operator>() {
    check_ports(O::INPUTS);
    check_ports(O::OUTPUTS);
}

const fn check_ports(names: &[&str]) {
    assert!(
        !names.is_empty() && names.len() <= u16::MAX as usize,
        "an operator has at least one input and one output"
    );
    let mut index = 0;
    while index < names.len() {
        let name = names[index].as_bytes();
        assert!(
            is_name(name),
            "a port's name is 1 to 64 characters of `a-z`, `0-9` and `-`"
        );
        let mut earlier = 0;
        while earlier < index {
            assert!(
                !is_same(names[earlier].as_bytes(), name),
                "two inputs, or two outputs, have the same name"
            );
            earlier += 1;
        }
        index += 1;
    }
}

const fn is_name(name: &[u8]) -> bool {
    let mut index = 0;
    while index < name.len() {
        let byte = name[index];
        if !(byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-') {
            return false;
        }
        index += 1;
    }
    !name.is_empty() && name.len() <= 64
}

#[cfg(test)]
mod tests {
    //! Catches an instance that keeps what it learnt from a batch that was never applied.

    use super::*;

    /// Counts its calls and fails at those of the second port.
    struct Calls(usize);

    impl Plugin for Calls {
        fn describe() -> Description {
            panic!("not called here")
        }

        fn open(config: &Config) -> Result<Self> {
            Ok(Self(config.parse("calls")?))
        }

        fn process(&mut self, input: Port, _: Batch, _: Vec<OptionalColumn>) -> Result<Output> {
            self.0 += 1;
            if input != Port::FIRST {
                return Err(Error::new(format!("call {}", self.0)));
            }
            Ok(Output::new())
        }
    }

    #[test]
    fn an_error_ends_the_life_of_a_plugin_but_not_of_its_configuration() {
        let instance = Instance::<Calls>::new();
        let call = |input| {
            let batch = Batch {
                keys: crate::columns::Column::new(),
                slots: Vec::new(),
                values: crate::columns::Column::new(),
                timestamps: Vec::new(),
            };
            let output = instance.process(input, batch, Vec::new());
            output.map(|_| ())
        };
        assert_eq!(call(0), Err("option `calls` is missing; set it".to_owned()));
        let config = vec![("calls".to_owned(), "10".to_owned())];
        assert_eq!(instance.open(config), Ok(()));
        assert_eq!(call(0), Ok(()));
        assert_eq!(call(1), Err("call 12".to_owned()));
        assert_eq!(call(1), Err("call 11".to_owned()));
    }
}
