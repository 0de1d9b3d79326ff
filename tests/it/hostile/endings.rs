//! The words with which each hostile plugin ends: the table of the tests in `hostile`.
//!
//! Catches nothing by itself. A new way to break out is a file in `tests/guests/hostile` and a row here.

const TIME: &str = "operator `bad` ran for more than its 100 ms in `process`; raise `limits.time-per-call` or send smaller batches";
const NO_MORE_MEMORY: &str =
    "of memory in `process`, but at most 16 MiB are allowed; raise `limits.memory`";
const TOO_MUCH: &str = "operator `bad` handed over more than 1 MiB in";

/// What is ignored.
pub const NOTHING: &str = "nothing is wrong with operator `bad`";

/// By plugin the end of its story.
pub const ENDINGS: [(&str, &str); 78] = [
    (
        "answer-beyond-memory",
        "crashed in `process`: pointer out of bounds of memory",
    ),
    (
        "answer-neither",
        "crashed in `process`: invalid expected discriminant",
    ),
    (
        "answer-unaligned",
        "crashed in `process`: return pointer not aligned",
    ),
    (
        "bitmap-absent",
        "broke the contract in what it returned from `process`: values of a state: ",
    ),
    ("bitmap-beyond", NOTHING),
    (
        "bitmap-short",
        "broke the contract in what it returned from `process`: values of a state: ",
    ),
    (
        "clear-flood",
        "changed 5000 items of lists and maps in `process`, but at most 4096 are allowed, one for each KiB of output; raise `limits.output-per-call`",
    ),
    (
        "emissions-empty",
        " from `process`, but at most 256 KiB are allowed; raise `limits.output-per-call`",
    ),
    (
        "emissions-endless",
        "crashed in `process`: list pointer/length out of bounds of memory",
    ),
    (
        "emissions-small",
        " from `process`, but at most 256 KiB are allowed; raise `limits.output-per-call`",
    ),
    (
        "ends-beyond-bytes",
        "broke the contract in what it returned from `process`: values of an emission: ",
    ),
    ("error-gigantic", TOO_MUCH),
    ("error-in-open-gigantic", TOO_MUCH),
    ("error-no-text", "crashed in `process`: invalid utf-8"),
    (
        "error-of-controls",
        "operator `bad` failed in `process`:   ",
    ),
    (
        "import-unknown",
        "the plugin imports `acme:secrets/keys@1.0.0`: it is part of neither the contract nor WASI; ",
    ),
    ("inputs-many", "it has 300 inputs, but 1 to 256 are allowed"),
    (
        "instances-hundreds",
        "the plugin does not fit into an instance (The component transitively contains 502 core module instances",
    ),
    (
        "instances-many",
        "the plugin does not fit into an instance (failed to parse WebAssembly module: instances count exceeds limit of 1000",
    ),
    ("json-gigantic", TOO_MUCH),
    (
        "keys-flood",
        " from `process`, but at most 256 KiB are allowed; raise `limits.output-per-call`",
    ),
    (
        "list-flood",
        "changed 5000 items of lists and maps in `process`, but at most 4096 are allowed, one for each KiB of output; raise `limits.output-per-call`",
    ),
    (
        "lists-many",
        "state 0 is written as a list, but declared as a value",
    ),
    ("log-gigantic", TOO_MUCH),
    (
        "log-in-open",
        "ran for more than its 100 ms in `open`; raise `limits.time-per-call`",
    ),
    ("log-lines-long", TIME),
    ("log-of-no-level", "crashed in `process`: "),
    ("log-storm", TIME),
    (
        "memories-many",
        "the plugin does not fit into an instance (",
    ),
    (
        "memories-together",
        "of memory in `instantiate`, but at most 16 MiB are allowed; raise `limits.memory`",
    ),
    (
        "memory-at-start",
        "asked for 4096 MiB of memory in `instantiate`, but at most 16 MiB are allowed; raise `limits.memory`",
    ),
    ("memory-bomb", NO_MORE_MEMORY),
    ("memory-filled", TIME),
    ("metrics-forged", NOTHING),
    ("metrics-gigantic", TOO_MUCH),
    ("metrics-storm", TIME),
    ("migrated-gigantic", TOO_MUCH),
    (
        "name-forged",
        "description is not usable: its name, `\\u{7}\\u{1b}\\n`, is not",
    ),
    ("name-gigantic", TOO_MUCH),
    (
        "output-beyond-memory",
        "crashed in `process`: list pointer/length out of bounds of memory",
    ),
    ("output-gigantic", TOO_MUCH),
    (
        "output-large",
        "bytes from `process`, but at most 256 KiB are allowed; raise `limits.output-per-call`",
    ),
    (
        "output-unaligned",
        "crashed in `process`: list pointer is not aligned",
    ),
    ("outputs-flood", TOO_MUCH),
    (
        "port-unknown",
        "output 9, but the number of declared outputs is 1",
    ),
    (
        "read-forged-slot",
        "crashed in `process`: it read slot 99 of a call with 2 keys",
    ),
    (
        "read-forged-state",
        "crashed in `process`: it read state 77, but the number of declared states is 3",
    ),
    (
        "read-long-sub-key",
        "crashed in `process`: it read a sub-key of 65537 bytes, but at most 65536 are allowed",
    ),
    ("read-many", "crashed in `process`: it read slot "),
    (
        "read-other-kind",
        "crashed in `process`: it read state 0 as a list, but declares it as a value",
    ),
    (
        "read-outside",
        "crashed in `open`: it read state 1 outside of `process`",
    ),
    ("read-storm", TIME),
    (
        "realloc-beyond-memory",
        "crashed in `open`: realloc return: beyond end of memory",
    ),
    (
        "realloc-loops",
        "ran for more than its 100 ms in `open`; raise `limits.time-per-call`",
    ),
    (
        "realloc-unaligned",
        "crashed in `open`: realloc return: result not aligned",
    ),
    (
        "recursion",
        "crashed in `process`: wasm trap: call stack exhausted",
    ),
    (
        "rejection-beyond",
        "broke the contract in what it returned from `process`: ",
    ),
    (
        "rejection-flood",
        " from `process`, but at most 256 KiB are allowed; raise `limits.output-per-call`",
    ),
    ("rejection-gigantic", TOO_MUCH),
    ("rejection-shared", TOO_MUCH),
    (
        "rejection-twice",
        "broke the contract in what it returned from `process`: ",
    ),
    ("slot-beyond-keys", "slot 7, but the call has 2 keys"),
    ("slot-twice", "two writes of state 0 to slot 0"),
    (
        "slots-uneven",
        "an emission has 1 slots, 1 values and 0 timestamps",
    ),
    (
        "start-loops",
        "ran for more than its 100 ms in `instantiate`; raise `limits.time-per-call`",
    ),
    (
        "start-traps",
        "crashed in `instantiate`: wasm trap: wasm `unreachable` instruction executed",
    ),
    (
        "state-of-other-kind",
        "state 1 is written as a value, but declared as a list",
    ),
    (
        "state-unknown",
        "writes to state 9, but the 3 declared states",
    ),
    (
        "states-many",
        "it has 1000 states, but 0 to 256 are allowed",
    ),
    (
        "sub-key-flood",
        "changed 5000 items of lists and maps in `process`, but at most 4096 are allowed, one for each KiB of output; raise `limits.output-per-call`",
    ),
    (
        "sub-key-long",
        "a sub-key of 65537 bytes in state 2; at most 65536 are allowed",
    ),
    (
        "sub-key-twice",
        "two writes of state 2 to one sub-key of slot 0",
    ),
    (
        "table-at-start",
        "the plugin does not fit into an instance (",
    ),
    (
        "table-bomb",
        "asked for a table of 66001 elements in `process`, but at most 65536 are allowed; correct the plugin",
    ),
    ("tables-many", "the plugin does not fit into an instance ("),
    (
        "times-flood",
        " from `process`, but at most 256 KiB are allowed; raise `limits.output-per-call`",
    ),
    (
        "values-many",
        "writes to state 0, but the 3 declared states are written at most once each",
    ),
    ("version-gigantic", TOO_MUCH),
];
