package consume

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// Arrays are passed as text, in the form that PostgreSQL reads, so that every
// driver of database/sql can pass them.

// null stands for NULL in an array of texts.
const null = "\x00null"

// texts writes an array of texts.
func texts(values []string) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, value := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		if value == null {
			b.WriteString("NULL")
			continue
		}
		b.WriteByte('"')
		_, _ = escapes.WriteString(&b, value)
		b.WriteByte('"')
	}
	b.WriteByte('}')
	return b.String()
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`)

// binaries writes an array of bytea. A nil value is NULL.
func binaries(values [][]byte) string {
	all := make([]string, len(values))
	for i, value := range values {
		all[i] = null
		if value != nil {
			all[i] = `\x` + hex.EncodeToString(value)
		}
	}
	return texts(all)
}

// integers writes an array of integers.
func integers(values []int32) string {
	var b strings.Builder
	b.WriteByte('{')
	for i, value := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(value)))
	}
	b.WriteByte('}')
	return b.String()
}

// booleans reads an array of booleans.
func booleans(text string) []bool {
	text = strings.Trim(text, "{}")
	if text == "" {
		return nil
	}
	var all []bool
	for value := range strings.SplitSeq(text, ",") {
		all = append(all, value == "t")
	}
	return all
}

// headersOf reads names and values, one after the other, from a JSON array of
// base64, as PostgreSQL writes it.
func headersOf(text string) ([]Header, error) {
	var parts []*string
	if err := json.Unmarshal([]byte(text), &parts); err != nil || len(parts)%2 != 0 {
		return nil, fmt.Errorf("stored headers: %d parts: %w", len(parts), err)
	}
	var all []Header
	for n := 0; n < len(parts); n += 2 {
		name, err := unbase(parts[n])
		if err != nil {
			return nil, err
		}
		value, err := unbase(parts[n+1])
		if err != nil {
			return nil, err
		}
		all = append(all, Header{Name: string(name), Value: value})
	}
	return all, nil
}

// unbase reads base64 in lines, as PostgreSQL writes it.
func unbase(text *string) ([]byte, error) {
	if text == nil {
		return nil, nil
	}
	value, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(*text, "\n", ""))
	if err != nil {
		return nil, fmt.Errorf("stored header: %w", err)
	}
	return value, nil
}

// clean removes what PostgreSQL cannot store in a text.
func clean(text string) string {
	return strings.ToValidUTF8(strings.ReplaceAll(text, "\x00", "?"), "?")
}
