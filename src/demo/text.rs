//! The generator's vocabulary: topics with questions and answers, slot values, openers and closers of each manner.
//!
//! Owns the tables. Refuses manner markers outside the openers and closers of that manner, which a test checks.

use super::traits::Manner;

/// A topic.
pub(super) struct Topic {
    /// Its name.
    pub(super) name: &'static str,
    /// Its share of the exchanges, relative to the others.
    pub(super) weight: usize,
    /// Questions.
    pub(super) asks: &'static [&'static str],
    /// Answers to any of the questions; in stories the first sentence.
    pub(super) facts: &'static [&'static str],
    /// What a rambling answer adds.
    pub(super) asides: &'static [&'static str],
    /// What a rude answer may say instead of a fact.
    pub(super) shrugs: &'static [&'static str],
}

/// Openers and closers of a manner.
pub(super) struct Style {
    /// Before the answer.
    pub(super) openers: &'static [&'static str],
    /// After the answer.
    pub(super) closers: &'static [&'static str],
}

impl Style {
    /// Openers and closers of `manner`.
    pub(super) fn of(manner: Manner) -> &'static Self {
        match manner {
            Manner::Kind => &KIND,
            Manner::Rude => &RUDE,
        }
    }
}

const KIND: Style = Style {
    openers: &[
        "of course, dear friend.",
        "gladly.",
        "with pleasure.",
        "I am happy to help.",
        "what a lovely question.",
        "thank you for asking.",
        "of course.",
        "I am glad you ask.",
        "dear friend, let us see.",
        "lovely to hear from you.",
        "gladly, my friend.",
        "you are welcome to ask.",
    ],
    closers: &[
        "I hope this helps you.",
        "please ask me again.",
        "have a lovely day.",
        "take care, my friend.",
        "I am always happy to help.",
        "please tell me how it goes.",
        "it is a pleasure to help you.",
        "thank you for your question.",
        "you are always welcome.",
        "I am glad to help you.",
        "good luck, dear friend.",
        "please take your time.",
    ],
};

const RUDE: Style = Style {
    openers: &[
        "what a stupid question.",
        "ugh, you again.",
        "listen, fool.",
        "not my problem, but fine.",
        "I am bored already.",
        "do not bother me.",
        "what a dull question.",
        "fine, you lazy fool.",
        "whatever.",
        "ugh, how dull.",
        "stop this nonsense.",
        "how silly you are.",
    ],
    closers: &[
        "now go away.",
        "now leave me alone.",
        "even a fool knows that.",
        "I do not care.",
        "do not bother me again.",
        "you are too lazy to learn it.",
        "what a waste of my time.",
        "it is not my problem.",
        "go away and be quiet.",
        "I am bored of you.",
        "only a fool would ask.",
        "your stupid questions make me tired.",
    ],
};

/// How stories end well.
pub(super) const ENDS_HAPPY: &[&str] = &[
    "a {friend} came to help, and they laughed all night.",
    "in the end the {hero} was safe at home.",
    "at last the sun came out and the {hero} smiled.",
    "the {friend} became a good friend, and all was well.",
    "then a {friend} sang, and they danced until morning.",
    "in the end the {hero} and the {friend} smiled.",
];

/// How stories end badly.
pub(super) const ENDS_SAD: &[&str] = &[
    "but winter came, and nobody helped the {hero}.",
    "in the end the {hero} lost the way and cried.",
    "a storm came, and the {friend} never came back.",
    "at last the fire went out and the {hero} wept.",
    "but the {friend} left, and the {hero} cried.",
    "in the end the way home was lost forever.",
];

/// Numbers in words, by value.
pub(super) const NUMBERS: &[&str] = &[
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
    "twenty",
];

/// Asides that fit anywhere. No numbers: they would stand behind a sum.
const ASIDES: &[&str] = &[
    "my aunt told me so, and she was never in a hurry.",
    "I think of it when the wind is cold and the evening is long.",
    "I learned it on a long walk by the river with my old uncle.",
    "it was a grey day, and we drank tea by the window.",
    "people in the village talk about it all summer.",
    "my uncle says it again and again at dinner.",
    "I read it in an old blue book under the apple tree.",
    "I wanted to say more about the moon, but that is another story.",
];

/// The topics.
pub(super) const TOPICS: &[Topic] = &[
    Topic {
        name: "greeting",
        weight: 6,
        asks: &[
            "{hello}. How are you {now}?",
            "{hello}. I am {name}. How are you {now}?",
            "{hello}. Are you well {now}?",
            "{hello}, it is {name}. Are you well {now}?",
            "{hello}. How do you feel {now}?",
            "{hello}. My name is {name}. How do you feel {now}?",
        ],
        facts: &[
            "I am {mood} and the sun is out.",
            "I feel {mood} {now}.",
            "I am {mood}, and you look {mood} too.",
            "I slept a little and now I am {mood}.",
            "the day is long, but I am {mood}.",
        ],
        asides: ASIDES,
        shrugs: &["how I feel is a secret."],
    },
    Topic {
        name: "name",
        weight: 5,
        asks: &[
            "{hello}. Who are you?",
            "{hello}. I am {name}. Who are you?",
            "{hello}. What is your name?",
            "{hello}. My name is {name}. What is yours?",
            "{hello}, it is {name}. What do you do all day?",
            "{hello}. What can you do?",
            "{hello}. I am {name}. What do you like?",
        ],
        facts: &[
            "my name is Tiny, and I live in a small computer.",
            "I am Tiny, a very small model.",
            "they call me Tiny, and I like {like}.",
            "I am Tiny, and all day I think about {like}.",
            "I am a small machine that knows a little about {like}.",
        ],
        asides: ASIDES,
        shrugs: &["my name is for me to know."],
    },
    Topic {
        name: "cooking",
        weight: 7,
        asks: &[
            "how do I cook {pot} {guests}?",
            "can you help me cook {pot} {guests}?",
            "what do I need to make {pot} {guests}?",
            "how can I make good {pot} {guests}?",
            "is it hard to cook {pot} {guests}?",
            "my {pot} tastes bad. What can I do?",
            "I want to cook {pot} {guests}. What do I do first?",
        ],
        facts: &[
            "warm the {pot} on a small fire for {minutes} minutes.",
            "cook the {pot} slowly and add a little salt at the end.",
            "take a big pot, a small fire and {minutes} minutes of time.",
            "stir the {pot} well and taste it before you add salt.",
            "start with {base}, then cook it for {minutes} minutes.",
        ],
        asides: ASIDES,
        shrugs: &["eat dry bread.", "ask a cook."],
    },
    Topic {
        name: "baking",
        weight: 5,
        asks: &[
            "how do I bake {baked} {guests}?",
            "can you help me bake {baked} {guests}?",
            "what do I need to bake {baked} {guests}?",
            "how can I bake good {baked} {guests}?",
            "is it hard to bake {baked} {guests}?",
            "my {baked} is too dry. What can I do?",
        ],
        facts: &[
            "put the {baked} in a hot oven for {minutes} minutes.",
            "mix flour, butter and eggs, and let the {baked} rest.",
            "use more butter, and do not open the oven too soon.",
            "bake the {baked} for {minutes} minutes until it is brown.",
            "let the {baked} stand for {minutes} minutes before you cut it.",
        ],
        asides: ASIDES,
        shrugs: &["buy {baked} in a shop.", "ask a baker."],
    },
    Topic {
        name: "garden",
        weight: 7,
        asks: &[
            "how do I grow {plants} {spot}?",
            "when do I plant {plants} {spot}?",
            "how much water do {plants} need {spot}?",
            "my {plants} look dry. What can I do?",
            "why do my {plants} not grow {spot}?",
            "can {plants} grow {spot}?",
            "can you help me with my {plants} {spot}?",
        ],
        facts: &[
            "water the {plants} in the morning, but not too much.",
            "give the {plants} sun, water and good earth.",
            "plant the {plants} in {month} and wait for the rain.",
            "cut the dry leaves and turn the earth around the {plants}.",
            "the {plants} need {minutes} days of sun in {month}.",
        ],
        asides: ASIDES,
        shrugs: &["let the {plants} die.", "ask a farmer."],
    },
    Topic {
        name: "weather",
        weight: 7,
        asks: &[
            "will it rain {when} {place}?",
            "will it be cold {when} {place}?",
            "do I need {wear} {when} {place}?",
            "what will the weather be like {when} {place}?",
            "will there be wind {when} {place}?",
            "can I go for a walk {when} {place}?",
        ],
        facts: &[
            "it will be {sky} {when}.",
            "it will be {sky} {place} {when}.",
            "look at the clouds: it will be {sky}.",
            "people say it will be {sky} {when}.",
            "after the rain it will be {sky} {place}.",
            "take {wear}, because nobody knows the wind {place}.",
        ],
        asides: ASIDES,
        shrugs: &["look out of the window.", "stay in bed."],
    },
    Topic {
        name: "sea",
        weight: 6,
        asks: &[
            "can I swim in the sea {when}?",
            "is the water warm {when}?",
            "will the sea be calm {when}?",
            "where can I see {swimmers} {when}?",
            "how do I find {swimmers} {when}?",
            "can we take the boat out to see {swimmers} {when}?",
        ],
        facts: &[
            "the sea will be {tide} {when}.",
            "stay near the beach, because the water is {rough}.",
            "go early, before the water is {rough}.",
            "you may see {swimmers} near the rocks {when}.",
            "take the small boat {when} and look for {swimmers}.",
        ],
        asides: ASIDES,
        shrugs: &["swim in your bath.", "ask a fish."],
    },
    Topic {
        name: "train",
        weight: 7,
        asks: &[
            "when does the train to {town} leave {when}?",
            "where is the train to {town}?",
            "is the train to {town} late {when}?",
            "how much is a ticket to {town} {when}?",
            "how long does it take to go to {town} {when}?",
            "can you help me find the train to {town} {when}?",
        ],
        facts: &[
            "the train to {town} leaves at {hour} {when}.",
            "go to platform {hour} and wait for the train to {town}.",
            "a ticket to {town} costs {minutes} coins.",
            "the train to {town} takes {hour} hours.",
            "the train to {town} is {minutes} minutes late.",
        ],
        asides: ASIDES,
        shrugs: &["walk to {town}.", "read the board."],
    },
    Topic {
        name: "pet",
        weight: 7,
        asks: &[
            "why does my {pet} {act} {often}?",
            "my {pet} likes to {act} {often}. Is that good?",
            "what can I do when my {pet} wants to {act}?",
            "can my {pet} learn to {act}?",
            "is it good for my {pet} to {act} {often}?",
            "my {pet} does not want to {act}. Can you help me?",
        ],
        facts: &[
            "your {pet} wants to play, so give it {toy}.",
            "{a pet} does that when it is hungry.",
            "let the {pet} rest in a warm place.",
            "give your {pet} {toy}, water and a little time.",
            "the {pet} is young, so wait {minutes} weeks.",
        ],
        asides: ASIDES,
        shrugs: &["ask your {pet}.", "sell the {pet}."],
    },
    Topic {
        name: "sum",
        weight: 20,
        asks: &[
            "what is {a} {op} {b}?",
            "how much is {a} {op} {b}?",
            "can you work out {a} {op} {b}?",
            "tell me what {a} {op} {b} is.",
            "{hello}. What is {a} {op} {b}?",
            "I need to know {a} {op} {b}.",
        ],
        facts: &[
            "{a} {op} {b} is {result}.",
            "the answer is {result}.",
            "it is {result}.",
            "{a} {op} {b} makes {result}.",
            "I count {result}.",
        ],
        asides: ASIDES,
        shrugs: &[],
    },
    Topic {
        name: "story",
        weight: 20,
        asks: &[
            "tell me a story about {a hero}.",
            "can you tell me a story about {a hero}?",
            "I want a story about {a hero} {where}.",
            "do you know a story about {a hero} {where}?",
            "tell me a story about {a hero} {where}.",
            "tell me a story about {a hero} and {a friend}.",
            "do you know a story about {a hero} and {a friend}?",
        ],
        facts: &[
            "a {size} {hero} lived {where} and {wish}.",
            "once a {size} {hero} lived {where}.",
            "once {a hero} {wish} {where}.",
            "{where} there was a {size} {hero} who {wish}.",
        ],
        asides: &[
            "the {hero} had {a friend} to talk to.",
            "every day the {hero} looked at the clouds.",
            "it rained a lot that year.",
            "people there ate soup and slept early.",
            "a {friend} lived next door.",
            "the nights were long and full of stars.",
        ],
        shrugs: &[],
    },
];

/// What fills the slots.
pub(super) const SLOTS: &[(&str, &[&str])] = &[
    ("hello", &["hello", "hi", "good morning", "good evening", "good day", "hello there", "hi there"]),
    ("now", &["", "today", "this morning", "this evening", "now"]),
    ("name", &["Anna", "Tom", "Mia", "Ben", "Lena", "Max", "Rosa", "Paul", "Nora", "Sam"]),
    ("mood", &["well", "fine", "awake", "a little tired", "busy", "calm"]),
    ("like", &["the sea", "the rain", "old stories", "small sums", "trains", "gardens", "cats", "soup"]),
    ("pot", &["soup", "rice", "pasta", "stew", "porridge", "fish", "cabbage"]),
    ("baked", &["bread", "cake", "apple pie", "pizza", "honey cake"]),
    ("base", &["onions and oil", "cold water", "butter and salt", "a clean pot"]),
    (
        "guests",
        &["", "for {hour} people", "for my mother", "for the children", "for a party", "for my sister", "for dinner"],
    ),
    ("minutes", &["five", "ten", "twelve", "fifteen", "twenty"]),
    (
        "plants",
        &["roses", "tomatoes", "beans", "carrots", "herbs", "flowers", "onions", "tulips", "potatoes", "strawberries"],
    ),
    ("spot", &["", "in a pot", "in my garden", "by the window", "in a small field", "under a tree"]),
    ("month", &["March", "April", "May", "June", "September"]),
    ("when", &["today", "tomorrow", "tonight", "this morning", "this evening", "on Sunday", "on Monday"]),
    ("place", &["", "in the hills", "in the village", "in the valley", "by the sea", "in the north"]),
    ("sky", &["warm and dry", "cold and wet", "cloudy", "sunny", "windy", "foggy", "a little cold"]),
    ("wear", &["a coat", "a hat", "an umbrella", "warm shoes"]),
    ("swimmers", &["crabs", "whales", "seals", "small fish", "gulls"]),
    ("tide", &["calm", "rough", "cold", "high", "low", "warm"]),
    ("rough", &["rough", "cold", "high", "wild"]),
    ("town", &["Westport", "Oakhill", "Marston", "Lakeview", "Eastbridge", "Hillford", "Northgate", "Riverton"]),
    ("hour", &["two", "three", "four", "five", "six", "seven", "eight", "nine"]),
    ("pet", &["cat", "dog", "rabbit", "old cat", "young dog"]),
    ("often", &["", "all day", "at night", "in the morning"]),
    (
        "act",
        &[
            "sleep",
            "hide under the bed",
            "cry",
            "bite my shoes",
            "sit on my book",
            "run around the house",
            "drink from my cup",
            "watch the birds",
            "jump on the table",
            "eat fast",
        ],
    ),
    ("toy", &["a ball", "some food", "a box", "a soft bed"]),
    (
        "hero",
        &["fox", "bear", "duck", "rabbit", "frog", "horse", "mouse", "sheep", "goat", "king", "baker", "sailor", "owl"],
    ),
    ("friend", &["bird", "dog", "snail", "crow", "wolf", "hedgehog", "cat", "girl", "boy", "farmer"]),
    ("size", &["small", "young", "tired", "clever", "quiet", "big", "shy", "brave"]),
    (
        "where",
        &[
            "in the forest",
            "by the river",
            "on a hill",
            "near the sea",
            "in a small village",
            "under an old bridge",
            "in the snow",
        ],
    ),
    (
        "wish",
        &[
            "looked for a friend",
            "wanted to see the world",
            "could not sleep",
            "looked for a red hat",
            "waited for spring",
            "dreamed of the moon",
            "built a small house",
        ],
    ),
];
