"""OpenAI's dialect: request bodies read into what the head takes, events written as its chunks and answers."""
