/**
 * What the entry module that `floodmark build` makes needs of the kit.
 */

export { attach } from "./host.js";
export { plugin } from "./plugin.js";
