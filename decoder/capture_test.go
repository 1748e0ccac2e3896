package decoder

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
	"github.com/outboxstream/streamer/replication"
)

var update = flag.Bool("update", false, "rewrite the captured seeds of FuzzDecoder")

// source is a database with a slot, from which streams are captured.
type source struct {
	t    *testing.T
	dsn  string
	slot string
	conn *pgx.Conn
}

// newSource runs the statements, which must create publication "p", and then
// creates the slot.
func newSource(t *testing.T, statements ...string) *source {
	t.Helper()
	s := &source{t: t, dsn: pgtest.Shared(t).CreateDatabase(t)}
	s.conn = s.connect()
	s.exec(statements...)
	require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&s.slot))
	s.exec("SELECT pg_create_logical_replication_slot('" + s.slot + "', 'pgoutput')")
	return s
}

func (s *source) connect() *pgx.Conn {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.dsn)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(s.t.Context())) })
	return conn
}

func (s *source) exec(statements ...string) {
	s.t.Helper()
	for _, statement := range statements {
		_, err := s.conn.Exec(s.t.Context(), statement)
		require.NoError(s.t, err, statement)
	}
}

// capture reads the slot's messages without consuming them.
func (s *source) capture(binary bool) [][]byte {
	s.t.Helper()
	rows, err := s.conn.Query(s.t.Context(), `SELECT data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL,
		'proto_version', '1', 'publication_names', 'p', 'binary', $2)`, s.slot, strconv.FormatBool(binary))
	require.NoError(s.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(s.t, err)
	return messages
}

// decoded is a copy of an event that outlives the next message.
type decoded struct {
	position   replication.Position
	time       int64
	attributes map[Attribute]string
	data       *string
	kind       DataKind
	extensions map[string]string
}

func keep(e *Event) decoded {
	row := decoded{position: e.Position, time: e.Time, attributes: map[Attribute]string{}, kind: e.DataKind, extensions: map[string]string{}}
	for _, a := range Attributes() {
		if value := e.Attribute(a); value != nil {
			row.attributes[a] = string(value)
		}
	}
	if e.HasData {
		data := string(e.Data)
		row.data = &data
	}
	for _, x := range e.Extensions {
		if x.Value != nil {
			row.extensions[x.Name] = string(x.Value)
		}
	}
	return row
}

// decode reads all messages and checks that positions grow along the stream.
func decode(t *testing.T, m Mapping, messages [][]byte) ([]decoded, error) {
	t.Helper()
	d := New(m)
	var rows []decoded
	var last replication.Position
	for _, message := range messages {
		kind, err := d.Decode(message)
		if err != nil {
			return rows, err
		}
		switch kind {
		case Row:
			require.Positive(t, d.Event().Position.Compare(last))
			last = d.Event().Position
			rows = append(rows, keep(d.Event()))
		case Commit:
			require.Greater(t, d.CommitEnd(), d.Event().Position.Commit)
			require.WithinDuration(t, time.Now(), time.UnixMicro(d.Event().CommitTime), time.Minute)
		case Begin:
			require.GreaterOrEqual(t, d.Event().Position.Commit, d.CommitEnd())
		case Other:
		}
	}
	require.False(t, d.InTransaction())
	return rows, nil
}

func subjects(rows []decoded) (all []string) {
	for _, row := range rows {
		all = append(all, row.attributes[Subject])
	}
	return all
}

const wideOutbox = `CREATE TABLE outbox (
	n int PRIMARY KEY, id uuid DEFAULT gen_random_uuid(), kind varchar(40), key text, type text, payload jsonb,
	created_at timestamptz, local timestamp, bin bytea, flag bool, big bigint, small smallint, js json, plain char(5), nothing text)`

func wideMapping() Mapping {
	return Mapping{
		Schema: "public", Table: "outbox",
		Columns: map[Attribute]string{
			ID: "id", AggregateType: "kind", AggregateID: "key", Type: "type", Payload: "payload", Time: "created_at", Subject: "n",
		},
		Extensions: map[string]string{
			"local": "local", "bin": "bin", "flag": "flag", "big": "big", "small": "small", "js": "js", "plain": "plain", "nothing": "nothing",
		},
	}
}

// selectWide is what a row must decode to, as PostgreSQL prints it.
const selectWide = `SELECT n::text, id::text, kind, key, type, payload::text,
	extract(epoch FROM created_at)::numeric * 1000000, created_at IS NULL,
	to_char(local, 'YYYY-MM-DD"T"HH24:MI:SS.US'), bin, flag::text, big::text, small::text, js::text, format('%s', plain) FROM outbox`

// expectWide reads the rows as they should be decoded.
func (s *source) expectWide(where string) map[string]decoded {
	s.t.Helper()
	rows, err := s.conn.Query(s.t.Context(), selectWide+" WHERE "+where)
	require.NoError(s.t, err)
	defer rows.Close()
	expected := map[string]decoded{}
	for rows.Next() {
		var n, id, kind, key, typ string
		var payload, local, flag, big, small, js, plain *string
		var micro *float64
		var noTime bool
		var bin []byte
		require.NoError(s.t, rows.Scan(&n, &id, &kind, &key, &typ, &payload, &micro, &noTime, &local, &bin, &flag, &big, &small, &js, &plain))
		want := decoded{
			attributes: map[Attribute]string{ID: id, AggregateType: kind, AggregateID: key, Type: typ, Subject: n},
			data:       payload,
			kind:       JSON,
			extensions: map[string]string{},
		}
		if !noTime {
			want.time = int64(*micro)
		}
		if len(bin) > 0 {
			want.extensions["bin"] = base64.StdEncoding.EncodeToString(bin)
		}
		if local != nil {
			want.extensions["local"] = strings.TrimRight(strings.TrimRight(*local, "0"), ".") + "Z"
		}
		for name, value := range map[string]*string{"flag": flag, "big": big, "small": small, "js": js, "plain": plain} {
			if value != nil && *value != "" {
				want.extensions[name] = *value
			}
		}
		expected[n] = want
	}
	require.NoError(s.t, rows.Err())
	return expected
}

// compare checks that both formats decode to the expected rows in this order.
func (s *source) compare(expected map[string]decoded, order []string) {
	s.t.Helper()
	for _, binary := range []bool{false, true} {
		rows, err := decode(s.t, wideMapping(), s.capture(binary))
		require.NoError(s.t, err)
		require.Equal(s.t, order, subjects(rows), "binary: %t", binary)
		for _, row := range rows {
			want := expected[row.attributes[Subject]]
			want.position = row.position
			if want.time == 0 { // it has none, so the commit time stands in
				require.WithinDuration(s.t, time.Now(), time.UnixMicro(row.time), time.Minute)
				want.time = row.time
			}
			require.Equal(s.t, want, row, "binary: %t", binary)
		}
	}
}

const insertWide = `INSERT INTO outbox (n, kind, key, type, payload, created_at, local, bin, flag, big, small, js, plain)
	SELECT n, 'order', 'k' || n % 7, 'Type', jsonb_build_object('n', n, 'text', repeat('ä"\', n % 50)),
		CASE WHEN n % 5 <> 0 THEN '2024-01-02 03:04:05.678901+03'::timestamptz + n * interval '1.000001 s' END,
		'1999-12-31 23:59:59.5'::timestamp + n * interval '1 day',
		CASE WHEN n % 3 <> 0 THEN decode(repeat(to_hex(n % 240 + 16), n % 20), 'hex') END, n % 2 = 0,
		-n::bigint * 4294967296, (n % 60000 - 30000)::smallint,
		json_build_object('n', n, 'x', 1.10), n::text FROM `

func TestCaptureInCommitOrder(t *testing.T) {
	t.Parallel()
	s := newSource(t, wideOutbox, "CREATE TABLE other (n int PRIMARY KEY)", "CREATE PUBLICATION p FOR ALL TABLES")
	other := s.connect()
	second := func(sql string) {
		t.Helper()
		_, err := other.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	row := func(n int) string { return insertWide + fmt.Sprintf("generate_series(%d, %d) n", n, n) }

	// Interleaved: the second to begin commits first.
	s.exec("BEGIN", row(1))
	second("BEGIN")
	second(row(2))
	second(row(3))
	second("COMMIT")
	s.exec(row(4), "COMMIT")
	// Savepoints, a rollback, an empty transaction, and other tables.
	s.exec("BEGIN", row(5), "SAVEPOINT a", row(6), "ROLLBACK TO a", row(7), "SAVEPOINT b", row(8), "RELEASE b", "COMMIT")
	s.exec("BEGIN", row(9), "ROLLBACK", "BEGIN", "SELECT txid_current()", "COMMIT")
	s.exec(
		"BEGIN",
		"INSERT INTO other VALUES (1)",
		row(10), "INSERT INTO other VALUES (2)", "UPDATE other SET n = 3 WHERE n = 2", "DELETE FROM other",
		"COMMIT",
	)
	s.exec("TRUNCATE other", "SELECT pg_logical_emit_message(true, 'x', 'y')")
	// COPY: all rows in one WAL record.
	_, err := s.conn.CopyFrom(
		t.Context(), pgx.Identifier{"outbox"}, []string{"n", "id", "kind", "key", "type", "payload"},
		pgx.CopyFromSlice(3, func(i int) ([]any, error) {
			return []any{11 + i, [16]byte{byte(i)}, "kind", strconv.Itoa(i), "Copied", map[string]int{"i": i}}, nil
		}),
	)
	require.NoError(t, err)
	// A TOASTed value, a NULL payload, and rows spilled to disk.
	s.exec(
		row(14),
		"INSERT INTO outbox (n, kind, key, type, payload) SELECT 15, 'k', 'k', 't', jsonb_build_object('x', string_agg(md5(i::text), "+
			"'')) FROM generate_series(1, 4000) i",
	)
	s.exec("INSERT INTO outbox (n, kind, key, type) VALUES (16, 'k', 'k', 't')")
	s.exec(insertWide+"generate_series(100, 1099) n", "SET logical_decoding_work_mem = '64kB'")

	expected := s.expectWide("true")
	order := []string{"2", "3", "1", "4", "5", "7", "8", "10", "11", "12", "13", "14", "15", "16"}
	for n := 100; n < 1100; n++ {
		order = append(order, strconv.Itoa(n))
	}
	require.Len(t, expected, len(order))
	// Rows that the application removes were published nevertheless.
	s.exec("UPDATE outbox SET payload = '{}' WHERE n = 14", "DELETE FROM outbox", "TRUNCATE outbox")
	s.compare(expected, order)
}

func TestCaptureBehindDDL(t *testing.T) { //nolint:tparallel // one slot, one after the other
	t.Parallel()
	s := newSource(t, wideOutbox, "CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert')")
	n := 0
	expected := map[string]decoded{}
	var order []string
	insert := func() {
		t.Helper()
		n++
		s.exec(insertWide + fmt.Sprintf("generate_series(%d, %d) n", n, n))
		order = append(order, strconv.Itoa(n))
		expected[order[n-1]] = s.expectWide(fmt.Sprintf("n = %d", n))[order[n-1]]
	}
	insert()
	for _, ddl := range []string{
		"ALTER TABLE outbox ADD COLUMN extra numeric DEFAULT 1.5",
		"ALTER TABLE outbox DROP COLUMN extra",
		"ALTER TABLE outbox ALTER COLUMN kind TYPE text, ALTER COLUMN big TYPE bigint, ALTER COLUMN small TYPE bigint",
		"ALTER TABLE outbox ALTER COLUMN small TYPE smallint, ALTER COLUMN key TYPE varchar(99)", // a rewrite
		"VACUUM FULL outbox",
		"TRUNCATE outbox",
		"BEGIN; ALTER TABLE outbox RENAME COLUMN type TO type_old; ALTER TABLE outbox ADD COLUMN type text; " +
			"UPDATE outbox SET type = type_old; ALTER TABLE outbox DROP COLUMN type_old; COMMIT",
		"ALTER TABLE outbox REPLICA IDENTITY FULL",
		"BEGIN; DROP TABLE outbox; " + strings.Replace(wideOutbox, "n int PRIMARY KEY, id uuid", "id uuid", 1) +
			"; ALTER TABLE outbox ADD COLUMN n int; ALTER PUBLICATION p ADD TABLE outbox; COMMIT",
		"ALTER PUBLICATION p SET (publish = 'insert, update, delete, truncate')",
	} {
		s.exec(ddl)
		insert()
	}
	// DDL inside the transaction of the rows.
	s.exec("BEGIN")
	insert()
	s.exec("ALTER TABLE outbox ADD COLUMN extra2 text")
	insert()
	s.exec("ALTER TABLE outbox DROP COLUMN extra2")
	insert()
	s.exec("COMMIT")
	s.compare(expected, order)
	saveSeed(t, "ddl-text", s.capture(false))
	saveSeed(t, "ddl-binary", s.capture(true))

	for name, test := range map[string]struct{ ddl, undo, want string }{
		"rename of a mapped column": {
			"ALTER TABLE outbox RENAME COLUMN key TO key2", "ALTER TABLE outbox RENAME COLUMN key2 TO key",
			"has no column key",
		},
		"rename of the table": {
			"ALTER TABLE outbox RENAME TO events", "ALTER TABLE events RENAME TO outbox",
			"was renamed to public.events",
		},
		"another schema": {
			"CREATE SCHEMA archive; ALTER TABLE outbox SET SCHEMA archive",
			"ALTER TABLE archive.outbox SET SCHEMA public", "was renamed to archive.outbox",
		},
	} {
		t.Run(name, func(t *testing.T) {
			s.exec("SELECT pg_replication_slot_advance('" + s.slot + "', pg_current_wal_lsn())")
			insert()
			table := "outbox"
			s.exec(test.ddl)
			if renamed, ok := strings.CutPrefix(test.want, "was renamed to "); ok {
				table = renamed
			}
			s.exec("INSERT INTO "+table+" DEFAULT VALUES", test.undo)
			insert()
			rows, err := decode(t, wideMapping(), s.capture(false))
			require.ErrorContains(t, err, test.want)
			assert.Equal(t, failure.Refused, failure.ClassOf(err))
			assert.Equal(t, order[n-2:n-1], subjects(rows), "the part before the change")
		})
	}
}

func TestCapturePartitions(t *testing.T) {
	t.Parallel()
	s := newSource(t, "CREATE TABLE outbox (n int, id uuid DEFAULT gen_random_uuid(), kind text, key text, type text) PARTITION BY RANGE (n)",
		"CREATE TABLE first PARTITION OF outbox FOR VALUES FROM (0) TO (10)",
		"CREATE TABLE second (type text, key text, dropped int, n int, kind text, id uuid)", // in another order
		"ALTER TABLE second DROP COLUMN dropped",
		"ALTER TABLE outbox ATTACH PARTITION second FOR VALUES FROM (10) TO (20)",
		"CREATE PUBLICATION p FOR TABLE outbox WITH (publish = 'insert', publish_via_partition_root = true)")
	row := func(n int) string {
		return fmt.Sprintf("INSERT INTO outbox (n, kind, key, type) VALUES (%d, 'K%d', 'A%d', 'T%d')", n, n, n, n)
	}
	s.exec(
		row(1), "BEGIN", row(11), row(2), row(12), "COMMIT",
		"INSERT INTO second (n, id, kind, key, type) VALUES (13, gen_random_uuid(), 'K13', 'A13', 'T13')",
		"ALTER TABLE outbox DETACH PARTITION first",
		"CREATE TABLE third PARTITION OF outbox FOR VALUES FROM (20) TO (30)",
		row(21),
	)
	m := Mapping{
		Schema:  "public",
		Table:   "outbox",
		Columns: map[Attribute]string{ID: "id", AggregateType: "kind", AggregateID: "key", Type: "type", Subject: "n"},
	}
	for _, binary := range []bool{false, true} {
		messages := s.capture(binary)
		rows, err := decode(t, m, messages)
		require.NoError(t, err)
		assert.Equal(t, []string{"1", "11", "2", "12", "13", "21"}, subjects(rows))
		for _, row := range rows {
			n := row.attributes[Subject]
			assert.Len(t, row.attributes[ID], 36)
			delete(row.attributes, ID)
			assert.Equal(t, map[Attribute]string{AggregateType: "K" + n, AggregateID: "A" + n, Type: "T" + n, Subject: n}, row.attributes)
		}
		saveSeed(t, "partitions-"+formatName(binary), messages)
	}
}

// A domain decodes like its base type, in text and in binary format: pgoutput
// names the base type in a Type message.
func TestCaptureDomains(t *testing.T) {
	t.Parallel()
	s := newSource(
		t, "CREATE DOMAIN event_id AS uuid", "CREATE DOMAIN key AS varchar(20)",
		"CREATE DOMAIN longer_key AS key",
		"CREATE DOMAIN document AS jsonb",
		"CREATE DOMAIN moment AS timestamptz",
		"CREATE DOMAIN yes AS bool",
		"CREATE DOMAIN count AS int",
		"CREATE DOMAIN raw AS bytea",
		"CREATE TYPE state AS ENUM ('new')",
		"CREATE TABLE outbox (n int, id event_id, kind state, key longer_key, type key, payload document, created_at moment, "+
			"flag yes, count count, bin raw)",
		"CREATE PUBLICATION p FOR TABLE outbox",
	)
	s.exec(`INSERT INTO outbox VALUES (1, '` + rowUUID + `', 'new', 'k', 't', '{"a": 1}', '2024-01-02 03:04:05+00', true, 5, '\x00ff')`)
	m := Mapping{
		Schema: "public", Table: "outbox",
		Columns:    map[Attribute]string{ID: "id", AggregateID: "key", Type: "type", Payload: "payload", Time: "created_at"},
		Extensions: map[string]string{"flag": "flag", "count": "count", "bin": "bin"},
	}
	data := `{"a": 1}`
	for _, binary := range []bool{false, true} {
		messages := s.capture(binary)
		rows, err := decode(t, m, messages)
		require.NoError(t, err, "binary: %t", binary)
		require.Len(t, rows, 1)
		assert.Equal(t, decoded{
			position: rows[0].position, time: time.Date(2024, 1, 2, 3, 4, 5, 0, time.UTC).UnixMicro(),
			attributes: map[Attribute]string{ID: rowUUID, AggregateID: "k", Type: "t"}, data: &data, kind: JSON,
			extensions: map[string]string{"flag": "true", "count": "5", "bin": "AP8="},
		}, rows[0], "binary: %t", binary)
		saveSeed(t, "domains-"+formatName(binary), messages)
	}
	m.Columns[AggregateType] = "kind"
	rows, err := decode(t, m, s.capture(false))
	require.NoError(t, err)
	assert.Equal(t, "new", rows[0].attributes[AggregateType])
}

// Values that PostgreSQL has and CloudEvents does not.
func TestCapturePoison(t *testing.T) {
	t.Parallel()
	s := newSource(t, wideOutbox, "CREATE PUBLICATION p FOR TABLE outbox")
	values := "(n, kind, key, type, created_at) VALUES "
	for i, row := range []string{
		"'k', 'k', NULL, now()", "'k', '', 't', now()", `'k', E'a\u0001', 't', now()`,
		"'k', 'k', 't', 'infinity'", "'k', 'k', 't', '-infinity'", "'k', 'k', 't', '0044-03-15 BC'",
		"'k', 'k', 't', '12024-01-01'",
	} {
		s.exec(fmt.Sprintf("INSERT INTO outbox %s (%d, %s)", values, i, row))
	}
	s.exec("INSERT INTO outbox " + values + "(99, 'k', 'k', 't', now())")
	for _, binary := range []bool{false, true} {
		d := New(wideMapping())
		var poisoned, rows int
		for _, message := range s.capture(binary) {
			kind, err := d.Decode(message)
			if poison, ok := errors.AsType[*PoisonError](err); ok {
				poisoned++
				assert.Len(t, poison.EventID, 36)
				continue
			}
			require.NoError(t, err)
			if kind == Row {
				rows++
				assert.Equal(t, "99", string(d.Event().Attribute(Subject)))
			}
		}
		assert.Equal(t, 7, poisoned)
		assert.Equal(t, 1, rows)
	}
}

func formatName(binary bool) string {
	if binary {
		return "binary"
	}
	return "text"
}

// saveSeed keeps a captured stream as a seed of FuzzDecoder.
func saveSeed(t *testing.T, name string, messages [][]byte) {
	t.Helper()
	if !*update {
		return
	}
	folder := filepath.Join("testdata", "fuzz", "FuzzDecoder")
	require.NoError(t, os.MkdirAll(folder, 0o755))
	text := fmt.Sprintf("go test fuzz v1\n[]byte(%q)\n", joinMessages(messages))
	require.NoError(t, os.WriteFile(filepath.Join(folder, name), []byte(text), 0o644))
}
