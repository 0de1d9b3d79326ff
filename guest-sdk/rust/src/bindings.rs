//! The contract as Rust, generated from `wit/`, which is the only copy of it.
//!
//! The folder of this crate has a link to it, so that a copy of the folder, with the files in place of the link, is complete.
//!
//! Nothing here is meant to be named by an operator: `columns` hands on what is worth naming, `export!` uses the rest. The
//! generated code lifts and lowers memory with `unsafe`; it is the only such code of this crate.

wit_bindgen::generate!({
    path: "wit",
    world: "compact-plugin",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "floodmark_sdk::bindings",
    runtime_path: "floodmark_sdk::wit_bindgen::rt",
});
