/**
 * The options that a pipeline gives an operator, as text. Each look-up names the option in its error, and an option that was
 * not looked up is refused after `open`, so a misspelt one never counts as a default.
 */

export class Config {
  private readonly known: string[] = [];

  constructor(private readonly options: ReadonlyMap<string, string>) {}

  /** An option as text, if it is set. */
  find(name: string): string | undefined {
    if (!this.known.includes(name)) {
      this.known.push(name);
    }
    return this.options.get(name);
  }

  /** An option as text; an error if it is not set and there is no default. */
  text(name: string, otherwise?: string): string {
    return this.parsed(name, otherwise, (text) => text);
  }

  /** An option that is a whole number within ±2⁵³. */
  integer(name: string, otherwise?: number): number {
    return this.parsed(name, otherwise, (text) => {
      const number = /^-?[0-9]+$/.test(text) ? Number(text) : NaN;
      if (!Number.isSafeInteger(number)) {
        throw new Error("it is not a whole number that is exact");
      }
      return number;
    });
  }

  /** An option that is a whole number of any size. */
  bigint(name: string, otherwise?: bigint): bigint {
    return this.parsed(name, otherwise, (text) => {
      if (!/^-?[0-9]+$/.test(text)) {
        throw new Error("it is not a whole number");
      }
      return BigInt(text);
    });
  }

  /** An option that is a number. */
  number(name: string, otherwise?: number): number {
    return this.parsed(name, otherwise, (text) => {
      const number = text.trim() === "" ? NaN : Number(text);
      if (!Number.isFinite(number)) {
        throw new Error("it is not a number");
      }
      return number;
    });
  }

  /** An option that is `true` or `false`. */
  boolean(name: string, otherwise?: boolean): boolean {
    return this.parsed(name, otherwise, (text) => {
      if (text !== "true" && text !== "false") {
        throw new Error("it is neither `true` nor `false`");
      }
      return text === "true";
    });
  }

  /** An option that a function of yours reads; what it throws is the reason. */
  parsed<T>(name: string, otherwise: T | undefined, parse: (text: string) => T): T {
    const text = this.find(name);
    if (text === undefined) {
      if (otherwise === undefined) {
        throw new Error(`option \`${name}\` is missing; set it`);
      }
      return otherwise;
    }
    try {
      return parse(text);
    } catch (error) {
      throw new Error(`option \`${name}\` is \`${text}\`: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  /** Refuses options that were not looked up. */
  refuseUnknown(): void {
    for (const name of this.options.keys()) {
      if (!this.known.includes(name)) {
        const known = this.known.length === 0 ? "has none" : `knows \`${this.known.join("`, `")}\``;
        throw new Error(`unknown option \`${name}\`; this operator ${known}`);
      }
    }
  }
}
