package replication

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// peek counts the inserts among the messages handed out.
func peek(t *testing.T, f *fixture, messages int, stop error) (inserts, seen int, err error) {
	t.Helper()
	control := f.control()
	server, err := control.Identify(t.Context())
	require.NoError(t, err)
	seen, err = control.Peek(t.Context(), server, messages, func(at LSN, data []byte) error {
		assert.NotEmpty(t, data)
		if data[0] == 'I' {
			assert.NotZero(t, at)
			if inserts++; stop != nil {
				return stop
			}
		}
		return nil
	})
	return inserts, seen, err
}

func TestPeek(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.Shared(t))
	inserts, seen, err := peek(t, f, 10, nil)
	require.NoError(t, err)
	assert.Zero(t, inserts)
	assert.Zero(t, seen)

	before := f.slot().Confirmed
	f.insert(1, 100)
	f.insert(101, 200)
	for _, binary := range []bool{false, true} {
		f.config.Binary = binary
		inserts, seen, err = peek(t, f, 1000, nil)
		require.NoError(t, err)
		assert.Equal(t, 200, inserts)
		assert.Equal(t, 205, seen, "with begin, commit and the relation")
	}
	inserts, _, err = peek(t, f, 10, nil)
	require.NoError(t, err)
	assert.Equal(t, 100, inserts, "whole transactions")
	inserts, _, err = peek(t, f, 1000, ErrEnough)
	require.ErrorIs(t, err, ErrEnough)
	assert.Equal(t, 1, inserts)
	broken := errors.New("broken")
	_, _, err = peek(t, f, 1000, broken)
	require.ErrorIs(t, err, broken)
	assert.Equal(t, before, f.slot().Confirmed, "nothing is consumed")
	ids, _ := readRows(t, f.open(), 200)
	assert.Equal(t, numbers(1, 200), ids)
}

func TestPeekErrors(t *testing.T) {
	t.Parallel()
	t.Run("a slot in use", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.open()
		_, _, err := peek(t, f, 10, nil)
		require.ErrorIs(t, err, ErrSlotActive)
	})
	t.Run("no slot", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, pgtest.Shared(t))
		f.exec("SELECT pg_drop_replication_slot('" + f.config.Slot + "')")
		_, _, err := peek(t, f, 10, nil)
		require.ErrorContains(t, err, f.config.Slot)
		assert.Equal(t, failure.Refused, failure.ClassOf(err))
	})
}

func TestPeekTemporaryFiles(t *testing.T) {
	t.Parallel()
	f := newFixture(t, pgtest.New(t, pgtest.Options{Settings: map[string]string{"temp_file_limit": "64kB", "work_mem": "64kB"}}))
	f.exec("SET temp_file_limit = -1") // for this session
	f.insert(1, 5000)
	_, _, err := peek(t, f, 10_000, nil)
	require.ErrorContains(t, err, "SQLSTATE 53400")
	assert.Contains(t, failure.Fix(err), "SET temp_file_limit = -1")
	_, _, err = readOutbox(f, OutboxQuery{OrderBy: "payload"})
	require.ErrorContains(t, err, "SQLSTATE 53400")
	assert.Contains(t, failure.Fix(err), "SET temp_file_limit = -1")
}
