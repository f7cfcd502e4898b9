/**
 * eˣ of four floats, to 2 units in the last place: 2ⁿ · e^r with n = round(x / ln 2), where e^r is its Taylor series to
 * the seventh power. Below −87 it is e^−87, about 10⁻³⁸; above 88 it is e^88.
 */
// @ts-ignore: decorator
@inline
export function exponential(values: v128): v128 {
  // The pseudo-minimum is one instruction, the minimum eight.
  const x = f32x4.pmin(f32x4.pmax(values, f32x4.splat(-87)), f32x4.splat(88));
  // So large a sum keeps no fraction: the whole number is in its last bits.
  const magic = f32x4.splat(12582912);
  const whole = f32x4.add(f32x4.mul(x, f32x4.splat(1.44269504)), magic);
  const n = f32x4.sub(whole, magic);
  // ln 2 in two parts, so that the difference keeps its digits.
  let r = f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375)));
  r = f32x4.add(r, f32x4.mul(n, f32x4.splat(2.12194440e-4)));
  let sum = f32x4.splat(1.0 / 5040);
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 720));
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 120));
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 24));
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1.0 / 6));
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(0.5));
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1));
  sum = f32x4.add(f32x4.mul(sum, r), f32x4.splat(1));
  const power = i32x4.shl(i32x4.add(whole, i32x4.splat(127)), 23);
  return f32x4.mul(sum, power);
}
