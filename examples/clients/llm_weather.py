# llm -m tandem --functions llm_weather.py "What is the weather in Paris?"
def get_weather(city: str) -> str:
    """Get the current weather for a city"""
    print(f"get_weather({city!r})")
    return f"21 degrees and sunny in {city}"
