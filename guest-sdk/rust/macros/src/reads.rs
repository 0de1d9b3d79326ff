//! `#[operator]`: finds out which columns an operator does not read, from the text of its `process`.
//!
//! It looks at each place where the parameters are named, and knows few forms: a call of a method of the record, and an
//! emission made in one expression. All else (the record handed on, bound again, inside of a macro) counts as reading
//! every column, which is never wrong and only slower. Types are not known here, so nothing is followed.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream as Tokens, TokenTree};
use quote::quote;
use syn::{Error, Result};

/// Where the attribute belongs.
const ON_AN_IMPL: &str = "`#[floodmark_sdk::operator]` belongs on `impl Operator for ..`";

/// Between `out` and the end of an emission: what does not change its time.
const ON_THE_WAY: [&str; 2] = ["to", "key"];

/// What ends an emission, and what has nothing to do with times.
const LAST: [&str; 3] = ["emit", "reject", "reserve_keyed"];

/// Words before a `!` that does not name a macro.
const BEFORE_NOT: [&str; 7] = ["if", "while", "match", "return", "in", "else", "break"];

/// Attributes that leave a function as it is.
const OF_THE_COMPILER: [&str; 8] = [
    "doc", "inline", "cold", "cfg", "allow", "expect", "warn", "deny",
];

/// Which columns are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reads {
    values: bool,
    timestamps: bool,
}

impl Reads {
    const ALL: Self = Self {
        values: true,
        timestamps: true,
    };

    const NOTHING: Self = Self {
        values: false,
        timestamps: false,
    };

    fn and(self, other: Self) -> Self {
        Self {
            values: self.values || other.values,
            timestamps: self.timestamps || other.timestamps,
        }
    }
}

/// The implementation with the constant `READS`, unless it has one already.
pub(crate) fn expand(arguments: &Tokens, implementation: Tokens) -> Result<Tokens> {
    if let Some(argument) = arguments.clone().into_iter().next() {
        let message = "`#[floodmark_sdk::operator]` takes no arguments";
        return Err(Error::new(argument.span(), message));
    }
    let mut tokens: Vec<TokenTree> = implementation.into_iter().collect();
    let is_operator = tokens.iter().any(|token| is_word(token, "impl"))
        && tokens
            .windows(2)
            .any(|pair| is_word(&pair[0], "Operator") && is_word(&pair[1], "for"));
    let Some(TokenTree::Group(body)) = tokens.last().filter(|_| is_operator) else {
        return Err(Error::new(Span::call_site(), ON_AN_IMPL));
    };
    let items: Vec<TokenTree> = body.stream().into_iter().collect();
    let is_said = items
        .windows(2)
        .any(|pair| is_word(&pair[0], "const") && is_word(&pair[1], "READS"));
    let reads = reads_of(&items);
    if !is_said && reads != Reads::ALL {
        let Reads { values, timestamps } = reads;
        let rest = body.stream();
        let mut with_reads = Group::new(
            body.delimiter(),
            quote! {
                const READS: ::floodmark_sdk::Reads = ::floodmark_sdk::Reads {
                    values: #values,
                    timestamps: #timestamps,
                };
                #rest
            },
        );
        with_reads.set_span(body.span());
        tokens.pop();
        tokens.push(with_reads.into());
    }
    Ok(tokens.into_iter().collect())
}

/// What `process` reads, of the items of an implementation.
fn reads_of(items: &[TokenTree]) -> Reads {
    if items.windows(2).any(|pair| is_foreign(&pair[0], &pair[1])) {
        return Reads::ALL;
    }
    let is_process = |item: &&[TokenTree]| is_word(&item[0], "fn") && is_word(&item[1], "process");
    let mut processes = items.windows(3).filter(is_process);
    let (Some([_, _, TokenTree::Group(parameters)]), None) = (processes.next(), processes.next())
    else {
        return Reads::ALL;
    };
    let Some(body) = body_behind(items, parameters) else {
        return Reads::ALL;
    };
    let parameters: Vec<TokenTree> = parameters.stream().into_iter().collect();
    let mut parameters = parameters.split(|token| is_punct(token, ','));
    let (_self, record, out) = (parameters.next(), parameters.next(), parameters.next());
    let (Some(record), Some(out)) = (record.and_then(name), out.and_then(name)) else {
        return Reads::ALL;
    };
    let record = record.map_or(Reads::NOTHING, |record| {
        uses(&body, &record, &of_record).unwrap_or(Reads::ALL)
    });
    let out = out.map_or(Reads::NOTHING, |out| {
        uses(&body, &out, &of_output).unwrap_or(Reads {
            values: false,
            timestamps: true,
        })
    });
    record.and(out)
}

/// Whether these tokens begin an attribute that may be another macro, which sees more than is written here.
fn is_foreign(hash: &TokenTree, attribute: &TokenTree) -> bool {
    let TokenTree::Group(attribute) = attribute else {
        return false;
    };
    let word = attribute.stream().into_iter().next();
    is_punct(hash, '#')
        && !word.is_some_and(|word| OF_THE_COMPILER.iter().any(|known| is_word(&word, known)))
}

/// The body of the function that has these parameters.
fn body_behind(items: &[TokenTree], parameters: &Group) -> Option<Tokens> {
    let is_it = |token: &TokenTree| matches!(token, TokenTree::Group(group) if std::ptr::eq(group, parameters));
    let at = items.iter().position(is_it)?;
    items[at..].iter().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group.stream()),
        _ => None,
    })
}

/// The name of a parameter: nothing inside if it is `_`, nothing at all if it is another pattern.
fn name(parameter: &[TokenTree]) -> Option<Option<String>> {
    let end = parameter.iter().position(|token| is_punct(token, ':'))?;
    match &parameter[..end] {
        [TokenTree::Ident(word)] if word == "_" => Some(None),
        [TokenTree::Ident(word)] => Some(Some(plain(word))),
        [before, TokenTree::Ident(word)] if is_word(before, "mut") => Some(Some(plain(word))),
        _ => None,
    }
}

/// What all uses of a name read together; nothing if one of them is unknown. `reads` judges what follows a use.
fn uses(body: &Tokens, name: &str, reads: &dyn Fn(&[TokenTree]) -> Option<Reads>) -> Option<Reads> {
    let tokens: Vec<TokenTree> = body.clone().into_iter().collect();
    let mut all = Reads::NOTHING;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            TokenTree::Ident(word) if word == "macro_rules" => return None,
            TokenTree::Ident(word) if plain(word) == name => {
                all = all.and(reads(&tokens[at + 1..])?);
            }
            TokenTree::Group(group) if !is_of_macro(&tokens[..at]) => {
                all = all.and(uses(&group.stream(), name, reads)?);
            }
            TokenTree::Group(group) if names(&group.stream(), name) => return None,
            _ => {}
        }
    }
    Some(all)
}

/// What a call of a method of the record reads.
fn of_record(after: &[TokenTree]) -> Option<Reads> {
    let (method, _) = call(after)?;
    let none = Reads::NOTHING;
    match method.as_str() {
        "key" | "input" => Some(none),
        "value" | "text" => Some(Reads {
            values: true,
            ..none
        }),
        "timestamp" => Some(Reads {
            timestamps: true,
            ..none
        }),
        _ => None,
    }
}

/// An emission that is known to have the time of its record reads nothing.
fn of_output(mut after: &[TokenTree]) -> Option<Reads> {
    loop {
        let (method, rest) = call(after)?;
        if LAST.contains(&method.as_str()) {
            return Some(Reads::NOTHING);
        }
        if !ON_THE_WAY.contains(&method.as_str()) {
            return None;
        }
        after = rest;
    }
}

/// The method that is called next, and what follows the call.
fn call(after: &[TokenTree]) -> Option<(String, &[TokenTree])> {
    match after {
        [
            dot,
            TokenTree::Ident(method),
            TokenTree::Group(arguments),
            rest @ ..,
        ] if is_punct(dot, '.') && arguments.delimiter() == Delimiter::Parenthesis => {
            Some((plain(method), rest))
        }
        _ => None,
    }
}

/// Whether what follows these tokens is the argument of a macro.
fn is_of_macro(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Ident(word), not] if is_punct(not, '!') => {
            !BEFORE_NOT.contains(&word.to_string().as_str())
        }
        _ => false,
    }
}

/// Whether a name stands anywhere in the argument of a macro, also in a text that is a format.
fn names(tokens: &Tokens, name: &str) -> bool {
    tokens.clone().into_iter().any(|token| match token {
        TokenTree::Ident(word) => plain(&word) == name,
        TokenTree::Group(group) => names(&group.stream(), name),
        TokenTree::Literal(text) => {
            let text = text.to_string();
            let mut after = text.split('{').skip(1);
            after.any(|argument| {
                let is_of_name = |char: char| char.is_alphanumeric() || char == '_' || char == '#';
                let end = argument.find(|char| !is_of_name(char));
                argument[..end.unwrap_or(argument.len())].trim_start_matches("r#") == name
            })
        }
        TokenTree::Punct(_) => false,
    })
}

fn is_word(token: &TokenTree, expected: &str) -> bool {
    matches!(token, TokenTree::Ident(word) if word == expected)
}

fn is_punct(token: &TokenTree, expected: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == expected)
}

/// An identifier as it is without `r#`, which does not make it another one.
fn plain(word: &Ident) -> String {
    word.to_string().trim_start_matches("r#").to_owned()
}

#[cfg(test)]
mod tests {
    //! Catches a use of the record that is taken for none: the operator would panic in production for what the
    //! attribute did.

    use super::*;

    const ALL: &str = "values and timestamps";

    fn check(parameters: &str, body: &str, expected: &str) {
        let operator = format!(
            "impl<T> Operator for Tested<T> where T: Clone {{ fn open(_: &Config) -> Result<Self> {{ record }} fn \
             process(&mut self, {parameters}) -> Result {{ {body} }} }}"
        );
        let operator: Tokens = operator.parse().expect("it is Rust");
        let expanded = expand(&Tokens::new(), operator).expect("it is an operator");
        let text = expanded.to_string().replace(' ', "");
        let is_read = |column: &str| !text.contains(&format!("{column}:false"));
        let reads = match (is_read("values"), is_read("timestamps")) {
            (true, true) => ALL,
            (true, false) => "values",
            (false, true) => "timestamps",
            (false, false) => "nothing",
        };
        assert_eq!(reads, expected, "{parameters}: {body}");
    }

    fn check_body(body: &str, expected: &str) {
        check("record: Record<'_>, out: &mut Output<'_>", body, expected);
    }

    #[test]
    fn methods_of_the_record_say_what_is_read() {
        check("_: Record<'_>, _: &mut Output<'_>", "Ok(())", "nothing");
        check(
            "_: Record<'_>, out: &mut Output<'_>",
            "out.emit(1)",
            "nothing",
        );
        check(
            "_word: Record, mut out: &mut Output<'_>",
            "out.emit(1)",
            "nothing",
        );
        check_body("out.emit(record.key()); record.input()", "nothing");
        check_body("out.emit(record.value())", "values");
        check_body("let text = record.text()?; out.emit(text)", "values");
        check_body(
            "if !(record.timestamp() == None) { out.emit(1) }",
            "timestamps",
        );
        check_body("out.emit(record.value()); record.timestamp()", ALL);
        check_body("[1].map(|_| { (record.value(), 2) })", "values");
        check_body("record.key().len() as u64 + other.value()", "nothing");
    }

    #[test]
    fn what_is_not_a_call_of_a_known_method_reads_everything() {
        check_body("help(record)", ALL);
        check_body("help(&record)", ALL);
        check_body("let copy = record; copy.value()", ALL);
        check_body("let record = 1;", ALL);
        check_body("Record::value(&record)", ALL);
        check_body("info!(\"{}\", record.key().len())", ALL);
        check_body("info!(\"{record:?}\")", ALL);
        check_body("info!(\"{record}\")", ALL);
        check_body("info!(\"a record {records}\")", "nothing");
        check_body("macro_rules! all { () => { record } } all!()", ALL);
        check_body("record.clone()", ALL);
        check_body("record.value", ALL);
        check_body("help(r#record)", ALL);
        check_body("|record| record.value()", ALL);
        check_body("Pair { record }", ALL);
        check(
            "Record { .. }: Record<'_>, out: &mut Output<'_>",
            "Ok(())",
            ALL,
        );
        check(
            "ref record: Record<'_>, out: &mut Output<'_>",
            "Ok(())",
            ALL,
        );
        check("record: Record<'_>", "Ok(())", ALL);
        check_body("} fn process(&mut self, _: Record, _: &mut Output) {", ALL);
        check_body("} #[doc = \"a\"] #[inline] fn other() {", "nothing");
        check_body("} #[traced] fn other() {", ALL);
    }

    #[test]
    fn an_emission_that_may_have_another_time_reads_times() {
        check_body("out.to(ODD).key(\"a\").emit(1)", "nothing");
        check_body("out.reject(\"no\"); out.reserve_keyed(1, 2)", "nothing");
        check_body("out.at(5).emit(1)", "timestamps");
        check_body("out.to(ODD).key(\"a\").at(0).emit(1)", "timestamps");
        check_body("help(record.value(), out)", ALL);
        check_body("let odd = out.to(ODD); odd.emit(1)", "timestamps");
        check_body("write!(out, \"{}\", 1)", "timestamps");
    }

    #[test]
    fn what_the_author_says_wins_and_no_other_item_is_taken() {
        let said = "impl Operator for A { const READS: Reads = Reads::ALL; fn process(&mut self, _: R, _: O) {} }";
        let said: Tokens = said.parse().expect("it is Rust");
        let expanded = expand(&Tokens::new(), said.clone()).expect("it is an operator");
        assert_eq!(expanded.to_string(), said.to_string());

        for other in ["struct A { a: u8 }", "impl Clone for A {}", "impl A {}"] {
            let error = expand(&Tokens::new(), other.parse().expect("it is Rust")).unwrap_err();
            assert_eq!(error.to_string(), ON_AN_IMPL);
        }
        let error = expand(&quote!(values), said).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`#[floodmark_sdk::operator]` takes no arguments"
        );
    }
}
