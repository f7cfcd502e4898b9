/** The part of jstat that is used; the package brings no types. */
declare module "jstat" {
  const jStat: {
    readonly normal: { inv(p: number, mean: number, std: number): number };
    /** Regularised incomplete beta function I_x(a, b). */
    ibeta(x: number, a: number, b: number): number;
  };
  export default jStat;
}
