package decoder

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/replication"
)

// joinMessages builds one input of FuzzDecoder: messages, each preceded by its
// length.
func joinMessages(messages [][]byte) (stream []byte) {
	for _, m := range messages {
		if len(m) <= math.MaxUint16 {
			stream = binary.BigEndian.AppendUint16(stream, uint16(len(m)))
			stream = append(stream, m...)
		}
	}
	return stream
}

// splitMessages is the inverse of joinMessages, for any bytes.
func splitMessages(stream []byte) (messages [][]byte) {
	for len(stream) >= 2 {
		length := min(int(binary.BigEndian.Uint16(stream)), len(stream)-2)
		messages = append(messages, stream[2:2+length])
		stream = stream[2+length:]
	}
	return messages
}

// FuzzDecoder feeds arbitrary sequences of messages to two decoders. One gets
// exact slices, so that reading on would panic. The other gets slices of a
// larger buffer that continues with other bytes. Both must return the same.
func FuzzDecoder(f *testing.F) {
	row := outboxRow
	f.Add(joinMessages(
		[][]byte{beginMessage(100, commitTime), outboxRelation(), row(nil), row(map[string]any{"payload": nil}), commitMessage(100, 130)},
	))
	f.Add(joinMessages([][]byte{
		beginMessage(100, commitTime), outboxRelation(), relationMessage(7, "public", "orders", testColumn{"id", oidInt8}), insertMessage(7, "1"),
		row(map[string]any{"id": make([]byte, 16), "payload": []byte("\x01{}"), "created_at": bigInt(0), "tenant": []byte{0, 0, 0, 9}}),
		row(map[string]any{"created_at": "infinity"}), typeMessage(20000, "", "jsonb"),
		{'U'},
		commitMessage(100, 130), beginMessage(140, commitTime), row(nil), commitMessage(140, 150),
	}))
	f.Add(joinMessages([][]byte{beginMessage(1, commitTime), relationMessage(outboxID, "public", "outbox", outboxColumns[2:]...)}))
	f.Fuzz(func(t *testing.T, stream []byte) {
		for _, m := range []Mapping{outboxMapping(), wideMapping()} {
			fuzzStream(t, m, stream)
		}
	})
}

func fuzzStream(t *testing.T, m Mapping, stream []byte) {
	t.Helper()
	exact, loose := New(m), New(m)
	ordinal := uint32(0)
	for _, message := range splitMessages(stream) {
		kind, err := exact.Decode(slices.Clip(bytes.Clone(message)))
		longer := append(bytes.Clone(message), bytes.Repeat([]byte{'t', 0, 'n', 1}, 16)...)
		looseKind, looseErr := loose.Decode(longer[:len(message)])
		require.Equal(t, kind, looseKind)
		require.Equal(t, err == nil, looseErr == nil)

		_, poison := errors.AsType[*PoisonError](err)
		e := exact.Event()
		switch kind {
		case Row:
			require.True(t, exact.InTransaction())
			require.Equal(t, ordinal+1, e.Position.Ordinal)
			require.Equal(t, keep(e), keep(loose.Event()))
			checkEvent(t, e, err)
			ordinal++
		case Begin:
			ordinal = 0
		case Commit, Other:
		}
		require.Equal(t, poison, kind == Row && err != nil, "a row is an event or poisoned: %v", err)
		// Scratch holds each value of the row once or twice, converted: at most
		// the 36 characters of a UUID for 16 bytes.
		require.LessOrEqual(t, cap(exact.scratch), 4096+8*len(exact.row.targets)*len(stream))
		if err != nil && !poison {
			require.Contains(t, []failure.Class{failure.Transient, failure.Refused}, failure.ClassOf(err))
			return // it ends the session
		}
		compareWithPglogrepl(t, exact, message)
	}
}

// checkEvent checks everything that the code after the decoder relies on.
func checkEvent(t *testing.T, e *Event, err error) {
	t.Helper()
	if err != nil {
		return
	}
	for _, a := range Attributes() {
		require.NoError(t, checkString(e.Attribute(a)))
		if value := e.Attribute(a); value != nil {
			require.NotEmpty(t, value)
		}
	}
	for _, x := range e.Extensions {
		require.NoError(t, checkString(x.Value))
	}
	if e.Time != e.CommitTime { // the server's clock is not checked here
		require.GreaterOrEqual(t, e.Time, minTime)
		require.LessOrEqual(t, e.Time, maxTime)
	}
}

// compareWithPglogrepl reads a message that the decoder has understood with
// pglogrepl, which checks no bounds.
func compareWithPglogrepl(t *testing.T, d *Decoder, message []byte) {
	t.Helper()
	switch message[0] {
	case 'B', 'C', 'R':
	case 'I':
		if d.relations[binary.BigEndian.Uint32(message[1:])].table == nil {
			return // the decoder has read no further, and pglogrepl may panic
		}
	default:
		return
	}
	theirs, err := pglogrepl.Parse(message)
	require.NoError(t, err)
	switch m := theirs.(type) {
	case *pglogrepl.BeginMessage:
		require.Equal(t, m.FinalLSN, d.event.Position.Commit)
		if micro := d.event.CommitTime; time.UnixMicro(micro).Equal(time.Unix(0, micro*1000)) { // pglogrepl goes through nanoseconds
			require.Equal(t, m.CommitTime.UnixMicro(), micro)
		}
	case *pglogrepl.CommitMessage:
		require.Equal(t, m.CommitLSN, d.event.Position.Commit)
		require.Equal(t, m.TransactionEndLSN, d.CommitEnd())
	case *pglogrepl.RelationMessage:
		r := d.relations[m.RelationID]
		require.Len(t, r.columns, int(m.ColumnNum))
		for i, c := range m.Columns {
			require.Equal(t, c.Name, r.columns[i].name)
		}
	case *pglogrepl.InsertMessage:
		compareTuple(t, d.relations[m.RelationID], m.Tuple)
	}
}

func compareTuple(t *testing.T, r *relation, tuple *pglogrepl.TupleData) {
	t.Helper()
	require.Len(t, r.columns, len(tuple.Columns))
	for i, theirs := range tuple.Columns {
		for _, target := range r.columns[i].targets {
			ours := r.table.values[target]
			require.Equal(t, theirs.DataType == pglogrepl.TupleDataTypeNull, ours.null)
			require.Equal(t, theirs.DataType == pglogrepl.TupleDataTypeBinary, ours.binary)
			require.True(t, bytes.Equal(theirs.Data, ours.bytes))
		}
	}
}

// TestPositionsAreOrdered ties the decoder's positions to Position.Compare.
func TestPositionsAreOrdered(t *testing.T) {
	t.Parallel()
	d, err := inTransaction(outboxMapping(), outboxRelation())
	require.NoError(t, err)
	var positions []replication.Position
	for commit := range uint64(3) {
		for range 3 {
			_, err := d.Decode(outboxRow(nil))
			require.NoError(t, err)
			positions = append(positions, d.Event().Position)
		}
		_, err = d.Decode(commitMessage(100+commit*100, 120+commit*100))
		require.NoError(t, err)
		_, err = d.Decode(beginMessage(200+commit*100, commitTime))
		require.NoError(t, err)
	}
	require.True(t, slices.IsSortedFunc(positions, replication.Position.Compare))
	require.Len(t, slices.Compact(positions), 9)
}
