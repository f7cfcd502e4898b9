/** 2048 → "2k", 1500 → "1500". */
export function lengthName(tokens: number): string {
  return tokens >= 1024 && tokens % 1024 === 0 ? `${tokens / 1024}k` : String(tokens);
}

/** 73 s → "1 min 13 s". */
export function duration(milliseconds: number): string {
  const seconds = Math.ceil(milliseconds / 1000);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  return minutes < 60 ? `${minutes} min ${seconds % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** 5 → "5 samples". */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}

/** "needle, 3 needles", "passkey, haystack novel". */
export function taskName({
  task,
  params,
}: {
  readonly task: string;
  readonly params: Readonly<Record<string, unknown>>;
}): string {
  const details = Object.entries(params).map(([name, value]) =>
    name === "needles" ? counted(Number(value), "needle") : `${name} ${String(value)}`,
  );
  return [task, ...details].join(", ");
}
