"""Mistral since Small 3.2 and Devstral: NAME and `[ARGS]`, again and again."""

from dataclasses import replace

from parsers.formats import mistral

FORMAT = replace(mistral.FORMAT, key="mistral_v11", models="Devstral, Magistral, Ministral 3, Large 3")
