//! Formats a profile as `cpuprofile` of V8, which browsers' developer tools, the Firefox Profiler, speedscope and
//! editors read: a list of nodes with their children, and the time of each in microseconds.

use serde_json::{Value, json};

use super::Profile;
use super::tree::ProfileTree;

#[derive(Default)]
struct Written {
    nodes: Vec<Value>,
    samples: Vec<usize>,
    deltas: Vec<u64>,
}

impl Profile {
    /// The profile as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut written = Written::default();
        written.node(&self.job, &self.tree);
        let Written {
            nodes,
            samples,
            deltas,
        } = written;
        let end: u64 = deltas.iter().sum();
        json!({
            "nodes": nodes,
            "startTime": 0,
            "endTime": end,
            "samples": samples,
            "timeDeltas": deltas,
        })
    }
}

impl Written {
    /// Adds a node and its children; returns its id.
    fn node(&mut self, name: &str, tree: &ProfileTree) -> usize {
        let at = self.nodes.len();
        let id = at + 1;
        self.nodes.push(Value::Null);
        let micros = tree.own.div_ceil(1000);
        if micros > 0 {
            self.samples.push(id);
            self.deltas.push(micros);
        }
        let below = tree.below.iter();
        let children: Vec<_> = below.map(|(name, tree)| self.node(name, tree)).collect();
        self.nodes[at] = json!({
            "id": id,
            "callFrame": {
                "functionName": name,
                "scriptId": "0",
                "url": "",
                "lineNumber": -1,
                "columnNumber": -1,
            },
            "hitCount": u64::from(micros > 0),
            "children": children,
        });
        id
    }
}
