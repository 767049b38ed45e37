/** The part of WebAssembly's interface that is used here: neither ES2023 nor Node 20's types declare it. */
declare namespace WebAssembly {
  function validate(code: Uint8Array): boolean;
  class Module {
    constructor(code: Uint8Array);
  }
  class Instance {
    constructor(module: Module);
    readonly exports: Readonly<Record<string, unknown>>;
  }
  interface Memory {
    readonly buffer: ArrayBuffer;
  }
  interface Global {
    readonly value: number;
  }
}
