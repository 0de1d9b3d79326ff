//! What a plugin can cost the host, by the real command: output that the host multiplies, state without bound, and
//! components that take long to compile.
//!
//! Catches memory that no limit counts, a limit that ends the process instead of the record, an ending that does not name
//! the setting, and a stop or a cancelled swap that waits for the compiler.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::hostile::{assembled, part};
use crate::job::{Job, Outcome};

/// What a process may have that runs one small job.
const PEAK_BYTES_MAX: u64 = 400 << 20;
/// Zeros in the memory of a guest, beyond what the host hands over.
const ROOM: u32 = 1_200_000;
/// So many pages of memory a guest has here.
const PAGES: &str = "200";

/// A job that hands so many records, most with a key of their own, to this plugin. The settings are those of the operator.
fn job(records: u32, component: &[u8], settings: &str) -> Job {
    let job = Job::new();
    let more = match settings {
        "" => String::new(),
        settings => format!(", {settings}"),
    };
    job.write("bad.wasm", component);
    job.write(
        "pipeline.toml",
        format!(
            r#"
job.name = "words"
restart.strategy = "none"
source.numbers = {{ connector = "generator", keys = 100000000, value-bytes = 0, records = {records} }}
operator.bad = {{ plugin = "bad.wasm", from = "numbers"{more} }}
sink.nothing = {{ connector = "discard", from = "bad" }}
"#
        ),
    );
    job
}

/// A plugin that does this in `process`.
fn processing(lines: &str) -> Vec<u8> {
    let parts = [part("memory", PAGES), part("process", lines)];
    assembled(&parts.concat())
}

/// Numbers that a guest writes to its memory.
fn pokes(pairs: &[(u32, u32)]) -> String {
    let poke =
        |(at, value): &(u32, u32)| format!("(call $poke (i32.const {at}) (i32.const {value}))\n");
    pairs.iter().map(poke).collect()
}

/// How the job ended, and the most memory that it had.
fn run(job: &Job) -> (Outcome, u64) {
    let mut run = job.start(&[]);
    let mut peak = 0;
    while !run.has_ended() {
        peak = run.memory_peak_bytes().map_or(peak, |now| peak.max(now));
        std::thread::sleep(Duration::from_millis(2));
    }
    (run.wait(), peak)
}

#[track_caller]
fn fails(job: &Job, code: i32, says: &str) {
    let (outcome, peak) = run(job);
    assert_eq!(outcome.code, Some(code), "{}", outcome.stderr);
    outcome.says(says);
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
}

/// So many emissions of one record each, with the keys of the call.
fn emissions(count: u32) -> Vec<u8> {
    let end = ROOM + 56 * count;
    let answer = pokes(&[(1028, ROOM), (1032, count)]);
    processing(&format!(
        "(local $at i32)
        (local.set $at (i32.const {ROOM}))
        (loop $again
          (i32.store offset=24 (local.get $at) (i32.const 5000))
          (i32.store offset=28 (local.get $at) (i32.const 1))
          (i32.store offset=32 (local.get $at) (i32.const 5000))
          (i32.store offset=36 (local.get $at) (i32.const 1))
          (i32.store offset=48 (local.get $at) (i32.const 5000))
          (i32.store offset=52 (local.get $at) (i32.const 1))
          (local.set $at (i32.add (local.get $at) (i32.const 56)))
          (br_if $again (i32.lt_u (local.get $at) (i32.const {end}))))
        {answer}"
    ))
}

#[test]
fn small_emissions_do_not_copy_all_keys_of_the_call() {
    let job = job(4096, &emissions(15_000), "");
    let (outcome, peak) = run(&job);
    outcome.succeeded().says("finished: 4,096 records in");
    assert!(peak < PEAK_BYTES_MAX, "{peak} bytes");
}

#[test]
fn a_call_has_so_many_emissions() {
    let says = "returned 20000 emissions from `process`, but at most 16384 are allowed; put more records into one emission, or send smaller batches";
    fails(&job(4096, &emissions(20_000), ""), 1, says);
}

/// Writes so many bytes to the state `v`, `l` or `m` of the first key of each call.
fn writes(state: &str, bytes: u32) -> Vec<u8> {
    // A slot 0 at 5000, a bit at 5100, an end at 5200, and a sub-key of one byte at 5304.
    let common = pokes(&[(5100, 1), (5200, bytes), (5300, 1)]);
    let writes = match state {
        "v" => pokes(&[
            (1036, 4096),
            (1040, 1),
            (4100, 5000),
            (4104, 1),
            (4108, 5100),
            (4112, 1),
            (4116, 5200),
            (4120, 1),
            (4124, ROOM),
            (4128, bytes),
        ]),
        "l" => pokes(&[
            (1044, 4096),
            (1048, 1),
            (4096, 1),
            (4108, 5000),
            (4112, 1),
            (4116, 5200),
            (4120, 1),
            (4124, ROOM),
            (4128, bytes),
        ]),
        _ => pokes(&[
            (1052, 4096),
            (1056, 1),
            (4096, 2),
            (4108, 5000),
            (4112, 1),
            (4116, 5300),
            (4120, 1),
            (4124, 5304),
            (4128, 1),
            (4132, 5100),
            (4136, 1),
            (4140, 5200),
            (4144, 1),
            (4148, ROOM),
            (4152, bytes),
        ]),
    };
    processing(&format!("{common}{writes}"))
}

#[test]
fn state_without_bound_ends_at_its_limit() {
    let says =
        "of state in one task after `process`, but at most 1 MiB are allowed; raise `limits.state`";
    for state in ["v", "l", "m"] {
        let component = writes(state, 60_000);
        let job = job(1_000_000, &component, "limits = { state = '1MiB' }");
        fails(&job, 1, says);
    }
}

#[test]
fn a_record_beyond_the_limit_on_state_is_handled_as_any_other() {
    let settings = "on-error = 'skip', limits = { state = '1MiB' }";
    let job = job(20, &writes("v", 2_000_000), settings);
    let (outcome, _) = run(&job);
    outcome.succeeded().says("finished: 20 records in");
    // Without a limit, the same records are written.
    let job = self::job(20, &writes("v", 2_000_000), "limits = { state = 'off' }");
    job.run(&[]).succeeded();
}

/// A job of an operator that adds 1 MB of state every 4096 records, of one with little state, and of 16 MiB for both.
fn sharing(records: u32) -> Job {
    let job = job(records, &writes("v", 1_000_000), "");
    job.write("small.wasm", writes("v", 1000));
    let text = std::fs::read_to_string(job.path("pipeline.toml")).unwrap();
    let more = r#"
state.memory = "16MiB"
source.others = { connector = "generator", keys = 10, records = 10 }
operator.small = { plugin = "small.wasm", from = "others" }
sink.little = { connector = "discard", from = "small" }
"#;
    job.write("pipeline.toml", text + more);
    job
}

#[test]
fn an_operator_may_have_the_memory_for_state_that_others_leave() {
    // More than half of it.
    let (outcome, _) = run(&sharing(11 * 4096));
    outcome.succeeded().says("finished: ");
    let says = " together, but at most 16 MiB are allowed; raise `state.memory`, give the state a time to live, or use the backend `disk`";
    let job = sharing(30 * 4096);
    fails(&job, 1, says);
    // One with a limit of its own takes nothing from the others.
    job.run(&["--set", "operator.bad.limits.state=off"])
        .succeeded()
        .says("finished: ");
}

#[test]
fn status_tells_the_limit_that_operators_share() {
    let job = Job::endless("state.memory = '64MiB'");
    let state = state_of_count(&job, |screen| {
        let words = "; all operators without `limits.state` have ";
        assert!(screen.contains(words), "{screen}");
        assert!(screen.contains(" of 64.0 MiB\n"), "{screen}");
    });
    assert_eq!(state["limit-bytes"], Value::Null, "{state}");
    assert_eq!(state["shared"]["limit-bytes"], 64 << 20, "{state}");
    assert!(
        state["shared"]["size-bytes"].as_u64().unwrap() > 0,
        "{state}"
    );
}

#[test]
fn status_tells_how_much_state_there_is_and_may_be() {
    let job = Job::endless("limits.state = '64MiB'");
    let state = state_of_count(&job, |screen| {
        let words = "of 64.0 MiB that its tasks may have together\n";
        assert!(screen.contains(words), "{screen}");
    });
    assert_eq!(state["limit-bytes"], 64 << 20, "{state}");
    assert_eq!(state["shared"], Value::Null, "{state}");
    assert!(state["size-bytes"].as_u64().unwrap() > 0, "{state}");
}

/// What `status` tells of the state of `count` after a checkpoint, as JSON; `check` gets the screen.
fn state_of_count(job: &Job, check: impl FnOnce(&str)) -> Value {
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    job.command(&["checkpoint", "trigger", "."]).succeeded();
    let told = job.command(&["status", ".", "--json"]).succeeded().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    let mut vertices = told["vertices"].as_array().unwrap().iter();
    let count = vertices.find(|vertex| vertex["name"] == "count");
    let state = count.unwrap()["state"].clone();
    check(&job.command(&["status", "."]).succeeded().stdout);
    run.signal("INT");
    run.wait().succeeded();
    state
}

/// A component of some KiB with one function: each of its locals lives through all of its loops, so the compiler has to
/// look at each pair.
fn compile_bomb(locals: u32, loops: u32) -> Vec<u8> {
    let mut body = "(local".to_owned() + &" i32".repeat(locals as usize + 1) + ")\n";
    body += &"loop\n".repeat(loops as usize);
    for local in 1..=locals {
        let last = local - 1;
        body += &format!("local.get {local} local.get {last} i32.add local.set {local}\n");
    }
    body += &"local.get 0 br_if 0 end\n".repeat(loops as usize);
    for local in 1..=locals {
        body += &format!("local.get 0 local.get {local} i32.xor local.set 0\n");
    }
    let module = format!("(core module $Bomb (func {body}))");
    assembled(&part("component", &module))
}

/// A component of almost half a MiB, of which each byte becomes several instructions. From half a MiB on, the quick
/// compiler would be first.
fn large_function() -> Vec<u8> {
    let body = " f32.sqrt".repeat(480_000);
    let module = format!(
        "(core module $Bomb (global $kept (mut f32) (f32.const 0))
        (func (local f32) local.get 0{body} global.set $kept))"
    );
    assembled(&part("component", &module))
}

#[test]
fn compiling_ends_at_its_limits() {
    let bomb = compile_bomb(2000, 100);
    fails(
        &job(1, &bomb, "limits = { compile-time = '1s' }"),
        3,
        "operator `bad` has a plugin that takes more than 1 s to compile; raise `limits.compile-time`, or make the plugin smaller",
    );
    let limits = "limits = { compile-memory = '128MiB', compile-time = '2min' }";
    fails(
        &job(1, &large_function(), limits),
        3,
        "operator `bad` has a plugin that takes more than 128 MiB of memory to compile; raise `limits.compile-memory`, or make the plugin smaller",
    );
}

#[test]
fn a_stop_does_not_wait_for_the_compiler() {
    let job = Job::endless("");
    job.write("bomb.wasm", compile_bomb(4000, 400));
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    let swap = job.start_command(&["swap", "pipeline.toml", "count", "bomb.wasm"]);
    std::thread::sleep(Duration::from_millis(1500));
    let told = Instant::now();
    run.signal("INT");
    run.wait().succeeded().says("stopped: ");
    let took = told.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
    assert_ne!(swap.wait().code, Some(0));
}

/// Swaps to a plugin that takes long to compile, and cancels that.
#[track_caller]
fn is_cancelled_while_it_compiles(job: &Job) {
    let swap = job.start_command(&["swap", "pipeline.toml", "count", "bomb.wasm"]);
    std::thread::sleep(Duration::from_millis(1500));
    let told = Instant::now();
    swap.signal("INT");
    let cancelled = swap.wait();
    let took = told.elapsed();
    assert_eq!(cancelled.code, Some(130), "{}", cancelled.stderr);
    cancelled.says("the swap was cancelled, and nothing has changed");
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn a_cancelled_swap_does_not_wait_for_the_compiler() {
    let job = Job::endless("");
    job.write("bomb.wasm", compile_bomb(4000, 400));
    let mut run = job.start(&[]);
    run.wait_for("starts from the beginning");
    is_cancelled_while_it_compiles(&job);
    // It no longer holds up another one, nor the stop.
    job.command(&["swap", "pipeline.toml", "count", "same"])
        .succeeded();
    run.signal("INT");
    run.wait().succeeded().says("stopped: ");
    // A swap of a stopped job compiles in the process of the command.
    is_cancelled_while_it_compiles(&job);
}
