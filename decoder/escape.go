package decoder

import (
	"bytes"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// unquoted is the text that a JSON string with its quotes stands for: a view of
// it, or the end of scratch.
func unquoted(raw, scratch []byte) (text, grown []byte, err error) {
	inside := raw[1 : len(raw)-1]
	if bytes.IndexByte(inside, '\\') < 0 {
		return inside, scratch, nil
	}
	start := len(scratch)
	scratch, err = appendUnescaped(scratch, inside)
	return scratch[start:], scratch, err
}

// appendUnescaped appends the text that the inside of a JSON string stands for.
// Half of a surrogate pair stands for no character.
func appendUnescaped(scratch, text []byte) ([]byte, error) {
	for {
		before, after, escaped := bytes.Cut(text, []byte{'\\'})
		scratch = append(scratch, before...)
		if !escaped {
			return scratch, nil
		}
		if len(after) == 0 {
			return scratch, errNotJSON
		}
		text = after[1:]
		switch c := after[0]; c {
		case '"', '\\', '/':
			scratch = append(scratch, c)
		case 'b':
			scratch = append(scratch, '\b')
		case 'f':
			scratch = append(scratch, '\f')
		case 'n':
			scratch = append(scratch, '\n')
		case 'r':
			scratch = append(scratch, '\r')
		case 't':
			scratch = append(scratch, '\t')
		case 'u':
			r, size := escapedRune(after)
			if size == 0 {
				return scratch, errEncoding
			}
			scratch = utf8.AppendRune(scratch, r)
			text = after[size:]
		default:
			return scratch, errNotJSON
		}
	}
}

// escapedRune reads uXXXX, or two of them that are a surrogate pair with a
// backslash between. size is 0 if that is no character.
func escapedRune(text []byte) (r rune, size int) {
	first, ok := escapedUnit(text)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(first) {
		return first, 5
	}
	if len(text) < 6 || text[5] != '\\' {
		return 0, 0
	}
	second, ok := escapedUnit(text[6:])
	if r = utf16.DecodeRune(first, second); !ok || r == utf8.RuneError {
		return 0, 0
	}
	return r, 11
}

func escapedUnit(text []byte) (rune, bool) {
	if len(text) < 5 || text[0] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[1:5]), 16, 16)
	return rune(unit), err == nil
}

// sameKey compares a JSON string, with its quotes, with a name.
func sameKey(key []byte, name string) bool {
	if len(key) < 2 {
		return false
	}
	var small [64]byte
	text, _, err := unquoted(key, small[:0])
	return err == nil && string(text) == name
}
