//! Finds the types and functions that a source file declares, by its lines.

/// What declares a type.
const TYPE_WORDS: [&str; 5] = ["struct", "enum", "trait", "type", "union"];

/// What stands before `struct` or `fn` in a declaration.
const DECLARATION_WORDS: [&str; 6] = ["pub", "const", "async", "unsafe", "extern", "default"];

/// The names of the types that a file declares outside of functions: those whose lines have no indent.
pub fn declared_types(code: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for line in code.lines() {
        let line = match line.strip_prefix("pub") {
            Some(rest) if rest.starts_with('(') => {
                rest.split_once(')').map_or("", |(_, rest)| rest)
            }
            Some(rest) => rest,
            None if line.starts_with(' ') => continue,
            None => line,
        };
        let Some((word, rest)) = line.trim_start().split_once(' ') else {
            continue;
        };
        if TYPE_WORDS.contains(&word) {
            let end = rest.find(|char: char| !char.is_alphanumeric() && char != '_');
            names.push(&rest[..end.unwrap_or(rest.len())]);
        }
    }
    names
}

/// An item with a body: its name, and its lines from the one of its word to the closing brace at the same indent.
pub struct Item<'a> {
    pub name: &'a str,
    pub lines: Vec<&'a str>,
}

/// The items that a word declares, such as `fn`. One without a body, or with it on the line of the word, is left out.
pub fn items<'a>(code: &'a str, word: &str) -> Vec<Item<'a>> {
    let lines: Vec<_> = code.lines().collect();
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut found = Vec::new();
    for (number, first) in lines.iter().enumerate() {
        let Some(name) = declared(first, word) else {
            continue;
        };
        let rest = lines[number..].iter();
        // At this indent a signature may still have `)`, `where` and `{`.
        let end = rest.clone().position(|line| {
            let is_last = line.ends_with([';', '}']) || line.trim_start().starts_with('}');
            is_last && indent(line) == indent(first)
        });
        let lines: Vec<_> = rest.take(end.map_or(0, |end| end + 1)).copied().collect();
        if lines.last().is_some_and(|last| last.trim() == "}") {
            found.push(Item { name, lines });
        }
    }
    found
}

/// The name that a line declares with a word.
fn declared<'a>(line: &'a str, word: &str) -> Option<&'a str> {
    let mut words = line.split_whitespace();
    let is_before = |word: &str| {
        let word = word.split_once('(').map_or(word, |(word, _)| word);
        DECLARATION_WORDS.contains(&word) || word.starts_with('"')
    };
    // `pub(in path)` is two words.
    let found = words.find(|found| !is_before(found) && !found.ends_with(')'));
    let name = words.next().filter(|_| found == Some(word))?;
    let end = name.find(|char: char| !char.is_alphanumeric() && char != '_');
    Some(&name[..end.unwrap_or(name.len())])
}

impl Item<'_> {
    /// How many named fields it has, if it is a struct: each begins a line, one step further in than the struct.
    pub fn fields(&self) -> usize {
        let first = self.lines[0];
        let indent = first.len() - first.trim_start().len() + 4;
        let is_field = |line: &&&str| {
            let line = line.get(indent..).unwrap_or("");
            let line = match line.strip_prefix("pub(") {
                Some(rest) => rest.split_once(") ").map_or("", |(_, rest)| rest),
                None => line.strip_prefix("pub ").unwrap_or(line),
            };
            let name = line.split_once(':').map_or("", |(name, _)| name);
            let is_of_name = |char: char| char.is_alphanumeric() || char == '_' || char == '#';
            !name.is_empty() && name.chars().all(is_of_name) && !name.starts_with('#')
        };
        let body = self.lines.iter().skip_while(|line| !line.ends_with('{'));
        body.filter(is_field).count()
    }
}

#[test]
fn items_are_found_with_their_bodies() {
    let code = "pub struct A<T>\nwhere\n    T: Z,\n{\n    pub(in crate::b) one: u8,\n    #[c(d: e)]\n    pub r#two: Map<\n        f: g,\n    >,\n}\nstruct B;\nstruct C(u8);\nmod h {\n    struct D {\n        one: u8,\n    }\n}";
    let fields = items(code, "struct");
    let fields: Vec<_> = fields.iter().map(|it| (it.name, it.fields())).collect();
    assert_eq!(fields, [("A", 2), ("D", 1)]);
    let code = "pub(in crate::a) async fn b<T>(\n    c: fn(u8),\n) -> T\nwhere\n    T: D,\n{\n    let x = 1;\n}\ntrait E {\n    fn f(\n        &self,\n    );\n    fn g(&self) {\n        fn h() {\n        }\n    }\n    fn i(&self);\n}\nfn j() {}\npub const unsafe extern \"C\" fn k() {\n}";
    let functions = items(code, "fn");
    let functions: Vec<_> = functions
        .iter()
        .map(|it| (it.name, it.lines.len()))
        .collect();
    assert_eq!(functions, [("b", 8), ("g", 4), ("h", 2), ("k", 2)]);
}

#[test]
fn declarations_of_types_are_found() {
    let code = "struct A;\npub enum B<'a> {\n    type No = u8;\n}\npub(super) type C<T> = D<T>;\npub(in crate::e) trait F: G {}\nfn h(structure: I) {}\nunion J {";
    assert_eq!(declared_types(code), ["A", "B", "C", "F", "J"]);
}
