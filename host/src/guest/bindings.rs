//! What `wit/` says, as Rust. Generated; parameters are borrowed, so that columns are copied once, into the guest. Reads of
//! state trap where a guest breaks their rules.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: {
        "floodmark:engine/state.map-get": trappable,
        "floodmark:engine/state.map-scan": trappable,
        "floodmark:engine/state.list-read": trappable,
        "floodmark:engine/state.list-len": trappable,
    },
});
