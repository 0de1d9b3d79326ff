//! `#[derive(States)]`: turns the fields of an operator into the states that it declares.
//!
//! Names are checked here, so that a wrong one is an error in the operator's source and not at run time. What a state can
//! do is not known here: each field's type says that through the trait `State`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, LitInt, LitStr, Result, Type};

/// Makes each field of an operator a state of its own, named like the field with `-` for `_`.
///
/// `#[state(skip)]` leaves a field to the operator (configuration, caches), `#[state(name = "..")]` gives the state another
/// name, and `#[state(version = 2)]` declares the version of its encoding (1 if not said).
#[proc_macro_derive(States, attributes(state))]
pub fn derive_states(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// A field that is a state.
struct Declared<'a> {
    field: &'a Ident,
    ty: &'a Type,
    name: String,
    version: u32,
}

fn expand(input: &DeriveInput) -> Result<Tokens> {
    let states = declared(input)?;
    let operator = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let names = states.iter().map(|state| &state.name);
    let versions = states.iter().map(|state| state.version);
    let types = states.iter().map(|state| state.ty);
    let fields: Vec<_> = states.iter().map(|state| state.field).collect();
    let indexes: Vec<_> = (0..states.len()).collect();
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::floodmark_sdk::States for #operator #arguments #bounds {
            const DECLARATIONS: &'static [::floodmark_sdk::states::Declaration] = &[
                #(::floodmark_sdk::states::Declaration::of::<#types>(#names, #versions)),*
            ];

            fn load(
                &mut self,
                call: &::floodmark_sdk::states::Call<'_>,
            ) -> ::floodmark_sdk::Result {
                #(::floodmark_sdk::states::State::load(
                    &mut self.#fields,
                    &Self::DECLARATIONS[#indexes],
                    call,
                    #indexes,
                )?;)*
                let _ = call;
                ::core::result::Result::Ok(())
            }

            #[inline]
            fn seek(&mut self, slot: u32) {
                #(::floodmark_sdk::states::State::seek(&mut self.#fields, slot);)*
                let _ = slot;
            }

            fn store(
                &mut self,
                writes: &mut ::floodmark_sdk::states::Writes,
            ) -> ::floodmark_sdk::Result {
                #(::floodmark_sdk::states::State::store(
                    &mut self.#fields,
                    &Self::DECLARATIONS[#indexes],
                    writes,
                    #indexes,
                )?;)*
                let _ = writes;
                ::core::result::Result::Ok(())
            }
        }
    })
}

fn declared(input: &DeriveInput) -> Result<Vec<Declared<'_>>> {
    let fields = match &input.data {
        Data::Struct(data) => &data.fields,
        Data::Enum(_) | Data::Union(_) => {
            return Err(Error::new_spanned(
                &input.ident,
                "an operator is a struct; its fields are its states",
            ));
        }
    };
    if let Fields::Unnamed(_) = fields {
        return Err(Error::new_spanned(
            fields,
            "a state needs a name that outlives this version of the plugin; name the fields",
        ));
    }
    let mut states: Vec<Declared<'_>> = Vec::new();
    for field in fields {
        let Some(state) = declaration(field)? else {
            continue;
        };
        if states.iter().any(|earlier| earlier.name == state.name) {
            let message = format!("there are two states `{}`; rename one", state.name);
            return Err(Error::new_spanned(field, message));
        }
        states.push(state);
    }
    Ok(states)
}

/// The state that a field declares, unless it is skipped.
fn declaration(field: &Field) -> Result<Option<Declared<'_>>> {
    let Some(ident) = &field.ident else {
        return Ok(None);
    };
    let mut skip = false;
    let mut version = 1;
    let mut name = ident.to_string().trim_start_matches("r#").replace('_', "-");
    for attribute in &field.attrs {
        if !attribute.path().is_ident("state") {
            continue;
        }
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skip = true;
            } else if meta.path.is_ident("name") {
                name = meta.value()?.parse::<LitStr>()?.value();
            } else if meta.path.is_ident("version") {
                version = meta.value()?.parse::<LitInt>()?.base10_parse()?;
            } else {
                return Err(meta.error("a state knows `skip`, `name = \"..\"` and `version = 1`"));
            }
            Ok(())
        })?;
    }
    if skip {
        return Ok(None);
    }
    if !is_name(&name) {
        let message =
            format!("`{name}` cannot name a state; use 1 to 64 characters of `a-z`, `0-9` and `-`");
        return Err(Error::new_spanned(field, message));
    }
    Ok(Some(Declared {
        field: ident,
        ty: &field.ty,
        name,
        version,
    }))
}

fn is_name(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(is_known)
}
