import type { Kernel } from "./kernel.ts";

export interface Declaration {
  /** Equal names mean equal code. */
  readonly name: string;
  /** Storage bindings in order: name, type of the elements of its array, and whether the kernel writes it. */
  readonly storage: readonly (readonly [name: string, element: string, access: "read" | "write"])[];
  readonly uniforms: Readonly<Record<string, "u32" | "i32" | "f32">>;
  /** Everything behind the declarations. */
  readonly body: string;
  readonly features?: readonly GPUFeatureName[];
}

const ENABLES = [
  ["shader-f16", "f16"],
  ["subgroups", "subgroups"],
] as const;

/** A kernel with its bindings declared; the body reads `uniforms.<name>`. */
export function declareKernel({ name, storage, uniforms, body, features = [] }: Declaration): Kernel {
  const bindings = storage.map(
    ([binding, element, access], i) =>
      `@group(0) @binding(${i}) var<storage, ${access === "write" ? "read_write" : "read"}> ${binding}: array<${element}>;`,
  );
  const members = Object.entries(uniforms).map(([member, type]) => `  ${member}: ${type},`);
  const enables = ENABLES.flatMap(([feature, enable]) => (features.includes(feature) ? [`enable ${enable};`] : []));
  const code = [
    ...enables,
    ...bindings,
    `struct Uniforms {\n${members.join("\n")}\n}`,
    `@group(0) @binding(${storage.length}) var<uniform> uniforms: Uniforms;`,
    body.trim(),
    "",
  ].join("\n");
  return { name, code, bindings: storage.map((binding) => binding[2]), uniforms: Object.values(uniforms), features };
}

export interface WorkgroupEntry {
  readonly threads: number;
  /** What a workgroup is for, as the code calls its number, and the uniform that says how many there are. */
  readonly unit: string;
  readonly of: string;
  /** What the code calls the number of an invocation, "own" unless given, and where it is from. */
  readonly invocation?: string;
  readonly builtin?: "local_invocation_index" | "subgroup_invocation_id";
}

/** Opens `main` of a kernel with a workgroup for each unit, in one dimension or two (`spread`); those too many end at once. */
export function workgroupEntry({ threads, unit, of, invocation = "own", builtin }: WorkgroupEntry): string {
  return `@compute @workgroup_size(${threads})
fn main(
  @builtin(workgroup_id) group: vec3u,
  @builtin(num_workgroups) groups: vec3u,
  @builtin(${builtin ?? "local_invocation_index"}) ${invocation}: u32,
) {
  let ${unit} = group.x + group.y * groups.x;
  if (${unit} >= uniforms.${of}) { return; }`;
}

/** The same kernel for the same arguments: its code is long, and hundreds of dispatches have one of a few. */
export function memoised<Args extends readonly unknown[]>(make: (...args: Args) => Kernel): (...args: Args) => Kernel {
  const made = new Map<string, Kernel>();
  return (...args) => {
    const key = JSON.stringify(args);
    let kernel = made.get(key);
    if (!kernel) made.set(key, (kernel = make(...args)));
    return kernel;
  };
}

type Line = string | false | null | undefined;

/** Joins lines and lists of lines, without what is empty. */
export function lines(...parts: readonly (Line | readonly Line[])[]): string {
  return parts
    .flat()
    .filter((line): line is string => typeof line === "string" && line !== "")
    .join("\n");
}

/** One line for every number below `count`. */
export function each<T>(count: number, line: (i: number) => T): T[] {
  return Array.from({ length: count }, (_, i) => line(i));
}
