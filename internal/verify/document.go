package verify

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/outboxstream/streamer/internal/pgname"
)

// origin is where a value is: in a column, or inside JSON that the column holds.
type origin struct {
	column  int
	pointer []string
}

// find resolves a reference.
func (r Rules) find(reference string) (origin, bool) {
	c, ok := pgname.ParseColumn(reference)
	at := slices.Index(r.Columns, c.Name)
	return origin{at, c.Pointer}, ok && at >= 0
}

var errDocument = errors.New("a value that is not JSON")

// inside is the JSON text to which the pointer leads; nil is null or missing.
func (e *Expectation) inside(p origin, values [][]byte) ([]byte, error) {
	if values[p.column] == nil {
		return nil, nil
	}
	var at json.RawMessage
	if err := json.Unmarshal(e.raw(p.column, values[p.column]), &at); err != nil {
		return nil, errDocument
	}
	for _, token := range p.pointer {
		if at = step(at, token); at == nil {
			return nil, nil
		}
	}
	if string(at) == "null" {
		return nil, nil
	}
	return at, nil
}

// step is the member or the element; nil if there is none.
func step(at json.RawMessage, token string) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal(at, &members) == nil {
		return members[token]
	}
	var elements []json.RawMessage
	index, err := strconv.Atoi(token)
	if err != nil || strconv.Itoa(index) != token || json.Unmarshal(at, &elements) != nil || index < 0 || index >= len(elements) {
		return nil
	}
	return elements[index]
}

// scalarText is a JSON string, number or boolean as text.
func scalarText(found []byte) ([]byte, error) {
	switch found[0] {
	case '{', '[':
		return nil, errors.New("an object or array where a text is needed")
	case '"':
		var text string
		if err := json.Unmarshal(found, &text); err != nil {
			return nil, errDocument
		}
		replaced := strings.ContainsRune(text, utf8.RuneError) && !bytes.Contains(bytes.ToLower(found), []byte(`\ufffd`)) &&
			!bytes.ContainsRune(found, utf8.RuneError)
		if replaced { // encoding/json has put it in the place of half a surrogate pair
			return nil, errors.New("a string that is not Unicode")
		}
		return []byte(text), nil
	}
	return found, nil
}

// isText reports whether the pointer leads to a JSON string.
func (e *Expectation) isText(p origin, values [][]byte) bool {
	found, err := e.inside(p, values)
	return err == nil && len(found) > 0 && found[0] == '"'
}

// writtenTime reads text in ISO 8601; without a zone it is in UTC.
func writtenTime(text string) ([]byte, error) {
	text = strings.Replace(strings.ToUpper(text), " ", "T", 1)
	for _, zone := range []string{"Z07:00", "", "Z07", "Z0700"} {
		if at, err := time.Parse("2006-01-02T15:04:05.999999999"+zone, text); err == nil {
			return formatTime(at)
		}
	}
	return nil, errTime
}

// epoch reads a number since 1970.
func (e *Expectation) epoch(text string) ([]byte, error) {
	number, ok := new(big.Rat).SetString(text)
	if !ok || strings.ContainsAny(text, "eE/") {
		return nil, errTime
	}
	const milliseconds = 1000
	micro := number.Mul(number, new(big.Rat).SetInt64(cmp.Or(e.rules.TimeUnit, milliseconds)))
	whole := new(big.Int).Quo(micro.Num(), micro.Denom())
	if !whole.IsInt64() {
		return nil, errTime
	}
	return formatTime(time.UnixMicro(whole.Int64()).UTC())
}

func formatTime(at time.Time) ([]byte, error) {
	at = at.UTC().Truncate(time.Microsecond)
	if year := at.Year(); year < 1 || year > 9999 {
		return nil, errTime
	}
	return []byte(at.Format(time.RFC3339Nano)), nil
}
