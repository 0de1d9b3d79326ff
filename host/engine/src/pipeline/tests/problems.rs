//! Catches a mistake in a pipeline that is not noticed, or is reported at the wrong place or without advice.

use super::{COPY, WORDS, check, plan};

#[test]
fn a_problem_quotes_its_line() {
    assert_eq!(
        plan("job.nam = 'x'\n", &[]).unwrap_err().to_string(),
        "pipeline.toml:1: job.nam: unknown field; did you mean `name`?\n    1 | job.nam = 'x'"
    );
}

#[test]
fn malformed_toml() {
    check(
        "[job\nname = 'x'\n",
        &[],
        "pipeline.toml:1: not TOML: unclosed table, expected `]`\n\
         1 | [job",
    );
    check(
        "a = 1\n\n[job]\nname = \n",
        &[],
        "pipeline.toml:4: not TOML: string values must be quoted, expected literal string\n\
         4 | name =",
    );
    check(
        "[job]\nname = 'a'\nname = 'b'\n",
        &[],
        "pipeline.toml:3: not TOML: duplicate key\n\
         3 | name = 'b'",
    );
    check(
        "",
        &[],
        "pipeline.toml: has no source; add a `[source.NAME]`\n\
         pipeline.toml: has no sink; add a `[sink.NAME]`",
    );
    check(
        "[job]\nparallelism = 99999999999999999999\n",
        &[],
        "pipeline.toml:2: the number `99999999999999999999` is too large\n\
         2 | parallelism = 99999999999999999999",
    );
}

#[test]
fn unknown_words() {
    check(
        &format!("{COPY}jobb.name = 'x'"),
        &[],
        "pipeline.toml:3: jobb: unknown section; did you mean `job`?\n\
         3 | jobb.name = 'x'",
    );
    check(
        &format!("{COPY}execution.interval = '10s'"),
        &[],
        "pipeline.toml:3: execution: unknown section; did you mean `checkpoint`?\n\
         3 | execution.interval = '10s'",
    );
    check(
        &format!("{COPY}[job]\nparalelism = 2"),
        &[],
        "pipeline.toml:4: job.paralelism: unknown field; did you mean `parallelism`?\n\
         4 | paralelism = 2",
    );
    check(
        &format!("{COPY}[checkpoint]\nnum-retained = 2"),
        &[],
        "pipeline.toml:4: checkpoint.num-retained: unknown field; did you mean `retained`?\n\
         4 | num-retained = 2",
    );
    check(
        &WORDS.replace("path = '../", "pth = '../"),
        &[],
        "pipeline.toml:3: source.text.pth: unknown field; did you mean `path`?\n\
         3 | pth = '../../*.md'",
    );
    check(
        &WORDS.replace("'csv'", "'json'"),
        &[],
        "pipeline.toml:15: sink.counts.format: unknown value `json`; did you mean `jsonl`?\n\
         15 | format = 'json'",
    );
    check(
        &WORDS.replace("connector = 'file'\npath", "connector = 'filesystem'\npath"),
        &[],
        "pipeline.toml:2: source.text.connector: unknown connector `filesystem`; did you mean `file`?\n\
         2 | connector = 'filesystem'",
    );
    check(
        &WORDS.replace("from = 'count'", "form = 'count'"),
        &[],
        "pipeline.toml:13: sink.counts.form: unknown field; did you mean `from`?\n\
         13 | form = 'count'",
    );
    check(
        &WORDS.replace("from = 'split'", "from = 'splt'"),
        &[],
        "pipeline.toml:9: operator.count.from: there is no node `splt`; did you mean `split`?\n\
         9 | from = 'splt'",
    );
    check(
        &COPY.replace("'discard', ", "'print', "),
        &[],
        "pipeline.toml:2: sink.z.connector: unknown connector `print`; did you mean `stdout`?\n\
         2 | sink.z = { connector = 'print', from = 'a' }",
    );
    check(
        &COPY.replace("'discard', ", "'discard', path = 'x', "),
        &[],
        "pipeline.toml:2: sink.z.path: unknown field; known here: `connector`, `from`, `on-error`\n\
         2 | sink.z = { connector = 'discard', path = 'x', from = 'a' }",
    );
}

#[test]
fn wrong_and_missing_values() {
    check(
        "job = 7\nsource = 1\nsink.z = 2\n",
        &[],
        "pipeline.toml:1: job: must be a table, not the number 7\n\
         1 | job = 7\n\
         pipeline.toml:2: source: must contain tables; write `[source.NAME]`\n\
         2 | source = 1\n\
         pipeline.toml:3: sink.z: must be a table\n\
         3 | sink.z = 2",
    );
    check(
        &format!("{COPY}[job]\nname = 7\nparallelism = 2"),
        &[],
        "pipeline.toml:4: job.name: must be text in quotes, not the number 7\n\
         4 | name = 7",
    );
    check(
        &format!("{COPY}[job]\nparallelism = '2'"),
        &[],
        "pipeline.toml:4: job.parallelism: must be a whole number from 0 to 65535, not the text \"2\"\n\
         4 | parallelism = '2'",
    );
    check(
        &format!("{COPY}[job]\nparallelism = -1"),
        &[],
        "pipeline.toml:4: job.parallelism: must be a whole number from 0 to 65535, not the number -1\n\
         4 | parallelism = -1",
    );
    check(
        &format!("{COPY}[job]\nparallelism = 0"),
        &[],
        "pipeline.toml:4: job.parallelism: 0 is not between 1 and 128, the `max-parallelism` of this job\n\
         4 | parallelism = 0",
    );
    check(
        &format!("{COPY}[job]\nparallelism = 9\nmax-parallelism = 8"),
        &[],
        "pipeline.toml:4: job.parallelism: 9 is not between 1 and 8, the `max-parallelism` of this job\n\
         4 | parallelism = 9",
    );
    check(
        &format!("{COPY}[job]\nmax-parallelism = 40000"),
        &[],
        "pipeline.toml:4: job.max-parallelism: 40000 is not between 1 and 32768\n\
         4 | max-parallelism = 40000",
    );
    check(
        &format!("{COPY}[checkpoint]\ninterval = 10"),
        &[],
        "pipeline.toml:4: checkpoint.interval: `10` has no unit; write `10s` for seconds or `10ms` for milliseconds\n\
         4 | interval = 10",
    );
    check(
        &format!("{COPY}[checkpoint]\ninterval = false\n"),
        &[],
        "pipeline.toml:4: checkpoint.interval: must be a duration such as `10s`, or `off`, not `false`\n\
         4 | interval = false",
    );
    check(
        &format!("{COPY}[checkpoint]\ninterval = '1ms'\nretained = 0"),
        &[],
        "pipeline.toml:4: checkpoint.interval: is shorter than 10ms; write a longer one, or `off`\n\
         4 | interval = '1ms'\n\
         pipeline.toml:5: checkpoint.retained: 0 is not between 1 and 1000\n\
         5 | retained = 0",
    );
    check(
        &format!("{COPY}[checkpoint]\ntimeout = 'off'\n"),
        &[],
        "pipeline.toml:4: checkpoint.timeout: `off` is not a duration; write one such as `200ms`, `10s`, `5min` or `1h`\n\
         4 | timeout = 'off'",
    );
    check(
        &format!("{COPY}[checkpoint]\ntimeout = 2024-01-01\n"),
        &[],
        "pipeline.toml:4: checkpoint.timeout: must be a duration such as `10s`, not a date\n\
         4 | timeout = 2024-01-01",
    );
    check(
        &WORDS.replace("path = 'counts'\n", ""),
        &[],
        "pipeline.toml:11: sink.counts.path: is missing\n\
         11 | [sink.counts]",
    );
    check(
        &WORDS.replace("format = 'csv'", "format = 3"),
        &[],
        "pipeline.toml:15: sink.counts.format: must be a word in quotes, not the number 3\n\
         15 | format = 3",
    );
    check(
        &WORDS.replace("from = 'split'\n", ""),
        &[],
        "pipeline.toml:7: operator.count.from: is missing\n\
         7 | [operator.count]",
    );
    check(
        &WORDS.replace("from = 'split'\n", "from = 3\n"),
        &[],
        "pipeline.toml:9: operator.count.from: must be the name of a node, a list of names, or a table of input ports, not the number 3\n\
         9 | from = 3",
    );
    check(
        &WORDS.replace("from = 'split'\n", "from = ['split', 3]\n"),
        &[],
        "pipeline.toml:9: operator.count.from: must be text in quotes, not the number 3\n\
         9 | from = ['split', 3]",
    );
    check(
        &WORDS.replace("from = 'split'\n", "from = []\n"),
        &[],
        "pipeline.toml:9: operator.count.from: is empty; name a source or an operator\n\
         9 | from = []",
    );
    check(
        &WORDS.replace("from = 'split'\n", "from = 'split.'\n"),
        &[],
        "pipeline.toml:9: operator.count.from: \"split.\" names no node; write `NODE`, or `NODE.PORT`\n\
         9 | from = 'split.'",
    );
    check(
        &WORDS.replace("d = 7", "d = [7]"),
        &[],
        "pipeline.toml:10: operator.count.config.d: must be text, a number, `true` or `false`, not a list\n\
         10 | config = { a = 'x', b = 1.0, c = true, d = [7] }",
    );
    check(
        &WORDS.replace("path = 'counts'", "path = ''"),
        &[],
        "pipeline.toml:14: sink.counts.path: is empty; write a path\n\
         14 | path = ''",
    );
    check(
        &COPY.replace("connector = 'generator'", ""),
        &[],
        "pipeline.toml:1: source.a.connector: is missing\n\
         1 | source.a = {  }",
    );
    check(
        &COPY.replace("'generator'", "'generator', keys = 1.5"),
        &[],
        "pipeline.toml:1: source.a.keys: must be a whole number, 1 or more, not the number 1.5\n\
         1 | source.a = { connector = 'generator', keys = 1.5 }",
    );
    check(
        &COPY.replace("'generator'", "'generator', rate = 'x'"),
        &[],
        "pipeline.toml:1: source.a.rate: must be a whole number, 1 or more, not the text \"x\"\n\
         1 | source.a = { connector = 'generator', rate = 'x' }",
    );
}

#[test]
fn names() {
    check(
        &COPY.replace("source.a", "source.\"a.b\""),
        &[],
        "pipeline.toml:1: source.a.b: the name \"a.b\" has a '.'; only ASCII letters, digits, `-` and `_` are allowed\n\
         1 | source.\"a.b\" = { connector = 'generator' }",
    );
    check(
        &COPY.replace("sink.z", "sink.a"),
        &[],
        "pipeline.toml:2: sink.a: [source.a] has that name already; choose another one\n\
         2 | sink.a = { connector = 'discard', from = 'a' }",
    );
    check(
        &COPY.replace("sink.z", "sink.-z"),
        &[],
        "pipeline.toml:2: sink.-z: the name \"-z\" does not begin with a letter or digit\n\
         2 | sink.-z = { connector = 'discard', from = 'a' }",
    );
    check(
        &COPY.replace("sink.z", &format!("sink.{}", "z".repeat(65))),
        &[],
        "pipeline.toml:2: sink.zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz: the name has 65 characters, but at most 64 are allowed\n\
         2 | sink.zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz = { connector = 'discard', fr",
    );
    check(
        &format!("{COPY}job.name = 'my job'"),
        &[],
        "pipeline.toml:3: job.name: the name \"my job\" has a ' '; only ASCII letters, digits, `-` and `_` are allowed\n\
         3 | job.name = 'my job'",
    );
}

#[test]
fn graphs_that_cannot_be() {
    check(
        "[job]\nname = 'x'\n",
        &[],
        "pipeline.toml: has no source; add a `[source.NAME]`\n\
         pipeline.toml: has no sink; add a `[sink.NAME]`",
    );
    check(
        &WORDS.replace("from = 'count'", "from = 'split'"),
        &[],
        "pipeline.toml:7: operator.count: nothing reads this operator, so its records would vanish; name it in a `from`, or remove it\n\
         7 | [operator.count]",
    );
    check(
        &COPY.replace("'a'", "'z'"),
        &[],
        "pipeline.toml:2: sink.z.from: `z` is a sink, and a sink has no output but `z.dead-letters`; name a source or an operator\n\
         2 | sink.z = { connector = 'discard', from = 'z' }",
    );
    check(
        &COPY.replace("'a'", "'b'"),
        &[],
        "pipeline.toml:2: sink.z.from: there is no node `b`; did you mean `a`?\n\
         2 | sink.z = { connector = 'discard', from = 'b' }",
    );
    check(
        &WORDS.replace("from = 'text'", "from = ['text', 'count']"),
        &[],
        "pipeline.toml:9: operator.count.from: forms a cycle: `count` -> `split` -> `count`; a pipeline must not have cycles\n\
         9 | from = 'split'",
    );
    check(
        &WORDS.replace("from = 'text'", "from = ['text', 'split']"),
        &[],
        "pipeline.toml:6: operator.split.from: forms a cycle: `split` -> `split`; a pipeline must not have cycles\n\
         6 | from = ['text', 'split']",
    );
}

#[test]
fn ports_that_do_not_fit() {
    check(
        &WORDS.replace("plugin = 'map'", "plugin = 'route'"),
        &[],
        "pipeline.toml:9: operator.count.from: `split` has several outputs; write one of `split.good`, `split.bad`\n\
         9 | from = 'split'",
    );
    check(
        &WORDS.replace("plugin = 'map'", "plugin = 'join'"),
        &[],
        "pipeline.toml:6: operator.split.from: the plugin has the inputs `left`, `right`; write which input reads which node, as in `from = { left = \"NODE\", … }`\n\
         6 | from = 'text'",
    );
    check(
        &WORDS.replace("from = 'text'", "from = { inn = 'text' }"),
        &[],
        "pipeline.toml:6: operator.split.from.inn: the plugin has no input `inn`; did you mean `in`?\n\
         6 | from = { inn = 'text' }\n\
         pipeline.toml:6: operator.split.from: nothing is connected to the plugin's input `in`; add `in = \"NODE\"`\n\
         6 | from = { inn = 'text' }",
    );
    check(
        &WORDS.replace("from = 'text'", "from = 'text.out'"),
        &[],
        "pipeline.toml:6: operator.split.from: `text` is a source and has one output; write `text`\n\
         6 | from = 'text.out'",
    );
    check(
        &WORDS.replace("from = 'split'", "from = 'split.main'"),
        &[],
        "pipeline.toml:9: operator.count.from: `split` has no output `main`; known here: `out`, `dead-letters`\n\
         9 | from = 'split.main'",
    );
    check(
        &WORDS.replace("from = 'split'", "from = ['split', 'split.out']"),
        &[],
        "pipeline.toml:9: operator.count.from: names the same output of `split` twice\n\
         9 | from = ['split', 'split.out']",
    );
    check(
        &WORDS
            .replace("plugin = 'map'", "plugin = 'route'")
            .replace("'split'", "'split.good'"),
        &[],
        "pipeline.toml:4: operator.split: nothing reads the output `bad`, so its records would vanish; write `split.bad` in a `from`, for example in that of a sink with `connector = \"discard\"`\n\
         4 | [operator.split]",
    );
}

#[test]
fn overrides_are_blamed_for_what_they_break() {
    check(
        WORDS,
        &["source.text.pth=x"],
        "--set source.text.pth=x: unknown field; did you mean `path`?",
    );
    check(
        WORDS,
        &["source.txt.path=x"],
        "--set source.txt.path=x: the pipeline has no source `txt`; did you mean `text`?",
    );
    check(
        WORDS,
        &["job.parallelism=many"],
        "--set job.parallelism=many: must be a whole number from 0 to 65535, not the text \"many\"",
    );
    check(
        WORDS,
        &["job.parallelism=200"],
        "--set job.parallelism=200: 200 is not between 1 and 128, the `max-parallelism` of this job",
    );
    check(
        WORDS,
        &["checkpoint.interval=5"],
        "--set checkpoint.interval=5: `5` has no unit; write `5s` for seconds or `5ms` for milliseconds",
    );
    check(
        WORDS,
        &["operator.count.from=splt"],
        "--set operator.count.from=splt: there is no node `splt`; did you mean `split`?",
    );
    check(
        WORDS,
        &["sink.counts={connector='fil'}"],
        "--set sink.counts={connector='fil'}: sink.counts.connector: unknown connector `fil`; did you mean `file`?",
    );
    check(
        WORDS,
        &["job"],
        "--set job: has no `=`; write `--set path.to.field=value`",
    );
    check(
        WORDS,
        &["=x"],
        "--set =x: `` is not a path of names; write `--set path.to.field=value`",
    );
    check(
        WORDS,
        &["job.name.x=1", "sink.counts.path.x=1"],
        "--set job.name.x=1: job.name: must be text in quotes, not a table\n\
         --set sink.counts.path.x=1: `path` is not a table, so nothing in it can be set",
    );
    check(
        WORDS,
        &["sink.counts.path="],
        "--set sink.counts.path=: is empty; write a path",
    );
    check(
        WORDS,
        &["sink.counts.path=~/x"],
        "--set sink.counts.path=~/x: only shells expand `~`; write the whole path",
    );
    check(
        WORDS,
        &["jbo.name=x"],
        "--set jbo.name=x: jbo: unknown section; did you mean `job`?",
    );
}
