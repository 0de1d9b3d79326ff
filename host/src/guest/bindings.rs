//! What `wit/` says, as Rust. Generated; parameters are borrowed, so that columns are copied once, into the guest.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
});
