package pgname

import "strings"

// Column is where a value stands: in a column, or in JSON that the column holds.
type Column struct {
	Name string // spelled as in the catalog
	// Pointer holds the names and indexes of a JSON pointer (RFC 6901), from the
	// outside in. nil means the value of the column itself.
	Pointer []string
}

// pointerMark separates a column from a JSON pointer, which begins with the
// slash.
const pointerMark = "#/"

// ParseColumn reads a column, or column#/json/pointer. A name that contains #/
// itself is written in double quotes before a pointer, and quotes in it are
// doubled, as in SQL. Without a pointer the whole text is the name. It returns
// false for a pointer that breaks RFC 6901 or has no column.
func ParseColumn(text string) (Column, bool) {
	name, pointer, found := strings.Cut(text, pointerMark)
	if !found {
		return Column{Name: text}, text != ""
	}
	if quoted, rest, ok := quotedColumn(text); ok {
		name, pointer = quoted, rest
	}
	if name == "" {
		return Column{}, false
	}
	c := Column{Name: name}
	for token := range strings.SplitSeq(pointer, "/") {
		unescaped, ok := unescape(token)
		if !ok {
			return Column{}, false
		}
		c.Pointer = append(c.Pointer, unescaped)
	}
	return c, true
}

// quotedColumn reads a name in double quotes and the pointer after it.
func quotedColumn(text string) (name, pointer string, ok bool) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", false
	}
	var b strings.Builder
	for rest := text[1:]; ; {
		before, after, closed := strings.Cut(rest, `"`)
		if !closed {
			return "", "", false
		}
		b.WriteString(before)
		if pointer, is := strings.CutPrefix(after, pointerMark); is {
			return b.String(), pointer, true
		}
		if !strings.HasPrefix(after, `"`) {
			return "", "", false
		}
		b.WriteByte('"')
		rest = after[1:]
	}
}

// unescape replaces ~1 by a slash and ~0 by a tilde. Nothing else may follow a
// tilde.
func unescape(token string) (string, bool) {
	for rest := token; ; {
		_, after, found := strings.Cut(rest, "~")
		if !found {
			return strings.NewReplacer("~1", "/", "~0", "~").Replace(token), true
		}
		if after == "" || after[0] != '0' && after[0] != '1' {
			return "", false
		}
		rest = after[1:]
	}
}
