package replication

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// Every byte of every encoding stands for the character that the server takes
// it for, or for none.
func TestCharsetIsTheServers(t *testing.T) {
	t.Parallel()
	f := newEmptyFixture(t, pgtest.Shared(t))
	f.exec(`CREATE FUNCTION as_utf8(value bytea, encoding name) RETURNS bytea LANGUAGE plpgsql
		AS $$ BEGIN RETURN convert(value, encoding, 'UTF8'); EXCEPTION WHEN untranslatable_character THEN RETURN '\xff'; END $$`)
	single := query[[]string](f, `SELECT array_agg(pg_encoding_to_char(n)) FROM generate_series(1, 41) n
		WHERE pg_encoding_to_char(n) <> '' AND pg_encoding_max_length(n) = 1`)
	require.Contains(t, single, "WIN1252")
	assert.Len(t, singleByte, len(single), "no encoding is left out")
	for _, encoding := range single {
		charset := NewCharset(encoding)
		require.NotNil(t, charset, encoding)
		assert.Equal(t, encoding, charset.String())
		want := query[[][]byte](f, "SELECT array_agg(as_utf8(set_byte('\\x00', 0, n), $1) ORDER BY n) FROM generate_series(1, 255) n", encoding)
		for i, text := range want {
			b := byte(i + 1)
			got := charset.UTF8([]byte{b})
			assert.Equal(t, text, got, "%s 0x%02x", encoding, b)
			if b < 0x80 || !utf8.Valid(got) {
				continue
			}
			back, ok := charset.Encode(string(got))
			require.True(t, ok)
			assert.Equal(t, string([]byte{b}), back)
		}
		_, ok := charset.Encode("日本")
		assert.False(t, ok)
	}
	for _, encoding := range []string{"UTF8", "SQL_ASCII", "EUC_JP", ""} {
		charset := NewCharset(encoding)
		assert.Nil(t, charset)
		assert.Equal(t, "UTF8", charset.String())
		assert.Equal(t, "\xe9", string(charset.UTF8([]byte("\xe9"))), "left as it is")
	}
}

// Bytes without a character are invalid in UTF-8, whatever is next to them.
func TestCharsetNeverHidesABadByte(t *testing.T) {
	t.Parallel()
	charset := NewCharset("WIN1253")
	for _, text := range []string{"\x81", "\xd2", "\xd2\x81", "a\xd2\x81b", "\xe1\x81"} {
		assert.False(t, utf8.Valid(charset.UTF8([]byte(text))), "%q", text)
	}
}

// encoded is a database in an encoding, with names in need of it.
func encoded(t *testing.T, encoding string) *fixture {
	t.Helper()
	f := newEmptyFixture(t, pgtest.New(t, pgtest.Options{Encoding: encoding}))
	f.config.Publication, f.config.Outboxes[0].Table = "événements", "public.boîte"
	f.config.Outboxes[0].Columns = []string{"id", "contenu_é"}
	f.exec(
		"SET client_encoding = 'UTF8'", // the default is the server's
		`CREATE TABLE "boîte" (id text PRIMARY KEY, "contenu_é" text, unread text)`,
		`CREATE PUBLICATION "événements" FOR TABLE "boîte" WITH (publish = 'insert')`,
	)
	f.createSlot()
	return f
}

// bad is a text with a byte that stands for no character.
const bad = `convert_from('\x63616681', 'WIN1252')`

// A byte without an equivalent in UTF-8 is the value's fault, and in a column
// that is not read nobody's: no reader meets an error of the server.
func TestUntranslatableBytes(t *testing.T) {
	t.Parallel()
	f := encoded(t, "WIN1252")
	f.exec(
		`INSERT INTO "boîte" VALUES ('1', 'café', 'plain')`,
		`INSERT INTO "boîte" VALUES ('2', 'plain', `+bad+`)`,
		`INSERT INTO "boîte" VALUES ('3', `+bad+`, 'plain')`,
		`INSERT INTO "boîte" VALUES ('é', 'plain', 'plain')`,
	)
	want := []string{"1|caf\u00e9", "2|plain", "3|caf\xff", "\u00e9|plain"}
	server, slot := f.identify()
	assert.Equal(t, "WIN1252", server.Encoding)
	table := describe(t, f.control())
	assert.Empty(t, CheckTable(table, f.config))
	charset := table.Charset()
	for name, contains := range map[string]func() []string{
		"stream": func() []string {
			stream := f.open()
			defer stream.Close()
			defer func() { require.NoError(t, stream.Finish(time.Now().Add(patience)), "the slot is free") }()
			return texts(t, stream.Next, stream.Wait, len(want))
		},
		"catch-up": func() []string {
			u := f.catchUp(slot.Confirmed, stretching{first: 1 << 20, longest: 1 << 20, again: 1 << 30, worthwhile: 1 << 30, messages: 100})
			return texts(t, u.Next, u.Wait, len(want))
		},
		"peek": func() (rows []string) {
			_, err := f.control().Peek(t.Context(), server, 100, func(_ LSN, data []byte) error {
				if data[0] == 'I' {
					rows = append(rows, string(data))
				}
				return nil
			})
			require.NoError(t, err)
			return rows
		},
	} {
		rows := contains()
		require.Len(t, rows, len(want), name)
		for i, row := range rows {
			for value := range strings.SplitSeq(want[i], "|") {
				assert.Contains(t, string(charset.UTF8([]byte(row))), value, name)
			}
		}
	}
	_, rows, err := readOutbox(f, OutboxQuery{})
	require.NoError(t, err)
	assert.Equal(t, want, rows)
	_, rows, err = readOutbox(f, OutboxQuery{IDColumn: "id", IDs: []string{"é", "日本", "2"}})
	require.NoError(t, err)
	assert.Equal(t, want[1:2], rows[:1])
	assert.Equal(t, want[3:], rows[1:], "IDs are sent in the database's encoding")
	var encoding string
	control := f.control()
	require.NoError(t, control.ReadOutbox(
		t.Context(), OutboxQuery{Outbox: f.config.Outboxes[0]}, func(OutboxSnapshot) error { return nil }, func(OutboxRow) error { return nil },
	))
	require.NoError(t, control.Conn().QueryRow(t.Context(), "SHOW client_encoding").Scan(&encoding))
	assert.Equal(t, "UTF8", encoding, "as before the read")
}

// texts collects the inserts that a reader hands out.
func texts(t *testing.T, next func() (Message, error), wait func(time.Time) error, count int) (rows []string) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for len(rows) < count && time.Now().Before(deadline) {
		m, err := next()
		require.NoError(t, err)
		switch {
		case m.Kind == None:
			require.NoError(t, wait(deadline))
		case m.Kind == Data && m.Data[0] == 'I':
			rows = append(rows, string(m.Data))
		}
	}
	return rows
}

// Invalid bytes of a SQL_ASCII table reach readers of the table as well.
func TestReadOutboxInSQLASCII(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.New(t, pgtest.Options{Encoding: "SQL_ASCII"}))
	f.exec(`INSERT INTO outbox VALUES (1, E'caf\351'), (2, 'plain')`)
	_, rows, err := readOutbox(f, OutboxQuery{})
	require.NoError(t, err)
	assert.Equal(t, []string{"1|caf\xe9", "2|plain"}, rows)
}

func TestPublicationThatCannotExist(t *testing.T) {
	t.Parallel()
	f := encoded(t, "LATIN2")
	server, slot := f.identify()
	f.config.Publication = "日本"
	_, err := Open(t.Context(), f.config, server, slot.Confirmed)
	require.ErrorContains(t, err, `name "日本" has characters that a database in LATIN2 cannot hold`)
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
}

// Where the server has to convert, the transaction that it cannot convert is
// named, and so is the way past it.
func TestServerCannotConvert(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.New(t, pgtest.Options{Encoding: "EUC_JP"}))
	f.insert(1, 1)
	f.exec(`INSERT INTO outbox VALUES (2, convert_from('\xf5a1', 'EUC_JP'))`)
	f.insert(3, 3)
	server, slot := f.identify()
	stream := f.open()
	readRows(t, stream, 1)
	err := nextError(t, stream)
	assert.Equal(t, failure.Refused, failure.ClassOf(err))
	require.ErrorContains(t, err, "a row of the transaction committing at ")
	remedy := failure.Fix(err)
	require.Regexp(t, "`streamer checkpoint set [0-9A-F]+/[0-9A-F]+ --yes`", remedy)
	stream.Close()
	caught := refusal(t, f.config, server, slot)
	var refused *NoCatchUpError
	require.ErrorAs(t, caught, &refused, "streaming can say where it is")

	position, _, _ := strings.Cut(strings.SplitAfter(remedy, "checkpoint set ")[1], " ")
	past, err := ParseLSN(position)
	require.NoError(t, err)
	stream, err = Open(t.Context(), f.config, server, past)
	require.NoError(t, err)
	defer stream.Close()
	ids, _ := readRows(t, stream, 1)
	assert.Equal(t, []string{"3"}, ids, "and it leads past that transaction only")
}
