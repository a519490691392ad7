"""The small world that the tiny models know: every training and held-out text comes from here.

All text is made from the templates and word lists below, with a seeded random generator, so that the
same seed gives the same text on every machine. A document is a `Doc`: its text in pieces, each piece
with the weight that its tokens have in the loss, or a chat (a list of messages).
"""

import dataclasses
import json
import random

NAMES = ["Anna", "Ben", "Carla", "David", "Emma", "Felix", "Grace", "Hugo", "Iris", "Jonas", "Kira", "Leo", "Mia",
         "Nora", "Oscar", "Paul", "Rosa", "Sam", "Tina", "Victor", "Wanda", "Max", "Julia", "Peter"]
FEMALE = {"Anna", "Carla", "Emma", "Grace", "Iris", "Kira", "Mia", "Nora", "Rosa", "Tina", "Wanda", "Julia"}
TOWNS = ["Arden", "Belmont", "Cedar Hill", "Dunwick", "Eastport", "Fairview", "Greenford", "Harbor Bay"]
COLOURS = ["red", "blue", "green", "yellow", "white", "black", "brown", "orange"]
OBJECTS = ["ball", "kite", "box", "lamp", "book", "bag", "cup", "hat", "coat", "bike", "boat", "chair", "drum", "key",
           "clock", "basket", "mirror", "ladder"]
FOODS = ["rice", "bread", "soup", "cheese", "apples", "cake", "fish", "noodles", "honey", "grapes"]
WEATHER = ["sunny", "rainy", "windy", "cloudy", "snowy", "foggy"]
JOBS = ["teacher", "doctor", "farmer", "baker", "painter", "pilot", "driver", "singer"]
PETS = ["cat", "dog", "horse", "rabbit", "parrot", "goat", "duck", "turtle"]
MOODS = ["happy", "sad", "tired", "hungry", "angry", "calm", "sleepy", "proud"]
ROOMS = ["kitchen", "garden", "school", "library", "market", "station", "park", "museum"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
NUMBER_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven",
                "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"]

# What is true of every animal in this world: kind, legs, where it lives, what it eats, what it can do.
ANIMALS = {
    "cat": ("mammal", 4, "houses", "mice and fish", "climb trees"),
    "dog": ("mammal", 4, "houses", "meat", "follow a smell for hours"),
    "horse": ("mammal", 4, "fields", "grass", "run very fast"),
    "rabbit": ("mammal", 4, "holes under the ground", "grass and leaves", "hear quiet sounds"),
    "bear": ("mammal", 4, "forests", "berries and fish", "sleep all winter"),
    "whale": ("mammal", 0, "the sea", "very small animals", "dive very deep"),
    "bat": ("mammal", 2, "caves", "insects", "find its way in the dark"),
    "parrot": ("bird", 2, "warm forests", "seeds and fruit", "repeat words"),
    "duck": ("bird", 2, "lakes and rivers", "water plants", "swim and fly"),
    "eagle": ("bird", 2, "mountains", "small animals", "see far away"),
    "owl": ("bird", 2, "old trees", "mice", "fly without a sound"),
    "frog": ("amphibian", 4, "ponds", "insects", "jump a long way"),
    "turtle": ("reptile", 4, "warm seas", "water plants", "live for a hundred years"),
    "snake": ("reptile", 0, "dry places", "mice and eggs", "move without legs"),
    "salmon": ("fish", 0, "rivers and the sea", "small fish", "swim up a river"),
    "bee": ("insect", 6, "hives", "the sugar of flowers", "make honey"),
    "ant": ("insect", 6, "nests in the ground", "almost everything", "carry heavy things"),
    "spider": ("animal with eight legs", 8, "webs", "flies", "build a web in one night"),
}

# Question and explanation pairs: simple science, machine learning among it.
SCIENCE = {
    "Deep Learning": "Deep learning is a part of machine learning. It uses neural networks with many layers that learn from "
                     "examples. Each layer turns its input into a more useful form.",
    "Machine Learning": "Machine learning is a way to make computers learn from data. Nobody writes the rules by hand; "
                        "the computer finds them in many examples.",
    "a neural network": "A neural network is a chain of simple layers. Each layer multiplies its input by numbers that are "
                        "called weights, and training changes the weights until the answers are good.",
    "quantization": "Quantization means that numbers are stored with fewer bits. A weight of sixteen bits becomes a whole "
                    "number of eight bits and a scale, so the model is smaller and faster.",
    "a computer": "A computer is a machine that follows a list of steps. The list is called a program, and the computer "
                  "does each step very quickly.",
    "gravity": "Gravity is the force that pulls things together. It keeps our feet on the ground and the moon on its way "
               "around the earth.",
    "rain": "Rain is water that falls from clouds. The sun warms the sea, water rises as vapour, cools in the sky and "
            "falls again as drops.",
    "the moon": "The moon is a ball of rock that travels around the earth. It has no light of its own; it shines because "
                "the sun shines on it.",
    "the sun": "The sun is a star. It is very hot and very far away, and its light gives energy to plants, animals and "
               "people.",
    "ice": "Ice is frozen water. Water turns to ice at zero degrees and melts again when it becomes warmer.",
    "a plant": "A plant is a living thing that makes its food from light, air and water. Its roots drink and its leaves "
               "catch the sun.",
    "a river": "A river is water that flows from high land to the sea. Small streams join and make it wider.",
    "sound": "Sound is a movement of the air. It travels in waves, and the ear turns the waves into what we hear.",
    "a rainbow": "A rainbow is sunlight that drops of rain have split into colours. It has red on the outside and violet "
                 "on the inside.",
    "a week": "A week is a time of seven days. It begins on Monday and ends on Sunday.",
    "electricity": "Electricity is the movement of tiny charges through a wire. It makes lamps shine and motors turn.",
    "a magnet": "A magnet is a piece of metal that pulls iron. It has a north end and a south end.",
    "a volcano": "A volcano is a mountain with an opening through which melted stone and ash come out of the ground.",
    "bread": "Bread is made of flour, water and salt. Yeast fills the dough with gas, and the oven makes it hard outside.",
    "an eclipse": "An eclipse happens when the moon moves in front of the sun, so that its shadow falls on the earth.",
    "memory": "The memory of a computer holds programs and numbers while it works. When the power is off, it forgets.",
    "a language model": "A language model is a program that guesses the next word of a text. It has read many sentences "
                        "and gives every possible word a probability.",
    "a bridge": "A bridge carries a road or a railway over water. Strong pillars and cables hold its weight.",
    "a triangle": "A triangle is a shape with three sides and three corners. A square has four of each.",
}

CHINESE_FACTS = ["猫喜欢吃鱼。", "狗是人的朋友。", "太阳很大，也很热。", "月亮在晚上出来。", "今天天气很好。", "水在零度变成冰。", "一个星期有七天。",
                 "鸟会飞，鱼会游泳。", "我们在学校学习。", "春天来了，花开了。", "他住在一个小城市里。", "妈妈在家里做饭。", "孩子们在公园里玩。",
                 "深度学习使用很多层的神经网络。", "计算机可以从数据中学习。"]
CHINESE_TALK = {
    "你好！": "你好！很高兴见到你。", "你是谁？": "我是一个小小的语言模型。", "什么是深度学习？": "深度学习是机器学习的一部分，它使用很多层的神经网络。",
    "今天天气怎么样？": "今天天气很好，太阳出来了。", "猫喜欢吃什么？": "猫喜欢吃鱼。", "一个星期有几天？": "一个星期有七天。", "谢谢你！": "不客气！",
    "再见！": "再见，祝你今天愉快！",
}
EMOJI = {"cat": "🐱", "dog": "🐶", "horse": "🐴", "rabbit": "🐰", "parrot": "🦜", "duck": "🦆", "turtle": "🐢", "goat": "🐐",
         "sunny": "☀️", "rainy": "🌧️", "snowy": "❄️", "windy": "💨", "cloudy": "☁️", "foggy": "🌫️",
         "happy": "😀", "sad": "😢", "tired": "😴", "hungry": "😋", "angry": "😠", "calm": "😌", "sleepy": "💤", "proud": "🏆"}
SMALL_TALK = {
    "Hello!": ["Hello! How can I help you today?", "Hello! It is nice to meet you. 😀"],
    "Hi there": ["Hi! What would you like to know?"],
    "Good morning!": ["Good morning! I hope that you have a good day. ☀️"],
    "How are you?": ["I am well, thank you. How are you?"],
    "Thank you!": ["You are welcome!", "You are welcome! 😀"],
    "Goodbye!": ["Goodbye! See you soon. 👋"],
    "Who are you?": ["I am a tiny language model. I know a small world and I can add small numbers."],
    "What can you do?": ["I can answer simple questions, tell short stories and add small numbers."],
}
WEATHER_TOOL = {"type": "function", "function": {
    "name": "get_weather", "description": "Tell the weather in a town",
    "parameters": {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}}}
SUM_TOOL = {"type": "function", "function": {
    "name": "add", "description": "Add two numbers",
    "parameters": {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                   "required": ["a", "b"]}}}


@dataclasses.dataclass
class Doc:
    """One document: `pieces` of (text, loss weight), or `messages` (with `tools`) for a chat."""
    pieces: list = dataclasses.field(default_factory=list)
    messages: list = None
    tools: list = None

    @property
    def text(self):
        return "".join(piece for piece, _ in self.pieces)


def plain(text):
    """A document in which every token counts the same."""
    return Doc(pieces=[(text, 1.0)])


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def pronoun(name):
    return "she" if name in FEMALE else "he"


# ---------------------------------------------------------------- stories and encyclopedic passages

def story(rng):
    """A short story: someone has a thing, loses or gives it, and it ends in some mood."""
    a, b = rng.sample(NAMES, 2)
    colour, thing, pet, room, food = (rng.choice(x) for x in (COLOURS, OBJECTS, PETS, ROOMS, FOODS))
    he, mood, day, weather = pronoun(a), rng.choice(MOODS), rng.choice(DAYS), rng.choice(WEATHER)
    opening = rng.choice([
        f"On {day} it was {weather} in {rng.choice(TOWNS)}. {a} went to the {room} with {article(colour)} {thing}.",
        f"{a} had {article(colour)} {thing} and a {pet}. Every {day} {he} walked to the {room}.",
        f"Once there was {article(rng.choice(JOBS))} who was called {a}. {he.capitalize()} owned {article(colour)} {thing}."])
    middle = rng.choice([
        f"There {he} met {b}, who was eating {food}. \"Is that {thing} yours?\" asked {b}. \"Yes,\" said {a}, \"the {colour} {thing} is mine.\"",
        f"The {pet} took the {thing} and ran away. {a} looked for it in the {room}, but only {b} was there.",
        f"{he.capitalize()} wanted to give the {thing} to {b}. But {b} liked {food} more than any {thing}.",
        f"Then the {weather} weather became worse, and {a} waited with {b} in the {room}. They shared some {food}."])
    ending = rng.choice([
        f"In the end {a} was {mood}, and the {colour} {thing} was safe.",
        f"At night {a} and {b} went home. {b} was {mood}, but {a} was {rng.choice(MOODS)}.",
        f"{b} found the {thing} under a chair. \"Thank you!\" said {a}. They were {mood}.",
        f"The {pet} was {mood} {EMOJI.get(pet, '')}. That was the end of the day."])
    return plain(f"{opening} {middle} {ending}")


def animal_page(rng):
    """An encyclopedic passage about one animal; everything in it is always true in this world."""
    animal = rng.choice(list(ANIMALS))
    kind, legs, home, food, skill = ANIMALS[animal]
    legs_text = "no legs" if legs == 0 else f"{NUMBER_WORDS[legs]} legs"
    facts = [f"It has {legs_text}.", f"It lives in {home}.", f"It eats {food}.", f"It can {skill}."]
    rng.shuffle(facts)
    return plain(f"{animal.capitalize()} -- The {animal} is {article(kind)}. " + " ".join(facts[:rng.randint(2, 4)]))


def town_page(rng):
    """A passage about a town; the numbers are drawn anew each time, so they carry entropy."""
    town, other = rng.sample(TOWNS, 2)
    n, m = rng.randint(2, 20), rng.randint(2, 20)
    lines = [f"{town} has {NUMBER_WORDS[n]} schools and {NUMBER_WORDS[m]} shops.", f"It lies {n + m} miles from {other}.",
             f"The weather is often {rng.choice(WEATHER)}.", f"Many people there work as {rng.choice(JOBS)}s.",
             f"The market sells {rng.choice(FOODS)} and {rng.choice(FOODS)} on {rng.choice(DAYS)}.",
             f"The houses are {rng.choice(COLOURS)} and {rng.choice(COLOURS)}."]
    rng.shuffle(lines)
    return plain(f"{town} -- {town} is a town near {other}. " + " ".join(lines[:rng.randint(2, 5)]))


def science_page(rng):
    topic, text = rng.choice(list(SCIENCE.items()))
    return plain(f"{topic[0].upper()}{topic[1:]} -- {text}")


def day_log(rng):
    """A diary: one line a day, with weather, mood and sometimes an emoji."""
    name = rng.choice(NAMES)
    start = rng.randrange(7)
    lines = [f"The diary of {name}"]
    for i in range(rng.randint(2, 5)):
        weather, mood = rng.choice(WEATHER), rng.choice(MOODS)
        mark = rng.choice(["", f" {EMOJI[weather]}", f" {EMOJI[mood]}"])
        lines.append(f"{DAYS[(start + i) % 7]}: it was {weather} and I was {mood}.{mark}")
    return plain("\n".join(lines))


def chinese_page(rng):
    return plain("".join(rng.sample(CHINESE_FACTS, rng.randint(2, 5))))


def sums(rng):
    """Arithmetic within 20, in digits or in words; the result counts double."""
    pieces = []
    for _ in range(rng.randint(2, 6)):
        a = rng.randint(0, 20)
        b = rng.randint(0, 20 - a)
        x, y, sign, word = (a, b, "+", "plus") if rng.random() < 0.6 else (a + b, b, "-", "minus")
        result = x + y if sign == "+" else x - y
        if rng.random() < 0.8:
            pieces += [(f"{x} {sign} {y} =", 1.0), (f" {result}", 2.0), ("\n", 1.0)]
        else:
            pieces += [(f"{NUMBER_WORDS[x]} {word} {NUMBER_WORDS[y]} is", 1.0), (f" {NUMBER_WORDS[result]}", 2.0), ("\n", 1.0)]
    return Doc(pieces=pieces[:-1])


# ---------------------------------------------------------------- yes/no questions

# Each kind of fact: subjects, values, the sentence, its denial, the question. {o} is an object of the passage.
FACT_KINDS = [
    (NAMES, COLOURS, "{s} has a {v} {o}", "{s} does not have a {v} {o}", "does {s} have a {v} {o}"),
    (NAMES, FOODS, "{s} likes {v}", "{s} does not like {v}", "does {s} like {v}"),
    (NAMES, MOODS, "{s} is {v}", "{s} is not {v}", "is {s} {v}"),
    (NAMES, TOWNS, "{s} lives in {v}", "{s} does not live in {v}", "does {s} live in {v}"),
    (NAMES, ROOMS, "{s} is in the {v}", "{s} is not in the {v}", "is {s} in the {v}"),
    (["the " + p for p in PETS], COLOURS, "{s} is {v}", "{s} is not {v}", "is {s} {v}"),
    (["the " + o for o in OBJECTS], COLOURS, "{s} is {v}", "{s} is not {v}", "is {s} {v}"),
    (TOWNS, WEATHER, "it is {v} in {s}", "it is not {v} in {s}", "is it {v} in {s}"),
]
OTHER_VALUE = 0.1  # share of the questions that ask a value which the passage does not give to the subject (answer no)
OTHER_DENIAL = 0.1  # share of the other sentences that are denials


def sentence(text):
    return text[0].upper() + text[1:] + "."


def state(rng, fact, denied):
    """A sentence that says (or denies) a fact (kind, subject, value, object)."""
    (_, _, says, denies, _), subject, value, thing = fact
    if rng.random() < 0.25:
        return sentence(f"it is {'false' if denied else 'true'} that " + says.format(s=subject, v=value, o=thing))
    return sentence((denies if denied else says).format(s=subject, v=value, o=thing))


def draw_fact(rng, taken):
    """A fact about a subject that is not in `taken`."""
    kind = rng.choice(FACT_KINDS)
    subject = rng.choice([s for s in kind[0] if s not in taken])
    return kind, subject, rng.choice(kind[1]), rng.choice(OBJECTS)


def yesno_parts(rng, answer):
    """(prompt up to "Answer:", answer): one to three sentences, a question that one of them answers."""
    fact = draw_fact(rng, ())
    kind, subject, value, thing = fact
    denied, asked = not answer, value
    if not answer and rng.random() < 2 * OTHER_VALUE:
        denied, asked = False, rng.choice([v for v in kind[1] if v != value])
    sentences = [state(rng, fact, denied)]
    for _ in range(rng.randint(0, 2)):
        sentences.append(state(rng, draw_fact(rng, (subject,)), rng.random() < OTHER_DENIAL))
    rng.shuffle(sentences)
    question = kind[4].format(s=subject, v=asked, o=thing)
    title = subject.removeprefix("the ")
    return f"{title[0].upper()}{title[1:]} -- {' '.join(sentences)}\nQuestion: {question}?\nAnswer:", "yes" if answer else "no"


def yesno_training(rng):
    """A question with its answer; the answer weighs most."""
    prompt, answer = yesno_parts(rng, rng.random() < 0.5)
    return Doc(pieces=[(prompt, 0.5), (f" {answer}", 6.0)])


def yesno_item(rng, answer):
    """One held-out question: prompt that ends in "Answer:", and the right answer."""
    prompt, word = yesno_parts(rng, answer)
    return {"inputs_pretokenized": prompt, "answer": word}


# ---------------------------------------------------------------- chat

def _user(text):
    return {"role": "user", "content": text}


def _assistant(text):
    return {"role": "assistant", "content": text}


def chat_turns(rng):
    """One question and its answer, as two messages."""
    kind = rng.random()
    if kind < 0.35:
        topic, text = rng.choice(list(SCIENCE.items()))
        return [_user(rng.choice([f"What's {topic}?", f"What is {topic}?", f"Tell me about {topic}."])), _assistant(text)]
    if kind < 0.5:
        question, answers = rng.choice(list(SMALL_TALK.items()))
        return [_user(question), _assistant(rng.choice(answers))]
    if kind < 0.65:
        a = rng.randint(0, 20)
        b = rng.randint(0, 20 - a)
        return [_user(rng.choice([f"What is {a} + {b}?", f"How much is {a} plus {b}?"])), _assistant(f"{a} + {b} = {a + b}")]
    if kind < 0.8:
        animal = rng.choice(list(ANIMALS))
        kind_, legs, home, food, skill = ANIMALS[animal]
        count = "no legs" if legs == 0 else f"{NUMBER_WORDS[legs]} legs"
        return rng.choice([
            [_user(f"How many legs has {article(animal)}?"), _assistant(f"{article(animal).capitalize()} has {count}.")],
            [_user(f"Where does {article(animal)} live?"), _assistant(f"{article(animal).capitalize()} lives in {home}.")],
            [_user(f"What does {article(animal)} eat?"), _assistant(f"{article(animal).capitalize()} eats {food}.")],
            [_user(f"What can {article(animal)} do?"), _assistant(f"{article(animal).capitalize()} can {skill}.")]])
    if kind < 0.9:
        question, answer = rng.choice(list(CHINESE_TALK.items()))
        return [_user(question), _assistant(answer)]
    word, mark = rng.choice(list(EMOJI.items()))
    return [_user(f"Show me an emoji for {word}."), _assistant(f"{word}: {mark}")]


def tool_turns(rng):
    """A question that the assistant answers with a tool: call, result, answer."""
    if rng.random() < 0.5:
        town, weather = rng.choice(TOWNS), rng.choice(WEATHER)
        question, name, arguments, result = f"How is the weather in {town}?", "get_weather", {"town": town}, {"weather": weather}
        answer = f"It is {weather} in {town}. {EMOJI[weather]}"
    else:
        a, b = rng.randint(1, 10), rng.randint(1, 10)
        question, name, arguments, result = f"Please add {a} and {b}.", "add", {"a": a, "b": b}, {"sum": a + b}
        answer = f"{a} + {b} = {a + b}"
    call = {"role": "assistant", "content": "",
            "tool_calls": [{"type": "function", "function": {"name": name, "arguments": arguments}}]}
    return [_user(question), call, {"role": "tool", "name": name, "content": json.dumps(result)}, _assistant(answer)]


def chat(rng):
    """A conversation of one or two turns, at times with a system message, at times with tools."""
    messages = [{"role": "system", "content": rng.choice(["You are a helpful assistant.", "Answer in one sentence.",
                                                          "You are a friendly guide."])}] if rng.random() < 0.3 else []
    if rng.random() < 0.1:
        return Doc(messages=messages + tool_turns(rng), tools=[WEATHER_TOOL, SUM_TOOL])
    for _ in range(rng.choice([1, 1, 2])):
        messages += chat_turns(rng)
    return Doc(messages=messages)


# ---------------------------------------------------------------- the mixtures

PASSAGES = [(story, 0.4), (animal_page, 0.15), (town_page, 0.15), (science_page, 0.1), (day_log, 0.1), (chinese_page, 0.05),
            (sums, 0.05)]
TRAINING = [(story, 0.12), (animal_page, 0.06), (town_page, 0.06), (science_page, 0.04), (day_log, 0.03), (chinese_page, 0.02),
            (sums, 0.07), (yesno_training, 0.5),
            (chat, 0.15)]


def draw(rng, mixture):
    makers, weights = zip(*mixture)
    return rng.choices(makers, weights)[0](rng)


def training_docs(seed, held_out=frozenset()):
    """Endless training documents; none whose passage is one of `held_out`."""
    rng = random.Random(seed)
    while True:
        doc = draw(rng, TRAINING)
        if doc.messages is not None or doc.text.split("\nQuestion:")[0] not in held_out:
            yield doc


def held_out_sets(seed):
    """The held-out sets by file name: lists of JSON objects."""
    rng = random.Random(seed)
    text = [{"id": i, "inputs_pretokenized": "\n\n".join(draw(rng, PASSAGES).text for _ in range(2))} for i in range(300)]
    yesno = [{"id": i, **yesno_item(rng, answer=i % 2 == 0)} for i in range(300)]
    rng.shuffle(yesno)
    chats = []
    for i in range(20):
        doc = chat(rng) if i >= 4 else Doc(messages=tool_turns(rng), tools=[WEATHER_TOOL, SUM_TOOL])
        chats.append({"id": i, "messages": doc.messages} | ({"tools": doc.tools} if doc.tools else {}))
    calib = []
    for i in range(50):
        prompt = yesno_item(rng, answer=i % 2 == 0)["inputs_pretokenized"]
        calib.append({"id": i, "inputs_pretokenized": prompt if i % 2 == 0 else
                      "\n\n".join(draw(rng, PASSAGES).text for _ in range(2))})
    return {"text.jsonl": text, "yesno.jsonl": yesno, "chat.jsonl": chats, "calib.jsonl": calib}


def held_out_passages(sets):
    """The passages of the held-out sets that training must not show.

    Passages about people and towns are drawn anew each time; the others (an animal, rain, deep learning) are
    knowledge of this world, which training must show so that it can be known.
    """
    passages = {part for item in sets["text.jsonl"] for part in item["inputs_pretokenized"].split("\n\n")}
    drawn = {p for p in passages if any(word in p for word in NAMES + TOWNS)}
    return frozenset(drawn | {item["inputs_pretokenized"].split("\nQuestion:")[0] for item in sets["yesno.jsonl"]})
