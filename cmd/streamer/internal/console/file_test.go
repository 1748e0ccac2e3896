package console

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/internal/failure"
)

func TestWriteNew(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "new")
	write := func(text string) func(io.Writer) error {
		return func(w io.Writer) error { _, err := io.WriteString(w, text); return err }
	}
	require.NoError(t, CheckNew(name, "take another"))
	require.NoError(t, WriteNew(name, "take another", write("first")))
	for _, err := range []error{CheckNew(name, "take another"), WriteNew(name, "take another", write("second"))} {
		require.EqualError(t, err, "file "+name+" exists and is not overwritten")
		assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
		assert.Equal(t, "take another", failure.Fix(err))
	}
	text, err := os.ReadFile(name)
	require.NoError(t, err)
	assert.Equal(t, "first", string(text))
	info, err := os.Stat(name)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it may hold the name of a secret")
}

func TestWriteNewLeavesNothingIncomplete(t *testing.T) {
	t.Parallel()
	name, cause := filepath.Join(t.TempDir(), "new"), errors.New("cause")
	require.ErrorIs(t, WriteNew(name, "", func(io.Writer) error { return cause }), cause)
	assert.NoFileExists(t, name)
	err := WriteNew(filepath.Join(name, "below"), "", nil)
	assert.Equal(t, failure.Misconfigured, failure.ClassOf(err))
}
