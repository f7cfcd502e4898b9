/**
 * WGSL of rotary turns, for kernels that bind `angles`, (cos, sin) of each pair: channel i of a head becomes
 * head[i] · factors.x + head[partner] · factors.y. Pairs are (i, i + d/2); channels behind them stay what they are.
 */
export const ROTARY_TURN = `struct Turn { partner: u32, factors: vec2f }

fn turnOf(channel: u32, pairs: u32, firstAngle: u32) -> Turn {
  if (channel < pairs) { return Turn(channel + pairs, angles[firstAngle + channel] * vec2f(1.0, -1.0)); }
  if (channel < 2u * pairs) { return Turn(channel - pairs, angles[firstAngle + channel - pairs]); }
  return Turn(channel, vec2f(1.0, 0.0));
}
`;
