package router

import (
	"unicode/utf16"
	"unicode/utf8"

	"github.com/outboxstream/streamer/decoder"
)

var jsonNull = []byte("null")

// ownHeaders adds the headers that are no attribute of the event, in the order
// of the table's rules.
func (enc *encoder) ownHeaders(h *headers, e *decoder.Event) {
	for i := range e.Headers {
		key, x := enc.tables[e.Table].headers[i], &e.Headers[i]
		switch enc.router.rules.Compatibility {
		case DebeziumConnect:
			h.exact(key, x.Value)
		case DebeziumServer:
			h.exact(key, enc.asJSON(x))
		default:
			h.add(key, x.Value)
		}
	}
}

// exact adds a header whatever its value. nil is null.
func (h *headers) exact(key wireHeader, value []byte) {
	h.buf = appendBytes(append(h.buf, key...), value)
	h.count++
}

// asJSON is the value as JSON. It is valid until the next call.
func (enc *encoder) asJSON(x *decoder.Header) []byte {
	switch {
	case x.Value == nil:
		return jsonNull
	case x.Bare:
		return x.Value
	}
	enc.quoted = appendJackson(enc.quoted[:0], x.Value)
	return enc.quoted
}

// appendJackson writes a JSON string as Jackson does, byte for byte: short
// escapes where there are some, hexadecimal digits in upper case, and characters
// outside the Basic Multilingual Plane as two escapes. The text is valid UTF-8.
func appendJackson(j, text []byte) []byte {
	j = append(j, '"')
	for len(text) > 0 {
		c := text[0]
		if c < utf8.RuneSelf {
			j, text = appendJacksonASCII(j, c), text[1:]
			continue
		}
		r, size := utf8.DecodeRune(text)
		if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
			j = appendUnit(appendUnit(j, high), low)
		} else {
			j = append(j, text[:size]...)
		}
		text = text[size:]
	}
	return append(j, '"')
}

func appendJacksonASCII(j []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(j, '\\', c)
	case '\b':
		return append(j, '\\', 'b')
	case '\t':
		return append(j, '\\', 't')
	case '\n':
		return append(j, '\\', 'n')
	case '\f':
		return append(j, '\\', 'f')
	case '\r':
		return append(j, '\\', 'r')
	}
	if c < ' ' {
		return appendUnit(j, rune(c))
	}
	return append(j, c)
}

// appendUnit appends one unit of UTF-16.
func appendUnit(j []byte, unit rune) []byte {
	const digits = "0123456789ABCDEF"
	return append(j, '\\', 'u', digits[unit>>12&15], digits[unit>>8&15], digits[unit>>4&15], digits[unit&15])
}

// isBlankText reports whether nothing is left of a text payload when Java trims
// it.
func isBlankText(e *decoder.Event) bool {
	if e.DataKind == decoder.Bytes {
		return false
	}
	for _, c := range e.Data {
		if c > ' ' {
			return false
		}
	}
	return true
}
