/**
 * Unit tests of an operator, without an engine: `import { Task } from "floodmark/testing"`.
 */

export { type Given, type Received, Task } from "./src/task.js";
