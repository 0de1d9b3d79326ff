/**
 * Closes the world as soon as it is imported: the entry module of a component imports it before the operator's own modules.
 */

import { closeWorld } from "./closed.js";

closeWorld();
