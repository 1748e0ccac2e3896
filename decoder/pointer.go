package decoder

import (
	"encoding/json"
	"errors"
	"strconv"

	"github.com/outboxstream/streamer/internal/pgname"
)

// pointer finds a value in a JSON document (RFC 6901).
type pointer struct {
	tokens []string
}

// ColumnName is the column of a reference such as headers#/id, and whether the
// value is inside JSON that the column holds.
func ColumnName(reference string) (name string, inside bool) {
	c, _ := pgname.ParseColumn(reference) // the configuration has been checked
	return c.Name, c.Pointer != nil
}

// newTarget splits a reference. The pointer is nil for a column's own value.
func newTarget(reference string) (column string, p *pointer) {
	c, _ := pgname.ParseColumn(reference)
	if c.Pointer == nil {
		return c.Name, nil
	}
	return c.Name, &pointer{tokens: c.Pointer}
}

var (
	errNoDocument = errors.New("a JSON pointer leads into the column, whose type holds no JSON: " +
		"map a json, jsonb, text or bytea column, or the column without a pointer")
	errNotJSON  = errors.New("value is not JSON" + remedy)
	errNoScalar = errors.New("the JSON pointer leads to an object or an array, an attribute needs a string, a number or a boolean" + remedy +
		" or the pointer")
)

// source returns the value of a target where a mapping has pointers: what the
// pointer leads to, or the column itself.
func (d *Decoder) source(i int) (*value, error) {
	t := d.row
	if t.pointers[i] == nil {
		return &t.values[i], nil
	}
	payload := i < len(t.attributes) && t.attributes[i] == Payload
	var err error
	d.pointed, d.scratch, err = t.pointers[i].resolve(&t.values[i], payload, d.scratch, &d.checked)
	return &d.pointed, err
}

// resolve returns the value in the form in which a column would have it: text,
// a number, a boolean or, as the payload, JSON. Null and a missing member are
// NULL. checked is the last document of the row that was found to be JSON.
func (p *pointer) resolve(v *value, payload bool, scratch []byte, checked *[]byte) (found value, grown []byte, err error) {
	found.null = true
	if payload {
		found.typeOID = oidJSON // also where there is none
	}
	if !v.holdsDocument() {
		return found, scratch, errNoDocument
	}
	if v.null {
		return found, scratch, nil
	}
	document, scratch, err := v.data(scratch)
	if err != nil {
		return found, scratch, err
	}
	// PostgreSQL vouches for the others.
	if v.typeOID != oidJSON && v.typeOID != oidJSONB && !sameMemory(document, *checked) {
		if !json.Valid(document) {
			return found, scratch, errNotJSON
		}
		*checked = document
	}
	raw := p.find(document)
	if len(raw) == 0 || raw[0] == 'n' {
		return found, scratch, nil
	}
	if payload {
		return value{bytes: raw, typeOID: oidJSON}, scratch, nil
	}
	switch raw[0] {
	case '{', '[':
		return found, scratch, errNoScalar
	case 't', 'f':
		return value{bytes: raw[:1], typeOID: oidBool}, scratch, nil
	case '"':
		text, scratch, err := unquoted(raw, scratch)
		if err != nil {
			return found, scratch, err
		}
		return value{bytes: text, typeOID: oidText}, scratch, nil
	}
	return value{bytes: raw, typeOID: numberType(raw)}, scratch, nil
}

func sameMemory(a, b []byte) bool { return len(a) > 0 && len(a) == len(b) && &a[0] == &b[0] }

// numberType is the type of a column that would hold the number.
func numberType(raw []byte) uint32 {
	if _, err := strconv.ParseInt(string(raw), 10, 32); err == nil {
		return oidInt4
	}
	return oidNumeric
}

// holdsDocument reports whether the type of the column can hold JSON.
func (v *value) holdsDocument() bool {
	switch v.typeOID {
	case oidJSON, oidJSONB, oidText, oidVarchar, oidBpchar, oidBytea:
		return true
	}
	return false
}

// find returns the JSON text of the value, or nil if there is none. The document
// is valid JSON; if it is not, the result is arbitrary but inside it. Of members
// with the same name the last counts, as in PostgreSQL.
func (p *pointer) find(document []byte) []byte {
	at := document
	for _, token := range p.tokens {
		s := scan{rest: at}
		switch s.peek() {
		case '{':
			at = s.member(token)
		case '[':
			at = s.element(token)
		default:
			return nil
		}
	}
	s := scan{rest: at}
	s.peek()
	return s.value()
}

// scan reads a JSON text from the front.
type scan struct {
	rest []byte
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scan) peek() byte {
	for i, c := range s.rest {
		if c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			s.rest = s.rest[i:]
			return c
		}
	}
	s.rest = nil
	return 0
}

// member returns the text of the object's last member with that name.
func (s *scan) member(name string) (found []byte) {
	s.skip() // {
	for key, member := s.next(); key != nil; key, member = s.next() {
		if sameKey(key, name) {
			found = member
		}
	}
	return found
}

// next takes a member of an object: its name, with the quotes, and its text. The
// name is nil at the end.
func (s *scan) next() (key, member []byte) {
	if s.peek() != '"' {
		return nil, nil
	}
	key = s.value()
	if s.peek() == ':' {
		s.skip()
	}
	s.peek()
	member = s.value()
	if s.peek() == ',' {
		s.skip()
	}
	return key, member
}

// element returns the text of an element of the array. RFC 6901 knows indexes
// without leading zeros only.
func (s *scan) element(token string) []byte {
	index, err := strconv.ParseUint(token, 10, 31)
	if err != nil || len(token) > 1 && (token[0] == '0' || token[0] == '+') {
		return nil
	}
	s.skip() // [
	for c := s.peek(); c != 0 && c != ']'; c = s.peek() {
		element := s.value()
		if len(element) == 0 {
			return nil
		}
		if index == 0 {
			return element
		}
		index--
		if s.peek() == ',' {
			s.skip()
		}
	}
	return nil
}

func (s *scan) skip() {
	if len(s.rest) > 0 {
		s.rest = s.rest[1:]
	}
}

// value takes the value that begins here.
func (s *scan) value() []byte {
	end := 0
	if len(s.rest) > 0 {
		switch s.rest[0] {
		case '"':
			end = stringEnd(s.rest)
		case '{', '[':
			end = compositeEnd(s.rest)
		default:
			end = scalarEnd(s.rest)
		}
	}
	taken := s.rest[:end:end]
	s.rest = s.rest[end:]
	return taken
}

// scalarEnd is the length of the number or literal with which text begins.
func scalarEnd(text []byte) int {
	for i, c := range text {
		switch c {
		case ' ', '\n', '\t', '\r', ',', ':', ']', '}':
			return i
		}
	}
	return len(text)
}

// stringEnd is the length of the string with which text begins.
func stringEnd(text []byte) int {
	for i := 1; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(text)
}

// compositeEnd is the length of the object or array with which text begins.
func compositeEnd(text []byte) int {
	depth := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '"':
			i += stringEnd(text[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}
