"""Sets of characters as this Python knows them, for programs in other languages that must divide a text alike.

Unicode grows: a browser knows letters that Python 3.6 does not, and would divide words elsewhere.
"""
import re
import sys

from text import tokenizers


def character_sets():
    """{name: ranges}: the characters of words, digits, white space, combining marks, and wide East Asian ones."""
    return {name: ranges(pattern) for name, pattern in (
        ('word', r'\w'), ('digit', r'\d'), ('space', r'\s'), ('mark', '[%s]' % tokenizers.combining()),
        ('wide', '[%s]' % tokenizers.WIDE))}


def ranges(pattern):
    """The characters that a regular expression of one character matches, such as '30-39 5f', in hexadecimal."""
    found = []
    for match in re.finditer('(?:%s)+' % pattern, ''.join(map(chr, range(sys.maxunicode + 1)))):
        first, last = (ord(match.group()[end]) for end in (0, -1))
        found.append('%x-%x' % (first, last) if last > first else '%x' % first)
    return ' '.join(found)
