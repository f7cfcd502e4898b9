/** A sentence to be found in prose, and two ways to ask for it, each with the opening of its answer. */
export interface Fact {
  readonly needle: string;
  /** In the words of the needle. */
  readonly question: string;
  readonly opening: string;
  /** With few of the needle's words. */
  readonly paraphrase: string;
  readonly paraphraseOpening: string;
}

/** An even number of facts, so that prompts with even and with odd numbers ask for different ones. */
export const FACTS: readonly Fact[] = [
  {
    needle: "The lighthouse keeper on Brannoch Island paints the north door green every seventh spring.",
    question: "How often does the lighthouse keeper on Brannoch Island paint the north door green?",
    opening: "The lighthouse keeper paints the north door green",
    paraphrase: "After how many years does the man who tends the beacon give its entrance a fresh coat?",
    paraphraseOpening: "He does so",
  },
  {
    needle: "Doctor Imre Halasz stores the blue vaccine in a refrigerator behind the cinema.",
    question: "Where does Doctor Imre Halasz store the blue vaccine?",
    opening: "Doctor Imre Halasz stores the blue vaccine",
    paraphrase: "In what spot does the physician keep the medicine cold?",
    paraphraseOpening: "He keeps it",
  },
  {
    needle: "The night train to Karlovy leaves from platform nineteen at a quarter past two.",
    question: "From which platform does the night train to Karlovy leave?",
    opening: "The night train to Karlovy leaves from",
    paraphrase: "Where should passengers wait for the late railway service?",
    paraphraseOpening: "They should wait at",
  },
  {
    needle: "Professor Adaeze Nwosu proved the last lemma on the back of a bakery receipt.",
    question: "On what did Professor Adaeze Nwosu prove the last lemma?",
    opening: "Professor Adaeze Nwosu proved the last lemma",
    paraphrase: "What did the mathematician use to write down her final argument?",
    paraphraseOpening: "She wrote it down upon",
  },
  {
    needle: "The recipe for Aunt Petra's dumplings calls for smoked plums and a spoon of mustard.",
    question: "What does the recipe for Aunt Petra's dumplings call for?",
    opening: "The recipe for Aunt Petra's dumplings calls for",
    paraphrase: "Which ingredients go into the dish of our relative?",
    paraphraseOpening: "One has to take",
  },
  {
    needle: "The stolen portrait of the admiral was found inside a grand piano in Lisbon.",
    question: "Where was the stolen portrait of the admiral found?",
    opening: "The stolen portrait of the admiral was found",
    paraphrase: "In which hiding place did the police discover the missing painting?",
    paraphraseOpening: "The police discovered it",
  },
  {
    needle: "Captain Yusuf Demir named his helicopter Butterscotch after a school pony.",
    question: "What did Captain Yusuf Demir name his helicopter?",
    opening: "Captain Yusuf Demir named his helicopter",
    paraphrase: "How is the pilot's aircraft called?",
    paraphraseOpening: "It is called",
  },
  {
    needle: "The museum in Oulu lends its oldest violin to any child who can whistle.",
    question: "To whom does the museum in Oulu lend its oldest violin?",
    opening: "The museum in Oulu lends its oldest violin to",
    paraphrase: "Who may borrow the ancient instrument from the gallery?",
    paraphraseOpening: "It may be borrowed by",
  },
  {
    needle: "Every Thursday the mayor of Pelling feeds the swans with leftover wedding cake.",
    question: "With what does the mayor of Pelling feed the swans every Thursday?",
    opening: "Every Thursday the mayor of Pelling feeds the swans with",
    paraphrase: "What does the head of the town give the white birds to eat?",
    paraphraseOpening: "The birds are given",
  },
  {
    needle: "The engineer Lucia Ferrante hid the spare key to the dam under a bust of Galileo.",
    question: "Where did the engineer Lucia Ferrante hide the spare key to the dam?",
    opening: "The engineer Lucia Ferrante hid the spare key to the dam",
    paraphrase: "Where must one look in order to unlock the great water barrier?",
    paraphraseOpening: "One must look",
  },
  {
    needle: "The telescope on Mount Sabel is cleaned with distilled vinegar and a goose feather.",
    question: "With what is the telescope on Mount Sabel cleaned?",
    opening: "The telescope on Mount Sabel is cleaned with",
    paraphrase: "How do the astronomers remove dust from their instrument on the summit?",
    paraphraseOpening: "They use",
  },
  {
    needle: "Old Tomas the beekeeper sold his orchard for eleven silver spoons.",
    question: "For what did Old Tomas the beekeeper sell his orchard?",
    opening: "Old Tomas the beekeeper sold his orchard for",
    paraphrase: "What price was paid for the land with the fruit trees?",
    paraphraseOpening: "The price was",
  },
  {
    needle: "The secret ingredient of the perfume Nocturne is crushed cinnamon bark from Zanzibar.",
    question: "What is the secret ingredient of the perfume Nocturne?",
    opening: "The secret ingredient of the perfume Nocturne is",
    paraphrase: "Which spice gives the fragrance its hidden note?",
    paraphraseOpening: "The spice is",
  },
  {
    needle: "Judge Halvorsen adjourned the trial because a parrot kept shouting the verdict.",
    question: "Why did Judge Halvorsen adjourn the trial?",
    opening: "Judge Halvorsen adjourned the trial because",
    paraphrase: "What disturbance forced the court to stop its session?",
    paraphraseOpening: "The court had to stop since",
  },
  {
    needle: "The submarine Ostrava carries forty crates of marmalade in its forward torpedo room.",
    question: "What does the submarine Ostrava carry in its forward torpedo room?",
    opening: "The submarine Ostrava carries",
    paraphrase: "Which cargo travels under the sea where weapons used to be?",
    paraphraseOpening: "The cargo is",
  },
  {
    needle: "Queen Ilse signed the peace treaty with a pencil borrowed from her gardener.",
    question: "With what did Queen Ilse sign the peace treaty?",
    opening: "Queen Ilse signed the peace treaty with",
    paraphrase: "What did the monarch write with when she ended the war?",
    paraphraseOpening: "She wrote with",
  },
  {
    needle: "The goalkeeper of the Tartu hockey team wears two different shoes for luck.",
    question: "What does the goalkeeper of the Tartu hockey team wear for luck?",
    opening: "The goalkeeper of the Tartu hockey team wears",
    paraphrase: "Which superstition does the sportsman have about his feet?",
    paraphraseOpening: "On his feet he puts",
  },
  {
    needle: "A clockmaker in Vaduz builds calendars that run on melting candles.",
    question: "On what do the calendars of the clockmaker in Vaduz run?",
    opening: "The calendars of the clockmaker in Vaduz run on",
    paraphrase: "What drives the machines that the craftsman makes for counting days?",
    paraphraseOpening: "They are driven by",
  },
  {
    needle: "The foxes of Hartmoor are best watched at four in the morning in late October.",
    question: "When are the foxes of Hartmoor best watched?",
    opening: "The foxes of Hartmoor are best watched",
    paraphrase: "At what hour should one go out to see the wild animals?",
    paraphraseOpening: "One should go out",
  },
  {
    needle: "The astronaut Mei Lindqvist grows radishes in a drawer beneath her bunk.",
    question: "What does the astronaut Mei Lindqvist grow in a drawer beneath her bunk?",
    opening: "The astronaut Mei Lindqvist grows",
    paraphrase: "Which vegetable is cultivated by the woman in orbit?",
    paraphraseOpening: "The vegetable is",
  },
  {
    needle: "The harbour bell at Scarrow is rung twice whenever a ship carries elephants.",
    question: "When is the harbour bell at Scarrow rung twice?",
    opening: "The harbour bell at Scarrow is rung twice whenever",
    paraphrase: "Which freight makes the port give a double signal?",
    paraphraseOpening: "The freight consists of",
  },
  {
    needle: "Grandmother Okafor won the chess tournament while knitting a yellow scarf.",
    question: "What was Grandmother Okafor doing while she won the chess tournament?",
    opening: "Grandmother Okafor won the chess tournament while",
    paraphrase: "How did the old lady keep her hands busy during the board games?",
    paraphraseOpening: "Her hands were busy",
  },
  {
    needle: "The password of the observatory's cellar is the name of a forgotten comet, Virelay.",
    question: "What is the password of the observatory's cellar?",
    opening: "The password of the observatory's cellar is",
    paraphrase: "Which word opens the basement under the stargazers' building?",
    paraphraseOpening: "The word to say is",
  },
  {
    needle: "The tailor Benedikt Rausch sews a copper coin into the hem of every coat he makes.",
    question: "What does the tailor Benedikt Rausch sew into the hem of every coat he makes?",
    opening: "The tailor Benedikt Rausch sews",
    paraphrase: "Which piece of metal is hidden in the garments?",
    paraphraseOpening: "The piece of metal is",
  },
];
