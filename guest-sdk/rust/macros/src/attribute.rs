//! What `#[state(..)]` on a field says.
//!
//! Durations and versions are checked here, since a wrong one is easiest to correct where it stands.

use syn::meta::ParseNestedMeta;
use syn::{Error, Field, LitInt, LitStr, Path, Result, Token, parenthesized};

const KNOWN: &str =
    "a state knows `skip`, `name = \"..\"`, `ttl = \"1h\"`, `version = 1` and `migrate = function`";

/// 100 years, as the contract says.
const TTL_MS_MAX: f64 = 36_525.0 * 86_400_000.0;

const UNITS: [(&str, f64); 7] = [
    ("ms", 1.0),
    ("s", 1000.0),
    ("sec", 1000.0),
    ("min", 60_000.0),
    ("m", 60_000.0),
    ("h", 3_600_000.0),
    ("d", 86_400_000.0),
];

/// What all attributes of a field say together.
pub(crate) struct Attribute {
    pub(crate) name: Option<String>,
    pub(crate) version: u32,
    pub(crate) ttl_ms: Option<u64>,
    pub(crate) migrations: Vec<Migration>,
}

/// How values of an older version become ones of this.
pub(crate) struct Migration {
    pub(crate) from_version: u32,
    pub(crate) function: Path,
}

impl Attribute {
    /// Nothing for a field that is skipped.
    pub(crate) fn of(field: &Field) -> Result<Option<Self>> {
        let mut said = Self {
            name: None,
            version: 1,
            ttl_ms: None,
            migrations: Vec::new(),
        };
        let mut skip = false;
        let mut from_before = None;
        for attribute in &field.attrs {
            if !attribute.path().is_ident("state") {
                continue;
            }
            attribute.parse_nested_meta(|meta| {
                if meta.path.is_ident("skip") {
                    skip = true;
                } else if meta.path.is_ident("name") {
                    said.name = Some(meta.value()?.parse::<LitStr>()?.value());
                } else if meta.path.is_ident("version") {
                    said.version = meta.value()?.parse::<LitInt>()?.base10_parse()?;
                } else if meta.path.is_ident("ttl") {
                    said.ttl_ms = Some(ttl_ms(&meta.value()?.parse()?)?);
                } else if meta.path.is_ident("migrate") && meta.input.peek(Token![=]) {
                    from_before = Some(meta.value()?.parse::<Path>()?);
                } else if meta.path.is_ident("migrate") {
                    said.parse_migrations(&meta)?;
                } else {
                    return Err(meta.error(KNOWN));
                }
                Ok(())
            })?;
        }
        if skip {
            return Ok(None);
        }
        if let Some(function) = from_before {
            let from_version = said.version.wrapping_sub(1);
            said.migrations.push(Migration {
                from_version,
                function,
            });
        }
        said.check_migrations()?;
        Ok(Some(said))
    }

    /// `(1 = from_v1, 2 = from_v2)`.
    fn parse_migrations(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let content;
        parenthesized!(content in meta.input);
        while !content.is_empty() {
            let from_version = content.parse::<LitInt>()?.base10_parse()?;
            content.parse::<Token![=]>()?;
            let function = content.parse()?;
            self.migrations.push(Migration {
                from_version,
                function,
            });
            if !content.is_empty() {
                content.parse::<Token![,]>()?;
            }
        }
        Ok(())
    }

    fn check_migrations(&self) -> Result<()> {
        for (index, migration) in self.migrations.iter().enumerate() {
            let Migration {
                from_version,
                function,
            } = migration;
            if *from_version >= self.version {
                let message = format!(
                    "values are migrated from an older version, and this state declares version {}; raise `version`",
                    self.version
                );
                return Err(Error::new_spanned(function, message));
            }
            let mut earlier = self.migrations[..index].iter();
            if earlier.any(|earlier| earlier.from_version == *from_version) {
                let message = format!("version {from_version} is migrated twice");
                return Err(Error::new_spanned(function, message));
            }
        }
        Ok(())
    }
}

/// A duration as pipelines write them.
fn ttl_ms(literal: &LitStr) -> Result<u64> {
    let text = literal.value();
    let split = text
        .find(|char: char| !char.is_ascii_digit() && char != '.')
        .unwrap_or(text.len());
    let unit = UNITS.iter().find(|(unit, _)| *unit == text[split..].trim());
    let ms = match (text[..split].parse::<f64>(), unit) {
        (Ok(amount), Some((_, unit_ms))) => amount * unit_ms,
        _ => {
            let message = format!(
                "`{text}` is not a duration; write one such as `500ms`, `10s`, `5min`, `1h` or `30d`"
            );
            return Err(Error::new_spanned(literal, message));
        }
    };
    if !(1.0..=TTL_MS_MAX).contains(&ms) {
        let message = format!("`{text}` is not between 1ms and 36525d");
        return Err(Error::new_spanned(literal, message));
    }
    Ok(ms.round() as u64)
}
