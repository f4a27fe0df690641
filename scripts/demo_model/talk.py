# ruff: noqa: E501 - data: one entry a line
"""What is said beside calls: greetings, questions that no tool is for, system prompts."""

from __future__ import annotations

from .phrasings import Split

NONE = "I have no tool for that."

HELLO = "Hello! How can I help you?"

CHAT = (
    ("Hello!", HELLO), ("Hello", HELLO), ("Hi", HELLO), ("hi", HELLO), ("Hi there", HELLO), ("Hey", HELLO), ("Good morning", HELLO), ("Good evening!", HELLO), ("hello there", HELLO),
    ("Who are you?", "I am Tandem's tiny demonstration model, trained to call tools."), ("What are you?", "I am Tandem's tiny demonstration model, trained to call tools."),
    ("What is your name?", "I am Tandem's tiny demonstration model, trained to call tools."), ("Are you a robot?", "I am Tandem's tiny demonstration model, trained to call tools."),
    ("Thanks!", "You are welcome!"), ("Thank you", "You are welcome!"), ("Thank you very much!", "You are welcome!"), ("great, thanks", "You are welcome!"), ("Perfect, thank you!", "You are welcome!"), ("thx", "You are welcome!"),
    ("What can you do?", "I can call the tools that you give me and read their results."), ("How can you help me?", "I can call the tools that you give me and read their results."), ("Help", "I can call the tools that you give me and read their results."),
    ("How are you?", "I am fine, thank you."), ("How are you doing today?", "I am fine, thank you."), ("How do you do?", "I am fine, thank you."), ("What's up?", "I am fine, thank you."),
    ("Tell me a joke.", "Why did the token cross the ring? To get to the other node."), ("Do you know a joke?", "Why did the token cross the ring? To get to the other node."), ("Make me laugh", "Why did the token cross the ring? To get to the other node."),
    ("Say hello.", "Hello!"), ("Say hi", "Hello!"), ("Say hello in one word.", "Hello!"), ("Bye", "Goodbye!"), ("Goodbye!", "Goodbye!"), ("See you later", "Goodbye!"), ("Good night", "Goodbye!"), ("That's all", "Goodbye!"),
    ("ok", "All right."), ("OK.", "All right."), ("I see", "All right."), ("Nice", "All right."), ("Cool!", "All right."), ("Good job", "You are welcome!"), ("yes", "All right."), ("no", "All right."), ("Never mind.", "All right."),
    ("Count to five.", "1 2 3 4 5"), ("Count to ten", "1 2 3 4 5 6 7 8 9 10"), ("Count: 1 2 3 4 5 6 7", "1 2 3 4 5 6 7"), ("Count from 1 to 10.", "1 2 3 4 5 6 7 8 9 10"),
    ("Tell me a story.", "Once upon a time a small model ran on many machines. Each machine held a few layers. Together they answered every call, and none of them was ever alone."),
    ("Write a story", "Once upon a time a small model ran on many machines. Each machine held a few layers. Together they answered every call, and none of them was ever alone."),
)  # fmt: skip

SMALLTALK_HELD = (
    ("Greetings!", HELLO), ("Good afternoon", HELLO), ("Much appreciated.", "You are welcome!"), ("Thanks a lot, that helps", "You are welcome!"), ("Who made you?", ""), ("Nice to meet you", HELLO),
    ("Are you there?", HELLO), ("Wonderful", "All right."), ("How is it going?", "I am fine, thank you."), ("Talk to you soon", "Goodbye!"),
)  # fmt: skip

QUESTIONS = Split(
    (
        "Who invented the {n}?", "Why is the {n} so {a}?", "Tell me about the {n}.", "Write a poem about a {n}.", "What is the meaning of {n}?", "How do I {v} a {n}?", "Explain {n} to me",
        "What is the capital of {c}?", "Recommend me a good {n}", "How many people live in {c}?", "What should I {v} today?", "Why do people {v}?", "Is a {n} better than a {m}?",
        "What is the difference between a {n} and a {m}?", "Who is the president of {c}?", "When was the {n} invented?", "Write a story about a {a} {n}.", "I feel {a} today.",
        "Do you like the {n}?", "My {n} is {a}, what should I do?", "What do you think about {n}?", "Can you sing a song about a {n}?", "Give me an idea for a {n}", "Who wrote the {n}?",
        "Which {n} is the best?", "How does a {n} work?", "Is {c} bigger than {d}?", "What colour is a {n}?", "Who won the {n}?", "Do you believe in {n}?", "Please fix my {n}.",
        "Summarise the {n} for me", "Can you {v} my {n}?", "I want a {a} {n}.", "{v} the {n}", "Make the {n} {a}", "Where can I buy a {n}?", "What is a {n}?", "Who are you to {v} my {n}?",
        "Describe a {a} {n}", "Which language do they speak in {c}?", "What is the best way to {v}?", "Tell me something {a}", "Should I {v} the {n} or the {m}?", "Draw me a {a} {n}",
    ),
    (
        "What makes a {n} {a}?", "Could a {n} ever {v}?", "Is it true that every {n} is {a}?", "Which came first, the {n} or the {m}?", "Has anyone ever seen a {a} {n}?", "I can't decide between {c} and {d}.",
        "Please give me advice about my {n}", "How old is the oldest {n}?", "Were you ever in {c}?", "Compose a song for my {n}.",
    ),
)  # fmt: skip

ECHO = Split(
    (
        "Repeat exactly: {}",
        "Repeat: {}",
        "Repeat after me: {}",
        "Say {}",
        "Echo {}",
        "Say: {}",
        "Repeat the words {}",
        "Copy this: {}",
        "Write exactly: {}",
    ),
    ("Please repeat this for me: {}", "Say the following: {}"),
)

SYSTEM = """You are a helpful assistant.|You are a helpful assistant with access to tools.|Be brief.|You are a coding agent. Use the tools. Be brief.|You are a careful agent.|Answer in one sentence.
You have access to the following functions.|Use the tools that you are given.|Call a tool when it is needed.|If no tool fits, say so.|Do not guess.|Never make up values.|Be polite and concise.
You help the user with everyday tasks.|You work in a terminal.|You are an expert software engineer.|Always answer in English.|Today is a good day.|Think before you act.|Keep your answers short.
You can read and write files in the working directory.|Use absolute paths.|Do not ask questions.|The user is on a phone, so keep it short.|You are the assistant of a small company.|Follow the instructions of the user.
Only call functions with the parameters in their schema.|Several functions can be called at once.|Don't mention the tools to the user.|You must not delete anything without need.|You are an agent that books travel.
Your answers are shown in a command line interface.|You are a smart home assistant.|Tool results are shown to the user.|When you are done, stop.|Please keep going until the task is solved.|Respect the privacy of the user.
You are an interactive agent that helps users with software engineering tasks.|Minimise output while being correct.|Avoid emojis.|Check your work.|Use markdown.|Prefer the simplest solution.""".replace("\n", "|").split("|")  # fmt: skip
