package decoder

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

func TestTransaction(t *testing.T) {
	t.Parallel()
	d := New(outboxMapping())
	decode := func(message []byte) Kind {
		t.Helper()
		kind, err := d.Decode(message)
		require.NoError(t, err)
		return kind
	}
	assert.False(t, d.InTransaction())
	assert.Equal(t, Begin, decode(beginMessage(100, commitTime)))
	assert.True(t, d.InTransaction())
	assert.Equal(t, replication.Position{Commit: 100}, d.Event().Position)
	assert.Equal(t, Other, decode(outboxRelation()))
	for ordinal := range uint32(3) {
		assert.Equal(t, Row, decode(outboxRow(nil)))
		assert.Equal(t, replication.Position{Commit: 100, Ordinal: ordinal + 1}, d.Event().Position)
	}
	assert.Zero(t, d.CommitEnd())
	assert.Equal(t, Commit, decode(commitMessage(100, 130)))
	assert.EqualValues(t, 130, d.CommitEnd())
	assert.False(t, d.InTransaction())

	// The next transaction needs no new description of the table.
	decode(beginMessage(140, commitTime))
	assert.EqualValues(t, 130, d.CommitEnd(), "still the last transaction's")
	assert.Equal(t, Row, decode(outboxRow(nil)))
	assert.Equal(t, replication.Position{Commit: 140, Ordinal: 1}, d.Event().Position)
	decode(commitMessage(140, 150))

	// An empty transaction.
	decode(beginMessage(160, commitTime))
	assert.Equal(t, Commit, decode(commitMessage(160, 170)))
	assert.EqualValues(t, 170, d.CommitEnd())
	assert.Zero(t, d.Ignored())
}

func TestEvent(t *testing.T) {
	t.Parallel()
	d, err := inTransaction(outboxMapping(), outboxRelation(), outboxRow(nil))
	require.NoError(t, err)
	e := d.Event()
	assert.Equal(t, rowUUID, string(e.Attribute(ID)))
	assert.Equal(t, "order", string(e.Attribute(AggregateType)))
	assert.Equal(t, "42", string(e.Attribute(AggregateID)))
	assert.Equal(t, "OrderPlaced", string(e.Attribute(Type)))
	assert.JSONEq(t, `{"total": 1.10}`, string(e.Data))
	assert.True(t, e.HasData)
	assert.Equal(t, JSON, e.DataKind)
	assert.Equal(t, commitTime.UnixMicro(), e.CommitTime)
	assert.Equal(t, "2024-01-02T03:04:05.678901Z", string(AppendTime(nil, e.Time)))
	assert.Equal(t, []Extension{{Name: "tenantid", Value: []byte("7"), Kind: Integer}}, e.Extensions)
	for _, a := range Attributes() {
		if a > Type {
			assert.Nil(t, e.Attribute(a), a)
		}
	}
}

func TestRowWithoutOptionalValues(t *testing.T) {
	t.Parallel()
	d, err := inTransaction(outboxMapping(), outboxRelation(), outboxRow(nil),
		outboxRow(map[string]any{"payload": nil, "created_at": nil, "tenant": nil}))
	require.NoError(t, err)
	e := d.Event()
	assert.False(t, e.HasData, "left over from the row before")
	assert.Nil(t, e.Data)
	assert.Equal(t, commitTime.UnixMicro(), e.Time, "the commit time stands in")
	assert.Nil(t, e.Extensions[0].Value)
}

func TestEveryMessageCutAnywhere(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		message []byte
		before  [][]byte
	}{
		"begin":    {beginMessage(100, commitTime), nil},
		"relation": {outboxRelation(), [][]byte{beginMessage(100, commitTime)}},
		"type":     {typeMessage(20000, "", "uuid"), nil},
		"insert":   {outboxRow(nil), [][]byte{beginMessage(100, commitTime), outboxRelation()}},
		"commit":   {commitMessage(100, 130), [][]byte{beginMessage(100, commitTime)}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for length := range len(test.message) {
				d := New(outboxMapping())
				for _, message := range test.before {
					_, err := d.Decode(message)
					require.NoError(t, err)
				}
				// The rest of the buffer must not complete the message.
				_, err := d.Decode(test.message[:length])
				require.Errorf(t, err, "%d of %d bytes", length, len(test.message))
				_, poison := errors.AsType[*PoisonError](err)
				require.False(t, poison, "a broken message is not the row's fault")
				if length > 0 {
					require.ErrorContainsf(t, err, "ends too early", "%d of %d bytes", length, len(test.message))
				}
			}
		})
	}
}

func TestMessageTypes(t *testing.T) {
	t.Parallel()
	ignored, counted := "OM", "UDT"
	known := "BCRIY" + ignored + counted
	for kind := range 256 {
		d, err := inTransaction(outboxMapping())
		require.NoError(t, err)
		message := append([]byte{byte(kind)}, make([]byte, 40)...)
		got, err := d.Decode(message)
		switch {
		case strings.IndexByte(ignored, byte(kind)) >= 0:
			require.NoError(t, err)
			assert.Equal(t, Other, got)
			assert.Zero(t, d.Ignored())
		case strings.IndexByte(counted, byte(kind)) >= 0:
			require.NoError(t, err)
			assert.Equal(t, Other, got)
			assert.EqualValues(t, 1, d.Ignored())
		case strings.IndexByte(known, byte(kind)) < 0:
			require.ErrorContains(t, err, "unknown pgoutput message", string(rune(kind)))
			require.ErrorContains(t, err, "0/64")
			assert.Equal(t, failure.Transient, failure.ClassOf(err))
		}
	}
	_, err := New(outboxMapping()).Decode(nil)
	require.Error(t, err)
}

func TestBrokenSequences(t *testing.T) {
	t.Parallel()
	begin, relation := beginMessage(100, commitTime), outboxRelation()
	negative := outboxRow(nil)
	binary.BigEndian.PutUint32(negative[len(negative)-len("7")-4:], math.MaxUint32) // length −1
	long := outboxRow(nil)
	binary.BigEndian.PutUint32(long[len(long)-len("7")-4:], math.MaxInt32)
	wrongTag := outboxRow(nil)
	wrongTag[5] = 'O'
	wrongFormat := outboxRow(nil)
	wrongFormat[8] = 'x'
	for name, test := range map[string]struct {
		messages [][]byte
		want     string
	}{
		"begin inside a transaction":        {[][]byte{begin, beginMessage(200, commitTime)}, "begins inside another"},
		"insert without a description":      {[][]byte{begin, outboxRow(nil)}, "not described"},
		"insert outside a transaction":      {[][]byte{relation, outboxRow(nil)}, "outside a transaction"},
		"insert after the commit":           {[][]byte{begin, relation, commitMessage(100, 130), outboxRow(nil)}, "outside a transaction"},
		"commit without a begin":            {[][]byte{commitMessage(100, 130)}, "does not match"},
		"commit twice":                      {[][]byte{begin, commitMessage(100, 130), commitMessage(100, 130)}, "does not match"},
		"commit of another transaction":     {[][]byte{begin, commitMessage(101, 130)}, "does not match"},
		"commit that ends before it starts": {[][]byte{begin, commitMessage(100, 99)}, "does not match"},
		"too few columns":                   {[][]byte{begin, relation, insertMessage(outboxID, rowUUID)}, "1 columns, but its relation has 8"},
		"no columns":                        {[][]byte{begin, relation, insertMessage(outboxID)}, "has 0 columns"},
		"too many columns":                  {[][]byte{begin, relation, insertMessage(outboxID, make([]any, 9)...)}, "has 9 columns"},
		"unchanged TOASTed value":           {[][]byte{begin, relation, outboxRow(map[string]any{"payload": unchanged{}})}, `column "payload"`},
		"unchanged value of another column": {
			[][]byte{begin, relation, outboxRow(map[string]any{"unmapped": unchanged{}})}, `unknown format 'u'`,
		},
		"value of a negative length":          {[][]byte{begin, relation, negative}, "ends too early"},
		"value longer than the message":       {[][]byte{begin, relation, long}, "ends too early"},
		"value of an unknown format":          {[][]byte{begin, relation, wrongFormat}, "unknown format 'x'"},
		"old tuple where a new one should be": {[][]byte{begin, relation, wrongTag}, "insert"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := New(outboxMapping())
			for i, message := range test.messages {
				kind, err := d.Decode(message)
				if i < len(test.messages)-1 {
					require.NoError(t, err)
					continue
				}
				require.ErrorContains(t, err, test.want)
				assert.NotEqual(t, Row, kind)
				assert.NotContains(t, err.Error(), "OrderPlaced", "a row's data")
				_, poison := errors.AsType[*PoisonError](err)
				assert.False(t, poison)
			}
		})
	}
}

func TestOtherTables(t *testing.T) {
	t.Parallel()
	d, err := inTransaction(outboxMapping(),
		relationMessage(1, "public", "orders", testColumn{"id", oidInt8}),
		relationMessage(2, "sales", "outbox", testColumn{"id", oidInt8}),
		relationMessage(3, "", "pg_class", testColumn{"oid", oidInt8}),
		outboxRelation(),
		insertMessage(1, "1"), insertMessage(2, "2"), insertMessage(3, "3"), []byte{'U'}, []byte{'D'}, []byte{'T'})
	require.NoError(t, err)
	assert.EqualValues(t, 6, d.Ignored())
	kind, err := d.Decode(outboxRow(nil))
	require.NoError(t, err)
	assert.Equal(t, Row, kind)
	assert.EqualValues(t, 1, d.Event().Position.Ordinal, "only rows of the outbox count")

	t.Run("names differ by case and by every byte", func(t *testing.T) {
		t.Parallel()
		d, err := inTransaction(outboxMapping(),
			relationMessage(1, "public", "Outbox"), relationMessage(2, "public", "outbox2"), relationMessage(3, "Public", "outbox"))
		require.NoError(t, err, "none of them is the outbox table, so none lacks columns")
		assert.Zero(t, d.Ignored())
	})
	t.Run("an empty schema means pg_catalog", func(t *testing.T) {
		t.Parallel()
		m := Mapping{Schema: "pg_catalog", Table: "outbox", Columns: map[Attribute]string{ID: "id"}}
		d, err := inTransaction(m, relationMessage(1, "", "outbox", testColumn{"id", oidInt8}), insertMessage(1, "1"))
		require.NoError(t, err)
		assert.Equal(t, "1", string(d.Event().Attribute(ID)))
	})
}

func TestChangedTable(t *testing.T) {
	t.Parallel()
	m := Mapping{
		Schema: "public", Table: "outbox",
		Columns: map[Attribute]string{ID: "id", AggregateType: "kind", AggregateID: "key", Type: "type"},
	}
	id, kind, key, typ := testColumn{"id", oidInt8}, testColumn{"kind", oidText}, testColumn{"key", oidText}, testColumn{"type", oidText}
	row := func(t *testing.T, d *Decoder, columns []testColumn, values ...any) *Event {
		t.Helper()
		_, err := d.Decode(relationMessage(1, "public", "outbox", columns...))
		require.NoError(t, err)
		_, err = d.Decode(insertMessage(1, values...))
		require.NoError(t, err)
		assert.Equal(t, "1", string(d.Event().Attribute(ID)))
		assert.Equal(t, "K", string(d.Event().Attribute(AggregateType)))
		assert.Equal(t, "A", string(d.Event().Attribute(AggregateID)))
		assert.Equal(t, "T", string(d.Event().Attribute(Type)))
		return d.Event()
	}
	t.Run("columns are found by name", func(t *testing.T) {
		t.Parallel()
		d, err := inTransaction(m)
		require.NoError(t, err)
		row(t, d, []testColumn{id, kind, key, typ}, "1", "K", "A", "T")
		row(t, d, []testColumn{typ, key, kind, id}, "T", "A", "K", "1")
		row(t, d, []testColumn{{"x", oidText}, id, {"y", oidText}, kind, key, typ, {"z", oidText}}, "X", "1", nil, "K", "A", "T", "Z")
		e := row(t, d, []testColumn{{"id", oidText}, kind, key, typ}, "1", "K", "A", "T")
		assert.EqualValues(t, 4, e.Position.Ordinal)
	})
	for name, columns := range map[string][]testColumn{
		"a dropped column":       {id, kind, typ},
		"a renamed column":       {id, kind, {"key2", oidText}, typ},
		"a column in other case": {id, kind, {"KEY", oidText}, typ},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := inTransaction(m, relationMessage(1, "public", "outbox", columns...))
			require.ErrorContains(t, err, "the stream has no column key of outbox table public.outbox as of the transaction committing at 0/64")
			assert.Contains(t, failure.Describe(err), "outbox.columns")
			assert.Equal(t, failure.Refused, failure.ClassOf(err))
		})
	}
	t.Run("every missing column is named", func(t *testing.T) {
		t.Parallel()
		_, err := inTransaction(m, relationMessage(1, "public", "outbox", id))
		require.ErrorContains(t, err, "kind, key, type")
	})
	t.Run("a renamed table", func(t *testing.T) {
		t.Parallel()
		for _, name := range [][2]string{{"public", "outbox_old"}, {"archive", "outbox"}} {
			_, err := inTransaction(m, relationMessage(1, "public", "outbox", id, kind, key, typ),
				relationMessage(1, name[0], name[1], id, kind, key, typ))
			require.ErrorContains(t, err, "public.outbox was renamed to "+name[0]+"."+name[1])
			assert.Equal(t, failure.Refused, failure.ClassOf(err))
		}
	})
	t.Run("another table takes the name", func(t *testing.T) {
		t.Parallel()
		d, err := inTransaction(
			m, relationMessage(1, "public", "outbox", id, kind, key, typ),
			relationMessage(2, "public", "outbox", typ, key, kind, id), insertMessage(2, "T", "A", "K", "1"),
		)
		require.NoError(t, err)
		assert.Equal(t, "A", string(d.Event().Attribute(AggregateID)))
	})
	t.Run("the table that is known by its OID", func(t *testing.T) {
		t.Parallel()
		known := func(since replication.LSN) Mapping {
			m := m
			m.RelationID, m.RelationSince = 2, since
			return m
		}
		named := func(relation uint32, name string) []byte {
			return relationMessage(relation, "public", name, id, kind, key, typ)
		}
		for name, c := range map[string]struct {
			mapping  Mapping
			messages [][]byte
			row      uint32 // of this table
			want     Kind
		}{
			"had another name":                       {known(0), [][]byte{named(2, "events")}, 2, Row},
			"had another name, and another had its":  {known(0), [][]byte{named(2, "events"), named(1, "outbox")}, 2, Row},
			"that other is the outbox as well":       {known(0), [][]byte{named(2, "events"), named(1, "outbox")}, 1, Row},
			"was being prepared":                     {known(200), [][]byte{named(1, "outbox"), named(2, "outbox_new")}, 2, Other},
			"was being prepared, and has taken over": {known(200), [][]byte{named(2, "outbox_new"), named(2, "outbox")}, 2, Row},
			"has lost its name to another":           {known(0), [][]byte{named(2, "outbox"), named(1, "outbox"), named(2, "outbox_old")}, 2, Other},
		} {
			d, err := inTransaction(c.mapping, c.messages...)
			require.NoError(t, err, name)
			kind, err := d.Decode(insertMessage(c.row, "1", "K", "A", "T"))
			require.NoError(t, err, name)
			assert.Equal(t, c.want, kind, name)
		}
	})
}

func TestOneColumnForManyAttributes(t *testing.T) {
	t.Parallel()
	m := Mapping{
		Schema: "public", Table: "outbox",
		Columns: map[Attribute]string{
			ID: "a", AggregateType: "b", AggregateID: "a", Type: "b", Payload: "a", Subject: "a", PartitionKey: "a", Topic: "b",
		},
		Extensions: map[string]string{"x": "a", "b": "b", "a": "b"},
	}
	assert.Equal(t, []string{"a", "b"}, m.ColumnNames())
	d, err := inTransaction(
		m, relationMessage(1, "public", "outbox", testColumn{"b", oidText}, testColumn{"a", oidInt2}),
		insertMessage(1, "B", "5"),
	)
	require.NoError(t, err)
	e := d.Event()
	for a, want := range map[Attribute]string{
		ID:            "5",
		AggregateType: "B",
		AggregateID:   "5",
		Type:          "B",
		Subject:       "5",
		PartitionKey:  "5",
		Topic:         "B",
	} {
		assert.Equal(t, want, string(e.Attribute(a)), a)
	}
	assert.Equal(t, "5", string(e.Data))
	assert.Equal(t, []Extension{{"a", []byte("B"), String}, {"b", []byte("B"), String}, {"x", []byte("5"), Integer}}, e.Extensions)
}

func TestDomains(t *testing.T) {
	t.Parallel()
	m := Mapping{Schema: "public", Table: "outbox", Columns: map[Attribute]string{Payload: "v"}}
	relation := relationMessage(1, "public", "outbox", testColumn{"v", 20000})
	for name, test := range map[string]struct {
		types [][]byte
		want  DataKind
	}{
		"not described":                 {nil, Text},
		"over jsonb":                    {[][]byte{typeMessage(20000, "", "jsonb")}, JSON},
		"over bytea":                    {[][]byte{typeMessage(20000, "", "bytea")}, Bytes},
		"over xml":                      {[][]byte{typeMessage(20000, "", "xml")}, XML},
		"another domain":                {[][]byte{typeMessage(20001, "", "jsonb")}, Text},
		"a type of the same name":       {[][]byte{typeMessage(20000, "public", "jsonb")}, Text},
		"another type":                  {[][]byte{typeMessage(20000, "", "numeric")}, Text},
		"an OID that was used before":   {[][]byte{typeMessage(20000, "", "jsonb"), typeMessage(20000, "public", "state")}, Text},
		"an OID that means another now": {[][]byte{typeMessage(20000, "", "jsonb"), typeMessage(20000, "", "bytea")}, Bytes},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, err := inTransaction(m, append(test.types, relation, insertMessage(1, `\x22`))...)
			require.NoError(t, err)
			assert.Equal(t, test.want, d.Event().DataKind)
		})
	}
}

func TestAttributeNames(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, a := range Attributes() {
		assert.NotEmpty(t, a.String())
		names[a.String()] = true
	}
	assert.Len(t, names, len(Attributes()))
	assert.Len(t, names, int(attributeCount))

	var e Event
	e.SetAttribute(Subject, []byte("s"))
	assert.Equal(t, "s", string(e.Attribute(Subject)))
}
