"""The part of the bundled font that a page needs, so that a page of a few sentences carries a few glyphs."""
import struct

from reports.label_fonts import BUNDLED_FONT, glyph_ids

KEPT = ('OS/2', 'name', 'post')  # tables that do not depend on the glyphs; `name` has the licence


def font_subset(characters, path=BUNDLED_FONT):
    """Copies glyphs of a TrueType font without hinting and composite glyphs, as the bundled one is.

    # Arguments
        characters: iterable of characters; those that the font lacks are skipped.
        path: the font's file.

    # Returns
        The bytes of a TrueType font with these glyphs, or `b''` if the font has none of them.
    """
    glyphs = {ord(character): glyph_ids(path)[ord(character)] for character in characters
              if 0 < ord(character) < 0xFFFF and ord(character) in glyph_ids(path)}
    if not glyphs:
        return b''
    with open(path, 'rb') as stream:
        data = stream.read()
    tables = {}
    for n in range(struct.unpack('>H', data[4:6])[0]):
        tag, _, offset, length = struct.unpack('>4sIII', data[12 + 16 * n:28 + 16 * n])
        tables[tag.decode('ascii')] = data[offset:offset + length]

    codes = sorted(glyphs)
    order = [0] + [glyphs[code] for code in codes]  # glyph 0 is the box for what is missing
    count = len(order)
    long_offsets = struct.unpack('>h', tables['head'][50:52])[0]
    size = len(tables['loca']) // (4 if long_offsets else 2)
    offsets = struct.unpack('>%d%s' % (size, 'I' if long_offsets else 'H'), tables['loca'])
    scale = 1 if long_offsets else 2
    outlines = [tables['glyf'][scale * offsets[glyph]:scale * offsets[glyph + 1]] for glyph in order]
    outlines = [outline + bytes(-len(outline) % 4) for outline in outlines]
    ends = [0]
    for outline in outlines:
        ends.append(ends[-1] + len(outline))

    subset = {tag: tables[tag] for tag in KEPT}
    subset['glyf'] = b''.join(outlines)
    subset['loca'] = struct.pack('>%dI' % len(ends), *ends)
    subset['hmtx'] = b''.join(_metric(tables, glyph) for glyph in order)
    subset['maxp'] = tables['maxp'][:4] + struct.pack('>H', count) + tables['maxp'][6:]
    subset['hhea'] = tables['hhea'][:34] + struct.pack('>H', count)
    subset['head'] = tables['head'][:8] + bytes(4) + tables['head'][12:50] + struct.pack('>hh', 1, 0)
    subset['cmap'] = _character_map(codes)
    return _file(subset)


def _metric(tables, glyph):
    """Width and left side bearing of a glyph; the glyphs after the last pair share its width."""
    pairs = struct.unpack('>H', tables['hhea'][34:36])[0]
    if glyph < pairs:
        return tables['hmtx'][4 * glyph:4 * glyph + 4]
    bearing = 4 * pairs + 2 * (glyph - pairs)
    return tables['hmtx'][4 * pairs - 4:4 * pairs - 2] + tables['hmtx'][bearing:bearing + 2]


def _character_map(codes):
    """The table `cmap` in format 4, for code points whose glyphs are 1, 2, 3 and so on."""
    segments = []  # [first code, last code, first glyph]
    for glyph, code in enumerate(codes, 1):
        if segments and segments[-1][1] == code - 1:
            segments[-1][1] = code
        else:
            segments.append([code, code, glyph])
    segments.append([0xFFFF, 0xFFFF, 0])  # the format wants this last one
    count = len(segments)
    power = 1 << count.bit_length() - 1
    first, last, deltas = [start for start, _, _ in segments], [end for _, end, _ in segments], [
        (glyph - start) % 0x10000 for start, _, glyph in segments]
    body = struct.pack('>HHHH', 2 * count, 2 * power, power.bit_length() - 1, 2 * (count - power))
    body += struct.pack('>%dHH%dH%dH%dH' % ((count,) * 4), *last, 0, *first, *deltas, *[0] * count)
    return struct.pack('>HHHHI', 0, 1, 3, 1, 12) + struct.pack('>HHH', 4, 6 + len(body), 0) + body


def _file(tables):
    count = len(tables)
    power = 1 << count.bit_length() - 1
    offset = 12 + 16 * count
    directory = struct.pack('>IHHHH', 0x10000, count, 16 * power, power.bit_length() - 1, 16 * (count - power))
    body = b''
    for tag, table in sorted(tables.items()):
        padded = table + bytes(-len(table) % 4)
        checksum = sum(struct.unpack('>%dI' % (len(padded) // 4), padded)) & 0xFFFFFFFF
        directory += struct.pack('>4sIII', tag.encode('ascii'), checksum, offset + len(body), len(table))
        body += padded
    return directory + body
