package decoder

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/pgname"
)

// pointed decodes one row with a document, and a mapping of an attribute and an
// extension into it.
func pointed(a Attribute, pointer string, oid uint32, document any) (*Event, error) {
	m := Mapping{
		Schema: "public", Table: "outbox", Columns: map[Attribute]string{a: "doc#" + pointer},
		Extensions: map[string]string{"x": "doc#" + pointer},
	}
	if a == Payload {
		m.Extensions = nil
	}
	d, err := inTransaction(m, relationMessage(1, "public", "outbox", testColumn{"doc", oid}), insertMessage(1, document))
	return d.Event(), err
}

// documents are the same document in every column that can hold one.
func documents(text string) map[string]struct {
	oid   uint32
	value any
} {
	return map[string]struct {
		oid   uint32
		value any
	}{
		"json":         {oidJSON, text},
		"jsonb":        {oidJSONB, text},
		"jsonb binary": {oidJSONB, append([]byte{1}, text...)},
		"text":         {oidText, text},
		"varchar":      {oidVarchar, []byte(text)},
		"bytea":        {oidBytea, `\x` + hex.EncodeToString([]byte(text))},
		"bytea binary": {oidBytea, []byte(text)},
	}
}

func TestPointer(t *testing.T) {
	t.Parallel()
	const document = ` { "id" : "e-1", "n": 12345678901234567890.10 , "yes":true,"no": false, "null": null,
		"a": {"b": [ "zero", {"c": "deep"}, [7] ], "": "empty name"}, "a/b": "slash", "m~n": "tilde", "": "root's empty name",
		"esc\u0061ped": "\u0041\n\"\\\/\ud83d\ude00" , "dup": 1, "dup": 2, "text with { brackets ]": "}]{[\"" } `
	for pointer, want := range map[string]string{
		"/id": "e-1", "/n": "12345678901234567890.10", "/yes": "true", "/no": "false",
		"/a/b/0": "zero", "/a/b/1/c": "deep", "/a/b/2/0": "7", "/a/": "empty name", "/a~1b": "slash", "/m~0n": "tilde", "/": "root's empty name",
		"/dup": "2", "/text with { brackets ]": `}]{["`,
		"/null": "", "/missing": "", "/id/x": "", "/a/b/3": "", "/a/b/-": "", "/a/b/01": "", "/a/b/+1": "", "/n/0": "",
	} {
		for name, d := range documents(document) {
			e, err := pointed(Subject, pointer, d.oid, d.value)
			require.NoError(t, err, "%s in %s", pointer, name)
			assert.Equal(t, want, string(e.Attribute(Subject)), "%s in %s", pointer, name)
			assert.Equal(t, want, string(e.Extensions[0].Value), "%s in %s", pointer, name)
		}
	}
	e, err := pointed(Payload, "/escaped", oidText, document)
	require.NoError(t, err)
	assert.JSONEq(t, `"A\n\"\\/😀"`, string(e.Data), "a name may be escaped")
}

// The payload is JSON as it stands in the document.
func TestPayloadAtAPointer(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]string{
		`{"v": {"total":12.50,  "id": 12345678901234567890}}`: `{"total":12.50,  "id": 12345678901234567890}`,
		`{"v": [1, "\u0041"] , "w": 1}`:                       `[1, "\u0041"]`,
		`{"v":"text"}`:                                        `"text"`, `{"v":1e400}`: "1e400", `{"v": false }`: "false", `{"v":""}`: `""`,
	} {
		for name, d := range documents(document) {
			e, err := pointed(Payload, "/v", d.oid, d.value)
			require.NoError(t, err, name)
			assert.Equal(t, want, string(e.Data), name)
			assert.True(t, e.HasData)
			assert.Equal(t, JSON, e.DataKind)
		}
	}
	for _, document := range []any{`{"v": null}`, `{}`, `[]`, `"v"`, nil} {
		e, err := pointed(Payload, "/v", oidText, document)
		require.NoError(t, err)
		assert.False(t, e.HasData)
		assert.Equal(t, JSON, e.DataKind, "json_null becomes null")
	}
}

func TestKindsAtAPointer(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]ExtensionKind{
		`"7"`: String, "7": Integer, "-2147483648": Integer, "2147483648": String, "7.0": String, "7e0": String, "true": Boolean,
	} {
		e, err := pointed(Subject, "/v", oidJSON, `{"v": `+value+`}`)
		require.NoError(t, err)
		assert.Equal(t, want, e.Extensions[0].Kind, value)
		assert.Equal(t, strings.Trim(value, `"`), string(e.Extensions[0].Value))
	}
}

func TestBrokenDocuments(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		oid      uint32
		document any
		want     error
	}{
		"no JSON":             {oidText, "id=1", errNotJSON},
		"cut":                 {oidText, `{"v": 1`, errNotJSON},
		"empty":               {oidText, "", errNotJSON},
		"bytes that are none": {oidBytea, `\xff00`, errNotJSON},
		"hex that is none":    {oidBytea, `ff`, nil},
		"another type":        {oidInt4, "1", errNoDocument},
		"another type, NULL":  {oidUUID, nil, errNoDocument},
		"an object":           {oidJSON, `{"v": {}}`, errNoScalar},
		"an array":            {oidJSON, `{"v": []}`, errNoScalar},
		"half a pair":         {oidJSON, `{"v": "\ud83d"}`, errEncoding},
		"the wrong half":      {oidJSON, `{"v": "\ude00\ud83d"}`, errEncoding},
		"half and a letter":   {oidJSON, `{"v": "\ud83dx"}`, errEncoding},
		"not UTF-8":           {oidBytea, "\\x" + hex.EncodeToString([]byte("{\"v\": \"caf\xe9\"}")), errEncoding},
		"control character":   {oidJSON, `{"v": "a\nb"}`, errControl},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pointed(ID, "/v", c.oid, c.document)
			if c.want == nil {
				c.want = err // only that it is one
				require.Error(t, err)
				return
			}
			checkReason(t, c.want, err)
			assert.ErrorContains(t, err, `column "doc#/v"`)
		})
	}
	e, err := pointed(ID, "/v", oidJSON, `{"v": null}`)
	checkReason(t, errNull, err)
	assert.Nil(t, e.Extensions[0].Value)
}

// A broken document does not leave the extension of the row before in place.
func TestExtensionOfABrokenDocument(t *testing.T) {
	t.Parallel()
	m := Mapping{Schema: "public", Table: "outbox", Extensions: map[string]string{"x": "doc#/v"}}
	d, err := inTransaction(m, relationMessage(1, "public", "outbox", testColumn{"doc", oidText}), insertMessage(1, `{"v": "old"}`))
	require.NoError(t, err)
	_, err = d.Decode(insertMessage(1, "broken"))
	require.Error(t, err)
	assert.Nil(t, d.Event().Extensions[0].Value)
}

// Dead letters hold the columns as they are, and restoring follows the pointers
// again.
func TestRestoreFollowsPointers(t *testing.T) {
	t.Parallel()
	m := Mapping{Schema: "public", Table: "outbox", Columns: map[Attribute]string{ID: "doc#/id", Payload: "doc#/v", Subject: "plain"}}
	relation := relationMessage(1, "public", "outbox", testColumn{"doc", oidText}, testColumn{"plain", oidText})
	const document = `{"id": "a\u0062", "v": {"n": 1.0}}`
	d, err := inTransaction(m, relation, insertMessage(1, document, "s"))
	require.NoError(t, err)
	columns := d.Columns()
	require.Len(t, columns, 2)
	assert.True(t, bytes.Equal([]byte(document), columns[0].Bytes), "unchanged")
	assert.Equal(t, "ab", string(Find("doc#/id", columns)))
	assert.Equal(t, "s", string(Find("plain", columns)))
	assert.Nil(t, Find("doc#/missing", columns))
	assert.Nil(t, Find("missing", columns))

	restored, err := New(m).Restore(0, d.Event().Names, d.Event().Position, d.Event().CommitTime, columns)
	require.NoError(t, err)
	assert.Equal(t, "ab", string(restored.Attribute(ID)))
	assert.JSONEq(t, `{"n": 1.0}`, string(restored.Data))
}

func TestMappingNamesColumnsOnce(t *testing.T) {
	t.Parallel()
	m := Mapping{
		Columns:    map[Attribute]string{ID: "doc#/id", Type: "doc#/type", Subject: "plain"},
		Extensions: map[string]string{"x": "headers#/x", "y": "plain"},
	}
	assert.Equal(t, []string{"doc", "headers", "plain"}, m.ColumnNames())
	assert.Equal(t, []string{"doc", "headers"}, m.Documents())
}

func TestMissingDocumentIsNamedOnce(t *testing.T) {
	t.Parallel()
	m := Mapping{Schema: "public", Table: "outbox", Columns: map[Attribute]string{ID: "doc#/id", Type: "doc#/type", Subject: "about"}}
	_, err := inTransaction(m, relationMessage(1, "public", "outbox", testColumn{"other", oidText}))
	require.ErrorContains(t, err, "the stream has no column doc, about of outbox table public.outbox")
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	m := Mapping{
		Schema: "public", Table: "outbox", Columns: map[Attribute]string{ID: "id", Type: "type", AggregateID: "key"},
		Defaults: map[Attribute]string{AggregateType: "order", AggregateID: "all", Type: "thing", DataContentType: "text/csv"},
	}
	relation := relationMessage(1, "public", "outbox", testColumn{"id", oidText}, testColumn{"type", oidText}, testColumn{"key", oidJSON})
	d, err := inTransaction(m, relation)
	require.NoError(t, err)
	for _, c := range []struct{ typ, want any }{{"T", "T"}, {nil, "thing"}, {" ", "thing"}, {"", "thing"}, {"U", "U"}} {
		_, err := d.Decode(insertMessage(1, "1", c.typ, nil))
		require.NoError(t, err)
		e := d.Event()
		assert.Equal(t, c.want, string(e.Attribute(Type)))
		assert.Equal(t, "order", string(e.Attribute(AggregateType)))
		assert.Equal(t, "all", string(e.Attribute(AggregateID)))
		assert.Equal(t, "text/csv", string(e.Attribute(DataContentType)))
	}
	_, err = d.Decode(insertMessage(1, "1", "a\nb", nil))
	require.ErrorContains(t, err, errControl.Error(), "a default does not hide a row that is wrong")
	_, err = d.Decode(insertMessage(1, nil, "T", nil))
	assert.ErrorContains(t, err, errNull.Error(), "there is no default for the ID")
}

// FuzzPointer compares with encoding/json.
func FuzzPointer(f *testing.F) {
	f.Add([]byte(`{"a": {"b": [1, {"c": "\u0041"}]}}`), "/a/b/1/c")
	f.Add([]byte(`{"dup": 1, "dup": "2"}`), "/dup")
	f.Add([]byte(` [ [ ] , "x\"]" ] `), "/1")
	f.Add([]byte(`{"a~/": 0.10}`), "/a~0~1")
	f.Add([]byte(`{"`), "/")
	f.Fuzz(func(t *testing.T, document []byte, path string) {
		c, ok := pgname.ParseColumn("c#" + path)
		if !ok || c.Pointer == nil {
			return
		}
		p := pointer{tokens: c.Pointer}
		found := p.find(document) // whatever the document is, this ends
		if !json.Valid(document) {
			return
		}
		want := lookUp(document, c.Pointer)
		if string(want) != string(found) {
			t.Fatalf("%s in %s: found %q, encoding/json %q", path, document, found, want)
		}
	})
}

func lookUp(at json.RawMessage, tokens []string) json.RawMessage {
	for _, token := range tokens {
		var members map[string]json.RawMessage
		var elements []json.RawMessage
		index, err := strconv.Atoi(token)
		switch {
		case bytes.HasPrefix(bytes.TrimSpace(at), []byte("{")) && json.Unmarshal(at, &members) == nil:
			at = members[token]
		case err == nil && strconv.Itoa(index) == token && json.Unmarshal(at, &elements) == nil && index >= 0 && index < len(elements):
			at = elements[index]
		default:
			return nil
		}
	}
	return bytes.TrimSpace(at)
}

// BenchmarkDecodePointers is a row in the shape of CAP's: everything is inside
// one document.
func BenchmarkDecodePointers(b *testing.B) {
	m := Mapping{
		Schema: "public", Table: "outbox", Columns: map[Attribute]string{
			ID: "id", Type: "name", AggregateID: "id", Payload: "content#/Value", CorrelationID: "content#/Headers/cap-corr-id",
			TraceParent: "content#/Headers/traceparent",
		},
		Defaults: map[Attribute]string{AggregateType: "cap"},
	}
	relation := relationMessage(
		1, "public", "outbox", testColumn{"id", oidInt8}, testColumn{"name", oidVarchar}, testColumn{"content", oidText},
	)
	row := insertMessage(1, "1234567890123456789", "order.placed", `{"Headers":{"cap-msg-id":"1234567890123456789","cap-corr-id":"c-1",`+
		`"cap-msg-name":"order.placed","cap-senttime":"11/21/2026 14:30:00 +00:00"},"Value":{"note":"`+strings.Repeat("x", 120)+`"}}`)
	d, err := inTransaction(m, relation, row)
	require.NoError(b, err)
	b.SetBytes(int64(len(row)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := d.Decode(row); err != nil {
			b.Fatal(err)
		}
	}
}
