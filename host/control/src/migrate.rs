//! The route that hurries the migration of a running job: what is left of earlier versions of state is migrated and dropped
//! at full speed for a few seconds, while the stream continues.
//!
//! ```text
//! POST /v1/state/migrate  {"operator":"count"}
//!   {"operators":{"count":{"states":{"count":{"versions":[1],"bytes":52311}},
//!                          "steps":12,"not-migrated":[]}}}
//! ```
//!
//! A client repeats the call, about once a second, until `operators` is empty. So a client that dies leaves nothing behind: the
//! job is back at its normal pace within seconds. Between calls the client takes checkpoints when `steps` stays the same, since
//! some of it can be dropped only once a checkpoint is durable. `bytes` is the size of the state in which entries of earlier
//! versions may be; the job does not count them, since that would read all state.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::job::JobSide;
use super::routes::{HandlerPace, HttpRefusal, HttpRequest, Method, Routes};
use floodmark_engine::job::Request;
use floodmark_engine::pipeline::suggestions;
use floodmark_engine::runtime::plan::{Plan, Role};

/// The path of the route.
pub const PATH: &str = "/v1/state/migrate";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct MigrationWish {
    #[serde(default)]
    operator: Option<String>,
}

/// Adds the route.
#[must_use]
pub fn with_migration(routes: Routes, side: &JobSide) -> Routes {
    let side = side.clone();
    routes.with_json(
        (Method::Post, PATH),
        "migrates what is left of earlier versions of state at full speed, for 3 seconds; `operator` is the only one",
        HandlerPace::Waits,
        move |call| migrate(&side, call),
    )
}

/// Hurries the job; returns at once, with what is left.
fn migrate(side: &JobSide, call: &HttpRequest) -> Result<Value, HttpRefusal> {
    let MigrationWish { operator } = call.json()?;
    if let Some(operator) = &operator {
        let running = side.ask(Request::Describe)?;
        check(operator, &running.plan)?;
    }
    let running = side.ask(|caller| Request::Hurry {
        operator: operator.clone(),
        caller,
    })?;
    let sweeps = side.observer.sweeps();
    let mut operators = Map::new();
    for ((name, state), versions) in running.earlier_versions() {
        if operator.as_ref().is_some_and(|only| *only != name) {
            continue;
        }
        let sweep = &sweeps[&name];
        let bytes = &sweep["left-bytes"][&state];
        let found = operators.entry(name).or_insert_with(|| {
            json!({
                "states": {},
                "steps": sweep["steps"],
                "not-migrated": sweep["not-migrated"],
            })
        });
        found["states"][&state] = json!({ "versions": versions, "bytes": bytes });
    }
    Ok(json!({ "operators": operators }))
}

/// Refuses an operator that the job does not have.
fn check(operator: &str, plan: &Plan) -> Result<(), HttpRefusal> {
    let nodes = plan.nodes.iter();
    let operators = nodes.filter(|node| matches!(node.role, Role::Operator(_)));
    let names: Vec<_> = operators.map(|node| node.name.as_str()).collect();
    if names.contains(&operator) {
        return Ok(());
    }
    let hint = suggestions::hint(operator, names.iter().copied());
    Err(HttpRefusal::bad_request(format!(
        "there is no operator `{operator}` in the job{hint}"
    )))
}
