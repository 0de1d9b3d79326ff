//! `#[derive(States)]` turns the fields of an operator into the states that it declares, and `#[operator]` says which
//! columns of its input it does not read.
//!
//! Names are checked here, so that a wrong one is an error in the operator's source and not at run time. What a state
//! can do is not known here: each field's type says that through the trait `State`.

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{Data, DeriveInput, Error, Field, Fields, Ident, Result, Type};

mod attribute;

mod reads;

use attribute::Attribute;

/// Makes each field of an operator a state of its own, named like the field with `-` for `_`.
///
/// - `#[state(skip)]` leaves a field to the operator (configuration, caches).
/// - `#[state(name = "..")]` gives the state another name.
/// - `#[state(ttl = "1h")]` makes values expire an hour after their last write (`ms`, `s`, `min`, `h`, `d`).
/// - `#[state(version = 2, migrate = function)]` declares the version of its encoding (by default 1), and how a value
///   of the previous version is converted to this version: `fn(Old) -> New`, or `fn(Old) -> Result<New>`. With more
///   than one older version in use, `migrate(1 = from_v1, 2 = from_v2)` names a function for each.
#[proc_macro_derive(States, attributes(state))]
pub fn derive_states(input: TokenStream) -> TokenStream {
    let input = syn::parse_macro_input!(input as DeriveInput);
    expand(&input)
        .unwrap_or_else(Error::into_compile_error)
        .into()
}

/// Sets the constant `READS` of an `impl Operator`: which columns of its input the operator reads, from what `process`
/// does with its record. The host then does not copy the others, and if possible does not create them.
///
/// A record that is named `_`, or of which only `key()` and `input()` are called, is read neither for its value nor for
/// its time; `value()` and `text()` read values, and `timestamp()` reads event times. `out.emit(..)`, also after
/// `to(..)` and `key(..)`, reads no times; with `at(..)` it does. Any other use of the record reads everything: passing
/// it to another function, naming it in a macro such as `info!`, giving it another name. So the attribute never omits a
/// column that is read. An implementation that has the constant keeps it.
#[proc_macro_attribute]
pub fn operator(arguments: TokenStream, implementation: TokenStream) -> TokenStream {
    // An error must not hide the implementation, or there would be others behind it.
    let unchanged = Tokens::from(implementation.clone());
    reads::expand(&arguments.into(), implementation.into())
        .unwrap_or_else(|error| {
            let error = error.into_compile_error();
            quote!(#error #unchanged)
        })
        .into()
}

/// A field that is a state.
struct Declared<'a> {
    field: &'a Ident,
    ty: &'a Type,
    name: String,
    attribute: Attribute,
}

fn expand(input: &DeriveInput) -> Result<Tokens> {
    let states = declared(input)?;
    let operator = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    let names = states.iter().map(|state| &state.name);
    let versions = states.iter().map(|state| state.attribute.version);
    let ttls = states.iter().map(|state| match state.attribute.ttl_ms {
        Some(ttl_ms) => quote!(::core::option::Option::Some(#ttl_ms)),
        None => quote!(::core::option::Option::None),
    });
    let types: Vec<_> = states.iter().map(|state| state.ty).collect();
    let fields: Vec<_> = states.iter().map(|state| state.field).collect();
    let indexes: Vec<_> = (0..states.len()).collect();
    let positions: Vec<_> = (0..=u16::MAX).take(states.len()).collect();
    let migrations = migrations(&states);
    Ok(quote! {
        #[automatically_derived]
        impl #generics ::floodmark_sdk::States for #operator #arguments #bounds {
            const DECLARATIONS: &'static [::floodmark_sdk::states::Declaration] = &[
                #(::floodmark_sdk::states::Declaration::of::<#types>(#names, #versions, #ttls)),*
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

            fn migrate(
                state: u16,
                from_version: u32,
                values: &::floodmark_sdk::columns::Column,
            ) -> ::floodmark_sdk::Result<::floodmark_sdk::columns::Column> {
                match (state, from_version) {
                    #(#migrations)*
                    _ => {
                        let _ = values;
                        ::core::result::Result::Err(::floodmark_sdk::states::no_migration(
                            Self::DECLARATIONS,
                            state,
                            from_version,
                        ))
                    }
                }
            }

            fn to_json(
                state: u16,
                part: ::floodmark_sdk::columns::Part,
                values: &::floodmark_sdk::columns::Column,
            ) -> ::floodmark_sdk::Result<::floodmark_sdk::columns::Column> {
                match state {
                    #(#positions => ::floodmark_sdk::states::to_json::<#types>(part, values),)*
                    _ => {
                        let _ = (part, values);
                        ::core::result::Result::Err(::floodmark_sdk::states::no_state(state))
                    }
                }
            }

            fn from_json(
                state: u16,
                part: ::floodmark_sdk::columns::Part,
                texts: &::floodmark_sdk::columns::Column,
            ) -> ::floodmark_sdk::Result<::floodmark_sdk::columns::Column> {
                match state {
                    #(#positions => ::floodmark_sdk::states::from_json::<#types>(part, texts),)*
                    _ => {
                        let _ = (part, texts);
                        ::core::result::Result::Err(::floodmark_sdk::states::no_state(state))
                    }
                }
            }
        }
    })
}

/// One arm for each older version that a state takes over.
fn migrations(states: &[Declared<'_>]) -> Vec<Tokens> {
    let arms = (0_u16..).zip(states).flat_map(|(position, state)| {
        let ty = state.ty;
        state.attribute.migrations.iter().map(move |migration| {
            let (from, function) = (migration.from_version, &migration.function);
            // What the function is wrong about is said where it stands; names of the generated code stay its own.
            let values = quote!(values);
            let call = quote_spanned! {function.span()=>
                ::floodmark_sdk::states::migrate::<#ty, _, _>(#function, #values)
            };
            quote!((#position, #from) => #call,)
        })
    });
    arms.collect()
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
    let Some(mut attribute) = Attribute::of(field)? else {
        return Ok(None);
    };
    let name = attribute.name.take();
    let name = name.unwrap_or_else(|| ident.to_string().trim_start_matches("r#").replace('_', "-"));
    if !is_name(&name) {
        let message =
            format!("`{name}` cannot name a state; use 1 to 64 characters of `a-z`, `0-9` and `-`");
        return Err(Error::new_spanned(field, message));
    }
    Ok(Some(Declared {
        field: ident,
        ty: &field.ty,
        name,
        attribute,
    }))
}

fn is_name(name: &str) -> bool {
    let is_known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(is_known)
}
