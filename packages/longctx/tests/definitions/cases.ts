import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import * as is from "./definitions.ts";

/** A method as it is written, and what it has to be. */
export interface Case {
  readonly spec: string;
  readonly parts: readonly is.Part[];
  /** A query sees tokens after it, so the prompt's beginning cannot be read token by token. */
  readonly bidirectional?: true;
  /** An identity: one window and its task are the plain prompt. */
  readonly sameAsPlain?: true;
}

const FACTORS = fileURLToPath(new URL("longrope-factors.json", import.meta.url));
const { short, long } = JSON.parse(readFileSync(FACTORS, "utf8")) as Record<"short" | "long", number[]>;
const longrope = `longrope:factors=${FACTORS},factor=4`;

/** T of the models in these tests: parameters are small so that all of them act on 48 tokens and on 160. */
export const TRAINED_WINDOW = 32;

const frequencies: readonly Case[] = [
  { spec: "none", parts: [] },
  { spec: "interpolation:factor=4", parts: [is.interpolation(4)] },
  { spec: "ntk:factor=4", parts: [is.ntk(4)] },
  { spec: "dynamic-ntk:factor=2", parts: [is.dynamicNtk(2)] },
  { spec: "ntk-mixed:factor=4", parts: [is.ntkMixed(4, 0.75)] },
  { spec: "ntk-mixed:factor=12,beta=1", parts: [is.ntkMixed(12, 1)] },
  { spec: "yarn:factor=4", parts: [is.yarn(4)] },
  {
    spec: "yarn:factor=8,beta_fast=4,beta_slow=0.1,attention_factor=0.9,truncate=false,form=code",
    parts: [is.yarn(8, { betaFast: 4, betaSlow: 0.1, attentionFactor: 0.9, truncate: false })],
  },
  { spec: "yarn:factor=4,form=paper", parts: [is.yarn(4, { paper: true })] },
  {
    spec: "yarn:factor=4,beta_fast=4,beta_slow=0.5,form=paper",
    parts: [is.yarn(4, { betaFast: 4, betaSlow: 0.5, paper: true })],
  },
  { spec: "ntk-by-parts:factor=4", parts: [is.ntkByParts(4)] },
  { spec: longrope, parts: [is.longrope(short, long, 4)] },
  { spec: "llama3:factor=8,low=1,high=4", parts: [is.llama3(8, 1, 4)] },
  { spec: "truncation", parts: [is.truncation()] },
  { spec: "truncation:high=0.05,low=0.002,rho=0.004", parts: [is.truncation({ high: 0.05, low: 0.002, rho: 0.004 })] },
  { spec: "power:k=0.5", parts: [is.power(0.5)] },
];

const distances: readonly Case[] = [
  { spec: "rerope:window=12", parts: [is.rerope(12)] },
  { spec: "rerope:window=12,logn=1", parts: [is.rerope(12), is.logn] },
  { spec: "leaky-rerope:window=12,factor=3.5", parts: [is.leakyRerope(12, 3.5)] },
  { spec: "leaky-rerope:window=7,factor=8,logn=1", parts: [is.leakyRerope(7, 8), is.logn] },
  { spec: "self-extend:window=8,group=4", parts: [is.selfExtend(8, 4)] },
  { spec: "self-extend:window=10,group=3", parts: [is.selfExtend(10, 3)] },
  { spec: "dual-chunk:chunk=12,cap=20", parts: [is.dualChunk(12, 20)] },
  { spec: "dual-chunk:chunk=9,cap=9", parts: [is.dualChunk(9, 9)] },
  { spec: "logn", parts: [is.logn] },
];

const windows: readonly Case[] = [
  { spec: "sliding:window=9", parts: [is.sliding(9)] },
  { spec: "streaming:sinks=3,window=11", parts: [is.streaming(3, 11)] },
  { spec: "streaming:sinks=0,window=20", parts: [is.streaming(0, 20)] },
  { spec: "lm-infinite:sinks=3,window=11", parts: [is.lmInfinite(3, 11)] },
  { spec: "parallel:windows=3", parts: [is.parallel(3)] },
  { spec: "parallel:windows=1", parts: [is.parallel(1)], sameAsPlain: true },
  { spec: "prefix:length=20", parts: [is.prefix(20)], bidirectional: true },
];

export const compositions: readonly Case[] = [
  { spec: "yarn:factor=4+streaming:sinks=3,window=11", parts: [is.yarn(4), is.streaming(3, 11)] },
  { spec: "ntk:factor=4+rerope:window=12", parts: [is.ntk(4), is.rerope(12)] },
  { spec: "interpolation:factor=4+self-extend:window=10,group=4", parts: [is.interpolation(4), is.selfExtend(10, 4)] },
  { spec: "sliding:window=30+rerope:window=12", parts: [is.sliding(30), is.rerope(12)] },
  { spec: "ntk-by-parts:factor=4+logn", parts: [is.ntkByParts(4), is.logn] },
  {
    spec: "prefix:length=20+leaky-rerope:window=5,factor=3",
    parts: [is.prefix(20), is.leakyRerope(5, 3)],
    bidirectional: true,
  },
  {
    spec: "dynamic-ntk:factor=2+leaky-rerope:window=12,factor=4",
    parts: [is.dynamicNtk(2), is.leakyRerope(12, 4)],
  },
  {
    spec: "llama3:factor=8,low=1,high=4+lm-infinite:sinks=2,window=15",
    parts: [is.llama3(8, 1, 4), is.lmInfinite(2, 15)],
  },
  { spec: `${longrope}+parallel:windows=2`, parts: [is.longrope(short, long, 4), is.parallel(2)] },
  { spec: "interpolation:factor=2+dual-chunk:chunk=12,cap=20", parts: [is.interpolation(2), is.dualChunk(12, 20)] },
  { spec: "truncation+sliding:window=24+logn", parts: [is.truncation(), is.sliding(24), is.logn] },
  {
    spec: "power:k=0.5+prefix:length=20+dual-chunk:chunk=7,cap=9",
    parts: [is.power(0.5), is.prefix(20), is.dualChunk(7, 9)],
    bidirectional: true,
  },
  {
    spec: "ntk-mixed:factor=4+sliding:window=24+self-extend:window=8,group=3",
    parts: [is.ntkMixed(4, 0.75), is.sliding(24), is.selfExtend(8, 3)],
  },
];

export const single: readonly Case[] = [...frequencies, ...distances, ...windows];
