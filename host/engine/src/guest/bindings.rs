//! Generated Rust bindings of the contract in `wit/`. Parameters are borrowed, so that columns are copied only once,
//! into the guest. Reads of state trap if a guest breaks their rules.
//!
//! The world has every export that any plugin may have; `exports` finds those that a plugin has.

wasmtime::component::bindgen!({
    path: "../../wit",
    inline: "
        package floodmark:host;

        world any-plugin {
            include floodmark:engine/compact-plugin@0.1.0;
            include floodmark:engine/packed-plugin@0.1.0;
        }
    ",
    world: "floodmark:host/any-plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: {
        "floodmark:engine/state.map-get": trappable,
        "floodmark:engine/state.map-scan": trappable,
        "floodmark:engine/state.list-read": trappable,
        "floodmark:engine/state.list-len": trappable,
    },
});
