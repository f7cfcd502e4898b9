import onnxProto from "onnx-proto";
import { Arena } from "./arena.ts";

const { onnx } = onnxProto;

const ELEMENT = { float32: 1, uint8: 2, int64: 7 } as const;
type Element = keyof typeof ELEMENT;
type Data = Float32Array | Uint8Array | BigInt64Array;

/** Tensors of so many bytes lie beside the model, since onnxruntime holds those inside it several times while it loads. */
const INLINE_BYTES = 4096;

const MICROSOFT = "com.microsoft";
/** Operators that onnxruntime adds to ONNX. */
const CONTRIBUTED = new Set([
  "FastGelu",
  "FusedMatMul",
  "Gelu",
  "MatMulNBits",
  "MultiHeadAttention",
  "QuickGelu",
  "RotaryEmbedding",
  "SkipSimplifiedLayerNormalization",
]);

export interface Attributes {
  readonly ints?: Readonly<Record<string, number | readonly number[]>>;
  readonly floats?: Readonly<Record<string, number>>;
  readonly graphs?: Readonly<Record<string, Graph>>;
}

/** An encoded ONNX model and the large tensors that it refers to by path. */
export interface EncodedGraph {
  readonly model: Uint8Array;
  readonly weights: readonly { readonly path: string; readonly data: Uint8Array }[];
  /** Frees the weights' memory once onnxruntime has read it. */
  release(): void;
}

/** An ONNX graph under construction. Shapes of values are left to onnxruntime, so one graph serves every length. */
export class Graph {
  readonly #nodes: InstanceType<typeof onnx.NodeProto>[] = [];
  readonly #initializers: InstanceType<typeof onnx.TensorProto>[] = [];
  readonly #inputs: InstanceType<typeof onnx.ValueInfoProto>[] = [];
  readonly #outputs: InstanceType<typeof onnx.ValueInfoProto>[] = [];
  readonly #prefix: string;
  readonly #blobs: Uint8Array[] = [];
  /** Holds large constants, whose memory the garbage collector would not give back to the system. */
  readonly arena: Arena = new Arena();
  #count = 0;

  /** `prefix` keeps the names of a subgraph apart from those of the graph around it. */
  constructor(prefix = "") {
    this.#prefix = prefix;
  }

  input(name: string, rank: number, element: Element = "float32"): string {
    this.#inputs.push(valueInfo(name, element, rank));
    return name;
  }

  output(name: string, element: Element = "float32"): void {
    this.#outputs.push(valueInfo(name, element));
  }

  constant(data: Data, dims: readonly number[]): string {
    const name = this.#fresh("constant");
    const element: Element = data instanceof Float32Array ? "float32" : data instanceof Uint8Array ? "uint8" : "int64";
    const tensor = { name, dims: [...dims], dataType: ELEMENT[element] };
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    if (bytes.byteLength < INLINE_BYTES || this.#prefix !== "") {
      this.#initializers.push(onnx.TensorProto.create({ ...tensor, rawData: bytes }));
    } else {
      const externalData = Object.entries({
        location: `weights${this.#blobs.length}`,
        offset: "0",
        length: String(bytes.byteLength),
      }).map(([key, value]) => ({ key, value }));
      this.#blobs.push(bytes);
      this.#initializers.push(onnx.TensorProto.create({ ...tensor, dataLocation: 1, externalData }));
    }
    return name;
  }

  /** A list of whole numbers, as operators take shapes and sizes. */
  integers(...values: readonly number[]): string {
    return this.constant(BigInt64Array.from(values, BigInt), [values.length]);
  }

  /** Adds a node with one output and answers with the output's name. */
  op(type: string, inputs: readonly string[], attributes: Attributes = {}, output = this.#fresh(type)): string {
    this.ops(type, inputs, [output], attributes);
    return output;
  }

  /** Adds a node whose outputs have the given names. */
  ops(type: string, inputs: readonly string[], outputs: readonly string[], attributes: Attributes = {}): void {
    this.#nodes.push(
      onnx.NodeProto.create({
        opType: type,
        name: this.#fresh(`${type}_node`),
        domain: CONTRIBUTED.has(type) ? MICROSOFT : "",
        input: [...inputs],
        output: [...outputs],
        attribute: [
          ...Object.entries(attributes.ints ?? {}).map(([name, value]) =>
            typeof value === "number" ? { name, type: 2, i: value } : { name, type: 7, ints: [...value] },
          ),
          ...Object.entries(attributes.floats ?? {}).map(([name, f]) => ({ name, type: 1, f })),
          ...Object.entries(attributes.graphs ?? {}).map(([name, graph]) => ({ name, type: 5, g: graph.#proto() })),
        ],
      }),
    );
  }

  /** Splits a tensor along an axis into parts of the given sizes. */
  split(value: string, axis: number, sizes: readonly number[], names?: readonly string[]): string[] {
    const outputs = names ? [...names] : sizes.map(() => this.#fresh("part"));
    this.ops("Split", [value, this.integers(...sizes)], outputs, { ints: { axis } });
    return outputs;
  }

  encode(): EncodedGraph {
    const model = onnx.ModelProto.create({
      irVersion: 9,
      opsetImport: [
        { domain: "", version: 18 },
        { domain: MICROSOFT, version: 1 },
      ],
      graph: this.#proto(),
    });
    return {
      model: onnx.ModelProto.encode(model).finish(),
      weights: this.#blobs.map((data, i) => ({ path: `weights${i}`, data })),
      release: () => this.arena.release(),
    };
  }

  #proto(): InstanceType<typeof onnx.GraphProto> {
    return onnx.GraphProto.create({
      name: `${this.#prefix}graph`,
      node: this.#nodes,
      initializer: this.#initializers,
      input: this.#inputs,
      output: this.#outputs,
    });
  }

  #fresh(kind: string): string {
    return `${this.#prefix}${kind}_${this.#count++}`;
  }
}

function valueInfo(name: string, element: Element, rank?: number): InstanceType<typeof onnx.ValueInfoProto> {
  const shape =
    rank === undefined ? undefined : { dim: Array.from({ length: rank }, (_, i) => ({ dimParam: `${name}_${i}` })) };
  return onnx.ValueInfoProto.create({ name, type: { tensorType: { elemType: ELEMENT[element], shape } } });
}
