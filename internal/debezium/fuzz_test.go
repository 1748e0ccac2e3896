package debezium

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever a file holds, it is refused, or it becomes a configuration that
// loads and a report that has every option once.
func FuzzImport(f *testing.F) {
	for _, folder := range []string{"translated", "refused"} {
		names, err := filepath.Glob(filepath.Join("testdata", folder, "*.*"))
		require.NoError(f, err)
		for _, name := range names {
			if !strings.HasSuffix(name, ".golden") {
				content, err := os.ReadFile(name)
				require.NoError(f, err)
				f.Add(content)
			}
		}
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		connectors, err := Read([]File{{"file", content}})
		if err != nil {
			return
		}
		c, err := Choose(connectors, "")
		if err != nil {
			return
		}
		result, err := c.Translate()
		require.NoError(t, err)
		var written strings.Builder
		require.NoError(t, result.Draft.Write(&written))
		assertLoads(t, written.String(), result.Draft.Config)
		assertComplete(t, c, result.Report)
	})
}
