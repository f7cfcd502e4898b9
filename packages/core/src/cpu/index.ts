export { createCpu, type CpuOptions } from "./cpu-backend.ts";
