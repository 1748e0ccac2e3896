package checkpoint_test

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/outboxstream/streamer/checkpoint"
	"github.com/outboxstream/streamer/internal/pgtest"
)

// BenchmarkSave is one durable save; the machine's disk decides. The PostgreSQL
// of pgtest does not sync its own disk.
func BenchmarkSave(b *testing.B) {
	for name, open := range map[string]func(b *testing.B) (checkpoint.Store, error){
		"store=file": func(b *testing.B) (checkpoint.Store, error) {
			b.Helper()
			return checkpoint.OpenFile(filepath.Join(b.TempDir(), "position"))
		},
		"store=postgres": func(b *testing.B) (checkpoint.Store, error) {
			b.Helper()
			return checkpoint.OpenPostgres(b.Context(), pgtest.Shared(b).CreateDatabase(b), nil, table)
		},
	} {
		b.Run(name, func(b *testing.B) {
			store, err := open(b)
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, store.Close()) })
			r := record(1)
			b.ReportAllocs()
			for b.Loop() {
				r.LSN++
				require.NoError(b, store.Save(b.Context(), r))
			}
		})
	}
}
