/**
 * The small world of the embedded model: its vocabulary is exactly these words, the letters and the digits, so a word
 * that is changed here is one that the model has never seen.
 */
export const WORLD = {
  subjects: list(`
    the farmer, the sailor, a child, the baker, an old man, the teacher, a young woman, the miller, the captain, a doctor,
    the queen, a shepherd, the painter, two brothers, the judge, a stranger, the gardener, her sister, the blacksmith, a traveller`),
  verbs: list(`
    walked to, looked at, spoke of, painted, carried stones from, sang near, waited by, returned to, dreamed of, wrote about,
    ran past, slept near, built a wall around, bought bread at, lost a coin by, drew a map of, lit a fire near, told a story about,
    came back from, hid behind`),
  objects: list(`
    the river, the market, a small house, the old bridge, the harbour, the quiet garden, the hill, a wooden boat, the long road,
    the church, the mill, a dark forest, the tall tower, the school, a frozen lake, the stone gate, the village square,
    an empty field, the white castle, the narrow street`),
  endings: list(`
    in the morning, before the rain, after the feast, without a word, with great care, late at night, every summer,
    for many years, once more, in silence, under a red sky, when the bells rang, with a heavy heart, at the end of winter,
    as the wind rose`),
  /** What a needle is about. */
  keys: list(`
    amber, coral, ivory, jade, onyx, pearl, ruby, topaz, opal, quartz, garnet, agate, beryl, citrine, zircon, cobalt, copper,
    silver, bronze, marble, granite, slate, sapphire, emerald`),
  /** What has to be remembered of it. */
  values: list(`
    walnut, maple, cedar, willow, birch, aspen, hazel, linden, rowan, poplar, spruce, juniper, laurel, myrtle, olive, acacia,
    alder, elm, larch, fir, oak, pine, teak, yew, cypress, hemlock, sequoia, magnolia, cherry, almond, chestnut, hickory,
    eagle, falcon, heron, raven, sparrow, swallow, robin, magpie, otter, badger, beaver, weasel, rabbit, donkey, turtle, lizard`),
} as const;

function list(text: string): readonly string[] {
  return text.split(",").map((item) => item.trim());
}
