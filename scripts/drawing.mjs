/** The page whose code blocks marked `rooms` say which folder may import which. */
export const DRAWING = "docs/design.md";

/**
 * The rooms that the page draws. A block begins with "```rooms FOLDER"; each line is a room, from top to bottom: two
 * columns that are blank or "| " (the room stands beside the one above it, and neither imports the other), the name, two
 * spaces or more, what the room does. A deeper indent draws rooms inside a room.
 * @returns a group for each folder with rooms: `{ folder, rooms: [{ name, path, floor, line }] }`; floor 0 is the top
 * @throws Error with the line that cannot be read
 */
export function readDrawing(markdown) {
  const groups = [];
  let block = null;
  markdown.split("\n").forEach((text, index) => {
    const line = index + 1;
    const fence = /^```rooms (\S+)$/.exec(text);
    if (fence) block = [{ indent: -1, group: groupOf(groups, fence[1] === "." ? "" : fence[1]) }];
    else if (text.startsWith("```")) block = null;
    else if (block) readRoom(groups, block, text, line);
  });
  if (groups.length === 0) throw new Error(`${DRAWING} has no code block that begins with \`\`\`rooms FOLDER.`);
  return groups;
}

/** `open` are the rooms around the line, the outermost first: each with its indent and the group of the rooms inside it. */
function readRoom(groups, open, text, line) {
  const [, mark, indent, name] = /^([ |]) ( *)(\S+) {2,}\S/.exec(text) ?? [];
  if (name === undefined)
    throw new Error(
      `${DRAWING}:${line} is no room: write "  name   what it does", or "| name   ..." beside the one above.`,
    );
  while (open.length > 1 && open.at(-1).indent >= indent.length) open.pop();
  const around = open.at(-1);
  around.group ??= groupOf(groups, around.path);
  const { folder, rooms } = around.group;
  const beside = mark === "|";
  if (beside && rooms.length === 0)
    throw new Error(`${DRAWING}:${line}: ${name} has no room above it to stand beside.`);
  if (rooms.length > 0 && rooms[0].indent !== indent.length)
    throw new Error(`${DRAWING}:${line}: ${name} is indented otherwise than ${rooms[0].name}, its neighbour.`);
  const path = folder === "" ? name : `${folder}/${name}`;
  const floor = rooms.length === 0 ? 0 : rooms.at(-1).floor + (beside ? 0 : 1);
  rooms.push({ name, path, floor, line, indent: indent.length });
  open.push({ indent: indent.length, path, group: null });
}

function groupOf(groups, folder) {
  const group = { folder, rooms: [] };
  groups.push(group);
  return group;
}
