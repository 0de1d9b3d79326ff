/**
 * Catches counts that are lost, or that are another key's.
 */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Task } from "floodmark/testing";

import Counter from "../src/index.js";

test("each key counts from one", () => {
  const task = new Task(Counter);
  assert.deepEqual(
    task.run([
      ["rain", ""],
      ["sun", ""],
      ["rain", ""],
    ]),
    [
      ["rain", "1"],
      ["sun", "1"],
      ["rain", "2"],
    ],
  );
  // The host may drop an instance at any time: its states stay.
  task.kill();
  assert.deepEqual(task.run([["rain", ""]]), [["rain", "3"]]);
  assert.equal(task.state("count", "rain"), 3);
});
