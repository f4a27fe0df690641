"""How the embedded demonstration model is made: dialogues, tokenizer, network, training."""
